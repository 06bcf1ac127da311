"""Carries out what policies ask for: tells of alerts, keeps bans, remembers dead letters. See `sidecar.ports.Effects`.

Bans are local to this process and end with it, unless `shared_bans` spreads them.
"""

import heapq
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from observability import names
from observability.metrics import Labels, Registry
from policies.model import Alert, Ban, DeadLetter, Effect, ExchangeId, Severity, UnixNanos

logger = logging.getLogger(__name__)

MAX_BANS: Final = 10_000
"""Peers that can be banned at a time. Beyond it the ban that would end first ends at once."""
LONGEST_BAN: Final = 30 * 86_400.0
"""Seconds."""
MAX_DEAD_LETTERS: Final = 1_000
_LEVEL: Final = {Severity.INFO: logging.INFO, Severity.WARNING: logging.WARNING, Severity.CRITICAL: logging.ERROR}


@dataclass(frozen=True, slots=True)
class DeadLetterReference:
    """An exchange that a person should look at. The leaf and its opening say what it was; no text is kept here."""

    exchange: ExchangeId
    code: str
    at: UnixNanos


class LocalEffects:
    """Effects within one process. Not thread-safe: belongs to the data path."""

    def __init__(self, registry: Registry, *, max_bans: int = MAX_BANS) -> None:
        self._alerts = registry.counter(names.ALERTS)
        self._bans_asked = registry.counter(names.BANS)
        self._dead_lettered = registry.counter(names.DEAD_LETTERS)
        registry.gauge(names.BANNED_PEERS).watch(self._count_banned)
        self._max_bans = max_bans
        self._until: dict[str, int] = {}
        """Peer -> when its ban ends, nanoseconds since 1970."""
        self._ends: list[tuple[int, str]] = []
        """A heap over `_until`; entries whose time is not the one in `_until` are void."""
        self._now = 0
        self.dead_letters: deque[DeadLetterReference] = deque(maxlen=MAX_DEAD_LETTERS)
        """The latest, oldest first."""
        self.on_ban: Callable[[str, int], None] = _keep_to_ourselves
        """Called with peer and end (nanoseconds since 1970) of every ban that begins here."""

    def carry_out(self, effects: tuple[Effect, ...], exchange: ExchangeId, now: UnixNanos) -> None:
        """Alert, ban, remember. Never blocks."""
        for effect in effects:
            match effect:
                case Alert():
                    self._alert(effect, exchange)
                case Ban():
                    self._ban(effect, exchange, now)
                case DeadLetter():
                    self._dead_lettered.add((effect.code,))
                    self.dead_letters.append(DeadLetterReference(exchange, effect.code, now))
                    logger.warning("exchange set aside", extra={"code": effect.code, "exchange": exchange})

    def banned(self, peer: str, now: UnixNanos) -> bool:
        """Whether this peer is refused for now."""
        if not self._until:
            return False
        self._now = now
        until = self._until.get(peer)
        return until is not None and now < until

    def bans(self, now: UnixNanos) -> dict[str, float]:
        """Peer -> seconds until its ban ends."""
        return {peer: (until - now) / 1e9 for peer, until in self._until.items() if now < until}

    def learn(self, peer: str, until: int, now: UnixNanos) -> None:
        """Take over a ban that began elsewhere, for the longest time at most."""
        self._hold(peer, min(until, now + round(LONGEST_BAN * 1e9)), now)

    def _alert(self, alert: Alert, exchange: ExchangeId) -> None:
        self._alerts.add((alert.code, alert.severity.value))
        logger.log(
            _LEVEL[alert.severity],
            "policy alert",
            extra={"code": alert.code, "severity": alert.severity.value, "detail": alert.detail, "exchange": exchange},
        )

    def _ban(self, ban: Ban, exchange: ExchangeId, now: UnixNanos) -> None:
        self._bans_asked.add((ban.code,))
        # Not a number counts as the longest: comparisons with it are false.
        seconds = ban.seconds if 0 <= ban.seconds <= LONGEST_BAN else 0.0 if ban.seconds < 0 else LONGEST_BAN
        until = now + round(seconds * 1e9)
        if not self._hold(ban.peer, until, now):
            return
        self.on_ban(ban.peer, until)
        logger.warning(
            "peer banned", extra={"peer": ban.peer, "seconds": seconds, "code": ban.code, "exchange": exchange}
        )

    def _hold(self, peer: str, until: int, now: UnixNanos) -> bool:
        """Ban a peer; whether that is news."""
        self._now = now
        if until <= self._until.get(peer, now):
            return False
        self._forget_ended(now)
        self._until[peer] = until
        heapq.heappush(self._ends, (until, peer))
        while len(self._until) > self._max_bans:
            self._forget_first()
        if len(self._ends) > 2 * len(self._until) + 64:
            # A peer that is banned again and again leaves a void entry each time.
            self._ends = [(end, peer) for peer, end in self._until.items()]
            heapq.heapify(self._ends)
        return True

    def _forget_ended(self, now: UnixNanos) -> None:
        while self._ends and self._ends[0][0] <= now:
            self._forget_first()

    def _forget_first(self) -> None:
        until, peer = heapq.heappop(self._ends)
        if self._until.get(peer) == until:
            del self._until[peer]

    def _count_banned(self) -> Mapping[Labels, float]:
        now = self._now
        return {(): sum(now < until for until in self._until.copy().values())}


def _keep_to_ourselves(_peer: str, _until: int) -> None:
    """Bans stay in this process."""
