"""Removes partial tiles that nobody needs any more.

A log writes a few partial tiles for every checkpoint; with ten checkpoints a second they soon outweigh the log
(tesseract#644: 146 GB of which 4.4 GB were the log). c2sp.org/tlog-tiles allows to delete a partial tile once the full
one is there. Those that one of the last checkpoints needs stay, for readers that are just at it.
"""

import logging
from collections import deque
from typing import Final, Protocol

from controlplane.ledger.errors import StorageError
from controlplane.ledger.ports import Backend
from ledger.errors import MalformedError
from ledger.tiles import HEIGHT, WIDTH, Bundle, Resource, Tile, last_bundle, parse_path, right_edge

logger = logging.getLogger(__name__)

KEPT_CHECKPOINTS: Final = 64


class Watermark(Protocol):
    """Remembers over restarts up to which size no needless partial tile is left."""

    async def collected(self) -> int: ...

    async def set_collected(self, size: int) -> None: ...


class PartialTiles:
    """The partial tiles that are there, and which of them may go. Belongs to one event loop."""

    def __init__(self, backend: Backend, watermark: Watermark, *, kept: int = KEPT_CHECKPOINTS) -> None:
        self._backend = backend
        self._watermark = watermark
        self._recent: deque[int] = deque(maxlen=kept)
        """Sizes of the last checkpoints, oldest first."""
        self._partial: dict[int, deque[Resource]] = {}
        """Tile level (-1: bundles) -> what is there, in the order in which it becomes full."""

    async def start(self, size: int) -> None:
        """Remove what earlier processes left behind in a log of `size` leaves. Raises StorageError."""
        for resource in filled_between(await self._watermark.collected(), size):
            await self._backend.delete(await self._backend.keys(f"{resource.path}.p/"))
        await self._watermark.set_collected(size)
        for resource in _edge(size):
            for key in sorted(await self._backend.keys(resource.path.rpartition("/")[0] + "/")):
                self._add(key)

    def published(self, size: int) -> None:
        """A checkpoint of this size is out."""
        self._recent.append(size)
        for resource in _edge(size):
            self._add(resource.path)

    async def collect(self) -> None:
        """Remove what nobody needs any more. What cannot be deleted now is left for the next start.

        Now and then, for many checkpoints at once: ext4 looks past every inode that was freed in the last seconds when
        it makes a file, and four of them for every checkpoint made every file of the next ones dearer.
        """
        if len(self._recent) < (self._recent.maxlen or 0):
            return
        oldest = self._recent[0]
        gone = []
        for waiting in self._partial.values():
            while waiting and _full_at(waiting[0]) <= oldest:
                gone.append(waiting.popleft().path)
        if not gone:
            return
        try:
            await self._backend.delete(gone)
        except StorageError as error:
            logger.warning("partial tiles stay for now", extra={"reason": str(error)})
            return
        await self._watermark.set_collected(oldest)

    def _add(self, path: str) -> None:
        try:
            resource = parse_path(path)
        except MalformedError:
            return  # no file of ours; fsck names it
        waiting = self._partial.setdefault(_level(resource), deque())
        if not waiting or waiting[-1] != resource:
            waiting.append(resource)


def filled_between(old: int, new: int) -> list[Resource]:
    """The tiles and bundles that are full in a tree of `new` leaves and were not in one of `old`."""
    full: list[Resource] = [Bundle(number) for number in range(old // WIDTH, new // WIDTH)]
    level = 0
    while end := new >> (HEIGHT * (level + 1)):
        full += [Tile(level, number) for number in range(old >> (HEIGHT * (level + 1)), end)]
        level += 1
    return full


def _edge(size: int) -> list[Resource]:
    """The partial tiles and the partial bundle of a tree of `size` leaves."""
    bundle = last_bundle(size)
    return [*right_edge(size), *([bundle] if bundle else [])]


def _level(resource: Resource) -> int:
    return resource.level if isinstance(resource, Tile) else -1


def _full_at(resource: Resource) -> int:
    """The size of the smallest tree in which this is a full tile or bundle."""
    return (resource.number + 1) << (HEIGHT * (max(_level(resource), 0) + 1))
