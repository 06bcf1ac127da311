"""What is done for many growths at once, beside their making: step 7 of the commit order, and removing partial tiles.

Until step 7 staging bundles are what keeps growths. So this is about how much a start after a crash has to replay,
and about disk space; not about whether an acknowledged leaf is safe.
"""

import asyncio
import logging
from contextlib import suppress

from controlplane.ledger.errors import StorageError
from controlplane.ledger.log import Log
from controlplane.ledger.partials import PartialTiles

logger = logging.getLogger(__name__)


class Settling:
    """One task beside the sequencer."""

    def __init__(self, log: Log, partials: PartialTiles, *, every: float, max_bytes: int) -> None:
        """`every` so many seconds, or as soon as the bundles have `max_bytes`."""
        self._log = log
        self._partials = partials
        self._every = every
        self._max_bytes = max_bytes
        self._due = asyncio.Event()

    def published(self, _size: int) -> None:
        """A growth is published."""
        if self._log.unsettled_bytes >= self._max_bytes:
            self._due.set()

    async def run(self) -> None:
        """Until cancelled. Raises FatalError: what was written did not reach the disk."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await self._due.wait()
            self._due.clear()
            await self.settle()

    async def settle(self) -> None:
        """Now. What cannot be done is left for the next time, or the next start."""
        try:
            await self._log.settle()
        except StorageError as error:
            logger.warning("staging bundles stay for now", extra={"reason": str(error)})
            return
        await self._partials.collect()
