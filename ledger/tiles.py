"""Tiles and entry bundles (c2sp.org/tlog-tiles): names, contents, and how a tree of tiles grows.

A tile of level L holds up to 256 hashes of tree level 8 * L. Only full tiles hash upward. An entry bundle holds the up
to 256 leaves below one tile of level 0, each behind a uint16 length.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

from ledger.errors import MalformedError
from ledger.rfc6962 import EMPTY_ROOT, HASH_SIZE, MAX_SIZE, Node, node_hash

HEIGHT: Final = 8
WIDTH: Final = 256
MAX_LEVEL: Final = 63
MAX_ENTRY: Final = 65_535
"""Bytes of one entry."""

_PATH: Final = re.compile(
    r"tile/(?P<level>entries|0|[1-9][0-9]?)/(?P<number>(?:x[0-9]{3}/)*[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?",
    re.ASCII,
)


class Tile(NamedTuple):
    """A run of hashes."""

    level: int
    number: int
    """Place within the level, from 0."""
    width: int = WIDTH
    """Hashes in it: 256, or 1 to 255 for a partial tile."""

    @property
    def path(self) -> str:
        """The resource path, `tile/<L>/<N>[.p/<W>]`."""
        return f"tile/{self.level}/{_number_path(self.number)}{_width_suffix(self.width)}"


class Bundle(NamedTuple):
    """A run of entries."""

    number: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """The resource path, `tile/entries/<N>[.p/<W>]`."""
        return f"tile/entries/{_number_path(self.number)}{_width_suffix(self.width)}"


Resource = Tile | Bundle


def parse_path(path: str) -> Resource:
    """What a resource path names: `parse_path(path).path == path`. Raises MalformedError."""
    match = _PATH.fullmatch(path)
    if match is None or len(path) > 100:
        raise MalformedError("a tile path reads tile/<level or entries>/<number>[.p/<width>]")
    number, width = int(re.sub(r"[x/]", "", match["number"])), int(match["width"] or WIDTH)
    level = match["level"]
    resource: Resource = Bundle(number, width) if level == "entries" else Tile(int(level), number, width)
    # One spelling per resource: no needless x000 groups, no .p/256, nothing that no tree can have.
    possible = width <= WIDTH and number <= MAX_SIZE // WIDTH and (level == "entries" or int(level) <= MAX_LEVEL)
    if resource.path != path or not possible:
        raise MalformedError("the tile path names no tile, or is not the one spelling of its number")
    return resource


def width_at(size: int, level: int, number: int) -> int:
    """How many hashes the tile has in a tree of `size` leaves, 0 to 256. Level 0 holds for entry bundles too."""
    return max(0, min(WIDTH, (size >> (HEIGHT * level)) - number * WIDTH))


def right_edge(size: int) -> list[Tile]:
    """The partial tiles of a tree of `size` leaves, lowest level first."""
    tiles, level = [], 0
    while hashes := size >> (HEIGHT * level):
        if width := hashes % WIDTH:
            tiles.append(Tile(level, hashes // WIDTH, width))
        level += 1
    return tiles


def last_bundle(size: int) -> Bundle | None:
    """The partial entry bundle of a tree of `size` leaves, if it has one."""
    return Bundle(size // WIDTH, size % WIDTH) if size % WIDTH else None


def new_tiles(old: int, new: int) -> list[Tile]:
    """The tiles that growth from `old` to `new` leaves adds, lowest level first: the full ones, then the partial."""
    tiles, level = list[Tile](), 0
    while hashes := new >> (HEIGHT * level):
        before = old >> (HEIGHT * level)
        tiles += [Tile(level, number) for number in range(before // WIDTH, hashes // WIDTH)]
        if hashes > before and hashes % WIDTH:
            tiles.append(Tile(level, hashes // WIDTH, hashes % WIDTH))
        level += 1
    return tiles


def tile_of(node: Node, size: int) -> tuple[Tile, int]:
    """The tile of a tree of `size` leaves that `node` can be computed from, and the first slot that it covers."""
    level, below = divmod(node.level, HEIGHT)
    number, slot = divmod(node.number << below, WIDTH)
    return Tile(level, number, width_at(size, level, number)), slot


# --- contents ---


def parse_tile(tile: Tile, data: bytes) -> list[bytes]:
    """The hashes of a tile. Raises MalformedError."""
    if len(data) != tile.width * HASH_SIZE:
        raise MalformedError(f"{tile.path} should have {tile.width * HASH_SIZE} bytes, it has {len(data)}")
    return [data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)]


def pack_entries(entries: Iterable[bytes]) -> bytes:
    """Entries in the encoding of a bundle. Raises ValueError when one is too long."""
    packed = bytearray()
    for entry in entries:
        if len(entry) > MAX_ENTRY:
            raise ValueError(f"an entry has at most {MAX_ENTRY} bytes, this one has {len(entry)}")
        packed += len(entry).to_bytes(2, "big") + entry
    return bytes(packed)


def unpack_entries(data: bytes, count: int) -> list[bytes]:
    """The `count` entries that `data` holds, and nothing else: the inverse of `pack_entries`. Raises MalformedError."""
    return [data[start + 2 : end] for start, end in pairwise(entry_offsets(data, count))]


def entry_offsets(data: bytes, count: int) -> list[int]:
    """Where each of `count` packed entries begins (at its length), and as the last the end. Raises MalformedError."""
    offsets, at, end = [0], 0, len(data)
    for _ in range(count):
        if at + 2 > end:
            break
        at += 2 + (data[at] << 8 | data[at + 1])
        offsets.append(at)
    if at != end or len(offsets) != count + 1:
        raise MalformedError(f"{end} bytes should hold exactly {count} length-prefixed entries, and do not")
    return offsets


# --- growth ---

Rows = list[list[bytes]]
"""Of one open tile: its hashes, and above them each row of perfect nodes, 8 rows in all."""


def _rows(hashes: Sequence[bytes] = ()) -> Rows:
    rows: Rows = [list(hashes)] + [[] for _ in range(HEIGHT - 1)]
    _raise_rows(rows)
    return rows


def _raise_rows(rows: Rows) -> None:
    for row, above in pairwise(rows):
        above += [node_hash(row[i], row[i + 1]) for i in range(2 * len(above), len(row) - 1, 2)]


@dataclass(frozen=True, slots=True)
class Edge:
    """The open right edge of a tree of tiles: all that is needed to grow it and to know its root.

    Immutable: `grow` returns another, so a growth that fails on its way to the disk leaves no trace.
    """

    size: int = 0
    levels: tuple[Rows, ...] = ()
    """Per tile level, from the leaves up, the rows of its partial tile. Owned by this edge."""

    @property
    def root(self) -> bytes:
        """The root of the tree."""
        joined: bytes | None = None
        for bit in range(self.size.bit_length()):
            if self.size >> bit & 1:
                node = self.levels[bit // HEIGHT][bit % HEIGHT][-1]
                joined = node if joined is None else node_hash(node, joined)
        return EMPTY_ROOT if joined is None else joined


class Growth(NamedTuple):
    """A grown edge, and the tiles to write: those of `new_tiles` in its order."""

    edge: Edge
    tiles: list[tuple[Tile, bytes]]


def grow(edge: Edge, leaf_hashes: Sequence[bytes]) -> Growth:
    """The tree with these leaves appended. About one node hash for each leaf."""
    tiles = list[tuple[Tile, bytes]]()
    levels = list[Rows]()
    size = edge.size + len(leaf_hashes)
    fresh, level = leaf_hashes, 0
    while size >> (HEIGHT * level):
        rows = [row.copy() for row in edge.levels[level]] if level < len(edge.levels) else _rows()
        number = edge.size >> (HEIGHT * (level + 1))
        full, at = list[bytes](), 0
        while at < len(fresh):
            taken = fresh[at : at + WIDTH - len(rows[0])]
            at += len(taken)
            rows[0] += taken
            _raise_rows(rows)
            tiles.append((Tile(level, number, len(rows[0])), b"".join(rows[0])))
            if len(rows[0]) == WIDTH:
                full.append(node_hash(*rows[-1]))
                rows, number = _rows(), number + 1
        levels.append(rows)
        fresh, level = full, level + 1
    return Growth(Edge(size, tuple(levels)), tiles)


def edge_from_tiles(size: int, tiles: dict[Tile, bytes]) -> Edge:
    """The edge of a tree of `size` leaves out of the contents of `right_edge(size)`.

    Not authenticated before its `root` was compared with a signed one. Raises MalformedError; a missing tile is a
    KeyError, the caller's mistake.
    """
    levels, level = list[Rows](), 0
    while hashes := size >> (HEIGHT * level):
        width = hashes % WIDTH
        tile = Tile(level, hashes // WIDTH, width)
        levels.append(_rows(parse_tile(tile, tiles[tile])) if width else _rows())
        level += 1
    return Edge(size, tuple(levels))


def _number_path(number: int) -> str:
    groups = [f"{number % 1000:03d}"]
    while number := number // 1000:
        groups.append(f"x{number % 1000:03d}")
    return "/".join(reversed(groups))


def _width_suffix(width: int) -> str:
    return "" if width == WIDTH else f".p/{width}"
