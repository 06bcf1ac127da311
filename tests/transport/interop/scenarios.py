"""What is tried with each pair of peers, and what each of them says about it."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from tests.transport.interop.lab import Chain, Lab

X25519: Final = 0x001D
P256: Final = 0x0017
P384: Final = 0x0018
PQ: Final = 0x11EC


class Ech(Enum):
    """What the client does about ECH."""

    NONE = "none"
    REAL = "real"
    STALE = "stale"
    """Offers it with a key that the server does not have any more."""
    GREASE = "grease"


@dataclass(frozen=True)
class Scenario:
    """One column of the matrix."""

    name: str
    ech: Ech
    client_groups: tuple[int, ...] = (X25519, P256, P384)
    server_groups: tuple[int, ...] = (X25519, P256, P384)
    is_retried: bool = False
    """The server has no group in common with the first key share and sends a HelloRetryRequest."""
    group: int | None = None
    """What must come of it, if that is the point."""

    def __str__(self) -> str:
        return self.name


SCENARIOS: Final = (
    Scenario("no ech", Ech.NONE),
    Scenario("ech", Ech.REAL),
    Scenario("ech+hrr", Ech.REAL, server_groups=(P384,), is_retried=True, group=P384),
    Scenario("ech+pq", Ech.REAL, client_groups=(PQ, X25519), server_groups=(PQ, X25519), group=PQ),
    Scenario("stale", Ech.STALE),
    Scenario("stale+hrr", Ech.STALE, server_groups=(P384,), is_retried=True, group=P384),
    Scenario("grease", Ech.GREASE),
    Scenario("grease+hrr", Ech.GREASE, server_groups=(P384,), is_retried=True, group=P384),
)


@dataclass(frozen=True)
class Outcome:
    """What the client tells."""

    succeeded: bool
    """It completed the handshake as the one it wanted, and got its answer."""
    accepted: bool | None = None
    """Whether ECH was accepted, if it tells."""
    retry_key: bytes | None = None
    """Public key of the configuration that it was given after a rejection."""
    exported: bytes | None = None
    """EXPORTER-interop, no context, 32 bytes, if it tells."""
    text: str = ""
    """Everything it printed, for whoever reads a failure."""


@dataclass(frozen=True)
class Seen:
    """What the server tells of one handshake that it completed."""

    accepted: bool
    name: str
    exported: bytes = b""


@dataclass
class Running:
    """A server that listens."""

    port: int
    seen: list[Seen] | None = None
    """Complete when the server is stopped; None if it tells nothing."""


class Client(Protocol):
    """A peer that connects."""

    name: str
    cells: frozenset[str]
    """The scenarios that it has the means for."""
    checks_inner_name: bool
    """After a rejection it wants a certificate for the inner name, too: the fault of tstclnt, not of NSS."""
    recovers: bool
    """After a rejection it connects again by itself, with the configuration that it was given."""
    tells_retry: bool
    """After a rejection it tells what it was given."""

    def fetch(self, lab: Lab, scenario: Scenario, port: int) -> Outcome:
        """One request to 127.0.0.1, as `scenario` says. Skips the test if the peer is not installed."""


class Server(Protocol):
    """A peer that listens."""

    name: str
    cells: frozenset[str]

    def serve(self, lab: Lab, scenario: Scenario, chains: Sequence[Chain]) -> AbstractContextManager[Running]:
        """Listens on 127.0.0.1 until left, the first of `chains` its default. Skips if the peer is not installed."""


def cells(*without: str) -> frozenset[str]:
    """All scenarios but those."""
    names = frozenset(scenario.name for scenario in SCENARIOS)
    assert names >= set(without)
    return names - set(without)
