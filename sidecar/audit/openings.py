"""What the command line may read of spools: openings, and where their leaves stand. Imports no gRPC, changes nothing.

Works beside a running sidecar.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from ledger.commitment import SALT_SIZE, Opening
from sidecar.audit.errors import SpoolError
from sidecar.audit.spool import MAY_HOLD, SUFFIX
from sidecar.audit.statements import ended_us_of_kept, exchange_of_kept, payload_of_kept, read_kept

_ROWS: Final = """
SELECT p.id, o.epoch, o.first_seq, o.salts, o.kept FROM openings o JOIN producer p
"""
_PLACE: Final = """
SELECT origin, first_index + (? - first_seq), tree_size, first_seq + count FROM placements
WHERE epoch = ? AND first_seq <= ? ORDER BY first_seq DESC
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
    found: list[KeptOpening] = []
    for path in spools(where):
        with _reading(path) as connection:
            rows = connection.execute(f"{_ROWS} WHERE {MAY_HOLD}", (exchange, exchange))
            found += (kept for row in rows for kept in _openings(connection, row, exchange))
    return found


def latest_openings(where: Path, at_most: int) -> list[KeptOpening]:
    """The openings of the latest exchanges, newest first. Raises SpoolError."""
    found: list[KeptOpening] = []
    for path in spools(where):
        with _reading(path) as connection:
            rows = connection.execute(f"{_ROWS} WHERE o.last_exchange <> '' ORDER BY o.id DESC")
            kept = (kept for row in rows for kept in reversed(_openings(connection, row, None)))
            found += islice(kept, at_most)
    return sorted(found, key=lambda kept: kept.ended_us, reverse=True)[:at_most]


def spools(where: Path) -> list[Path]:
    """The spool files that `where` is or holds. Raises SpoolError when there is none."""
    found = sorted(where.glob(f"*{SUFFIX}")) if where.is_dir() else [where]
    if not found or not found[0].exists():
        raise SpoolError(f"there is no audit spool at {where}")
    return found


def _openings(connection: sqlite3.Connection, row: tuple[Any, ...], exchange: str | None) -> list[KeptOpening]:
    """What one row keeps of this exchange, or of any."""
    producer_id, epoch, first_seq, salts, data = row
    found = []
    for n, kept in enumerate(read_kept(data)):
        whose = exchange_of_kept(kept)
        if not whose or (exchange is not None and whose != exchange):
            continue
        seq, opening = first_seq + n, Opening(salts[n * SALT_SIZE : (n + 1) * SALT_SIZE], payload_of_kept(kept))
        place = connection.execute(_PLACE, (seq, epoch, seq)).fetchone()
        origin, index, tree_size, end = place or (None, None, None, 0)
        if seq >= end:
            origin = index = tree_size = None
        ended_us = ended_us_of_kept(kept)
        found.append(KeptOpening(producer_id, epoch, seq, whose, ended_us, opening, origin, index, tree_size))
    return found


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        connection = sqlite3.connect(path.absolute().as_uri() + "?mode=ro", uri=True, timeout=10)
    except sqlite3.Error as error:
        raise SpoolError(f"cannot open {path}: {error}") from error
    try:
        # What is kept and where it stands belong together: nothing changes between two looks.
        connection.execute("BEGIN")
        yield connection
    except sqlite3.Error as error:
        raise SpoolError(f"cannot read {path}: {error}") from error
    finally:
        connection.close()
