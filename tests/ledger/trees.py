"""A log of tiles in memory, grown as a node would, for tests of everything that reads one."""

from collections.abc import Iterable

from ledger.errors import MissingError
from ledger.rfc6962 import leaf_hash
from ledger.tiles import WIDTH, Bundle, Edge, grow, pack_entries


class TiledTree:
    """Every resource of a log that published a checkpoint after each of its growths."""

    def __init__(self, growths: Iterable[int] = ()) -> None:
        self.entries: list[bytes] = []
        self.resources: dict[str, bytes] = {}
        self.edge = Edge()
        for count in growths:
            self.append([b"leaf %d" % n for n in range(len(self.entries), len(self.entries) + count)])

    def append(self, entries: list[bytes]) -> None:
        first = len(self.entries) // WIDTH
        self.entries += entries
        self.edge, tiles = grow(self.edge, [leaf_hash(entry) for entry in entries])
        self.resources |= {tile.path: data for tile, data in tiles}
        for number in range(first, -(-len(self.entries) // WIDTH)):
            held = self.entries[number * WIDTH : (number + 1) * WIDTH]
            self.resources[Bundle(number, len(held)).path] = pack_entries(held)

    @property
    def size(self) -> int:
        return len(self.entries)

    @property
    def root(self) -> bytes:
        return self.edge.root

    def fetch(self, path: str) -> bytes:
        try:
            return self.resources[path]
        except KeyError:
            raise MissingError(f"{path} is not there") from None
