"""Re-hashes a whole log and names what is wrong with it.

First the tree is built anew from the entries alone. If that gives the signed root, the entries are what was signed,
and every stored tile must equal the one just built. If it does not, the tiles are authenticated from the root down, to
find the entries that are not what was signed.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from ledger.errors import LedgerError, MissingError
from ledger.reader import Fetch, TreeReader
from ledger.rfc6962 import EMPTY_ROOT, HASH_SIZE, leaf_hash
from ledger.tiles import WIDTH, Bundle, Edge, Resource, Tile, grow, pack_entries, unpack_entries, width_at

_STRIDE: Final = 16
"""Bundles folded at a time: enough to be fast, few enough to show progress."""


class Fault(NamedTuple):
    """Something that is not as the signed root says."""

    path: str
    problem: str


class Progress(NamedTuple):
    """How many leaves are done."""

    leaves: int


def check_tree(size: int, root: bytes, fetch: Fetch) -> Iterator[Fault | Progress]:
    """Every fault in the entries and tiles of the tree with this signed root, and progress now and then."""
    if size == 0:
        if root != EMPTY_ROOT:
            yield Fault("checkpoint", "the tree is empty, but its root is not SHA-256 of nothing")
        return
    edge, wrong_tiles, unreadable = Edge(), list[Fault](), list[Fault]()
    bundles = -(-size // WIDTH)
    for first in range(0, bundles, _STRIDE):
        hashes = list[bytes]()
        for number in range(first, min(bundles, first + _STRIDE)):
            bundle = Bundle(number, width_at(size, 0, number))
            try:
                hashes += map(leaf_hash, unpack_entries(fetch(bundle.path), bundle.width))
            except LedgerError as error:
                unreadable.append(Fault(bundle.path, str(error)))
                hashes += [bytes(HASH_SIZE)] * bundle.width
        edge, tiles = grow(edge, hashes)
        for tile, data in tiles:
            if tile.width == width_at(size, tile.level, tile.number):
                wrong_tiles += _compare(tile, data, fetch)
        yield Progress(edge.size)
    if edge.root == root:
        yield from wrong_tiles
    else:
        yield from unreadable
        reader = TreeReader(size, root, fetch)
        try:
            reader.check_edge()
        except LedgerError as error:
            yield Fault("checkpoint", f"neither the entries nor the tiles give the signed root: {error}")
            if not unreadable:
                yield from wrong_tiles
            return
        yield from _wrong_entries(reader, {fault.path for fault in unreadable})


def check_leftover(reader: TreeReader, resource: Resource, data: bytes) -> Fault | None:
    """What is wrong with a stored resource that the tree does not need: a partial tile or bundle of an earlier size.

    Such a one must be how the present one begins. If it is not, the log once showed another history. Raises
    LedgerError when the present one cannot be read or is altered itself.
    """
    level = resource.level if isinstance(resource, Tile) else 0
    now = width_at(reader.size, level, resource.number)
    if resource.width > now:
        return Fault(resource.path, "it belongs to a tree larger than the checkpoint says: was the log rolled back?")
    if isinstance(resource, Tile):
        same = data == b"".join(reader.hashes(resource._replace(width=now))[: resource.width])
    else:
        same = data == pack_entries(reader.entries(resource.number)[: resource.width])
    return None if same else Fault(resource.path, "it shows another history than the present tree")


def _compare(tile: Tile, expected: bytes, fetch: Fetch) -> Iterator[Fault]:
    try:
        if fetch(tile.path) != expected:
            yield Fault(tile.path, "it does not hold the hashes of the entries below it")
    except MissingError as error:
        yield Fault(tile.path, str(error))


def _wrong_entries(reader: TreeReader, known: set[str]) -> Iterator[Fault]:
    """The bundles that hold something else than the tiles commit to, which in turn the root commits to."""
    for number in range(-(-reader.size // WIDTH)):
        bundle = Bundle(number, width_at(reader.size, 0, number))
        if bundle.path not in known:
            try:
                reader.entries(number)
            except LedgerError as error:
                yield Fault(bundle.path, str(error))
