"""What a log is found to be when it is opened, and how a growth that a crash interrupted is finished.

| lock against checkpoint   | what happened                         | what is done                        |
| ------------------------- | ------------------------------------- | ----------------------------------- |
| neither there             | no log                                | NoLogError                          |
| one of them missing       | something was lost                    | refuse: half a log is not a new one |
| same size, same root      | nothing, or a crash before the commit | go on                               |
| same size, other root     | two histories                         | refuse (I4)                         |
| checkpoint ahead          | the lock was rolled back              | refuse (I4)                         |
| checkpoint of other tree  | two histories                         | refuse (I4)                         |
| lock ahead                | a crash after the commit              | publish, after the following        |

The staging bundles that lead to the lock are replayed: what a crash or a power cut took away of their growths is put
back. Whatever is found, the end of the log is read back and checked against the signed root before anything is added
(I5).
"""

import asyncio
import logging
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from controlplane.ledger.errors import DamagedLogError, NoLogError, StorageError
from controlplane.ledger.ports import CHECKPOINT, Backend, Lock
from controlplane.ledger.signed import SignedCheckpoint, Signers
from ledger.checkpoint import Checkpoint
from ledger.errors import LedgerError, MissingError
from ledger.reader import TreeReader
from ledger.rfc6962 import leaf_hash
from ledger.staging import PREFIX, Staged, staged_size, staging_key, unpack_staging
from ledger.tiles import (
    WIDTH,
    Bundle,
    Edge,
    Tile,
    edge_from_tiles,
    entry_offsets,
    parse_path,
    right_edge,
    width_at,
)

logger = logging.getLogger(__name__)


class Bundled(NamedTuple):
    """A staging bundle."""

    key: str
    size: int
    """In bytes."""


class Found(NamedTuple):
    """A log that is whole: committed, published and verified up to `head`."""

    head: SignedCheckpoint
    edge: Edge
    tail: list[bytes]
    """Entries of the partial bundle, each behind its length."""
    unsettled: list[Bundled]
    """What was replayed, oldest first."""


async def recover(backend: Backend, lock: Lock, signers: Signers) -> Found:
    """The log, after finishing what a crash interrupted. Raises NoLogError, DamagedLogError or StorageError."""
    held, seen = await lock.fetch(), await backend.get(CHECKPOINT)
    if held is None and seen is None:
        raise NoLogError("there is no log here; `aegis ledger init` makes one")
    if held is None or seen is None:
        there, gone = ("checkpoint", "lock") if held is None else ("lock", "checkpoint")
        raise DamagedLogError(f"the log has a {there} but no {gone}: restore it, and never make a new log in its place")
    head, published = signers.verify(held, "the lock"), signers.verify(seen, "the published checkpoint")
    behind = _is_behind(published.checkpoint, head.checkpoint)
    unsettled = await _replay(backend, head.checkpoint)
    fetch = _fetch_from(backend)
    if behind and not unsettled:
        # The bundle is deleted long after publication, so the checkpoint went back: a write of an older one that was
        # given up for lost came late. Then every object of the growth is there; not one may be taken on trust.
        await asyncio.to_thread(_check_growth, fetch, published.checkpoint.size, head.checkpoint)
    edge, tail = await asyncio.to_thread(_verified_end, fetch, published.checkpoint, head.checkpoint)
    if behind:
        await backend.replace(CHECKPOINT, head.note)
    await _sweep(backend, head.checkpoint.size, {bundle.key for bundle in unsettled})
    return Found(head, edge, tail, unsettled)


def _is_behind(published: Checkpoint, head: Checkpoint) -> bool:
    if published.size > head.size:
        raise DamagedLogError(
            f"the published tree has {published.size} leaves, the lock says {head.size}: the lock was rolled back, and "
            "going on would sign two different trees of one size. Restore the lock that belongs to this log"
        )
    if published.size == head.size and published.root != head.root:
        raise DamagedLogError(f"lock and checkpoint hold two different trees of {head.size} leaves")
    return published.size < head.size


async def _replay(backend: Backend, head: Checkpoint) -> list[Bundled]:
    """Step 5 of the commit order, again, for every bundle that leads to the lock. Those bundles, oldest first."""
    chain, key = list[Bundled](), staging_key(head.size, head.root)
    while (data := await backend.get(key)) is not None:
        chain.insert(0, Bundled(key, len(data)))
        before = _unpack(data).before
        if staged_size(before) >= staged_size(key):
            raise DamagedLogError(f"{key} says that {before} came before it")
        key = before
    if chain:
        logger.info("replaying growths that may not be on disk", extra={"growths": len(chain), "size": head.size})
    for bundle in chain:
        data = await backend.get(bundle.key)
        if data is not None:
            await backend.repair(_needed(_unpack(data).objects, head.size))
    return chain


def _unpack(data: bytes) -> Staged:
    try:
        return unpack_staging(data)
    except LedgerError as error:
        raise DamagedLogError(f"a growth that was committed cannot be completed: {error}") from None


def _needed(objects: dict[str, bytes], size: int) -> dict[str, bytes]:
    """Without the partial tiles that are full by now: they may have been removed for good."""
    needed = {}
    for path, data in objects.items():
        resource = parse_path(path)
        level = resource.level if isinstance(resource, Tile) else 0
        if resource.width == WIDTH or width_at(size, level, resource.number) < WIDTH:
            needed[path] = data
    return needed


Fetch = Callable[[str], bytes]


def _fetch_from(backend: Backend) -> Fetch:
    """Reads for a worker thread."""
    loop = asyncio.get_running_loop()

    def fetch(path: str) -> bytes:
        data = asyncio.run_coroutine_threadsafe(backend.get(path), loop).result()
        if data is None:
            raise MissingError(f"{path} is missing")
        return data

    return fetch


def _verified_end(fetch: Fetch, published: Checkpoint, head: Checkpoint) -> tuple[Edge, list[bytes]]:
    """The open edge of the tree and the entries of its partial bundle. Raises DamagedLogError."""
    reader = TreeReader(head.size, head.root, fetch)
    try:
        edge = edge_from_tiles(head.size, {tile: fetch(tile.path) for tile in right_edge(head.size)})
        if edge.root != head.root:
            raise DamagedLogError("the tiles at the edge of the tree do not hash to the root in the lock")
        if reader.root_at(published.size) != published.root:
            raise DamagedLogError(f"the published tree of {published.size} leaves is not the beginning of the log")
        if head.size == 0:
            return edge, []
        last = _bundle_of(head.size - 1, head.size)
        packed = _checked_entries(reader, fetch, last)
    except LedgerError as error:
        raise DamagedLogError(f"the end of the log does not fit the lock: {error}") from None
    return edge, packed if last.width < WIDTH else []


def _check_growth(fetch: Fetch, old_size: int, head: Checkpoint) -> None:
    reader = TreeReader(head.size, head.root, fetch)
    try:
        for first in range(old_size - old_size % WIDTH, head.size, WIDTH):
            _checked_entries(reader, fetch, _bundle_of(first, head.size))
    except LedgerError as error:
        raise DamagedLogError(
            f"the growth from {old_size} to {head.size} leaves was committed, its staging bundle is gone, and what "
            f"should have been written is not: {error}"
        ) from None


def _bundle_of(index: int, size: int) -> Bundle:
    number = index // WIDTH
    return Bundle(number, min(WIDTH, size - number * WIDTH))


def _checked_entries(reader: TreeReader, fetch: Fetch, bundle: Bundle) -> list[bytes]:
    """The entries of a bundle, each behind its length and each the one that the tree commits to."""
    data = fetch(bundle.path)
    packed = [data[start:end] for start, end in pairwise(entry_offsets(data, bundle.width))]
    for index, entry in enumerate(packed, bundle.number * WIDTH):
        if leaf_hash(entry[2:]) != reader.leaf_hash(index):
            raise DamagedLogError(f"entry {index} is not the one that the tree commits to")
    return packed


async def _sweep(backend: Backend, size: int, kept: set[str]) -> None:
    """Remove the bundles of growths that are durable, or can never be committed any more.

    A bundle for a larger tree stays: the swap that names it may have been given up for lost and still be under way
    (I3). When it comes, the lock names that bundle, and only the bundle can complete the log. Once the lock has moved
    otherwise, the late swap fails, and the bundle goes with the next sweep.
    """
    try:
        stale = [key for key in await backend.keys(PREFIX) if staged_size(key) <= size and key not in kept]
        await backend.delete(stale)
    except StorageError as error:
        logger.warning("old staging bundles stay for now", extra={"error": str(error)})
