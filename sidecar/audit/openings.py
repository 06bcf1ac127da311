"""What the command line may read of spools: openings, and where their leaves stand. Imports no gRPC, changes nothing.

Works beside a running sidecar.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.commitment import Opening
from sidecar.audit.errors import SpoolError
from sidecar.audit.spool import SUFFIX

_FIND: Final = """
SELECT p.id, o.exchange, o.epoch, o.seq, o.ended_us, o.salt, o.payload,
       l.origin, l.first_index + (o.seq - l.first_seq), l.tree_size
FROM openings o JOIN producer p
LEFT JOIN placements l ON l.epoch = o.epoch AND l.first_seq <= o.seq AND o.seq < l.first_seq + l.count
"""


@dataclass(frozen=True, slots=True)
class KeptOpening:
    """The opening of one leaf and where that leaf stands."""

    producer_id: bytes
    epoch: int
    seq: int
    exchange: str
    """Empty for leaves that are not about an exchange."""
    ended_us: int
    opening: Opening
    origin: str | None
    """Of the log that has the leaf; None: no ledger acknowledged it yet."""
    index: int | None
    tree_size: int | None
    """Of a tree that contains it."""


def find_openings(where: Path, exchange: str) -> list[KeptOpening]:
    """What is kept of this exchange in a spool or a directory of spools. Raises SpoolError."""
    return [kept for path in spools(where) for kept in _select(path, "WHERE o.exchange = ?", (exchange,))]


def latest_openings(where: Path, at_most: int) -> list[KeptOpening]:
    """The openings of the latest exchanges, newest first. Raises SpoolError."""
    condition = "WHERE o.exchange <> '' ORDER BY o.id DESC LIMIT ?"
    found = [kept for path in spools(where) for kept in _select(path, condition, (at_most,))]
    return sorted(found, key=lambda kept: kept.ended_us, reverse=True)[:at_most]


def spools(where: Path) -> list[Path]:
    """The spool files that `where` is or holds. Raises SpoolError when there is none."""
    found = sorted(where.glob(f"*{SUFFIX}")) if where.is_dir() else [where]
    if not found or not found[0].exists():
        raise SpoolError(f"there is no audit spool at {where}")
    return found


def _select(path: Path, condition: str, values: tuple[object, ...]) -> list[KeptOpening]:
    with _reading(path) as connection:
        rows = connection.execute(_FIND + condition, values).fetchall()
    return [
        KeptOpening(producer, epoch, seq, exchange, ended_us, Opening(salt, payload), origin, index, tree_size)
        for producer, exchange, epoch, seq, ended_us, salt, payload, origin, index, tree_size in rows
    ]


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        connection = sqlite3.connect(path.absolute().as_uri() + "?mode=ro", uri=True, timeout=10)
    except sqlite3.Error as error:
        raise SpoolError(f"cannot open {path}: {error}") from error
    try:
        yield connection
    except sqlite3.Error as error:
        raise SpoolError(f"cannot read {path}: {error}") from error
    finally:
        connection.close()
