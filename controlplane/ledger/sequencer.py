"""Turns the pool into growths of the log, one after the other, and tells producers what became of their leaves.

A growth that storage refuses is tried again, as it is, until it succeeds: the pool fills meanwhile and senders wait.
Nothing is acknowledged before its checkpoint is published (I7) and the index knows it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol, TypeVar

from controlplane.ledger.errors import ClockError, StorageError
from controlplane.ledger.index import Placed, Recorded
from controlplane.ledger.intake import Intake, Taken
from controlplane.ledger.log import Log
from observability import names
from observability.metrics import Registry

logger = logging.getLogger(__name__)
T = TypeVar("T")

_FIRST_WAIT: Final = 0.05
_LONGEST_WAIT: Final = 5.0
"""Seconds between two attempts at the same step."""


Published = Callable[[int], None]


class Recorder(Protocol):
    """Who remembers where leaves stand."""

    async def record(self, runs: list[Recorded], size: int) -> None: ...


class Sequencer:
    """The one task that writes to the log."""

    def __init__(
        self,
        log: Log,
        intake: Intake,
        recorder: Recorder,
        published: Sequence[Published],
        metrics: Registry,
        *,
        period: float,
    ) -> None:
        """`period` in seconds: the least time from the start of one growth to the start of the next.

        Each of `published` is called with the size of every tree that is published, after its leaves were acknowledged.
        """
        self._log = log
        self._intake = intake
        self._recorder = recorder
        self._published = published
        self._period = period
        self._leaves = metrics.counter(names.LEDGER_LEAVES)
        self._seconds = metrics.histogram(names.LEDGER_GROWTH_SECONDS)
        self._retries = metrics.counter(names.LEDGER_RETRIES)
        metrics.gauge(names.LEDGER_SIZE).watch(lambda: {(): log.published.checkpoint.size})
        metrics.gauge(names.LEDGER_POOL).watch(lambda: {(): intake.leaves})
        metrics.gauge(names.LEDGER_STREAMS).watch(lambda: {(): intake.streams})
        self.trouble = ""
        """Why the growth under way is being tried again; empty while all is well."""

    async def run(self) -> None:
        """Sequence until intake is closed and the pool is empty. Raises FatalError, and tells every producer."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._intake.filled.wait()
                started = loop.time()
                taken = self._intake.take()
                if taken:
                    await self._sequence(taken)
                    self._seconds.observe(loop.time() - started)
                elif self._intake.closing.is_set():
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(started + self._period):
                        await self._intake.closing.wait()
        except BaseException:
            self._intake.fail()
            raise

    async def _sequence(self, taken: list[Taken]) -> None:
        entries = [entry for _, run in taken for entry in run.entries]
        hashes = [leaf for _, run in taken for leaf in run.hashes]
        first = await self._persist("append", lambda: self._log.append(entries, hashes))
        await self._persist("publish", self._log.publish)
        size, index, runs = self._log.size, first, list[Recorded]()
        for producer, run in taken:
            runs.append(Recorded(producer.key, producer.owner, Placed(run.first_seq, len(run.entries), index)))
            index += len(run.entries)
        await self._recorder.record(runs, size)
        for one, recorded in zip(taken, runs, strict=True):
            self._intake.placed(one, recorded.placed.first_index, size)
        self._leaves.add((), len(entries))
        for hear in self._published:
            hear(size)

    async def _persist(self, what: str, step: Callable[[], Awaitable[T]]) -> T:
        wait = _FIRST_WAIT
        while True:
            try:
                result = await step()
            except (StorageError, ClockError) as error:
                self.trouble = f"{what}: {error}"
                self._retries.add((what,))
                logger.error("a growth is tried again", extra={"step": what, "reason": str(error), "retry_in": wait})
                await asyncio.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
            else:
                self.trouble = ""
                return result
