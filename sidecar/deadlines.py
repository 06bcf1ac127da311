"""One timer for all connections: a wheel of ticks instead of a timer handle per connection and message.

Whoever is watched writes the moment it is due into its own attribute, as often as it likes and for the price of that;
it is looked at when the earliest moment it named has passed. Precise to a tick or two.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

TICK: Final = 0.1
"""Seconds."""
UNWATCHED: Final = -1


class Timed(Protocol):
    """Something that has to move on by a certain moment."""

    due: float
    """When to look at it, on the wheel's clock. May be put off at any time; to bring it forward, `watch` again."""
    slot: int
    """Where it stands on the wheel; the wheel's to write, `UNWATCHED` at first."""

    def overdue(self, now: float) -> bool:
        """`due` has passed: act, or name a new `due`. Whether to go on watching."""


class Deadlines:
    """Calls `overdue` on what is watched. Owned by one event loop."""

    __slots__ = ("_next", "_slots", "now")

    def __init__(self, now: Callable[[], float]) -> None:
        """`now`: seconds on a clock that never goes back."""
        self.now = now
        self._slots: dict[int, set[Timed]] = {}
        self._next = int(now() / TICK)

    def watch(self, timed: Timed) -> None:
        """Look at `timed` when it is due."""
        slot = int(timed.due / TICK) + 1
        if timed.slot != UNWATCHED:
            if timed.slot <= slot:
                return
            self.forget(timed)
        timed.slot = max(slot, self._next)
        self._slots.setdefault(timed.slot, set()).add(timed)

    def forget(self, timed: Timed) -> None:
        """Do not look at it any more."""
        if timed.slot in self._slots:
            self._slots[timed.slot].discard(timed)
        timed.slot = UNWATCHED

    def turn(self) -> None:
        """Look at everything whose tick has passed."""
        now = self.now()
        while self._next <= int(now / TICK):
            slot = self._slots.pop(self._next, set())
            self._next += 1
            for timed in slot:
                if timed.slot == UNWATCHED:
                    continue  # one before it made us forget it
                timed.slot = UNWATCHED
                if timed.due > now or timed.overdue(now):
                    self.watch(timed)

    async def run(self) -> None:
        """Turn until cancelled."""
        while True:
            await asyncio.sleep(TICK)
            self.turn()
