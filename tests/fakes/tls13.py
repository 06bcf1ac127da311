"""Certificates, wires and a foreign peer for tests of the TLS engine. Nothing here has a socket."""

import os
import ssl
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from transport.tls13.certificates import Credential, Trust
from transport.tls13.connection import Connection
from transport.tls13.events import ApplicationData, Event

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


def alert_in(peer: Connection) -> bytes:
    """What `peer` has to say at its end: an alert without protection, level and description."""
    data = bytes(peer.data_to_send())
    assert data[-7:-2] == b"\x15\x03\x03\x00\x02"
    return data[-2:]


random = os.urandom


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
