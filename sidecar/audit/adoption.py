"""Spools of workers that no longer run: one that does ships what they left, and lets their openings expire.

`--workers 2` after `--workers 4` leaves two spools that nobody opens. An adopted spool stays the producer that it was:
its leaves go out under their old numbers, then one more life of it begins and ends at once. EPOCH_START carries
AFTER_CRASH when the worker never said its last word, EPOCH_END says that nothing more will come. From then on the spool
is only looked at now and then, for openings whose time is over.

A spool is held while it is shipped and no longer; a worker that gets its number back continues with it.
"""

import asyncio
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from observability import names
from observability.metrics import Registry
from sidecar.audit.auditing import Auditing, spool_path
from sidecar.audit.errors import SpoolBusyError, SpoolError
from sidecar.audit.flusher import TrailLimits
from sidecar.audit.spool import SUFFIX, open_spool

if TYPE_CHECKING:
    import grpc.aio

    from sidecar.audit.shipper import ShipperPace

logger = logging.getLogger(__name__)

LOOK_EVERY: Final = 60.0
"""Seconds between two looks at what orphans there are."""
_POLL: Final = 0.1
"""Seconds between two looks at whether everything is durable."""


class Orphans:
    """The spools in `directory` of workers with the number `first` and above. Belongs to one event loop."""

    def __init__(
        self,
        directory: Path,
        first: int,
        registry: Registry,
        limits: TrailLimits | None = None,
        pace: "ShipperPace | None" = None,
        *,
        build: str = "",
    ) -> None:
        self._directory = directory
        self._first = first
        self._limits = limits or TrailLimits()
        self._pace = pace
        self._build = build
        self._adopted: Auditing | None = None
        registry.gauge(names.AUDIT_ORPHANED).watch(lambda: {(): self.waiting})

    @property
    def waiting(self) -> int:
        """Leaves of the spool that is being shipped which no ledger has acknowledged."""
        return self._adopted.waiting if self._adopted is not None else 0

    async def run(self, channel: "grpc.aio.Channel | None") -> None:
        """Look after them until cancelled. Without a channel to a ledger leaves stay where they are."""
        while True:
            for path in await asyncio.to_thread(self.paths):
                if await asyncio.to_thread(self._has_more_to_say, path) and channel is not None:
                    await self._ship(path, channel)
            await asyncio.sleep(LOOK_EVERY)

    def paths(self) -> list[Path]:
        """Their spools."""
        numbered = {
            path: path.name.removesuffix(SUFFIX).partition("-")[2] for path in self._directory.glob(f"*{SUFFIX}")
        }
        return sorted(
            path
            for path, number in numbered.items()
            if number.isdecimal() and int(number) >= self._first and path == spool_path(self._directory, int(number))
        )

    def _has_more_to_say(self, path: Path) -> bool:
        """Whether there are leaves to ship, or a last word; deletes openings whose time is over."""
        try:
            spool = open_spool(path, entropy=os.urandom, now_us=time.time_ns() // 1000)
        except SpoolBusyError:
            return False  # somebody is looking after it
        except SpoolError as error:
            logger.warning("orphaned audit spool unreadable", extra={"spool": path.name, "reason": str(error)})
            return False
        try:
            since_us = time.time_ns() // 1000 - round(self._limits.keep_openings * 1e6)
            more = True
            while more:
                more, _ = spool.keep_openings(at_most=self._limits.max_openings, since_us=since_us)
            return bool(spool.waiting()) or not spool.previous().ended
        except SpoolError as error:
            logger.warning("orphaned audit spool unreadable", extra={"spool": path.name, "reason": str(error)})
            return False
        finally:
            spool.close()

    async def _ship(self, path: Path, channel: "grpc.aio.Channel") -> None:
        try:
            # Its counts are not those of this worker: a registry of its own keeps them apart.
            adopted = self._adopted = Auditing(path, Registry(), self._limits, self._pace, build=self._build)
        except SpoolError as error:
            logger.warning("orphaned audit spool not adopted", extra={"spool": path.name, "reason": str(error)})
            return
        logger.info("audit spool adopted", extra={"spool": path.name, "leaves": adopted.waiting})
        try:
            async with asyncio.TaskGroup() as tasks:
                shipping = tasks.create_task(adopted.run(channel))
                adopted.trail.finish()
                while adopted.waiting or not adopted.trail.finished:  # noqa: ASYNC110 another thread knows
                    await asyncio.sleep(_POLL)
                shipping.cancel()
            logger.info("audit spool shipped", extra={"spool": path.name})
        finally:
            self._adopted = None
            # Its thread ends by itself; nothing is in memory that is not on disk.
            adopted.trail.close(0)
