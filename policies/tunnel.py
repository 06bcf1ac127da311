"""What policy says of tunnels: for the mesh (`TunnelPolicy`), and for each service behind one (`Peer`)."""

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from policies.errors import refuse
from policies.hosts import is_host

MESH: Final = "mesh"
"""The name of the one TunnelPolicy."""
MAX_ENDPOINTS: Final = 64
MAX_ALLOWED: Final = 1024
"""Workloads that one Peer lets in."""
_HOST: Final = r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?"
_ENDPOINT: Final = re.compile(
    rf"(?:tcp|quic)://(?:\[[0-9a-fA-F:.]{{2,45}}\]|(?P<host>{_HOST})):(?P<port>[1-9]\d{{0,4}})"
)
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME: Final = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}")
_SPIFFE: Final = re.compile(r"spiffe://[a-z0-9._-]{1,255}(?:/[A-Za-z0-9._-]+)+")
_STATIC_BYTES: Final = 32


class EchMode(StrEnum):
    """What tunnels to a peer need. None of them ever allows plaintext."""

    REQUIRED = "required"
    OPPORTUNISTIC = "opportunistic"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class TunnelConfig:
    """How the mesh uses ECH, and how often its keys change. Construction raises ConfigError."""

    public_name: str
    """The name in the clear: the SNI of every tunnel. Every sidecar that serves needs a certificate for it."""
    enabled: bool = True
    """False: `opportunistic` peers are reached without ECH. Servers accept it regardless."""
    rollout_percentage: float = 100.0
    """Share of (workload, service) pairs that use ECH where it is opportunistic; steps of 0.01."""
    salt: str = "ech"
    """Another salt deals the pairs anew."""
    rotate_every: float = 6 * 3600.0
    """Seconds between two ECH keys."""
    rotate_statics_every: float = 30 * 86_400.0
    """Seconds between two Noise statics of a workload."""
    max_name_length: int = 64
    """Bytes to which the hidden names are padded; longer ones show their length in steps of 32."""

    def __post_init__(self) -> None:
        refuse(self._checks())

    def _checks(self) -> Iterator[tuple[bool, str]]:
        wrong_name = not _is_dns_name(self.public_name) or self.public_name.rsplit(".", 1)[-1].isdigit()
        yield wrong_name, "public_name: expected a DNS name in lower case that is no address"
        yield not 0 <= self.rollout_percentage <= 100, "rollout_percentage: expected 0 to 100"
        yield not 1 <= len(self.salt.encode()) <= 64, "salt: expected 1 to 64 bytes"
        yield not 3600 <= self.rotate_every <= 86_400, "rotate_every: expected 1h to 24h"
        yield not 3600 <= self.rotate_statics_every <= 366 * 86_400, "rotate_statics_every: expected 1h to 366d"
        yield not 0 <= self.max_name_length <= 255, "max_name_length: expected 0 to 255"


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """A service that is reached through a tunnel, and who may reach it. Construction raises ConfigError."""

    spiffe_id: str
    """The workload behind it."""
    service: str
    """The name that the tunnel hides, and that the peer's certificate is for."""
    endpoints: frozenset[str]
    """`tcp://host:port` and `quic://host:port`; equally safe, the fastest is taken."""
    mode: EchMode = EchMode.REQUIRED
    min_pq: bool = True
    """Whether key exchanges that are not post-quantum are refused."""
    allow: frozenset[str] = frozenset()
    """SPIFFE ids that may open tunnels to it; empty: nobody."""
    static_key: str = ""
    """Noise static of a peer that this control plane has no keys for; base64. Empty: the control plane makes it."""
    other_static_key: str = ""
    """A second one, while such a peer changes its static."""

    def __post_init__(self) -> None:
        refuse(self._checks())

    @property
    def statics(self) -> tuple[bytes, ...]:
        """What the document itself says of the peer's keys, 32 bytes each; empty: nothing."""
        return tuple(base64.b64decode(text) for text in (self.static_key, self.other_static_key) if text)

    def _checks(self) -> Iterator[tuple[bool, str]]:
        yield not is_spiffe_id(self.spiffe_id), "spiffe_id: expected spiffe://<trust domain>/<path>"
        yield not _is_dns_name(self.service), "service: expected a DNS name in lower case"
        yield not 1 <= len(self.endpoints) <= MAX_ENDPOINTS, f"endpoints: expected 1 to {MAX_ENDPOINTS}"
        for endpoint in sorted(self.endpoints):
            yield not _is_endpoint(endpoint), f"endpoints: {endpoint[:80]!r} is not tcp://host:port or quic://host:port"
        yield len(self.allow) > MAX_ALLOWED, f"allow: expected at most {MAX_ALLOWED}"
        for allowed in sorted(self.allow):
            yield not is_spiffe_id(allowed), f"allow: {allowed[:80]!r} is not spiffe://<trust domain>/<path>"
        for name in ("static_key", "other_static_key"):
            text = getattr(self, name)
            yield bool(text) and not _is_static(text), f"{name}: expected base64 of {_STATIC_BYTES} bytes"
        alone = bool(self.other_static_key) and self.static_key in ("", self.other_static_key)
        yield alone, "other_static_key: expected beside another static_key"


def is_spiffe_id(text: str) -> bool:
    """Whether `text` is `spiffe://<trust domain>/<path>` (SPIFFE-ID section 2)."""
    return len(text) <= 2048 and bool(_SPIFFE.fullmatch(text)) and not {".", ".."} & set(text.split("/")[3:])


def _is_dns_name(text: str) -> bool:
    return len(text) <= 253 and bool(_DNS_NAME.fullmatch(text))


def _is_endpoint(text: str) -> bool:
    matched = _ENDPOINT.fullmatch(text)
    return matched is not None and int(matched["port"]) <= 65_535 and is_host(matched["host"] or "address")


def _is_static(text: str) -> bool:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(key) == _STATIC_BYTES and any(key) and base64.b64encode(key).decode() == text
