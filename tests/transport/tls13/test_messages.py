"""The codec of handshake messages: what is refused, with which alert, and that nothing else is ever raised."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.tls13.alerts import AlertDescription, TlsError
from transport.tls13.constants import ExtensionType, HandshakeType
from transport.tls13.messages import (
    MAX_CERTIFICATES,
    MAX_EXTENSIONS,
    Certificate,
    CertificateEntry,
    CertificateRequest,
    CertificateVerify,
    ClientHello,
    Extension,
    NewSessionTicket,
    ServerHello,
    encode_extensions,
    handshake_message,
    parse_encrypted_extensions,
    parse_key_update,
)

extension_blocks = st.lists(
    st.builds(Extension, st.integers(0, 0xFFFF), st.binary(max_size=40)), max_size=8, unique_by=lambda e: e.type
).map(tuple)
client_hellos = st.builds(
    ClientHello,
    st.binary(min_size=32, max_size=32),
    st.binary(max_size=32),
    st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=20).map(tuple),
    extension_blocks,
    st.integers(0, 0xFFFF),
    st.binary(min_size=1, max_size=3),
)
server_hellos = st.builds(
    ServerHello,
    st.binary(min_size=32, max_size=32),
    st.binary(max_size=32),
    st.integers(0, 0xFFFF),
    extension_blocks,
    st.integers(0, 0xFFFF),
    st.integers(0, 255),
)
certificates = st.builds(
    Certificate,
    st.lists(
        st.builds(CertificateEntry, st.binary(min_size=1, max_size=60), extension_blocks), max_size=MAX_CERTIFICATES
    ).map(tuple),
    st.binary(max_size=8),
)
others = st.one_of(
    st.builds(CertificateRequest, st.binary(max_size=8), extension_blocks),
    st.builds(CertificateVerify, st.integers(0, 0xFFFF), st.binary(max_size=80)),
    st.builds(
        NewSessionTicket,
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**32 - 1),
        st.binary(max_size=8),
        st.binary(min_size=1, max_size=40),
        extension_blocks.map(lambda block: tuple(e for e in block if e.type != ExtensionType.EARLY_DATA)),
    ),
)
PARSERS: list[Callable[[bytes], Any]] = [
    ClientHello.parse,
    ServerHello.parse,
    Certificate.parse,
    CertificateRequest.parse,
    CertificateVerify.parse,
    NewSessionTicket.parse,
    parse_encrypted_extensions,
    parse_key_update,
]


def hello(*extensions: Extension) -> ClientHello:
    return ClientHello(bytes(32), b"", (0x1301,), extensions)


def alert_of(parse: Callable[[bytes], Any], body: bytes) -> int:
    with pytest.raises(TlsError) as caught:
        parse(body)
    return caught.value.alert


@given(st.one_of(client_hellos, server_hellos, certificates, others))
def test_what_is_encoded_parses_back(message: Any) -> None:
    assert message == type(message).parse(message.encode())


@given(st.one_of(client_hellos, server_hellos, certificates, others), st.data())
def test_a_message_cut_anywhere_is_refused(message: Any, data: st.DataObject) -> None:
    body = message.encode()
    cut = data.draw(st.integers(0, len(body) - 1))

    with pytest.raises(TlsError):
        type(message).parse(body[:cut])


@given(st.one_of(client_hellos, server_hellos, certificates, others), st.binary(min_size=1, max_size=4))
def test_bytes_after_the_end_are_a_decode_error(message: Any, more: bytes) -> None:
    assert alert_of(type(message).parse, message.encode() + more) == AlertDescription.DECODE_ERROR


@pytest.mark.parametrize("parse", PARSERS)
@given(garbage=st.binary(max_size=200))
def test_garbage_raises_only_our_error(parse: Callable[[bytes], Any], garbage: bytes) -> None:
    with suppress(TlsError):
        parse(garbage)


@given(st.one_of(client_hellos, server_hellos, certificates, others), st.data())
def test_damaged_messages_raise_only_our_error_or_parse_to_what_they_say(message: Any, data: st.DataObject) -> None:
    body = bytearray(message.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))

    try:
        parsed = type(message).parse(bytes(body))
    except TlsError:
        return

    assert bytes(body) == parsed.encode()


@given(client_hellos)
def test_offsets_point_at_the_data_in_the_body(message: ClientHello) -> None:
    body = message.encode()

    for extension in ClientHello.parse(body).extensions:
        assert extension.data == body[extension.offset : extension.offset + len(extension.data)]


@given(client_hellos, st.binary(max_size=30))
def test_a_prefix_ends_where_the_extensions_end(message: ClientHello, padding: bytes) -> None:
    body = message.encode()

    assert (message, len(body)) == ClientHello.parse_prefix(body + padding)


# RFC 8446 section 4.2: "There MUST NOT be more than one extension of the same type in a given extension block."
def test_an_extension_sent_twice_is_a_decode_error() -> None:
    twice = (Extension(43, b"\x02\x03\x04"), Extension(10, b""), Extension(43, b""))

    assert alert_of(ClientHello.parse, hello(*twice).encode()) == AlertDescription.DECODE_ERROR
    assert alert_of(parse_encrypted_extensions, encode_extensions(twice)) == AlertDescription.DECODE_ERROR
    assert (
        alert_of(Certificate.parse, Certificate((CertificateEntry(b"der", twice),)).encode())
        == AlertDescription.DECODE_ERROR
    )


def test_too_many_extensions_are_a_decode_error() -> None:
    many = tuple(Extension(kind, b"") for kind in range(MAX_EXTENSIONS + 1))

    assert len(ClientHello.parse(hello(*many[:-1]).encode()).extensions) == MAX_EXTENSIONS
    assert alert_of(ClientHello.parse, hello(*many).encode()) == AlertDescription.DECODE_ERROR


def test_too_long_a_chain_is_a_decode_error() -> None:
    chain = Certificate(tuple(CertificateEntry(b"der") for _ in range(MAX_CERTIFICATES + 1)))

    assert alert_of(Certificate.parse, chain.encode()) == AlertDescription.DECODE_ERROR


# RFC 8446 section 4.1.2: "opaque legacy_session_id<0..32>"
def test_a_session_id_over_32_bytes_is_a_decode_error() -> None:
    assert (
        alert_of(ClientHello.parse, ClientHello(bytes(32), bytes(33), (0x1301,), ()).encode())
        == AlertDescription.DECODE_ERROR
    )


@pytest.mark.parametrize("suites", [b"\x00\x00", b"\x00\x01\x13", b"\x00\x03\x13\x01\x13"])
def test_cipher_suites_are_whole_and_at_least_one(suites: bytes) -> None:
    body = b"\x03\x03" + bytes(32) + b"\x00" + suites + b"\x01\x00" + b"\x00\x00"

    assert alert_of(ClientHello.parse, body) == AlertDescription.DECODE_ERROR


def test_a_client_hello_without_extensions_is_too_old() -> None:
    body = hello().encode()[:-2]

    assert alert_of(ClientHello.parse, body) == AlertDescription.PROTOCOL_VERSION


# RFC 8446 section 4.1.3: "TLS 1.3 clients receiving a ServerHello indicating TLS 1.2 or below MUST check that the last
# 8 bytes are not equal to either of these values."
@pytest.mark.parametrize("sentinel", [b"DOWNGRD\x00", b"DOWNGRD\x01"])
def test_a_downgrade_sentinel_is_an_illegal_parameter(sentinel: bytes) -> None:
    old = ServerHello(bytes(24) + sentinel, b"", 0xC02F, ()).encode()[:-2]
    plain = ServerHello(bytes(32), b"", 0xC02F, ()).encode()[:-2]

    assert alert_of(ServerHello.parse, old) == AlertDescription.ILLEGAL_PARAMETER
    assert alert_of(ServerHello.parse, plain) == AlertDescription.PROTOCOL_VERSION


# RFC 8446 section 4.6.3: "If an implementation receives any other value, it MUST terminate the connection with an
# "illegal_parameter" alert."
def test_key_update_is_zero_or_one() -> None:
    assert parse_key_update(b"\x00") is False
    assert parse_key_update(b"\x01") is True
    assert alert_of(parse_key_update, b"\x02") == AlertDescription.ILLEGAL_PARAMETER
    assert alert_of(parse_key_update, b"") == AlertDescription.DECODE_ERROR
    assert alert_of(parse_key_update, b"\x00\x00") == AlertDescription.DECODE_ERROR


# RFC 8446 section 4.6.1: "opaque ticket<1..2^16-1>"
def test_an_empty_ticket_is_a_decode_error() -> None:
    assert (
        alert_of(NewSessionTicket.parse, NewSessionTicket(1, 2, b"", b"", ()).encode()) == AlertDescription.DECODE_ERROR
    )


def test_handshake_messages_carry_their_length() -> None:
    assert handshake_message(HandshakeType.FINISHED, b"abc") == b"\x14\x00\x00\x03abc"


def test_errors_do_not_repeat_what_the_peer_sent() -> None:
    with pytest.raises(TlsError) as caught:
        ClientHello.parse(b"\x03\x03" + b"secret prompt".ljust(32) + b"\xff")

    assert "secret" not in str(caught.value)
