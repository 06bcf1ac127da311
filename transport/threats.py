"""What of a server's handshakes looks like an attack, and how much of it is let in. Pure: no I/O, no clock.

Everything here is bounded: sources by number, events by rate, memory by both. The address of a source is not an
identity (an attacker has many, a gateway hides many honest ones); limits per source keep one of them from starving the
others, limits over all keep the sum affordable.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from transport.decisions import SecurityEvent
from transport.replays import ReplayCache

MAX_SOURCES: Final = 4096
"""Sources that are told apart; the one that was quiet longest is forgotten first."""


@dataclass(frozen=True, slots=True)
class ThreatLimits:
    """Rates are per second; bursts are how many may come at once."""

    handshakes: float = 1000.0
    handshake_burst: float = 2000.0
    """Over all sources. A handshake costs about 0.9 ms of CPU, at most two openings of ECH (0.1 ms each) among it."""
    source_handshakes: float = 50.0
    source_burst: float = 200.0
    stale_keys: int = 100
    """Rejected ECH within `window` that make a storm."""
    window: float = 60.0
    """Seconds."""
    quiet: float = 60.0
    """Seconds for which the same event of the same source is only counted after it was reported."""


@dataclass(frozen=True, slots=True)
class Report:
    """A security event to be raised."""

    event: SecurityEvent
    source: str
    """Address, or the workload once it has proved itself; empty: it is about all of them."""
    count: int
    """How often it happened since it was reported last, this time included."""


@dataclass(slots=True)
class Bucket:
    """A token bucket. `now`: seconds on one monotonic clock."""

    rate: float
    burst: float
    _tokens: float = field(init=False)
    _at: float | None = None

    def __post_init__(self) -> None:
        self._tokens = self.burst

    def take(self, now: float) -> bool:
        """Take one token; whether there was one."""
        elapsed = 0.0 if self._at is None else max(0.0, now - self._at)
        self._tokens, self._at = min(self.burst, self._tokens + elapsed * self.rate), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@dataclass(slots=True)
class _Told:
    at: float
    since: int = 0


class Watch:
    """Watches the handshakes of one server. `report` is called for every event that is to be raised."""

    def __init__(self, limits: ThreatLimits, replays: ReplayCache, report: Callable[[Report], None]) -> None:
        self._limits = limits
        self._replays = replays
        self._report = report
        self._all = Bucket(limits.handshakes, limits.handshake_burst)
        self._sources: dict[str, Bucket] = {}
        """In the order of their last handshake, quietest first."""
        self._told: dict[tuple[SecurityEvent, str], _Told] = {}
        """In the order of the last report."""
        self._stale_since = 0.0
        self._stale = 0
        self.counts = dict.fromkeys(SecurityEvent, 0)
        """How often each happened, reported or not."""

    def admit(self, source: str, now: float) -> bool:
        """Whether a handshake of `source` may begin. False: close the connection without a word."""
        bucket = self._sources.pop(source, None) or Bucket(self._limits.source_handshakes, self._limits.source_burst)
        if len(self._sources) >= MAX_SOURCES:
            del self._sources[next(iter(self._sources))]
        self._sources[source] = bucket
        # The source's own bucket first: what a flooding source is refused must not be taken from the others.
        if not bucket.take(now):
            self.observed(SecurityEvent.HANDSHAKE_FLOOD, source, now)
            return False
        if not self._all.take(now):
            self.observed(SecurityEvent.HANDSHAKE_FLOOD, "", now)
            return False
        return True

    def is_replay(self, first_flight: bytes, source: str, now: float) -> bool:
        """Whether these bytes (ECH `enc`, or the Noise ephemeral) opened a connection before; reported if so."""
        replay = self._replays.seen(first_flight, now)
        if replay:
            self.observed(SecurityEvent.REPLAYED_FIRST_FLIGHT, source, now)
        return replay

    def rejected_ech(self, now: float) -> None:
        """ECH was offered and did not open: a stale key, GREASE or a probe. Many at once mean a rotation went wrong."""
        if now - self._stale_since > self._limits.window:
            self._stale_since, self._stale = now, 0
        self._stale += 1
        self.counts[SecurityEvent.ECH_KEY_STALE] += 1
        if self._stale >= self._limits.stale_keys:
            self.observed(SecurityEvent.STALE_KEY_STORM, "", now)

    def observed(self, event: SecurityEvent, source: str, now: float) -> None:
        """Something that the handshake itself found: a downgrade attempt, an unknown or revoked static."""
        self.counts[event] += 1
        told = self._told.get((event, source))
        if told is not None and now - told.at < self._limits.quiet:
            told.since += 1
            return
        self._told.pop((event, source), None)
        if len(self._told) >= MAX_SOURCES:
            del self._told[next(iter(self._told))]
        self._told[event, source] = _Told(now)
        self._report(Report(event, source, 1 + (told.since if told is not None else 0)))
