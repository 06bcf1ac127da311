"""Bytes of real handshakes for the targets of TLS and ECH to start from."""

import json
from pathlib import Path

from tests.transport.ech.hellos import COMPRESS, COOKIE, KEY, inner_hello, outer_hello
from transport.ech.config import encode_config_list
from transport.ech.inner import encode_inner
from transport.ech.pem import encode_pem
from transport.tls13.constants import HELLO_RETRY_RANDOM, ExtensionType
from transport.tls13.messages import (
    Certificate,
    CertificateEntry,
    CertificateRequest,
    CertificateVerify,
    Extension,
    NewSessionTicket,
    ServerHello,
    encode_extensions,
)

CAPTURED = Path(__file__).parents[1] / "transport/ech/captured/hellos.json"
VERSION = Extension(ExtensionType.SUPPORTED_VERSIONS, b"\3\4")
SHARE = Extension(ExtensionType.KEY_SHARE, b"\0\x1d\0\x20" + bytes(range(32)))
ALPN = Extension(ExtensionType.ALPN, b"\0\3\2h2")
RETRY = Extension(ExtensionType.ENCRYPTED_CLIENT_HELLO, encode_config_list([KEY.config]))


def bodies() -> list[bytes]:
    """One of each kind of message and file, without a choice byte."""
    captured = [hello for each in json.loads(CAPTURED.read_text())["connections"] for hello in each["hellos"][:1]]
    return [
        *(bytes.fromhex(hello) for hello in captured[:6]),
        inner_hello().encode(),
        outer_hello(COOKIE).encode(),
        encode_inner(inner_hello(), COMPRESS, 64),
        ServerHello(bytes(32), b"s" * 32, 0x1301, (VERSION, SHARE)).encode(),
        ServerHello(HELLO_RETRY_RANDOM, b"", 0x1302, (VERSION, Extension(ExtensionType.KEY_SHARE, b"\0\x18"))).encode(),
        encode_extensions((ALPN, RETRY)),
        Certificate((CertificateEntry(b"0\0"), CertificateEntry(b"1"))).encode(),
        CertificateRequest(b"", (ALPN,)).encode(),
        CertificateVerify(0x0403, bytes(70)).encode(),
        NewSessionTicket(7200, 1, b"n", b"ticket", ()).encode(),
        encode_config_list([KEY.config]),
        encode_pem(KEY),
    ]


def format_seeds() -> list[bytes]:
    """For `fuzz_tls_formats`: every body behind the choices of the first parsers, and of the last three."""
    return [bytes([choice]) + body for body in bodies() for choice in (0, 1, 2, 3, 7, 14, 15, 16)]


def handshake_seeds() -> list[bytes]:
    """For `fuzz_tls_handshake`: bodies as they are, as messages, and as records."""
    seeds = []
    for body in bodies():
        message = b"\1" + len(body).to_bytes(3) + body
        record = b"\x16\3\3" + (len(message)).to_bytes(2) + message
        as_messages = [bytes([kind]) + len(body).to_bytes(2) + body for kind in (0, 1)]
        seeds += [bytes([choice]) + record for choice in (0, 1, 6)]
        seeds += [bytes([choice]) + each for choice in (2, 3, 7) for each in as_messages]
        seeds += [bytes([choice]) + body for choice in (4, 5)]
    return seeds
