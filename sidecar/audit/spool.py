"""The spool: leaves on disk until a ledger has them durably, openings until they are deleted.

One SQLite file in WAL mode with synchronous=FULL: when `commit` returns, the group survives a power cut. One group is
one transaction and one fsync. A second process is kept out by a lock on `<file>.lock` (SQLite's own locks must stay
free: `aegis audit` reads while the sidecar runs).

Openings are personal data: `erase_openings` overwrites what it deletes, in the file and in its write-ahead log.
"""

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

from ledger.commitment import SALT_SIZE
from ledger.leaf import PRODUCER_ID_SIZE
from sidecar.audit.errors import SpoolBusyError, SpoolError
from sidecar.audit.leaves import Group, Previous, renumbered
from sidecar.audit.statements import exchange_of_kept, keep_payloads, read_kept

MAY_HOLD: Final = "last_exchange <> '' AND first_exchange <= ? AND last_exchange >= ?"
"""Which rows of openings to look for an exchange in."""
SCHEMA_VERSION: Final = 2
SUFFIX: Final = ".spool"
_SCHEMA: Final = """
CREATE TABLE producer (id BLOB NOT NULL);
CREATE TABLE epochs (
  epoch INTEGER PRIMARY KEY,           -- milliseconds since 1970 when it began, and above every earlier one
  next_seq INTEGER NOT NULL,           -- how many leaves it has
  ended INTEGER NOT NULL DEFAULT 0     -- 1: its last leaf is EPOCH_END
);
CREATE TABLE batches (                 -- leaves that no ledger has acknowledged as durable
  id INTEGER PRIMARY KEY,              -- in the order of sending; one process never uses one twice
  epoch INTEGER NOT NULL,
  first_seq INTEGER NOT NULL,
  count INTEGER NOT NULL,
  spooled_us INTEGER NOT NULL,
  packed BLOB NOT NULL                 -- entry-bundle encoding: u16 length, leaf
);
CREATE TABLE openings (                -- deletable: salts and entries are all that ties leaves to exchanges
  id INTEGER PRIMARY KEY,              -- how many leaves were opened by the rows before it: the order of time
  epoch INTEGER NOT NULL,
  first_seq INTEGER NOT NULL,
  count INTEGER NOT NULL,
  ended_us INTEGER NOT NULL,           -- when its last exchange ended
  first_exchange TEXT NOT NULL,        -- least and greatest of its exchanges' ids; both empty: it has none
  last_exchange TEXT NOT NULL,
  salts BLOB NOT NULL,                 -- 32 bytes a leaf
  kept BLOB NOT NULL                   -- sidecar.audit.statements
);
CREATE INDEX openings_of_exchanges ON openings (first_exchange, last_exchange) WHERE last_exchange <> '';
CREATE TABLE placements (              -- where durable leaves stand: leaf first_seq + n at first_index + n
  epoch INTEGER NOT NULL,
  first_seq INTEGER NOT NULL,
  count INTEGER NOT NULL,
  first_index INTEGER NOT NULL,
  origin TEXT NOT NULL,
  tree_size INTEGER NOT NULL,
  PRIMARY KEY (epoch, first_seq)
) WITHOUT ROWID;
"""
_DELETE_AT_ONCE: Final = 5000


@dataclass(frozen=True, slots=True)
class Batch:
    """Spooled leaves that wait for a ledger."""

    id: int
    epoch: int
    first_seq: int
    count: int
    spooled_us: int
    packed: bytes

    @property
    def next_seq(self) -> int:
        """The number after the last leaf."""
        return self.first_seq + self.count


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a ledger put consecutive leaves of one epoch."""

    epoch: int
    first_seq: int
    count: int
    first_index: int
    origin: str
    tree_size: int


class _Tail(NamedTuple):
    """Where the next group goes. Spares each commit two reads, each of which gives the interpreter away and back."""

    epoch: int
    next_seq: int
    next_opening: int


class Spool:
    """One open spool. Used by one thread at a time."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: int, producer_id: bytes) -> None:
        """Use `open_spool`."""
        self.path = path
        self.producer_id = producer_id
        self._connection = connection
        self._lock = lock
        # SQLite's own choice begins again when the table is empty: an old acknowledgement would delete new leaves.
        self._next_id = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM batches").fetchone()[0]
        self._tail: _Tail | None = None
        """Where the last commit ended, once it surely took effect; None: to be read from disk."""

    def previous(self) -> Previous:
        """The latest epoch; (0, 0, True) in a new spool."""
        with _errors("read"):
            row = self._connection.execute("SELECT epoch, next_seq, ended FROM epochs ORDER BY epoch DESC").fetchone()
        return Previous(row[0], row[1], bool(row[2])) if row else Previous(0, 0, ended=True)

    def next_seqs(self) -> dict[int, int]:
        """Epoch -> how many leaves it has, of the epochs with leaves that wait."""
        with _errors("read"):
            rows = self._connection.execute(
                "SELECT epoch, next_seq FROM epochs WHERE epoch IN (SELECT epoch FROM batches)"
            ).fetchall()
        return dict(rows)

    def waiting(self) -> int:
        """How many leaves wait for a ledger."""
        with _errors("read"):
            (count,) = self._connection.execute("SELECT coalesce(sum(count), 0) FROM batches").fetchone()
        return int(count)

    def batches(self, after: int | None, at_most: int) -> list[Batch]:
        """Up to `at_most` waiting batches in the order of sending, from the beginning or after the batch `after`."""
        condition, values = ("WHERE id > ?", (after,)) if after is not None else ("", ())
        with _errors("read"):
            rows = self._connection.execute(
                f"SELECT id, epoch, first_seq, count, spooled_us, packed FROM batches {condition} ORDER BY id LIMIT ?",  # noqa: S608 nothing foreign in it
                (*values, at_most),
            ).fetchall()
        return [Batch(*row) for row in rows]

    def commit(
        self, group: Group | None, *, now_us: int, durable_through: int | None, placements: Sequence[Placement]
    ) -> Batch | None:
        """Add a group, forget the batches up to id `durable_through`, remember placements: all or nothing, on disk.

        Committing the same group again is harmless: an error does not say whether the first time took effect.
        """
        tail, self._tail = self._tail, None
        batch = None
        with _errors("write"), _transaction(self._connection):
            if group is not None:
                batch, tail = self._add(group, now_us, tail)
            if durable_through is not None:
                self._connection.execute("DELETE FROM batches WHERE id <= ?", (durable_through,))
            for placement in placements:
                self._place(placement)
        self._tail = tail
        return batch

    def begin_again(self, start: Group, *, now_us: int) -> None:
        """Give everything that waits to the epoch of `start` (its EPOCH_START leaf), numbered on from there."""
        self._tail = None
        with _errors("write"), _transaction(self._connection):
            previous = self.previous()
            waiting = self._connection.execute("SELECT id, epoch, first_seq, count FROM batches ORDER BY id").fetchall()
            seq = start.next_seq
            shifts: dict[int, tuple[int, int]] = {}
            for batch_id, epoch, first_seq, count in waiting:
                shifts.setdefault(epoch, (first_seq, seq - first_seq))
                (packed,) = self._connection.execute("SELECT packed FROM batches WHERE id = ?", (batch_id,)).fetchone()
                self._connection.execute(
                    "UPDATE batches SET epoch = ?, first_seq = ?, packed = ? WHERE id = ?",
                    (start.epoch, seq, renumbered(packed, start.epoch, seq), batch_id),
                )
                seq += count
            for epoch, (from_seq, shift) in shifts.items():
                self._connection.execute(
                    # Rows begin where batches do, and a batch is forgotten as a whole.
                    "UPDATE openings SET epoch = ?, first_seq = first_seq + ? WHERE epoch = ? AND first_seq >= ?",
                    (start.epoch, shift, epoch, from_seq),
                )
            self._add(start, now_us, None, batch_id=waiting[0][0] - 1 if waiting else None)
            # An EPOCH_END that waited is the last leaf of the new epoch now.
            ended = bool(waiting) and previous.ended and waiting[-1][1] == previous.epoch
            self._connection.execute(
                "UPDATE epochs SET next_seq = ?, ended = ? WHERE epoch = ?",
                (seq, ended, start.epoch),
            )

    def keep_openings(self, *, at_most: int, since_us: int) -> tuple[bool, int]:
        """Delete the oldest openings beyond `at_most` and those of batches that ended before `since_us`, about
        `_DELETE_AT_ONCE` in one call. (whether there are more to delete, about how many are left)"""
        with _errors("write"), _transaction(self._connection):
            (first,) = self._connection.execute("SELECT min(id) FROM openings").fetchone()
            if first is None:
                return False, 0
            after = self._next_opening()
            young = self._connection.execute(
                "SELECT id FROM openings WHERE ended_us >= ? ORDER BY id LIMIT 1", (since_us,)
            ).fetchone()
            keep_from = max(young[0] if young else after, after - at_most)
            delete_to = min(keep_from, first + _DELETE_AT_ONCE)
            if delete_to > first:
                self._connection.execute("DELETE FROM openings WHERE id < ?", (delete_to,))
            (left,) = self._connection.execute("SELECT coalesce(min(id), ?) FROM openings", (after,)).fetchone()
        return delete_to < keep_from, after - left

    def close(self) -> None:
        """Close the file and let others have it."""
        self._connection.close()
        os.close(self._lock)

    def _add(self, group: Group, now_us: int, tail: _Tail | None, batch_id: int | None = None) -> tuple[Batch, _Tail]:
        """Write the group behind `tail`; what it became, and the tail after it."""
        if tail is None or tail.epoch != group.epoch:
            known = self._connection.execute("SELECT next_seq FROM epochs WHERE epoch = ?", (group.epoch,)).fetchone()
            tail = _Tail(group.epoch, known[0] if known else 0, self._next_opening())
        if tail.next_seq == group.next_seq and (done := self._batch_at(group)) is not None:
            return done, tail
        if tail.next_seq != group.first_seq:
            raise SpoolError(f"{self.path}: the next leaf should have seq {tail.next_seq}, not {group.first_seq}")
        if batch_id is None:
            batch_id, self._next_id = self._next_id, self._next_id + 1
        self._connection.execute(
            "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?)",
            (batch_id, group.epoch, group.first_seq, group.leaves, now_us, group.packed),
        )
        openings = group.openings
        self._connection.execute(
            "INSERT INTO openings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(tail.next_opening, group.epoch, group.first_seq, group.leaves, openings.ended_us),
                *(openings.first_exchange, openings.last_exchange, openings.salts, openings.kept),
            ),
        )
        self._connection.execute(
            "INSERT OR REPLACE INTO epochs VALUES (?, ?, ?)", (group.epoch, group.next_seq, group.ends_epoch)
        )
        batch = Batch(batch_id, group.epoch, group.first_seq, group.leaves, now_us, group.packed)
        return batch, _Tail(group.epoch, group.next_seq, tail.next_opening + group.leaves)

    def _next_opening(self) -> int:
        """The id of the openings that follow."""
        row = self._connection.execute("SELECT id + count FROM openings ORDER BY id DESC LIMIT 1").fetchone()
        return row[0] if row else 0

    def _batch_at(self, group: Group) -> Batch | None:
        row = self._connection.execute(
            "SELECT id, epoch, first_seq, count, spooled_us, packed FROM batches WHERE epoch = ? AND first_seq = ?",
            (group.epoch, group.first_seq),
        ).fetchone()
        return Batch(*row) if row is not None and row[5] == group.packed else None

    def _place(self, placement: Placement) -> None:
        """Remember a placement, as the continuation of the one before it where it is."""
        before = self._connection.execute(
            "SELECT first_seq, count, first_index FROM placements"
            " WHERE epoch = ? AND first_seq < ? AND origin = ? ORDER BY first_seq DESC",
            (placement.epoch, placement.first_seq, placement.origin),
        ).fetchone()
        if before is not None:
            first_seq, count, first_index = before
            if first_seq + count == placement.first_seq and first_index + count == placement.first_index:
                placement = replace(
                    placement, first_seq=first_seq, count=count + placement.count, first_index=first_index
                )
        self._connection.execute("INSERT OR REPLACE INTO placements VALUES (?, ?, ?, ?, ?, ?)", astuple(placement))


def open_spool(path: Path, *, entropy: Callable[[int], bytes], now_us: int) -> Spool:
    """The spool at `path`, made if it is not there. A file that is no spool is set aside, never deleted.

    Raises SpoolBusyError when another process has it, SpoolError when it cannot be opened.
    """
    with _errors("open"):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with _errors("open"):
            _lock(path, lock)
            try:
                connection, producer_id = _connect(path, entropy)
            except sqlite3.OperationalError:
                raise  # no permission, disk full: the file itself may be good
            except sqlite3.DatabaseError:
                _set_aside(path, now_us)
                connection, producer_id = _connect(path, entropy)
    except BaseException:
        os.close(lock)
        raise
    return Spool(path, connection, lock, producer_id)


def erase_openings(path: Path, exchange: str) -> int:
    """Forget what opens the leaves of `exchange`, and overwrite it on disk; how many openings there were.

    May run beside the sidecar. Copies elsewhere (backups, file system snapshots, remapped flash cells) are not reached.
    Raises SpoolError.
    """
    with _errors("erase in"):
        connection = sqlite3.connect(path.absolute().as_uri() + "?mode=rw", uri=True, timeout=10, isolation_level=None)
        try:
            connection.execute("PRAGMA secure_delete = ON")
            with _transaction(connection):
                erased = _erase(connection, exchange)
            # The old pages stand in the write-ahead log until it is written back and cut to nothing.
            (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            connection.close()
    if busy:
        raise SpoolError(
            f"{path}: the opening is deleted, but its write-ahead log is in use and may still hold it; try again"
        )
    return erased


def _erase(connection: sqlite3.Connection, exchange: str) -> int:
    """Write the rows that hold the openings of `exchange` again, without them."""
    erased = 0
    rows = connection.execute(
        f"SELECT id, salts, kept FROM openings WHERE {MAY_HOLD}",  # noqa: S608 nothing foreign in it
        (exchange, exchange),
    ).fetchall()
    for row, salts, data in rows:
        kept = read_kept(data)
        found = [n for n, one in enumerate(kept) if exchange_of_kept(one) == exchange]
        if not found:
            continue
        erased += len(found)
        left, blanked = [*kept], bytearray(salts)
        for n in found:
            left[n] = None
            blanked[n * SALT_SIZE : (n + 1) * SALT_SIZE] = bytes(SALT_SIZE)
        others = [other for other in map(exchange_of_kept, left) if other] or [""]
        connection.execute(
            "UPDATE openings SET first_exchange = ?, last_exchange = ?, salts = ?, kept = ? WHERE id = ?",
            (min(others), max(others), bytes(blanked), keep_payloads(left), row),
        )
    return erased


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        # From here the group is on disk, even when an error says otherwise: see `Spool.commit`.
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _lock(path: Path, lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SpoolBusyError(f"{path} is in use by another process; give each its own spool directory") from None


def _connect(path: Path, entropy: Callable[[int], bytes]) -> tuple[sqlite3.Connection, bytes]:
    # Made here so that nobody else may read it; SQLite gives its other files the same mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT")
            connection.execute("INSERT INTO producer VALUES (?)", (entropy(PRODUCER_ID_SIZE),))
        elif version != SCHEMA_VERSION:
            raise SpoolError(f"{path} has version {version}, this program writes version {SCHEMA_VERSION}")
        (producer_id,) = connection.execute("SELECT id FROM producer").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection, producer_id


def _set_aside(path: Path, now_us: int) -> None:
    for suffix in ("", "-wal", "-shm"):
        broken = Path(f"{path}{suffix}")
        if broken.exists():
            broken.rename(f"{path}.broken-{now_us}{suffix}")


@contextmanager
def _errors(verb: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        # SQLite's messages name files, tables and causes, never values.
        raise SpoolError(f"cannot {verb} the audit spool: {error}") from error
