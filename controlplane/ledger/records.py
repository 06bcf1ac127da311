"""What the log knows of producers, for the event loop: the index in a thread of its own, checked against the log."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

from controlplane.ledger.errors import DamagedLogError, FatalError
from controlplane.ledger.index import Placed, ProducerIndex, ProducerKey, Recorded
from controlplane.ledger.intake import RewrittenError
from controlplane.ledger.ports import Backend
from ledger.errors import LeafError, LedgerError
from ledger.leaf import leaf_position
from ledger.tiles import WIDTH, Bundle, Tile, parse_tile, unpack_entries, width_at

logger = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

_BUNDLES_AT_ONCE: Final = 64


class Records:
    """Where leaves stand. The only user of its index."""

    def __init__(self, index: ProducerIndex, backend: Backend) -> None:
        self._index = index
        self._backend = backend
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger-index")

    def close(self) -> None:
        """Blocking."""
        self._thread.shutdown()
        self._index.close()

    async def next_seq(self, key: ProducerKey) -> int:
        """One more than the last number in the log."""
        return await self._in_thread(self._index.next_seq, key)

    async def owner(self, producer_id: bytes) -> str:
        """The peer that this producer id belongs to, or nothing."""
        return await self._in_thread(self._index.owner, producer_id)

    async def record(self, runs: list[Recorded], size: int) -> None:
        """Remember a growth."""
        await self._in_thread(self._index.record, runs, size)

    async def collected(self) -> int:
        """Up to which size the partial tiles are gone."""
        return await self._in_thread(lambda: self._index.collected)

    async def set_collected(self, size: int) -> None:
        """They are, up to this size."""
        await self._in_thread(setattr, self._index, "collected", size)

    async def placed(self, key: ProducerKey, first_seq: int, hashes: Sequence[bytes], size: int) -> list[Placed]:
        """Where recorded leaves stand that came again. Raises RewrittenError if one came with another content.

        `size` is that of a published tree that holds them.
        """
        runs = await self._in_thread(self._index.placed, key, first_seq, first_seq + len(hashes))
        for run in runs:
            recorded = await self._leaf_hashes(run.first_index, run.length, size)
            for seq, recorded_hash in enumerate(recorded, run.first_seq):
                if recorded_hash != hashes[seq - first_seq]:
                    raise RewrittenError(seq)
        return runs

    async def catch_up(self, size: int) -> None:
        """Read into the index what the log of `size` leaves has beyond it. Raises DamagedLogError."""
        await self._in_thread(self._index.check_size, size)
        known = await self._in_thread(lambda: self._index.size)
        if known < size:
            logger.info("reading the log into the index", extra={"from": known, "to": size})
        while known < size:
            end = min(size, (known // WIDTH + _BUNDLES_AT_ONCE) * WIDTH)
            await self.record(_runs(await self._entries(known, end, size), known), end)
            known = end

    async def _entries(self, start: int, end: int, size: int) -> list[bytes]:
        entries = list[bytes]()
        for number in range(start // WIDTH, -(-end // WIDTH)):
            bundle = Bundle(number, width_at(size, 0, number))
            data = await self._backend.get(bundle.path)
            if data is None:
                raise DamagedLogError(f"{bundle.path} is missing")
            try:
                entries += unpack_entries(data, bundle.width)
            except LedgerError as error:
                raise DamagedLogError(f"{bundle.path}: {error}") from None
        return entries[start % WIDTH : start % WIDTH + end - start]

    async def _leaf_hashes(self, first: int, count: int, size: int) -> list[bytes]:
        hashes = list[bytes]()
        for number in range(first // WIDTH, -(-(first + count) // WIDTH)):
            tile = Tile(0, number, width_at(size, 0, number))
            data = await self._backend.get(tile.path)
            if data is None:
                raise DamagedLogError(f"{tile.path} is missing")
            try:
                hashes += parse_tile(tile, data)
            except LedgerError as error:
                raise DamagedLogError(str(error)) from None
        return hashes[first % WIDTH : first % WIDTH + count]

    async def _in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: function(*args, **kwargs))
        except sqlite3.Error as error:
            # It is rebuilt from the log on the next start; without it duplicates could not be told.
            raise FatalError(f"the index of producers cannot be used: {error}") from error


def _runs(entries: Sequence[bytes], first_index: int) -> list[Recorded]:
    """The leaves as runs of consecutive numbers of one producer. What is no leaf is left out."""
    runs = list[Recorded]()
    for index, entry in enumerate(entries, first_index):
        try:
            producer_id, epoch, seq = leaf_position(entry)
        except LeafError:
            continue
        key, last = ProducerKey(producer_id, epoch), runs[-1] if runs else None
        if (
            last
            and (last.key, last.placed.end_seq) == (key, seq)
            and last.placed.first_index + last.placed.length == index
        ):
            runs[-1] = last._replace(placed=last.placed._replace(length=last.placed.length + 1))
        else:
            runs.append(Recorded(key, "", Placed(seq, 1, index)))
    return runs
