"""Every revision of every policy, kept: who pushed it, when and why.

A revision is the whole set of documents at one moment. It is written in one transaction or not at all, and never
changed afterwards; a rollback is a new revision with old content.
"""

import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from aegispb.v1 import discovery_pb2 as pb
from sqlalchemy import Connection, Engine, create_engine, event, func, insert, inspect, make_url, select, text
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, SQLAlchemyError

from controlplane.store.schema import CHANGES, CONTENTS, DOCUMENTS, HEAD, REVISIONS
from policies.spec import DocumentKey, Kind

Resources = Mapping[DocumentKey, pb.Resource]

_BUSY: Final = 10_000
"""Milliseconds to wait for another process that writes."""
_LOOK_AGAIN: Final = 0.02
"""Seconds."""
_UPGRADING: Final = int.from_bytes(b"aegis/up")
"""Number of the advisory lock around upgrades of the schema. Of this database only."""


class StoreError(Exception):
    """The store cannot be used. Says what to do."""


class NoSuchRevisionError(StoreError):
    """A revision was asked for that was never made."""


class ConflictError(StoreError):
    """Somebody else made a revision meanwhile."""

    def __init__(self, newest: int) -> None:
        super().__init__(f"the newest revision is {newest}; look at it with `aegis policy diff` and push again")
        self.newest = newest


class Action(StrEnum):
    """What a revision did with a document."""

    CREATED = "created"
    CHANGED = "changed"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Origin:
    """Who made a revision, when and why."""

    author: str
    """SPIFFE id."""
    reason: str
    at: datetime
    restored: int | None = None
    """The revision that this one restored."""


@dataclass(frozen=True, slots=True)
class RevisionRecord:
    """One entry of the history."""

    number: int
    origin: Origin
    changes: Mapping[DocumentKey, Action]


class PolicyStore:
    """The store. Every method blocks on the database, may be called from any thread, and may raise StoreError."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reading = reading(engine)

    @classmethod
    def open(cls, url: str) -> "PolicyStore":
        """The store at an SQLAlchemy URL (SQLite or PostgreSQL), its schema brought up to date. Raises StoreError."""
        engine = _engine(url)
        try:
            with failures_named(), engine.begin() as connection:
                _upgrade(connection)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine)

    @property
    def engine(self) -> Engine:
        """The database, for what is kept beside the policies."""
        return self._engine

    def close(self) -> None:
        """Let go of all connections."""
        self._engine.dispose()

    def newest(self) -> int:
        """Number of the newest revision; 0 before the first."""
        with failures_named(), self._reading.connect() as connection:
            return _newest(connection)

    def resources(self, revision: int) -> Resources:
        """All documents of a revision as they are distributed. Raises NoSuchRevisionError."""
        with failures_named(), self._reading.connect() as connection:
            return _resources(connection, revision)

    def last_changes(self, revision: int) -> dict[Kind, int]:
        """Kind -> the latest revision up to `revision` in which a document of it was created, changed or removed."""
        query = select(CHANGES.c.kind, func.max(CHANGES.c.revision)).where(CHANGES.c.revision <= revision)
        with failures_named(), self._reading.connect() as connection:
            return {_kind(kind): number for kind, number in connection.execute(query.group_by(CHANGES.c.kind))}

    def commit(self, resources: Resources, origin: Origin, *, base: int) -> RevisionRecord:
        """Make `resources` the newest revision, all of it or nothing.

        Raises ConflictError unless `base` is the newest revision at that moment. If nothing differs from it, no
        revision is made and the record has the number of `base` and no changes.
        """
        try:
            with failures_named(), self._engine.begin() as connection:
                newest = _newest(connection)
                if newest != base:
                    raise ConflictError(newest)
                changes = changes_between(_resources(connection, base), resources)
                if not changes:
                    return RevisionRecord(base, origin, {})
                _insert(connection, base + 1, resources, origin, changes)
        except IntegrityError:
            # Another replica inserted the same number between our look and our insert.
            raise ConflictError(self.newest()) from None
        return RevisionRecord(base + 1, origin, changes)

    def history(self, limit: int) -> list[RevisionRecord]:
        """The latest revisions, newest first."""
        latest = select(REVISIONS).order_by(REVISIONS.c.number.desc()).limit(limit)
        with failures_named(), self._reading.connect() as connection:
            rows = connection.execute(latest).all()
            if not rows:
                return []
            changes: dict[int, dict[DocumentKey, Action]] = {row.number: {} for row in rows}
            for change in connection.execute(select(CHANGES).where(CHANGES.c.revision >= rows[-1].number)):
                changes[change.revision][_kind(change.kind), change.name] = Action(change.action)
        return [RevisionRecord(row.number, _origin(row), changes[row.number]) for row in rows]


def changes_between(before: Resources, after: Resources) -> dict[DocumentKey, Action]:
    """What has to happen to `before` to make it `after`, in order of kind and name."""
    changes: dict[DocumentKey, Action] = {}
    for key in sorted(before.keys() | after.keys(), key=lambda key: (list(Kind).index(key[0]), key[1])):
        if key not in before:
            changes[key] = Action.CREATED
        elif key not in after:
            changes[key] = Action.REMOVED
        elif (before[key].sha256, before[key].ttl) != (after[key].sha256, after[key].ttl):
            changes[key] = Action.CHANGED
    return changes


def _newest(connection: Connection) -> int:
    return connection.execute(select(func.max(REVISIONS.c.number))).scalar() or 0


def _resources(connection: Connection, revision: int) -> Resources:
    known = connection.execute(select(REVISIONS.c.number).where(REVISIONS.c.number == revision)).first()
    if revision != 0 and known is None:
        raise NoSuchRevisionError(f"there is no revision {revision}; `aegis policy history` shows them")
    query = select(DOCUMENTS, CONTENTS.c.body).join(CONTENTS).where(DOCUMENTS.c.revision == revision)
    found: dict[DocumentKey, pb.Resource] = {}
    for row in connection.execute(query.order_by(DOCUMENTS.c.kind, DOCUMENTS.c.name)):
        resource = pb.Resource(name=row.name, version=row.sha256.hex()[:16], body=row.body, sha256=row.sha256)
        if row.ttl is not None:
            resource.ttl.FromMilliseconds(row.ttl)
        found[_kind(row.kind), row.name] = resource
    return found


def _kind(name: str) -> Kind:
    """Raises StoreError: while replicas are upgraded one by one, the newer push what the older do not know."""
    try:
        return Kind(name)
    except ValueError:
        raise StoreError(
            f"the policy store holds documents of kind {name!r}, pushed by a newer build; upgrade this control plane"
        ) from None


def _insert(
    connection: Connection,
    number: int,
    resources: Resources,
    origin: Origin,
    changes: Mapping[DocumentKey, Action],
) -> None:
    connection.execute(
        insert(REVISIONS).values(
            number=number,
            at=round(origin.at.timestamp() * 1000),
            author=origin.author,
            reason=origin.reason,
            restored=origin.restored,
        )
    )
    _insert_contents(connection, resources.values())
    documents = [
        {
            "revision": number,
            "kind": kind.value,
            "name": name,
            "sha256": resource.sha256,
            "ttl": resource.ttl.ToMilliseconds() if resource.HasField("ttl") else None,
        }
        for (kind, name), resource in resources.items()
    ]
    if documents:
        connection.execute(insert(DOCUMENTS), documents)
    connection.execute(
        insert(CHANGES),
        [
            {"revision": number, "kind": kind.value, "name": name, "action": action.value}
            for (kind, name), action in changes.items()
        ],
    )


def _insert_contents(connection: Connection, resources: Iterable[pb.Resource]) -> None:
    wanted = {resource.sha256: resource.body for resource in resources}
    for digest, body in wanted.items():
        known = connection.execute(select(CONTENTS.c.sha256).where(CONTENTS.c.sha256 == digest)).first()
        if known is None:
            connection.execute(insert(CONTENTS).values(sha256=digest, body=body))


def _origin(row: Any) -> Origin:
    at = datetime.fromtimestamp(row.at / 1000, UTC)
    return Origin(row.author, row.reason, at, row.restored)


def _engine(url: str) -> Engine:
    """Raises StoreError."""
    try:
        wanted = make_url(url)
        if wanted.drivername in {
            "postgresql",
            "postgres",
        }:  # SQLAlchemy means psycopg2 by the first, nothing by the other
            wanted = wanted.set(drivername="postgresql+psycopg")
        if wanted.get_backend_name() == "postgresql":
            # A connection that a failover cut is noticed before it is used, and no lock is waited for for ever.
            options = {"connect_timeout": _BUSY // 1000, "options": f"-c lock_timeout={_BUSY}"}
            return create_engine(wanted, pool_pre_ping=True, connect_args=options)
        engine = create_engine(wanted)
    except ModuleNotFoundError as error:
        raise StoreError(
            f"the driver {error.name} is not installed; for PostgreSQL: pip install 'aegis-mesh[postgres]'"
        ) from None
    except (ArgumentError, NoSuchModuleError):
        # Without the library's message: it may quote the URL, which may hold a password.
        raise StoreError("the setting `database` is no SQLAlchemy URL such as postgresql://user@host/name") from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def reading(engine: Engine) -> Engine:
    """The same database for those who only read: all that one transaction reads is of one moment."""
    if engine.dialect.name == "postgresql":
        # Otherwise every statement sees a moment of its own.
        return engine.execution_options(isolation_level="REPEATABLE READ")
    return engine.execution_options(reading=True)


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        # Replicas that start together make the tables one after the other. Held until the transaction ends.
        connection.execute(select(func.pg_advisory_xact_lock(_UPGRADING)))
    current = None
    if inspect(connection).has_table("alembic_version"):
        current = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if current == HEAD:
        return
    # Imported when there is something to do only: it costs as much as SQLAlchemy itself.
    from controlplane.store.upgrade import upgrade

    if not upgrade(connection, current):
        raise StoreError(f"the policy store has schema {current}, made by a newer build; upgrade this control plane")


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where SQLAlchemy says, not where pysqlite guesses
    for pragma in (f"busy_timeout={_BUSY}", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
    _write_ahead(connection)


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Replicas that start together all want to turn a new file to WAL, and SQLite lets none of them wait for it: two
    that did would wait for each other."""
    give_up = time.monotonic() + _BUSY / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(_LOOK_AGAIN)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads and then writes cannot wait for another writer; one that begins as a writer can.
    reading = connection.get_execution_options().get("reading")
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


@contextmanager
def failures_named() -> Iterator[None]:
    """What the database cannot do, as a StoreError without the statement and its values."""
    try:
        yield
    except IntegrityError:
        raise
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        reason = next(iter(str(cause).splitlines()), type(cause).__name__)
        raise StoreError(f"the policy store failed: {reason}") from None
