"""One handshake with a real server, and what came of it."""

import base64
import binascii
import os
import socket
import ssl
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from commands.typed import host_and_port
from transport.decisions import TunnelMode
from transport.ech.config import EchConfig, EchConfigError, choose_config, parse_config_list
from transport.ech.pem import parse_pem
from transport.noise.suite import StaticKey
from transport.peers import STATIC_BYTES
from transport.tls13 import client
from transport.tls13.alerts import EchRejectedError, TlsError
from transport.tls13.certificates import Trust
from transport.tls13.config import DEFAULT_GROUPS, POST_QUANTUM_GROUPS, ClientConfig
from transport.tls13.constants import CipherSuite, NamedGroup
from transport.tls13.events import EchStatus, HandshakeComplete
from transport.tunnel.channel import Channel
from transport.tunnel.dialling import Dialling, Plan
from transport.tunnel.errors import HandshakeError, RejectedError

MAX_FILE: Final = 1 << 20
MAX_NAME: Final = 253
"""Characters of a host name."""
Stood = TypeVar("Stood")


class ProbeError(Exception):
    """What is to be probed cannot be. Says which option."""


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to shake hands with, and how."""

    host: str
    port: int
    service: str
    trust: Trust
    timeout: float
    """Seconds for the connection and for each answer."""
    ech: EchConfig | None = None
    public_name: str = ""
    static: StaticKey | None = field(default=None, repr=False)
    """Our Noise static; None: TLS alone."""
    peer_static: bytes = b""
    min_pq: bool = False
    retry: bool = True

    @classmethod
    def of(  # one argument for each option of the command
        cls,
        address: str,
        service: str,
        ech: str | None,
        ca: Path | None,
        public_name: str | None,
        noise_key: Path | None,
        peer_static: str | None,
        min_pq: bool,
        retry: bool,
        timeout: float,
    ) -> "Target":
        """From what was typed. Raises ProbeError."""
        try:
            at = host_and_port(address)
        except ValueError as error:
            raise ProbeError(str(error)) from None
        if not service.isascii() or not 1 <= len(service) <= MAX_NAME:
            raise ProbeError(
                f"--service: expected 1 to {MAX_NAME} ASCII characters; other names have an A-label (xn--)"
            )
        if (noise_key is None) != (peer_static is None):
            raise ProbeError("--noise-key and --peer-static belong together")
        config = _ech_config(ech) if ech is not None else None
        if noise_key is not None and config is None and public_name is None:
            raise ProbeError("a tunnel needs --ech, or --public-name to go without")
        return cls(
            at.host,
            at.port,
            service,
            _trust(ca),
            timeout,
            config,
            public_name or (config.public_name if config is not None else service),
            _static(noise_key) if noise_key is not None else None,
            _peer_static(peer_static) if peer_static is not None else b"",
            min_pq,
            retry,
        )


@dataclass(frozen=True, slots=True)
class Probed:
    """What came of one attempt."""

    succeeded: bool
    """The handshake stands, with ECH if it was to be used."""
    ech: str
    """accepted, rejected, grease or not reached."""
    connect: float
    """Seconds."""
    handshake: float
    """Seconds until it stood or failed."""
    detail: str = ""
    """Why not."""
    group: str = ""
    cipher_suite: str = ""
    alpn: str = ""
    certificate: str = ""
    """Subject of the leaf."""
    tunnel: str = ""
    """Mode of the tunnel; empty: TLS alone was tried."""
    retry_configs: bytes | None = None
    """Of a server that rejected ECH and proved to be the public name."""

    def shown(self) -> dict[str, object]:
        """For JSON."""
        retry = None if self.retry_configs is None else base64.b64encode(self.retry_configs).decode()
        return {
            "succeeded": self.succeeded,
            "ech": self.ech,
            "connect_ms": round(self.connect * 1000, 2),
            "handshake_ms": round(self.handshake * 1000, 2),
            "detail": self.detail,
            "group": self.group,
            "cipher_suite": self.cipher_suite,
            "alpn": self.alpn,
            "certificate": self.certificate,
            "tunnel": self.tunnel,
            "retry_configs": retry,
        }


def probe_twice(target: Target) -> list[Probed]:
    """One attempt; and another with the retry_configs, if the first was rejected with some and that is wanted."""
    results = [probe(target)]
    configs = results[0].retry_configs
    if target.retry and configs is not None and (config := choose_config(parse_config_list(configs))) is not None:
        results.append(probe(replace(target, ech=config)))
    return results


def probe(target: Target) -> Probed:
    """One attempt. Raises nothing: a failure is a result."""
    began = time.perf_counter()
    try:
        with socket.create_connection((target.host, target.port), timeout=target.timeout) as connected:
            took = time.perf_counter() - began
            return replace(_shaken(target, connected), connect=took)
    except OSError as error:
        return Probed(
            False, "not reached", time.perf_counter() - began, 0.0, f"no connection: {error.strerror or error}"
        )


def _shaken(target: Target, connected: socket.socket) -> Probed:
    began, offered = time.perf_counter(), "grease" if target.ech is None else "not reached"
    failed = Probed(False, offered, 0.0, 0.0)
    try:
        result = _tunnel(target, connected) if target.static is not None else _tls(target, connected)
    except (EchRejectedError, RejectedError) as error:
        result = replace(
            failed, ech="rejected", detail="ECH rejected by the public name", retry_configs=error.retry_configs
        )
    except (TlsError, HandshakeError) as error:
        result = replace(failed, detail=f"{type(error).__name__}: {error}")
    except OSError as error:
        result = replace(failed, detail=f"the connection ended: {error.strerror or error}")
    except ValueError as error:  # keys of the right length that are none: the peer's static, or ECH's of a server
        result = replace(failed, detail=f"nothing can be sent: {error}")
    return replace(result, handshake=time.perf_counter() - began)


def _tls(target: Target, connected: socket.socket) -> Probed:
    groups = POST_QUANTUM_GROUPS if target.min_pq else DEFAULT_GROUPS
    # A share for a classical group beside the post-quantum one: servers without the latter answer at once.
    shares = min(2, len(groups))
    alpn = (b"h2", b"http/1.1")
    config = ClientConfig(target.service, target.trust, target.ech, alpn=alpn, groups=groups, shares=shares)
    connection = client.connect(config, random=os.urandom, now=_now())

    def advance() -> HandshakeComplete | None:
        event = connection.next_event()
        return event if isinstance(event, HandshakeComplete) else None

    return _described(_drive(connected, connection, advance))


def _tunnel(target: Target, connected: socket.socket) -> Probed:
    assert target.static is not None  # noqa: S101 the caller looked
    plan = Plan(
        target.service,
        target.public_name,
        target.trust,
        target.static,
        "",
        target.peer_static,
        target.ech,
        target.min_pq,
    )
    dialling = Dialling(plan, random=os.urandom, now=_now())
    established = _drive(connected, dialling.connection, dialling.advance)
    done = dialling.connection.handshake
    assert done is not None  # noqa: S101 a tunnel stands on it
    _require_admission(connected, dialling.connection)
    is_hidden = established.mode is TunnelMode.ECH
    return replace(_described(done), tunnel=established.mode.value, ech="accepted" if is_hidden else "grease")


def _drive(connected: socket.socket, connection: Channel, advance: Callable[[], Stood | None]) -> Stood:
    """Carry bytes until the handshake stands. Our alert, if there is one, is sent before the error goes on."""
    try:
        while True:
            stood = advance()
            if stood is not None:
                return stood  # what it has to send goes out below
            connected.sendall(connection.data_to_send())
            count = connected.recv_into(connection.get_buffer())
            if count == 0:
                raise ConnectionResetError(0, "the server closed it in the middle of the handshake")
            connection.buffer_updated(count)
    finally:
        with suppress(OSError):
            connected.sendall(connection.data_to_send())


def _require_admission(connected: socket.socket, connection: Channel) -> None:
    """Return once the server has said something under the new keys, as it does at once to whom it admits.

    It knows who we are only after message 3: whom it does not admit gets an alert. Raises TlsError, or OSError.
    """
    while connection.next_event() is None:
        count = connected.recv_into(connection.get_buffer())
        if count == 0:
            raise ConnectionResetError(0, "the server did not admit us")
        connection.buffer_updated(count)


def _described(done: HandshakeComplete) -> Probed:
    leaf = x509.load_der_x509_certificate(done.peer_certificates[0])
    return Probed(
        True,
        "accepted" if done.ech is EchStatus.ACCEPTED else "grease",
        0.0,
        0.0,
        group=NamedGroup(done.group).name,
        cipher_suite=CipherSuite(done.cipher_suite).name,
        alpn=(done.alpn or b"").decode("latin-1"),
        certificate=leaf.subject.rfc4514_string(),
    )


def _ech_config(text: str) -> EchConfig:
    try:
        path = Path(text)
        if path.is_file():
            with path.open("rb") as file:
                configs = parse_pem(file.read(MAX_FILE)).configs
        else:
            configs = parse_config_list(base64.b64decode(text, validate=True))
    except (EchConfigError, binascii.Error, OSError, ValueError) as error:
        raise ProbeError(f"--ech: neither a file of RFC 9934 nor base64 of an ECHConfigList ({error})") from None
    config = choose_config(configs)
    if config is None:
        raise ProbeError("--ech: none of the configurations can be used")
    return config


def _trust(ca: Path | None) -> Trust:
    try:
        if ca is not None:
            return Trust.from_pem(ca.read_bytes())
        roots = ssl.create_default_context().get_ca_certs(binary_form=True)
        with warnings.catch_warnings():  # some of the system's roots have serial numbers that RFC 5280 forbids
            warnings.simplefilter("ignore")
            return Trust([x509.load_der_x509_certificate(der) for der in roots])
    except (OSError, ValueError) as error:
        raise ProbeError(f"--ca: no roots that can be used ({error})") from None


def _static(path: Path) -> StaticKey:
    private = path.read_bytes()
    if len(private) != STATIC_BYTES:
        raise ProbeError(f"--noise-key: expected {STATIC_BYTES} bytes, as `aegis tunnel keygen` writes them")
    return StaticKey.of(X25519PrivateKey.from_private_bytes(private))


def _peer_static(text: str) -> bytes:
    try:
        static = base64.b64decode(text, validate=True)
    except binascii.Error:
        static = b""
    if len(static) != STATIC_BYTES:
        raise ProbeError(f"--peer-static: expected base64 of {STATIC_BYTES} bytes")
    return static


def _now() -> datetime:
    return datetime.fromtimestamp(time.time_ns() / 1e9, UTC)
