"""What attackers probe, as the sidecars tell it in their heartbeats. In memory, bounded, and only a hint."""

from collections.abc import Mapping
from typing import Final

from policies.mathprotocol.codes import FREE_PRIMES

PLACES: Final = 5
"""Primes that a placement prefers."""
MIN_PROBES: Final = 3
"""Fewer may be a slip of the keyboard."""
MAX_TOLD: Final = 1_000_000
"""Probes of one prime that one heartbeat may tell: one sidecar must not outweigh all others for ever."""


class Probes:
    """Counts since the last rotation; half of what was before it counts on."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def heard(self, probed: Mapping[int, int]) -> None:
        """A sidecar tells what was probed since its last heartbeat. What is not a free prime is ignored."""
        for prime, count in probed.items():
            if prime in FREE_PRIMES:
                self._counts[prime] = self._counts.get(prime, 0) + min(count, MAX_TOLD)

    def counts(self) -> dict[int, int]:
        """Prime -> probes."""
        return dict(self._counts)

    def favoured(self) -> frozenset[int]:
        """Where traps belong: what is probed most, and more than by accident."""
        often = [prime for prime, count in self._counts.items() if count >= MIN_PROBES]
        return frozenset(sorted(often, key=lambda prime: (-self._counts[prime], prime))[:PLACES])

    def rotated(self) -> None:
        """Traps were placed by these counts."""
        self._counts = {prime: count // 2 for prime, count in self._counts.items() if count > 1}
