"""A server of ours with somebody at its way out, and what can be done there to each message."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from transport.ech.config import EchConfig, generate_key
from transport.tls13.alerts import AlertDescription
from transport.tls13.config import ServerConfig
from transport.tls13.connection import Connection
from transport.tls13.constants import ExtensionType, HandshakeType
from transport.tls13.flight import Flight, RecordedFlight
from transport.tls13.key_schedule import Suite
from transport.tls13.messages import (
    Certificate,
    CertificateEntry,
    CertificateRequest,
    CertificateVerify,
    Extension,
    Extensions,
    ServerHello,
    encode_extensions,
    handshake_message,
    parse_encrypted_extensions,
)
from transport.tls13.record import BufferPool, RecordReader, RecordWriter
from transport.tls13.server import ServerHandshake

KEY = generate_key("public.example", os.urandom)
STALE = generate_key("public.example", os.urandom, live_ids=[KEY.config.config_id])
Messages = list[tuple[HandshakeType, bytes]]
Alter = Callable[[bytes], bytes | Messages]
"""Turns the body of a message into another one, or into other messages."""


class State(Enum):
    """What the client does about ECH, and what comes of it."""

    PLAIN = "no ech"
    GREASE = "grease"
    ACCEPTED = "accepted"
    REJECTED = "rejected"

    @property
    def config(self) -> EchConfig | None:
        return {State.ACCEPTED: KEY.config, State.REJECTED: STALE.config}.get(self)


@dataclass(frozen=True)
class Row:
    """One breach, and the alert for it; some states see it as another one."""

    kind: HandshakeType
    alter: Alter
    alert: AlertDescription
    elsewhere: Mapping[State, AlertDescription] | None = None
    retries: bool = False
    """The server asks for another group first."""
    after: int = 0
    """How many messages of the kind go by before."""

    def expected(self, state: State) -> AlertDescription:
        return (self.elsewhere or {}).get(state, self.alert)


class AlteringFlight:
    """The server's way out, with somebody at it."""

    def __init__(self, flight: RecordedFlight, row: Row) -> None:
        self._flight: Flight = flight
        self._row = row
        self._passed = 0

    def send(self, message: bytes, *, pad_to: int = 1) -> None:
        out = b""
        while message:
            size = 4 + int.from_bytes(message[1:4])
            out += self._altered(HandshakeType(message[0]), message[4:size])
            message = message[size:]
        if out:
            self._flight.send(out, pad_to=pad_to)

    def _altered(self, kind: HandshakeType, body: bytes) -> bytes:
        if kind != self._row.kind:
            return handshake_message(kind, body)
        self._passed += 1
        if self._passed != self._row.after + 1:
            return handshake_message(kind, body)
        altered = self._row.alter(body)
        messages = [(kind, altered)] if isinstance(altered, bytes) else altered
        return b"".join(handshake_message(*each) for each in messages)

    def send_change_cipher_spec(self) -> None:
        self._flight.send_change_cipher_spec()

    def expect_silence(self) -> None:
        self._flight.expect_silence()

    def read_with(self, suite: Suite, secret: bytes) -> None:
        self._flight.read_with(suite, secret)

    def write_with(self, suite: Suite, secret: bytes) -> None:
        self._flight.write_with(suite, secret)


def hostile_server(config: ServerConfig, row: Row) -> Connection:
    reader, writer = RecordReader(BufferPool()), RecordWriter()
    flight = RecordedFlight(reader, writer)
    return Connection(reader, writer, flight, ServerHandshake(config, AlteringFlight(flight, row), os.urandom))


def meet(client: Connection, server: Connection) -> list[object]:
    """What the client reports until both are silent. Raises its TlsError."""
    events: list[object] = []
    while (out := client.data_to_send()) or server.handshake is None:
        if not out:
            break
        server.receive(out)
        events += client.receive(server.data_to_send())
    return events


# --- alterations

SH, EE, CR = HandshakeType.SERVER_HELLO, HandshakeType.ENCRYPTED_EXTENSIONS, HandshakeType.CERTIFICATE_REQUEST
CERT, CV, FIN = HandshakeType.CERTIFICATE, HandshakeType.CERTIFICATE_VERIFY, HandshakeType.FINISHED
UNKNOWN = Extension(0x3333, b"")
VERSION, SHARE, COOKIE = ExtensionType.SUPPORTED_VERSIONS, ExtensionType.KEY_SHARE, ExtensionType.COOKIE
ALPN, ECH, NAME = ExtensionType.ALPN, ExtensionType.ENCRYPTED_CLIENT_HELLO, ExtensionType.SERVER_NAME


def hello(**changes: object) -> Alter:
    return lambda body: replace(ServerHello.parse(body), **changes).encode()  # type: ignore[arg-type]  # names of fields


def hello_extensions(change: Callable[[Extensions], Extensions]) -> Alter:
    def alter(body: bytes) -> bytes:
        parsed = ServerHello.parse(body)
        return replace(parsed, extensions=change(parsed.extensions)).encode()

    return alter


def encrypted(change: Callable[[Extensions], Extensions]) -> Alter:
    return lambda body: encode_extensions(change(parse_encrypted_extensions(body)))


def set_to(kind: ExtensionType, data: bytes) -> Callable[[Extensions], Extensions]:
    def change(extensions: Extensions) -> Extensions:
        return (*(e for e in extensions if e.type != kind), Extension(kind, data))

    return change


def drop(kind: ExtensionType) -> Callable[[Extensions], Extensions]:
    return lambda extensions: tuple(e for e in extensions if e.type != kind)


def add(*more: Extension) -> Callable[[Extensions], Extensions]:
    return lambda extensions: (*extensions, *more)


def with_sentinel(version: bytes) -> Alter:
    def alter(body: bytes) -> bytes:
        parsed = ServerHello.parse(body)
        extensions = drop(VERSION)(parsed.extensions)
        return replace(parsed, random=parsed.random[:24] + version, extensions=extensions).encode()

    return alter


def entries(change: Callable[[tuple[CertificateEntry, ...]], tuple[CertificateEntry, ...]]) -> Alter:
    return lambda body: Certificate(change(Certificate.parse(body).entries)).encode()


def signed(change: Callable[[CertificateVerify], CertificateVerify]) -> Alter:
    return lambda body: change(CertificateVerify.parse(body)).encode()


def cut(end: int) -> Alter:
    return lambda body: body[:end]


def flipped(at: int) -> Alter:
    def alter(body: bytes) -> bytes:
        changed = bytearray(body)
        changed[at] ^= 1
        return bytes(changed)

    return alter


def before(*messages: tuple[HandshakeType, bytes], kind: HandshakeType) -> Alter:
    return lambda body: [*messages, (kind, body)]


def request(*extensions: Extension, context: bytes = b"") -> tuple[HandshakeType, bytes]:
    return CR, CertificateRequest(context, extensions).encode()
