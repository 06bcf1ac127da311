"""The TLS engine beside OpenSSL (`ssl`): CPU of a handshake and of a megabyte, in one process, without sockets.

    python benchmarks/bench_tls_engine.py [--rounds 5] [--handshakes 100] [--megabytes 32]

Both sides run in this process and are timed apart with `process_time`. Rounds alternate between the candidates, and the
best round of each counts, so that what else the machine does falls on all alike. Compare the figures of one run.
"""

import argparse
import os
import ssl
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from transport.ech.config import EchKey, generate_key
from transport.tls13 import client, server
from transport.tls13.certificates import Credential, Trust
from transport.tls13.config import ClientConfig, ServerConfig
from transport.tls13.connection import Connection
from transport.tls13.constants import CipherSuite, NamedGroup
from transport.tls13.record import BufferPool

NAME = "service.internal"
PUBLIC = "public.example"
WRITE = 1 << 16
"""Bytes the application writes at once."""
READ = 1 << 18
"""Bytes a socket brings at most."""
POOL = BufferPool()
NOW = datetime.now(UTC)  # noqa: TID251 OpenSSL judges by the real clock


@dataclass
class Identity:
    trust: Trust
    credentials: tuple[Credential, ...]
    ech: EchKey
    client: ssl.SSLContext
    server: ssl.SSLContext


class Clock:
    """CPU seconds of each side."""

    def __init__(self) -> None:
        self.client = self.server = 0.0

    def of_client(self, action: Callable[[], Any]) -> Any:
        before = time.process_time()
        result = action()
        self.client += time.process_time() - before
        return result

    def of_server(self, action: Callable[[], Any]) -> Any:
        before = time.process_time()
        result = action()
        self.server += time.process_time() - before
        return result


class OpenSsl:
    """One end by `ssl.MemoryBIO`, with the surface of `Connection` that this page needs."""

    def __init__(self, context: ssl.SSLContext, name: str | None) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=name is None, server_hostname=name)
        self.connected = False

    def take(self, data: bytes) -> int:
        if data:
            self.incoming.write(data)
        count = 0
        try:
            if not self.connected:
                self.tls.do_handshake()
                self.connected = True
            while read := self.tls.read(READ):
                count += len(read)
        except ssl.SSLWantReadError:
            pass
        return count

    def send(self, data: bytes) -> None:
        self.tls.write(data)

    def data_to_send(self) -> bytes:
        return self.outgoing.read()


class Ours:
    """One end by our engine, fed as an asyncio.BufferedProtocol would."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.send = connection.send
        self.data_to_send = connection.data_to_send

    @property
    def connected(self) -> bool:
        return self.connection.handshake is not None

    def take(self, data: bytes) -> int:
        """The copy into the buffer is what a socket would do."""
        connection, count, view = self.connection, 0, memoryview(data)
        while view:
            buffer = connection.get_buffer()
            size = min(len(buffer), len(view))
            buffer[:size] = view[:size]
            connection.buffer_updated(size)
            view = view[size:]
            while (event := connection.next_event()) is not None:
                count += len(getattr(event, "data", b""))
        return count


class Authority:
    """Issues what both candidates present and believe."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "benchmark")])
        others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only")
        usage = dict.fromkeys((*others, "decipher_only", "digital_signature"), False)
        self.root = (
            self._builder(self.name, self.key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    def leaf(self, name: str, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
        builder = self._builder(x509.Name([]), key)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=1))
            .not_valid_after(NOW + timedelta(days=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )


def make_identity() -> Identity:
    authority = Authority()
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in (PUBLIC, NAME)}
    leaves = {name: authority.leaf(name, key) for name, key in keys.items()}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0  # we give none either
    with tempfile.TemporaryDirectory() as directory:
        chain = Path(directory, "chain.pem")
        private = keys[NAME].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        chain.write_bytes(leaves[NAME].public_bytes(serialization.Encoding.PEM) + private)
        context.load_cert_chain(chain)
    root_pem = authority.root.public_bytes(serialization.Encoding.PEM).decode()
    return Identity(
        trust=Trust([authority.root]),
        credentials=tuple(Credential.of([leaves[name]], key) for name, key in keys.items()),
        ech=generate_key(PUBLIC, os.urandom),
        client=ssl.create_default_context(cadata=root_pem),
        server=context,
    )


def openssl_pair(identity: Identity) -> tuple[Callable[[], OpenSsl], Callable[[], OpenSsl]]:
    return (lambda: OpenSsl(identity.client, NAME)), (lambda: OpenSsl(identity.server, None))


def our_pair(identity: Identity, *, ech: bool, **settings: Any) -> tuple[Callable[[], Ours], Callable[[], Ours]]:
    offered = ClientConfig(
        NAME, identity.trust, ech=identity.ech.config if ech else None, grease_ech=False, alpn=(b"mesh/1",), **settings
    )
    accepted = ServerConfig(identity.credentials, alpn=(b"mesh/1",), ech_keys=(identity.ech,), **settings)
    return (
        lambda: Ours(client.connect(offered, random=os.urandom, now=NOW, buffers=POOL)),
        lambda: Ours(server.accept(accepted, random=os.urandom, buffers=POOL)),
    )


def handshake(pair: tuple[Callable[[], Any], Callable[[], Any]], clock: Clock) -> tuple[Any, Any]:
    one, other = clock.of_client(pair[0]), clock.of_server(pair[1])
    clock.of_client(lambda: one.take(b""))
    while not (one.connected and other.connected):
        there = clock.of_client(one.data_to_send)
        clock.of_server(lambda there=there: other.take(there))
        back = clock.of_server(other.data_to_send)
        clock.of_client(lambda back=back: one.take(back))
    return one, other


def bulk(one: Any, other: Any, clock: Clock, megabytes: int) -> None:
    data = os.urandom(WRITE)
    sent = taken = 0
    while sent < megabytes * 1_000_000:
        for _ in range(READ // WRITE):
            clock.of_client(lambda: one.send(data))
            sent += WRITE
        out = clock.of_client(one.data_to_send)
        taken += clock.of_server(lambda out=out: other.take(out))
    assert taken == sent


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--handshakes", type=int, default=100)
    parser.add_argument("--megabytes", type=int, default=32)
    options = parser.parse_args()
    identity = make_identity()
    x25519 = (NamedGroup.X25519,)
    handshakes = {
        "OpenSSL, X25519, P-256 certificate": openssl_pair(identity),
        "ours, the same": our_pair(identity, ech=False, groups=x25519),
        "ours + ECH": our_pair(identity, ech=True, groups=x25519),
        "ours + ECH + X25519MLKEM768": our_pair(identity, ech=True, groups=(NamedGroup.X25519MLKEM768,)),
    }
    bulks = {
        "OpenSSL (TLS_AES_256_GCM_SHA384)": openssl_pair(identity),
        **{
            f"ours, TLS_{suite.name}": our_pair(identity, ech=False, cipher_suites=(suite,), groups=x25519)
            for suite in CipherSuite
        },
    }
    best: dict[str, tuple[float, float]] = {}
    for _ in range(options.rounds):
        for name, pair in handshakes.items():
            clock = Clock()
            for _ in range(options.handshakes):
                handshake(pair, clock)
            keep_best(best, "hs " + name, clock, options.handshakes)
        for name, pair in bulks.items():
            ends = handshake(pair, Clock())
            clock = Clock()
            bulk(*ends, clock, options.megabytes)
            keep_best(best, "MB " + name, clock, options.megabytes)
    report("handshake, CPU ms", "hs ", best)
    report("one MB, client to server, CPU ms", "MB ", best)


def keep_best(best: dict[str, tuple[float, float]], name: str, clock: Clock, count: int) -> None:
    found = (clock.client / count * 1e3, clock.server / count * 1e3)
    best[name] = min(best.get(name, found), found, key=sum)


def report(title: str, prefix: str, best: dict[str, tuple[float, float]]) -> None:
    rows = {name.removeprefix(prefix): times for name, times in best.items() if name.startswith(prefix)}
    baseline = sum(next(iter(rows.values())))
    print(f"{title:<44} client  server    both   ratio")
    for name, (one, other) in rows.items():
        print(f"  {name:<42} {one:6.3f}  {other:6.3f}  {one + other:6.3f}  {(one + other) / baseline:6.2f}")


if __name__ == "__main__":
    main()
