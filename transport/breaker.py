"""Whether a peer may be tried at all: a circuit breaker with a counter for each sort of failure. No I/O, no clock.

    CLOSED ──trip──► OPEN ──hold over──► HALF_OPEN ──success──► CLOSED
                       ▲                     │
                       └──────failure────────┘

An authentication failure trips at once and holds long: it is an attack or a broken deployment, and trying again tells
an attacker more than us. Transport failures trip when enough of them fall into one window. ECH rejections are counted
apart: a fleet with stale keys is neither down nor under attack, but it must not hammer its servers for ever.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from transport.fallback import Counts

MAX_DOUBLINGS: Final = 6
"""After this many trips in a row the hold does not grow any more."""


class State(StrEnum):
    """What the breaker lets through."""

    CLOSED = "closed"
    """Everything."""
    OPEN = "open"
    """Nothing."""
    HALF_OPEN = "half_open"
    """One attempt at a time, to see."""


class Trip(StrEnum):
    """Why it tripped last; a bounded metric label."""

    AUTHENTICATION = "authentication"
    TRANSPORT = "transport"
    REJECTION = "rejection"


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """All times in seconds."""

    window: float = 30.0
    transport_failures: int = 5
    """Within `window`."""
    rejections: int = 20
    """Within `window`."""
    hold: float = 1.0
    """After transport failures and rejections; doubled with every trip in a row, 64 times at most."""
    authentication_hold: float = 60.0
    probe_within: float = 30.0
    """An attempt in HALF_OPEN that was not answered for this long counts as lost, and another may be made."""


@dataclass(slots=True)
class Breaker:
    """The breaker of one peer. `now`: seconds on one monotonic clock, never going back."""

    limits: BreakerLimits = field(default_factory=BreakerLimits)
    _open_until: float | None = None
    """None: it is closed."""
    _probe_at: float | None = None
    """When the one attempt of HALF_OPEN began; None: none is under way."""
    _trips: int = 0
    """In a row, without a success between them."""
    _transport: deque[float] = field(default_factory=deque)
    """When transport failures happened; at most `limits.transport_failures`."""
    _rejections: deque[float] = field(default_factory=deque)
    rejected: int = 0
    """ECH rejections since the beginning: a counter of its own."""

    def state(self, now: float) -> State:
        """What it would let through."""
        if self._open_until is None:
            return State.CLOSED
        return State.OPEN if now < self._open_until else State.HALF_OPEN

    def allow(self, now: float) -> bool:
        """Whether an attempt may be made now. True is a permission to be used: in HALF_OPEN there is only one."""
        match self.state(now):
            case State.CLOSED:
                return True
            case State.OPEN:
                return False
            case State.HALF_OPEN:
                if self._probe_at is not None and now - self._probe_at < self.limits.probe_within:
                    return False
                self._probe_at = now
                return True

    def retry_at(self, now: float) -> float:
        """The earliest moment at which `allow` can be true."""
        probe_lost_at = now if self._probe_at is None else self._probe_at + self.limits.probe_within
        return max(now, self._open_until or now, probe_lost_at)

    def succeeded(self) -> None:
        """A tunnel stands. What was counted is forgotten, but for `rejected`."""
        self._open_until = self._probe_at = None
        self._trips = 0
        self._transport.clear()
        self._rejections.clear()

    def inconclusive(self) -> None:
        """The attempt that was allowed told nothing about what this breaker is for: another one may be made."""
        self._probe_at = None

    def failed(self, counts: Counts, now: float) -> Trip | None:
        """Count a failure; why the breaker tripped by it, None if it did not."""
        match counts:
            case Counts.AUTHENTICATION:
                return self._trip(Trip.AUTHENTICATION, now, self.limits.authentication_hold)
            case Counts.TRANSPORT:
                full = _counted(self._transport, now, self.limits.window, self.limits.transport_failures)
                return self._trip(Trip.TRANSPORT, now) if full or self.state(now) is State.HALF_OPEN else None
            case Counts.REJECTION:
                self.rejected += 1
                full = _counted(self._rejections, now, self.limits.window, self.limits.rejections)
                return self._trip(Trip.REJECTION, now) if full else None
            case Counts.NOTHING:
                return None

    def _trip(self, why: Trip, now: float, at_least: float = 0.0) -> Trip:
        hold = self.limits.hold * (1 << min(self._trips, MAX_DOUBLINGS))
        # A failure of a lesser sort that was under way when the breaker tripped must not shorten its hold.
        self._open_until = max(now + max(hold, at_least), self._open_until or now)
        self._trips += 1
        self._probe_at = None
        self._transport.clear()
        self._rejections.clear()
        return why


def _counted(times: deque[float], now: float, window: float, limit: int) -> bool:
    """Whether `limit` failures, this one included, lie within the window."""
    times.append(now)
    while now - times[0] > window:
        times.popleft()
    return len(times) >= limit
