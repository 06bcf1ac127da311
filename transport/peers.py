"""Who is on the other end of a tunnel: what the control plane says of a peer, as values. Nothing is ever learnt from
the wire (no trust on first use).
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NewType

from transport.decisions import PeerMode

SpiffeId = NewType("SpiffeId", str)
"""`spiffe://<trust domain>/<path>`, as the control plane checked it."""

STATIC_BYTES: Final = 32
"""Of an X25519 public key."""
MAX_ENDPOINTS: Final = 64
_ENDPOINT: Final = re.compile(r"(tcp|quic)://(?:\[([0-9a-fA-F:.]{2,45})\]|([A-Za-z0-9.-]{1,253})):(\d{1,5})")


class PeerError(ValueError):
    """A descriptor cannot be. Never holds key material."""


class Carrier(StrEnum):
    """What the tunnel's bytes travel in. The same TLS engine and the same Noise, bound to it; over TCP the record keys
    need both, over QUIC the packet keys are those of TLS."""

    TCP = "tcp"
    QUIC = "quic"


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """Where a peer listens."""

    carrier: Carrier
    host: str
    """Name or address; IPv6 without brackets."""
    port: int

    @classmethod
    def parse(cls, text: str) -> "Endpoint":
        """`tcp://host:15008` or `quic://[::1]:15008`. Raises PeerError."""
        matched = _ENDPOINT.fullmatch(text)
        if matched is None or not 1 <= int(matched[4]) <= 65_535:
            raise PeerError(f"expected tcp://host:port or quic://host:port, got {text[:100]!r}")
        return cls(Carrier(matched[1]), matched[2] or matched[3], int(matched[4]))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.carrier}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Statics:
    """The Noise static public keys by which a workload may be known, 32 bytes each."""

    current: bytes
    """What it proves as initiator, and what initiators expect of it."""
    other: bytes | None = None
    """Only during a rotation: the next one before the switch, the former one after it."""

    def __post_init__(self) -> None:
        for key in self.all:
            if len(key) != STATIC_BYTES or not any(key):
                raise PeerError(f"a Noise static is {STATIC_BYTES} bytes and not zero")
        if self.other == self.current:
            raise PeerError("both Noise statics are one")

    @property
    def all(self) -> tuple[bytes, ...]:
        """The current one first."""
        return (self.current,) if self.other is None else (self.current, self.other)


@dataclass(frozen=True, slots=True)
class Peer:
    """A service that is reached through a tunnel, and who may reach it. Construction raises PeerError."""

    name: str
    """As policy names it."""
    spiffe_id: SpiffeId
    """Whose Noise static the responder has to prove."""
    service: str
    """The name in the inner hello: never on the wire."""
    endpoints: tuple[Endpoint, ...]
    mode: PeerMode = PeerMode.REQUIRED
    min_pq: bool = True
    """Refuse key exchanges that are not post-quantum, HelloRetryRequest included."""
    allowed: frozenset[SpiffeId] = frozenset()
    """Workloads that may open tunnels to it. Empty: nobody."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.endpoints) <= MAX_ENDPOINTS:
            raise PeerError(f"a peer has 1 to {MAX_ENDPOINTS} endpoints")
        if len(set(self.endpoints)) != len(self.endpoints):
            raise PeerError("an endpoint stands twice")


@dataclass(frozen=True, slots=True)
class PeerDirectory:
    """Everybody's public keys and every peer, at one moment. Immutable; a push makes another one."""

    peers: Mapping[str, Peer] = field(default_factory=dict)
    """By name of the policy document."""
    statics: Mapping[SpiffeId, Statics] = field(default_factory=dict)
    revoked: frozenset[bytes] = frozenset()
    """Noise statics that must not be accepted any more, whatever else says so."""
    _owners: Mapping[bytes, SpiffeId] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        owners: dict[bytes, SpiffeId] = {}
        for spiffe_id, statics in self.statics.items():
            for key in statics.all:
                if owners.setdefault(key, spiffe_id) != spiffe_id:
                    raise PeerError(f"{spiffe_id} and {owners[key]} have one Noise static ({fingerprint(key)})")
        object.__setattr__(self, "_owners", owners)

    def responder_statics(self, peer: Peer) -> tuple[bytes, ...]:
        """The statics that `peer` may prove, the current one first; empty: it is not known, or all are revoked.

        XK: the initiator needs the key before its first message, so that it tries these in order.
        """
        statics = self.statics.get(peer.spiffe_id)
        return tuple(key for key in statics.all if key not in self.revoked) if statics is not None else ()

    def owner_of(self, static: bytes) -> SpiffeId | None:
        """The workload that a static belongs to; None: nobody's, or revoked. Ask after message 3, before any data."""
        return None if static in self.revoked else self._owners.get(static)

    def peers_served_by(self, spiffe_id: SpiffeId) -> tuple[Peer, ...]:
        """The peers whose responder this workload is."""
        return tuple(peer for peer in self.peers.values() if peer.spiffe_id == spiffe_id)

    def admitted(self, initiator: SpiffeId, responder: SpiffeId, service: str) -> Peer | None:
        """The peer as which `responder` may serve `service` to `initiator`; None: it must not."""
        for peer in self.peers_served_by(responder):
            if peer.service == service and initiator in peer.allowed:
                return peer
        return None


def fingerprint(key: bytes) -> str:
    """A short public name of a public key for people and logs: base64url of the first 12 bytes of SHA-256."""
    return base64.urlsafe_b64encode(hashlib.sha256(key).digest()[:12]).decode()


def endpoints(texts: Iterable[str]) -> tuple[Endpoint, ...]:
    """Parsed and in a fixed order. Raises PeerError."""
    return tuple(sorted(map(Endpoint.parse, texts)))
