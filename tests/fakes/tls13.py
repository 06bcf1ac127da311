"""Certificates, wires and a foreign peer for tests of the TLS engine. Nothing here has a socket."""

import os
import ssl
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from transport.tls13.certificates import Credential, Trust
from transport.tls13.client import ClientHandshake
from transport.tls13.config import ClientConfig, ServerConfig
from transport.tls13.connection import Connection, Handshake
from transport.tls13.constants import HandshakeType
from transport.tls13.events import ApplicationData, Event, HandshakeComplete
from transport.tls13.flight import Flight, RecordedFlight
from transport.tls13.key_schedule import Suite
from transport.tls13.messages import (
    ClientHello,
    Extension,
    Extensions,
    ServerHello,
    encode_extensions,
    handshake_message,
    parse_encrypted_extensions,
)
from transport.tls13.record import BufferPool, RecordReader, RecordWriter
from transport.tls13.server import ServerHandshake

random = os.urandom
NOW = datetime.now(UTC)  # noqa: TID251 OpenSSL judges certificates by the real clock
KEYS: dict[str, Callable[[], Any]] = {
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
}


class Pki:
    """An authority and what it signs."""

    def __init__(self) -> None:
        self.key = KEYS["p256"]()
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        builder = self._builder(self.name, self.key.public_key(), NOW)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        builder = builder.add_extension(_usage(signing=False), critical=True)
        self.root = builder.sign(self.key, hashes.SHA256())
        self.trust = Trust([self.root])

    def authority_without_usage(self) -> x509.Certificate:
        """The same authority under a certificate as `openssl req -x509` makes it: without keyUsage."""
        builder = self._builder(self.name, self.key.public_key(), NOW)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        return builder.sign(self.key, hashes.SHA256())

    @property
    def root_pem(self) -> str:
        return self.root.public_bytes(serialization.Encoding.PEM).decode()

    def certificate(
        self, key: Any, *names: str, at: datetime = NOW, signing: bool = True, usage: bool = True
    ) -> x509.Certificate:
        """A leaf for `names`, valid around `at`."""
        builder = self._builder(x509.Name([]), key.public_key(), at)
        names_extension = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(names_extension, critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        if usage:
            builder = builder.add_extension(_usage(signing=signing, leaf=True), critical=True)
        return builder.sign(self.key, hashes.SHA256())

    def credential(self, *names: str, kind: str = "p256") -> Credential:
        """A leaf with a fresh key of `kind`."""
        key = KEYS[kind]()
        return Credential.of([self.certificate(key, *names)], key)

    def ssl_server(self, *names: str, kind: str = "p256") -> ssl.SSLContext:
        """The same for the standard library."""
        key = KEYS[kind]()
        pem = self.certificate(key, *names).public_bytes(serialization.Encoding.PEM) + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as directory:
            chain = Path(directory) / "chain.pem"
            chain.write_bytes(pem)
            context.load_cert_chain(chain)
        return context

    def ssl_client(self) -> ssl.SSLContext:
        """A client of the standard library that believes us."""
        return ssl.create_default_context(cadata=self.root_pem)

    def _builder(self, subject: x509.Name, key: Any, at: datetime) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(at - timedelta(days=1))
            .not_valid_after(at + timedelta(days=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )


class SslPeer:
    """OpenSSL by way of `ssl.MemoryBIO`, driven like one of our connections."""

    def __init__(self, context: ssl.SSLContext, *, server_side: bool, name: str | None = None) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side, server_hostname=name)
        self.connected = False
        self.received = b""
        self._advance()

    def receive(self, data: bytes | bytearray) -> list[Event]:
        """Take what came from the network; application data collects in `received`."""
        self._incoming.write(data)
        self._advance()
        return []

    def data_to_send(self) -> bytes:
        return self._outgoing.read()

    def send(self, data: bytes) -> None:
        self.tls.write(data)

    def _advance(self) -> None:
        with suppress(ssl.SSLWantReadError):
            if not self.connected:
                self.tls.do_handshake()
                self.connected = True
            while data := self.tls.read(1 << 16):
                self.received += data


class Taps:
    """One of our connections whose parts a test can reach, to send what an honest end never would."""

    def __init__(self, handshake: Callable[[Flight], Handshake]) -> None:
        self.reader, self.writer = RecordReader(BufferPool()), RecordWriter()
        self.flight = RecordedFlight(self.reader, self.writer)
        self.connection = Connection(self.reader, self.writer, self.flight, handshake(self.flight))
        self.receive, self.data_to_send = self.connection.receive, self.connection.data_to_send


class Messages:
    """A Flight that keeps messages apart instead of putting them into records, and notes which keys are in use."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.padded_to = 1
        self.change_cipher_specs = 0
        self.read_secrets: list[bytes] = []
        self.write_secrets: list[bytes] = []

    def send(self, message: bytes, *, pad_to: int = 1) -> None:
        self.padded_to = pad_to
        while message:
            size = 4 + int.from_bytes(message[1:4], "big")
            self.sent.append(message[:size])
            message = message[size:]

    def take(self) -> list[bytes]:
        """What has been sent since."""
        sent, self.sent = self.sent, []
        return sent

    def send_change_cipher_spec(self) -> None:
        self.change_cipher_specs += 1

    def expect_silence(self) -> None:
        pass

    def read_with(self, suite: Suite, secret: bytes) -> None:
        self.read_secrets.append(secret)

    def write_with(self, suite: Suite, secret: bytes) -> None:
        self.write_secrets.append(secret)


Alter = Callable[[bytes], bytes]
"""Turns the body of a message into another one."""


class Shake:
    """A client's and a server's handshake, message by message, with somebody in the middle who changes some."""

    def __init__(self, client_config: ClientConfig, server_config: ServerConfig) -> None:
        self.client_flight, self.server_flight = Messages(), Messages()
        self.client = ClientHandshake(client_config, self.client_flight, random, NOW, random(32))
        self.server = ServerHandshake(server_config, self.server_flight, random)

    def run(self, alter: Mapping[HandshakeType, Alter] | None = None) -> tuple[HandshakeComplete, HandshakeComplete]:
        """To the end of both, or to the first TlsError. `alter` is for each message of its type, see `second`."""
        changes = alter or {}
        self.client.start()
        done: dict[str, HandshakeComplete] = {}
        while len(done) < 2:
            turns = (self.client_flight, self.server, "server"), (self.server_flight, self.client, "client")
            for flight, receiver, name in turns:
                for message in flight.take():
                    change = changes.get(HandshakeType(message[0]))
                    changed = message if change is None else rebuilt(message, change)
                    if (complete := receiver.handle(changed[0], changed)) is not None:
                        done[name] = complete
        return done["client"], done["server"]


def rebuilt(message: bytes, change: Alter) -> bytes:
    """`message` with its body changed and its length right."""
    return handshake_message(HandshakeType(message[0]), change(message[4:]))


def second(change: Alter) -> Alter:
    """`change`, for the second message and those after it."""
    seen: list[bytes] = []

    def alter(body: bytes) -> bytes:
        seen.append(body)
        return body if len(seen) == 1 else change(body)

    return alter


def client_hello(**fields: Any) -> Alter:
    """A ClientHello with other fields."""
    return lambda body: replace(ClientHello.parse(body), **fields).encode()


def server_hello(**fields: Any) -> Alter:
    """A ServerHello, or HelloRetryRequest, with other fields."""
    return lambda body: replace(ServerHello.parse(body), **fields).encode()


def extension(kind: int, data: bytes | None, *, hello: type[ClientHello] | type[ServerHello] = ClientHello) -> Alter:
    """A hello whose extension of type `kind` has `data`: changed in its place, added at the end, or removed (None)."""

    def alter(body: bytes) -> bytes:
        parsed = hello.parse(body)
        return replace(parsed, extensions=with_extension(parsed.extensions, kind, data)).encode()

    return alter


def with_extension(extensions: Extensions, kind: int, data: bytes | None) -> Extensions:
    """`extensions` with that one changed in its place, added at the end, or removed (None)."""
    if data is None:
        return tuple(entry for entry in extensions if entry.type != kind)
    if any(entry.type == kind for entry in extensions):
        return tuple(Extension(kind, data) if entry.type == kind else entry for entry in extensions)
    return (*extensions, Extension(kind, data))


def encrypted_extension(kind: int, data: bytes) -> Alter:
    """EncryptedExtensions with that one changed or added."""
    return lambda body: encode_extensions(with_extension(parse_encrypted_extensions(body), kind, data))


def pump(one: Any, other: Any, *, cut: int | None = None) -> tuple[list[Event], list[Event]]:
    """Carry bytes both ways until both are silent, in pieces of `cut` bytes; what each side reported."""
    events: tuple[list[Event], list[Event]] = ([], [])
    while True:
        there, back = one.data_to_send(), other.data_to_send()
        if not there and not back:
            return events
        for piece in pieces(there, cut):
            events[1].extend(other.receive(piece))
        for piece in pieces(back, cut):
            events[0].extend(one.receive(piece))


def pieces(data: bytes | bytearray, size: int | None) -> list[bytes]:
    """`data` in pieces of `size` bytes."""
    return [bytes(data[at : at + (size or len(data))]) for at in range(0, len(data), size or len(data) or 1)]


def received(events: list[Event]) -> bytes:
    """All application data of `events`."""
    return b"".join(bytes(event.data) for event in events if isinstance(event, ApplicationData))


def _usage(*, signing: bool, leaf: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signing,
        key_cert_sign=not leaf,
        crl_sign=not leaf,
        content_commitment=False,
        key_encipherment=leaf and not signing,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
