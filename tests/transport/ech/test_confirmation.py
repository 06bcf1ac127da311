"""How a server tells that it took the inner hello (RFC 9849 sections 6.1.4 and 7.2)."""

import hashlib
import os
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from transport.ech.confirmation import (
    confirm_retry_request,
    confirm_server_hello,
    retry_request_accepts,
    server_hello_accepts,
)
from transport.tls13.alerts import AlertDescription, TlsError
from transport.tls13.constants import HELLO_RETRY_RANDOM, ExtensionType
from transport.tls13.messages import Extension, ServerHello

VERSION = Extension(ExtensionType.SUPPORTED_VERSIONS, b"\x03\x04")
SHARE = Extension(ExtensionType.KEY_SHARE, b"\x00\x1d\x00\x20" + bytes(32))
EMPTY = Extension(ExtensionType.ENCRYPTED_CLIENT_HELLO, bytes(8))
HELLO = ServerHello(bytes(range(32)), b"session", 0x1301, (VERSION, SHARE)).encode()
RETRY = ServerHello(HELLO_RETRY_RANDOM, b"session", 0x1301, (VERSION, EMPTY, SHARE)).encode()
RANDOM = os.urandom(32)


def test_confirmation_is_what_the_rfc_computes_and_nothing_else_changes() -> None:
    transcript = hashlib.sha256(b"ClientHelloInner")

    body = confirm_server_hello(HELLO, RANDOM, transcript)

    # accept_confirmation = HKDF-Expand-Label(HKDF-Extract(0, ClientHelloInner.random),
    #                                         "ech accept confirmation", transcript_ech_conf, 8)
    zeroed = HELLO[:26] + bytes(8) + HELLO[34:]
    message = b"\x02" + len(zeroed).to_bytes(3) + zeroed
    heard = hashlib.sha256(b"ClientHelloInner" + message).digest()
    info = b"\x00\x08" + b"\x1dtls13 ech accept confirmation" + b"\x20" + heard
    assert body[26:34] == HKDF(SHA256(), 8, salt=bytes(32), info=info).derive(RANDOM)
    assert body[:26] + body[34:] == HELLO[:26] + HELLO[34:]


def test_confirmation_of_a_retry_request_stands_in_its_extension() -> None:
    transcript = hashlib.sha384(b"message_hash")

    body = confirm_retry_request(RETRY, RANDOM, transcript)

    message = b"\x02" + len(RETRY).to_bytes(3) + RETRY
    heard = hashlib.sha384(b"message_hash" + message).digest()
    info = b"\x00\x08" + b"\x21tls13 hrr ech accept confirmation" + b"\x30" + heard
    expected = HKDF(SHA384(), 8, salt=bytes(48), info=info).derive(RANDOM)
    found = ServerHello.parse(body)
    assert found.extension(ExtensionType.ENCRYPTED_CLIENT_HELLO) == replace(EMPTY, data=expected)
    assert found.random == HELLO_RETRY_RANDOM


@pytest.mark.parametrize("algorithm", ["sha256", "sha384"])
def test_client_recognises_the_confirmation_and_the_transcript_goes_on(algorithm: str) -> None:
    server, client = hashlib.new(algorithm, b"inner"), hashlib.new(algorithm, b"inner")

    hello, retry = confirm_server_hello(HELLO, RANDOM, server), confirm_retry_request(RETRY, RANDOM, server)

    assert server_hello_accepts(hello, RANDOM, client)
    assert retry_request_accepts(retry, RANDOM, client)
    assert not server_hello_accepts(HELLO, RANDOM, client)
    assert not retry_request_accepts(RETRY, RANDOM, client)
    assert client.digest() == server.digest() == hashlib.new(algorithm, b"inner").digest()


@given(st.data())
def test_no_byte_of_the_message_can_be_changed(data: st.DataObject) -> None:
    transcript = hashlib.sha256(b"inner")
    body = bytearray(confirm_server_hello(HELLO, RANDOM, transcript))
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))

    assert not server_hello_accepts(bytes(body), RANDOM, transcript)


def test_confirmation_depends_on_the_random_and_on_the_transcript() -> None:
    body = confirm_server_hello(HELLO, RANDOM, hashlib.sha256(b"inner"))

    assert not server_hello_accepts(body, os.urandom(32), hashlib.sha256(b"inner"))
    assert not server_hello_accepts(body, RANDOM, hashlib.sha256(b"outer"))


def test_retry_request_without_the_extension_does_not_accept() -> None:
    plain = ServerHello(HELLO_RETRY_RANDOM, b"", 0x1301, (VERSION, SHARE)).encode()

    assert not retry_request_accepts(plain, RANDOM, hashlib.sha256())
    with pytest.raises(ValueError, match="no extension"):
        confirm_retry_request(plain, RANDOM, hashlib.sha256())


@pytest.mark.parametrize("length", [0, 7, 9, 32])
def test_retry_request_with_a_confirmation_of_another_length_is_a_decode_error(length: int) -> None:
    # RFC 9849 section 6.1.4: "if it has a length other than 8, the client aborts with a decode_error alert".
    bad = ServerHello(HELLO_RETRY_RANDOM, b"", 0x1301, (replace(EMPTY, data=bytes(length)),)).encode()

    with pytest.raises(TlsError) as error:
        retry_request_accepts(bad, RANDOM, hashlib.sha256())

    assert error.value.alert == AlertDescription.DECODE_ERROR
