"""What tunnels are counted by. Labels are closed sets; never a service, a peer or a key."""

from enum import StrEnum

from observability import names
from observability.metrics import Registry


class Role(StrEnum):
    """Which end we are."""

    DIALLER = "dialler"
    ACCEPTOR = "acceptor"


class Meter:
    """Owned by one event loop."""

    def __init__(self, registry: Registry) -> None:
        self._handshakes = registry.counter(names.TUNNEL_HANDSHAKES)
        self._seconds = registry.histogram(names.TUNNEL_HANDSHAKE_SECONDS)
        self._open = registry.gauge(names.TUNNELS_OPEN)
        self._ends = registry.counter(names.TUNNEL_ENDS)
        self._streams = registry.counter(names.TUNNEL_STREAMS)
        self._decisions = registry.counter(names.TUNNEL_DECISIONS)

    def handshake(self, role: Role, outcome: str, seconds: float) -> None:
        """One attempt ended. `outcome`: "ech" or "no_ech" when a tunnel stands, else an Outcome or Refusal."""
        self._handshakes.add((role, outcome))
        self._seconds.observe(seconds, (role,))

    def opened(self, role: Role) -> None:
        """A tunnel stands."""
        self._open.add(1, (role,))

    def ended(self, role: Role, why: str) -> None:
        """A tunnel that stood is gone; `why`: an End."""
        self._open.add(-1, (role,))
        self._ends.add((role, why))

    def stream(self, role: Role) -> None:
        """A stream was opened."""
        self._streams.add((role,))

    def decided(self, mode: str, reason: str) -> None:
        """A mode was chosen, or refused."""
        self._decisions.add((mode, reason))
