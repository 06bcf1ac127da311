"""Invariants: a parser of TLS or ECH returns what is written as the same bytes again, or raises its error.

python -m tests.fuzz.fuzz_tls_formats -max_total_time=60
"""

import sys
from collections.abc import Callable

import atheris

with atheris.instrument_imports(include=["transport"]):
    from transport.ech.config import EchConfigError, choose_config, encode_config_list, parse_config_list
    from transport.ech.extension import parse_outer
    from transport.ech.inner import decode_inner
    from transport.ech.pem import parse_pem
    from transport.tls13 import extensions as ext
    from transport.tls13.alerts import TlsError
    from transport.tls13.constants import ExtensionType
    from transport.tls13.messages import (
        Certificate,
        CertificateRequest,
        CertificateVerify,
        ClientHello,
        Extension,
        NewSessionTicket,
        ServerHello,
        encode_extensions,
        parse_encrypted_extensions,
    )

from tests.transport.ech.hellos import outer_hello

OUTER = outer_hello()


def config_list(data: bytes) -> bytes:
    """Other versions are skipped, so only what was kept can be compared."""
    found = parse_config_list(data)
    choose_config(found)
    assert all(config.encode() in data for config in found)
    assert not found or parse_config_list(encode_config_list(found)) == found
    return data


def inner(data: bytes) -> bytes:
    """Never longer than what came in; what comes out is a hello like any other."""
    hello = decode_inner(data, OUTER)
    encoded = hello.encode()
    assert len(encoded) <= len(data) + len(OUTER.encode())
    assert ClientHello.parse(encoded) == hello
    return data


def pem(data: bytes) -> bytes:
    file = parse_pem(data)
    assert parse_config_list(file.config_list) == file.configs
    return data


FORMATS: list[Callable[[bytes], bytes]] = [
    lambda data: ClientHello.parse(data).encode(),
    lambda data: ServerHello.parse(data).encode(),
    lambda data: encode_extensions(parse_encrypted_extensions(data)),
    lambda data: Certificate.parse(data).encode(),
    lambda data: CertificateRequest.parse(data).encode(),
    lambda data: CertificateVerify.parse(data).encode(),
    lambda data: NewSessionTicket.parse(data).encode(),
    lambda data: parse_outer(Extension(ExtensionType.ENCRYPTED_CLIENT_HELLO, data)).encode().data,
    lambda data: ext.alpn(ext.parse_alpn(data)),
    lambda data: ext.code_points(ext.parse_code_points(data)),
    lambda data: ext.key_shares(tuple(ext.parse_key_shares(data).items())),
    lambda data: ext.key_share(*ext.parse_key_share(data)),
    lambda data: ext.cookie(ext.parse_cookie(data)),
    lambda data: ext.server_name(ext.parse_server_name(data)),
    config_list,
    inner,
    pem,
]


def test_one_input(data: bytes) -> None:
    choice, body = (data[0] if data else 0) % len(FORMATS), data[1:]
    try:
        written = FORMATS[choice](body)
    except (TlsError, EchConfigError):
        return
    # Names are compared without regard to case, and shown in lower case.
    assert written == body or (FORMATS[choice](written) == written and written.lower() == body.lower())


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
