"""What a bad network does to packets, decided by a seed: the same packets in the same order have the same fate."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Weather:
    """May be changed at any time."""

    seed: int = 1
    loss: float = 0.0
    """Share of packets that are dropped..."""
    twice: float = 0.0
    """... or come twice..."""
    late: float = 0.0
    """... or are overtaken by others."""
    delay: float = 0.0
    """Seconds that a packet takes."""
    lateness: float = 0.02
    """Seconds that a late one takes beyond that."""
    is_dark: bool = False
    """Nothing passes, and nobody is told."""
    counts: Counter[str] = field(default_factory=Counter)

    def fates(self, direction: str) -> list[float]:
        """Seconds after which each copy of the next packet of a direction arrives; none: it is lost."""
        number = self.counts[direction]
        self.counts[direction] += 1
        if self.is_dark or self._draw(direction, number, "loss") < self.loss:
            self.counts["lost"] += 1
            return []
        after = self.delay
        if self._draw(direction, number, "late") < self.late:
            self.counts["late"] += 1
            after += self.lateness
        if self._draw(direction, number, "twice") < self.twice:
            self.counts["twice"] += 1
            return [after, after + self.lateness / 2]
        return [after]

    def _draw(self, *what: object) -> float:
        """From 0 to 1."""
        digest = hashlib.blake2s(repr((self.seed, *what)).encode(), digest_size=4).digest()
        return int.from_bytes(digest) / (1 << 32)
