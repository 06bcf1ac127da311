"""Which leaf of which producer stands where: SQLite, rebuilt from the log whenever it is behind or gone.

Every leaf carries producer, epoch and sequence number, so the log itself is the truth and this file a cache of it. It
is filled after publication; on start the rest of the log is read. What is not in the log is who owns a producer id:
after a rebuild the next one who uses an id owns it.
"""

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from controlplane.ledger.errors import DamagedLogError

SCHEMA_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE runs (
    producer BLOB NOT NULL, epoch INTEGER NOT NULL, first_seq INTEGER NOT NULL,
    length INTEGER NOT NULL, first_index INTEGER NOT NULL,
    PRIMARY KEY (producer, epoch, first_seq)
) WITHOUT ROWID;
CREATE TABLE owners (producer BLOB PRIMARY KEY, peer TEXT NOT NULL) WITHOUT ROWID;
"""


class ProducerKey(NamedTuple):
    """Within which sequence numbers count."""

    producer_id: bytes
    """16 bytes."""
    epoch: int


class Placed(NamedTuple):
    """Consecutive leaves of one producer at consecutive indices."""

    first_seq: int
    length: int
    first_index: int

    @property
    def end_seq(self) -> int:
        """One more than the last sequence number."""
        return self.first_seq + self.length


class Recorded(NamedTuple):
    """One run that a growth added to the log."""

    key: ProducerKey
    owner: str
    """Name of the peer that sent it; empty when it is not known."""
    placed: Placed


class ProducerIndex:
    """All calls block for some microseconds, `record` for a write without fsync. To be used by one thread at a time."""

    def __init__(self, path: Path, origin: str) -> None:
        """Open, or begin anew: a file that is of another log, of another version or damaged is replaced."""
        self._db = _open(path, origin) or _create(path, origin)

    def close(self) -> None:
        self._db.close()

    @property
    def size(self) -> int:
        """How many leaves of the log are in here."""
        return self._meta("size")

    @property
    def collected(self) -> int:
        """Up to which size the partial tiles were removed (`controlplane.ledger.partials`)."""
        return self._meta("collected")

    @collected.setter
    def collected(self, size: int) -> None:
        with self._db:
            self._db.execute("UPDATE meta SET value = ? WHERE key = 'collected'", (size,))

    def next_seq(self, key: ProducerKey) -> int:
        """One more than the last recorded sequence number; 0 for a producer that was never seen."""
        row = self._db.execute(
            "SELECT first_seq + length FROM runs WHERE producer = ? AND epoch = ? ORDER BY first_seq DESC LIMIT 1", key
        ).fetchone()
        return int(row[0]) if row else 0

    def owner(self, producer_id: bytes) -> str:
        """The peer that recorded this producer's leaves; empty when it is not known."""
        row = self._db.execute("SELECT peer FROM owners WHERE producer = ?", (producer_id,)).fetchone()
        return str(row[0]) if row else ""

    def placed(self, key: ProducerKey, first_seq: int, end_seq: int) -> list[Placed]:
        """Where the recorded leaves with these sequence numbers stand, in order."""
        rows = self._db.execute(
            "SELECT first_seq, length, first_index FROM runs WHERE producer = ? AND epoch = ? AND first_seq < ?"
            " AND first_seq + length > ? ORDER BY first_seq",
            (*key, end_seq, first_seq),
        )
        found = []
        for run in map(Placed._make, rows):
            start, end = max(run.first_seq, first_seq), min(run.end_seq, end_seq)
            found.append(Placed(start, end - start, run.first_index + start - run.first_seq))
        return found

    def record(self, runs: Iterable[Recorded], size: int) -> None:
        """Add what a growth to `size` leaves placed, all of it or nothing."""
        with self._db:
            for (producer, epoch), owner, placed in runs:
                # A lone producer fills whole checkpoints: its run grows instead of becoming many rows.
                grown = self._db.execute(
                    "UPDATE runs SET length = length + ? WHERE producer = ? AND epoch = ? AND first_seq + length = ?"
                    " AND first_index + length = ? AND first_seq = (SELECT max(first_seq) FROM runs WHERE producer = ?"
                    " AND epoch = ?)",
                    (placed.length, producer, epoch, placed.first_seq, placed.first_index, producer, epoch),
                )
                if not grown.rowcount:
                    self._db.execute("INSERT OR IGNORE INTO runs VALUES (?, ?, ?, ?, ?)", (producer, epoch, *placed))
                if owner:
                    self._db.execute("INSERT OR IGNORE INTO owners VALUES (?, ?)", (producer, owner))
            self._db.execute("UPDATE meta SET value = ? WHERE key = 'size'", (size,))

    def check_size(self, size: int) -> None:
        """Return unless this index knows more leaves than the log has: then the log was rolled back, and going on
        would sign a second tree of some size. Raises DamagedLogError."""
        if self.size > size:
            raise DamagedLogError(
                f"{self.size} leaves of this log were acknowledged, but it has only {size}: it was restored from a "
                "backup. Keep it as evidence and begin a new log under a new origin"
            )

    def _meta(self, key: str) -> int:
        return int(self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()[0])


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, check_same_thread=False)
    # NORMAL keeps the file whole after a power cut and may lose the last growths, which are then read from the log.
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    return db


def _open(path: Path, origin: str) -> sqlite3.Connection | None:
    if not path.exists():
        return None
    db = None
    try:
        db = _connect(path)
        known = dict(db.execute("SELECT key, value FROM meta WHERE key IN ('version', 'origin')"))
        if known == {"version": SCHEMA_VERSION, "origin": origin} and db.execute(
            "PRAGMA quick_check(1)"
        ).fetchone() == ("ok",):
            return db
    except sqlite3.DatabaseError:
        pass
    if db is not None:
        db.close()
    return None


def _create(path: Path, origin: str) -> sqlite3.Connection:
    for stale in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
        stale.unlink(missing_ok=True)
    db = _connect(path)
    db.executescript(_SCHEMA)
    with db:
        values = {"version": SCHEMA_VERSION, "origin": origin, "size": 0, "collected": 0}
        db.executemany("INSERT INTO meta VALUES (?, ?)", values.items())
    return db
