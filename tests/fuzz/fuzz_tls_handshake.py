"""Invariants: an engine that is fed garbage raises TlsError or waits; it never believes that a handshake is complete.

The first byte says to whom the rest goes: to a server or a client as records, message by message, or sealed as the
inner hello of a client that knows the ECH key.

python -m tests.fuzz.fuzz_tls_handshake -max_total_time=60
"""

import os
import sys
from contextlib import suppress
from datetime import UTC, datetime

import atheris

with atheris.instrument_imports(include=["transport"]):
    from transport.tls13.alerts import TlsError
    from transport.tls13.client import connect
    from transport.tls13.config import ClientConfig, ServerConfig
    from transport.tls13.connection import Connection
    from transport.tls13.constants import HandshakeType, NamedGroup
    from transport.tls13.messages import handshake_message
    from transport.tls13.server import accept
    from transport.tls13.wire import vector

from tests.fakes.tls13 import Pki
from tests.transport.ech.hellos import KEY, Forger, outer_hello

PKI = Pki()
BOTH = PKI.credential("public.example", "secret.internal")
SERVER = ServerConfig((BOTH,), alpn=(b"mesh/1",), ech_keys=(KEY,))
RETRYING = ServerConfig((BOTH,), groups=(NamedGroup.SECP384R1,), ech_keys=(KEY,))
CLIENT = ClientConfig("secret.internal", PKI.trust, ech=KEY.config, alpn=(b"mesh/1",), groups=(NamedGroup.X25519,))
NOW = datetime(2026, 11, 20, tzinfo=UTC)
KINDS = list(HandshakeType)


def records(kind: int, body: bytes) -> bytes:
    """One handshake message in records."""
    message = handshake_message(HandshakeType(kind), body)
    pieces = (message[at : at + 16384] for at in range(0, len(message), 16384))
    return b"".join(b"\x16\3\3" + vector(2, piece) for piece in pieces)


def messages(data: bytes) -> bytes:
    """Messages whose type and length stand before them."""
    out = b""
    while len(data) >= 3:
        size = int.from_bytes(data[1:3])
        out += records(KINDS[data[0] % len(KINDS)], data[3 : 3 + size])
        data = data[3 + size :]
    return out


def feed(connection: Connection, data: bytes) -> None:
    with suppress(TlsError):
        connection.receive(data)
    assert connection.handshake is None


def test_one_input(data: bytes) -> None:
    if not data:
        return
    choice, body = data[0] % 8, data[1:]
    if choice < 2:
        feed(accept((SERVER, RETRYING)[choice], random=os.urandom), body)
    elif choice < 4:
        feed(accept((SERVER, RETRYING)[choice - 2], random=os.urandom), messages(body))
    elif choice < 5:
        feed(accept(SERVER, random=os.urandom), records(HandshakeType.CLIENT_HELLO, body))
    elif choice < 6:
        sealed = Forger().seal(body, outer_hello()).encode()
        feed(accept(SERVER, random=os.urandom), records(HandshakeType.CLIENT_HELLO, sealed))
    else:
        client = connect(CLIENT, random=os.urandom, now=NOW)
        client.data_to_send()
        feed(client, body if choice == 6 else messages(body))


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
