"""Reads proofs and entries out of tiles, and believes no tile that does not hash up to a signed root.

The technique of Go's tlog.TileHashReader: the partial tiles at the right edge are checked against the root, every
other tile is full and is checked against its slot in the tile above. What is returned was therefore committed to by
whoever signed the root, wherever the bytes came from.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from ledger.errors import MissingError, ProofError
from ledger.rfc6962 import (
    EMPTY_ROOT,
    HASH_SIZE,
    Node,
    Span,
    consistency_spans,
    inclusion_spans,
    join_nodes,
    leaf_hash,
    node_hash,
    span_nodes,
)
from ledger.tiles import (
    HEIGHT,
    WIDTH,
    Bundle,
    Tile,
    entry_offsets,
    parse_path,
    parse_tile,
    right_edge,
    tile_of,
    unpack_entries,
    width_at,
)

Fetch = Callable[[str], bytes]
"""Resource path -> its bytes. Raises MissingError when there is no such resource."""

_KEPT_TILES: Final = 256
"""Verified tiles kept expanded, about 40 KB each."""

Expanded = list[list[bytes]]
"""The hashes of a tile and above them each row of perfect nodes, up to the root of a full tile."""


class TreeReader:
    """One tree, as a signed checkpoint describes it. Every method raises MissingError, MalformedError or ProofError."""

    __slots__ = ("_edge", "_fetch", "_kept", "root", "size")

    def __init__(self, size: int, root: bytes, fetch: Fetch) -> None:
        self.size = size
        self.root = root
        self._fetch = with_full_tiles(fetch)
        self._kept: OrderedDict[Tile, Expanded] = OrderedDict()
        self._edge: dict[Tile, Expanded] | None = None

    def leaf_hash(self, index: int) -> bytes:
        """The hash of the leaf at `index`."""
        self._check_index(index)
        return self._node(Node(0, index))

    def entry(self, index: int) -> bytes:
        """The entry at `index`."""
        self._check_index(index)
        number, slot = divmod(index, WIDTH)
        bundle = Bundle(number, width_at(self.size, 0, number))
        entry = unpack_entries(self._fetch(bundle.path), bundle.width)[slot]
        self._check_entry(index, entry, self.leaf_hash(index))
        return entry

    def entries(self, number: int) -> list[bytes]:
        """The entries of a bundle that this tree has, each the one that the tree commits to."""
        bundle = Bundle(number, width_at(self.size, 0, number))
        entries = unpack_entries(self._fetch(bundle.path), bundle.width)
        committed = self.hashes(Tile(0, *bundle))
        for slot, entry in enumerate(entries):
            self._check_entry(number * WIDTH + slot, entry, committed[slot])
        return entries

    def hashes(self, tile: Tile) -> list[bytes]:
        """The hashes of a tile that this tree has."""
        if not tile.width or tile.width != width_at(self.size, tile.level, tile.number):
            raise ProofError(f"the tree of {self.size} leaves has no tile {tile.path}")
        return self._tile(tile)[0]

    def inclusion_proof(self, index: int) -> list[bytes]:
        """RFC 6962 section 2.1.1: hashes that prove the leaf at `index`, sibling first."""
        self._check_index(index)
        return [self._span(span) for span in inclusion_spans(index, self.size)]

    def consistency_proof(self, old: int) -> list[bytes]:
        """RFC 6962 section 2.1.2: hashes that prove the tree of `old` leaves to be a prefix of this one."""
        if not 0 < old <= self.size:
            raise ProofError(f"there is no consistency proof from {old} to {self.size} leaves")
        return [self._span(span) for span in consistency_spans(old, self.size)]

    def root_at(self, size: int) -> bytes:
        """The root that this tree had when it had `size` leaves."""
        if not 0 <= size <= self.size:
            raise ProofError(f"a tree of {self.size} leaves never had {size}")
        return self._span(Span(0, size)) if size else EMPTY_ROOT

    def check_edge(self) -> None:
        """Return if the partial tiles hash to the root: without them nothing else can be authenticated."""
        self._authentic_edge()

    def _check_entry(self, index: int, entry: bytes, committed: bytes) -> None:
        if leaf_hash(entry) != committed:
            raise ProofError(f"entry {index} is not the one that the tree commits to: it was altered")

    def _check_index(self, index: int) -> None:
        if not 0 <= index < self.size:
            raise ProofError(f"the tree has {self.size} leaves; there is no leaf {index}")

    def _span(self, span: Span) -> bytes:
        return join_nodes([self._node(node) for node in span_nodes(span)])

    def _node(self, node: Node) -> bytes:
        tile, slot = tile_of(node, self.size)
        below = node.level % HEIGHT
        return self._tile(tile)[below][slot >> below]

    def _tile(self, tile: Tile) -> Expanded:
        """The verified contents of a tile."""
        edge = self._authentic_edge()
        if tile.width < WIDTH:
            return edge[tile]
        if tile in self._kept:
            self._kept.move_to_end(tile)
            return self._kept[tile]
        expanded = _expand(parse_tile(tile, self._fetch(tile.path)))
        # A full tile has a parent, whose slot is the root of this one. The chain ends at the edge.
        committed = self._node(Node(HEIGHT * (tile.level + 1), tile.number))
        if expanded[HEIGHT][0] != committed:
            raise ProofError(f"{tile.path} does not hash to what the tree commits to: it was altered")
        self._kept[tile] = expanded
        if len(self._kept) > _KEPT_TILES:
            self._kept.popitem(last=False)
        return expanded

    def _authentic_edge(self) -> dict[Tile, Expanded]:
        if self._edge is not None:
            return self._edge
        edge = {tile: _expand(parse_tile(tile, self._fetch(tile.path))) for tile in right_edge(self.size)}
        joined: bytes | None = None
        for tile, rows in edge.items():
            for bit in range(HEIGHT):
                if tile.width >> bit & 1:
                    node = rows[bit][-1]
                    joined = node if joined is None else node_hash(node, joined)
        if (EMPTY_ROOT if joined is None else joined) != self.root:
            raise ProofError(f"the tiles at the edge of the tree of {self.size} leaves do not hash to its root")
        self._edge = edge
        return edge


def with_full_tiles(fetch: Fetch) -> Fetch:
    """The same, but a partial tile or bundle that is gone is cut from the full one.

    tlog-tiles, "Partial Tiles": they may be deleted once the full one is there, which begins with the same bytes.
    """

    def fetch_or_cut(path: str) -> bytes:
        try:
            return fetch(path)
        except MissingError:
            resource = parse_path(path)
            if resource.width == WIDTH:
                raise
        data = fetch(resource._replace(width=WIDTH).path)
        if isinstance(resource, Tile):
            return data[: resource.width * HASH_SIZE]
        return data[: entry_offsets(data, WIDTH)[resource.width]]

    return fetch_or_cut


def _expand(hashes: list[bytes]) -> Expanded:
    rows = [hashes]
    for _ in range(HEIGHT):
        row = rows[-1]
        rows.append([node_hash(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)])
    return rows
