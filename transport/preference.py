"""Which endpoint of a peer is tried first: the one that shook hands fastest, among those that are equally safe.

Speed never buys safety: only options of the safest class compete, and when all of those are shut by their breakers
there is no tunnel: an attacker can shut them with a few resets, and must gain nothing by it. `tcp` and `quic` endpoints
of one peer count as equally safe: the same TLS engine, and the same Noise bound to it; that record keys over TCP need
Noise, too, is a second lock on a door that holds by the first. Modes are not options here, they are decided before (see
rollout, fallback).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from transport.peers import Endpoint

ALPHA: Final = 0.3
"""Weight of the newest handshake."""
FADE_AFTER: Final = 60.0
"""Seconds after which a measurement begins to fade towards "not known": an endpoint that was slow once gets another
chance, and one that became slow is found out by the next measurement."""
FAILURE_PENALTY, MAX_PENALTY = 1.0, 60.0
"""Seconds that a failed handshake counts as, at least and at most; it doubles what was expected."""
MAX_KNOWN: Final = 1024
"""Endpoints remembered; the one that was measured longest ago goes first."""


@dataclass(frozen=True, slots=True)
class Option:
    """One way to reach a peer."""

    endpoint: Endpoint
    safety: int = 0
    """Class of safety; only options of the highest class compete."""


@dataclass(slots=True)
class _Measured:
    seconds: float
    at: float


@dataclass(slots=True)
class HandshakeTimes:
    """Exponentially weighted moving averages per endpoint. `now`: seconds on one monotonic clock."""

    _known: dict[Endpoint, _Measured] = field(default_factory=dict)
    """In the order of measurement, oldest first; at most MAX_KNOWN."""

    def observe(self, endpoint: Endpoint, seconds: float, now: float) -> None:
        """A handshake stood after `seconds`."""
        before = self._known.pop(endpoint, None)
        mean = seconds if before is None else before.seconds + ALPHA * (seconds - before.seconds)
        self._remember(endpoint, mean, now)

    def observe_failure(self, endpoint: Endpoint, now: float) -> None:
        """A handshake failed for a reason of transport."""
        before = self._known.pop(endpoint, None)
        doubled = 2 * before.seconds if before is not None else 0.0
        self._remember(endpoint, min(max(FAILURE_PENALTY, doubled), MAX_PENALTY), now)

    def expected(self, endpoint: Endpoint, now: float) -> float:
        """Seconds; 0 for what was never measured: it is tried, and then known."""
        measured = self._known.get(endpoint)
        if measured is None:
            return 0.0
        age = max(0.0, now - measured.at - FADE_AFTER)
        return float(measured.seconds * 0.5 ** (age / FADE_AFTER))

    def _remember(self, endpoint: Endpoint, seconds: float, now: float) -> None:
        if len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[endpoint] = _Measured(seconds, now)


def in_order(
    options: Iterable[Option], times: HandshakeTimes, is_open: Callable[[Endpoint], bool], now: float
) -> Sequence[Endpoint]:
    """The endpoints to try: those of the safest class that are open, fastest first. Empty: all are shut.

    `is_open`: whether an endpoint may be tried. Ties go by the order of endpoints, so that the answer is the same on
    every call.
    """
    options = tuple(options)
    safest = max((option.safety for option in options), default=0)
    best = [each.endpoint for each in options if each.safety == safest and is_open(each.endpoint)]
    return sorted(best, key=lambda endpoint: (times.expected(endpoint, now), endpoint))
