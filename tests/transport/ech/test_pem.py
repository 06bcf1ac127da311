"""RFC 9934: the example of the document, round trips, and files that must be refused."""

import os
from base64 import b64decode, b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from transport.ech import hpke
from transport.ech.config import EchConfigError, encode_config_list, generate_key
from transport.ech.pem import MAX_FILE, encode_pem, encode_public_pem, parse_pem

EXAMPLE = b"""\
-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VuBCIEICjd4yGRdsoP9gU7YT7My8DHx1Tjme8GYDXrOMCi8v1V
-----END PRIVATE KEY-----
-----BEGIN ECHCONFIG-----
AD7+DQA65wAgACA8wVN2BtscOl3vQheUzHeIkVmKIiydUhDCliA4iyQRCwAEAAEA
AQALZXhhbXBsZS5jb20AAA==
-----END ECHCONFIG-----
"""
"""RFC 9934, figure 1."""
KEY = generate_key("public.example", os.urandom)


def block(label: str, data: bytes) -> bytes:
    return f"-----BEGIN {label}-----\n{b64encode(data).decode()}\n-----END {label}-----\n".encode()


def pkcs8(key: x25519.X25519PrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_example_of_rfc_9934_is_read_and_written_as_it_stands() -> None:
    file = parse_pem(EXAMPLE)

    (key,) = file.keys
    assert (key.config.public_name, key.config.config_id) == ("example.com", 0xE7)
    assert key.config.is_usable
    assert encode_pem(key) == EXAMPLE


def test_what_follows_the_list_is_ignored() -> None:
    # RFC 9934 section 3: "Any content after the PEM encoded ECHConfigList SHOULD be ignored."
    assert (
        parse_pem(EXAMPLE + b"-----BEGIN GARBAGE-----\nAAAA\n-----END GARBAGE-----\n").keys == parse_pem(EXAMPLE).keys
    )


def test_windows_line_ends_and_text_before_the_blocks_are_read() -> None:
    assert len(parse_pem(b"issued today\r\n" + EXAMPLE.replace(b"\n", b"\r\n")).keys) == 1


@pytest.mark.parametrize("kem_id", [hpke.DHKEM_X25519, hpke.DHKEM_P256])
def test_key_is_read_as_it_was_written(kem_id: int) -> None:
    key = generate_key("public.example", os.urandom, kem_id=kem_id)

    file = parse_pem(encode_pem(key, others=[KEY.config]))

    assert file.configs == (key.config, KEY.config)
    assert file.config_list == encode_config_list(file.configs)
    (read,) = file.keys
    assert read.config == key.config
    assert pkcs8(read.private_key) == pkcs8(key.private_key)


def test_file_for_publication_has_no_key() -> None:
    file = parse_pem(encode_public_pem([KEY.config]))

    assert file.configs == (KEY.config,)
    with pytest.raises(EchConfigError, match="no private key"):
        _ = file.keys


def test_private_key_is_not_shown() -> None:
    assert "private_key" not in repr(parse_pem(EXAMPLE))


ENCRYPTED = KEY.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
LIST = encode_public_pem([KEY.config])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no ECHCONFIG"),
        (b"-----BEGIN ECHCONFIG-----\nAAAA\n", "no ECHCONFIG"),
        (pkcs8(KEY.private_key), "no ECHCONFIG"),
        (LIST[:40] + LIST[41:], "base64"),
        (LIST.replace(b"ECHCONFIG-----\n", b"ECHCONFIG-----\n=", 1), "base64"),
        (block("ECHCONFIG", b"\0\0"), "one configuration or more"),
        (block("ECHCONFIG", b"\0\x05"), "too early"),
        (block("CERTIFICATE", b"\0") + LIST, "CERTIFICATE"),
        (pkcs8(KEY.private_key) * 2 + LIST, "PRIVATE KEY"),
        (ENCRYPTED + LIST, "ENCRYPTED PRIVATE KEY"),
        (block("PRIVATE KEY", b"0") + LIST, "PKCS#8"),
        (EXAMPLE.replace(b"K2Vu", b"K2Vv"), "PKCS#8"),  # X448 with 32 bytes
        (pkcs8(ed25519.Ed25519PrivateKey.generate()) + LIST, "neither"),
        (pkcs8(ec.generate_private_key(ec.SECP384R1())) + LIST, "neither"),
        (pkcs8(x25519.X25519PrivateKey.generate()) + LIST, "none of the configurations"),
        (bytes(MAX_FILE + 1), "131072"),
    ],
)
def test_file_that_cannot_be_used_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(EchConfigError, match=why) as refused:
        parse_pem(data)

    assert b64decode(pkcs8(KEY.private_key).splitlines()[1]).hex() not in str(refused.value)


@given(st.binary(max_size=300), st.integers(0, len(EXAMPLE)), st.integers(0, 40))
def test_damaged_file_is_read_or_refused_with_our_error_only(noise: bytes, at: int, cut: int) -> None:
    try:
        parse_pem(EXAMPLE[:at] + noise + EXAMPLE[at + cut :])
    except EchConfigError:
        return
