"""The policy store: whole revisions or none, kept for ever."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import event, insert
from sqlalchemy.exc import OperationalError

from controlplane.store.revising import ATTEMPTS, revise
from controlplane.store.schema import HEAD, METADATA, REVISIONS
from controlplane.store.store import (
    Action,
    ConflictError,
    NoSuchRevisionError,
    Origin,
    PolicyStore,
    Resources,
    StoreError,
    failures_named,
)
from policies import wire
from policies.airlock.config import AirlockConfig
from policies.snapshot import Upstream
from policies.spec import Document, Kind
from tests.fakes.postgres import database

WHO = Origin("spiffe://td/operator/alice", "first", datetime(2026, 11, 20, 12, tzinfo=UTC))


@pytest.fixture
def store(url: str) -> Iterator[PolicyStore]:
    opened = PolicyStore.open(url)
    yield opened
    opened.close()


def resources(**hints: str) -> Resources:
    return {
        (Kind.AIRLOCK, name): wire.resource(Document(name, AirlockConfig(hint=hint))) for name, hint in hints.items()
    }


def test_empty_store_is_at_revision_zero(store: PolicyStore) -> None:
    assert store.newest() == 0
    assert store.resources(0) == {}
    assert store.history(10) == []


def test_revision_reads_back_as_it_was_committed_in_another_process(store: PolicyStore, url: str) -> None:
    everything = {
        **resources(a="x"),
        (Kind.UPSTREAM, "m"): wire.resource(Document("m", Upstream("m", "http://x"), ttl=90)),
    }

    record = store.commit(everything, WHO, base=0)

    other = PolicyStore.open(url)
    assert record.number == other.newest() == 1
    assert other.resources(1) == everything
    (kept,) = other.history(10)
    assert kept == record
    other.close()


def test_every_revision_stays_readable(store: PolicyStore) -> None:
    for number, hint in enumerate("abc"):
        store.commit(resources(p=hint), WHO, base=number)

    assert [store.resources(number) for number in (1, 2, 3)] == [resources(p=hint) for hint in "abc"]


def test_history_tells_what_each_revision_did(store: PolicyStore) -> None:
    store.commit(resources(a="x", b="x"), WHO, base=0)
    store.commit(resources(a="y", c="x"), WHO, base=1)

    newest, first = store.history(10)

    assert newest.changes == {
        (Kind.AIRLOCK, "a"): Action.CHANGED,
        (Kind.AIRLOCK, "b"): Action.REMOVED,
        (Kind.AIRLOCK, "c"): Action.CREATED,
    }
    assert set(first.changes.values()) == {Action.CREATED}
    assert store.history(1) == [newest]


def test_kinds_know_when_they_last_changed_removals_included(store: PolicyStore) -> None:
    upstream = {(Kind.UPSTREAM, "m"): wire.resource(Document("m", Upstream("m", "http://x")))}
    store.commit({**resources(a="x"), **upstream}, WHO, base=0)
    store.commit({**resources(a="y"), **upstream}, WHO, base=1)
    store.commit(upstream, WHO, base=2)

    assert store.last_changes(3) == {Kind.AIRLOCK: 3, Kind.UPSTREAM: 1}
    assert store.last_changes(2) == {Kind.AIRLOCK: 2, Kind.UPSTREAM: 1}


def test_commit_without_a_difference_makes_no_revision(store: PolicyStore) -> None:
    store.commit(resources(a="x"), WHO, base=0)

    record = store.commit(resources(a="x"), WHO, base=1)

    assert (record.number, record.changes, store.newest()) == (1, {}, 1)


def test_changed_time_to_live_alone_is_a_change(store: PolicyStore) -> None:
    document = Document("a", AirlockConfig())
    store.commit({document.key: wire.resource(document)}, WHO, base=0)

    record = store.commit({document.key: wire.resource(Document("a", AirlockConfig(), ttl=5))}, WHO, base=1)

    assert record.changes == {document.key: Action.CHANGED}


def test_commit_on_an_old_base_is_refused_with_the_newest_revision(store: PolicyStore) -> None:
    store.commit(resources(a="x"), WHO, base=0)

    with pytest.raises(ConflictError, match="newest revision is 1"):
        store.commit(resources(a="y"), WHO, base=0)
    assert store.resources(store.newest()) == resources(a="x")


def test_of_many_that_commit_at_once_exactly_one_wins_each_revision(url: str) -> None:
    PolicyStore.open(url).close()

    def race(number: int) -> bool:
        store = PolicyStore.open(url)
        try:
            store.commit(resources(a=f"by {number}"), WHO, base=0)
        except ConflictError:
            return False
        finally:
            store.close()
        return True

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(race, range(8)))

    assert sum(won) == 1


def test_unknown_revision_is_named(store: PolicyStore) -> None:
    with pytest.raises(NoSuchRevisionError, match="no revision 7"):
        store.resources(7)


STATEMENTS = [f"INSERT INTO {table}" for table in ("revisions", "contents", "documents", "changes")]


@pytest.mark.parametrize(
    ("failing", "when"), [("COMMIT", "before"), *((each, when) for each in STATEMENTS for when in ("before", "after"))]
)
def test_failure_at_any_step_leaves_the_last_revision_whole(url: str, failing: str, when: str) -> None:
    store = PolicyStore.open(url)
    store.commit(resources(a="x"), WHO, base=0)
    engine = store._engine

    def break_statement(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith(failing):
            raise OperationalError(statement, {}, sqlite3.OperationalError("disk I/O error"))

    def break_commit(_connection: object) -> None:
        raise OperationalError("COMMIT", {}, sqlite3.OperationalError("disk I/O error"))

    if failing == "COMMIT":
        event.listen(engine, "commit", break_commit)
    else:
        event.listen(engine, f"{when}_cursor_execute", break_statement)

    with pytest.raises(StoreError, match="disk I/O error"):
        store.commit(resources(a="y", b="z"), WHO, base=1)

    store.close()
    reopened = PolicyStore.open(url)
    assert reopened.newest() == 1
    assert reopened.resources(1) == resources(a="x")
    assert reopened.commit(resources(a="y"), WHO, base=1).number == 2
    reopened.close()


def test_errors_do_not_quote_statements_or_values(tmp_path: Path) -> None:
    path = tmp_path / "policies.db"
    path.write_bytes(b"this is no database" * 100)

    with pytest.raises(StoreError) as refused:
        PolicyStore.open(f"sqlite:///{path}")

    assert "not a database" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_error_without_a_message_is_named_all_the_same() -> None:
    with pytest.raises(StoreError, match="Exception"), failures_named():
        raise OperationalError("SELECT 1", {}, Exception(""))


def test_store_of_a_newer_build_is_refused(url: str, store: PolicyStore) -> None:
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    store.close()

    with pytest.raises(StoreError, match="newer build"):
        PolicyStore.open(url)


def test_revision_with_a_kind_of_a_newer_build_is_our_error(store: PolicyStore) -> None:
    """A replica that was upgraded first may push what this one does not know: it must go on with what it has."""
    store.commit(resources(a="x"), WHO, base=0)
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE documents SET kind = 'Newer'")
        connection.exec_driver_sql("UPDATE changes SET kind = 'Newer'")

    for ask in (lambda: store.resources(1), lambda: store.last_changes(1), lambda: store.history(1)):
        with pytest.raises(StoreError, match=r"'Newer'.*newer build"):
            ask()


def test_migrations_make_exactly_the_tables_of_the_schema(store: PolicyStore) -> None:
    with store.engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), METADATA)

    assert differences == []


def test_the_newest_migration_is_the_one_that_is_looked_for(store: PolicyStore) -> None:
    with store.engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == HEAD


def test_alembic_is_not_loaded_for_a_store_that_is_up_to_date(tmp_path: Path) -> None:
    """A third of the control plane's imports."""
    url = f"sqlite:///{tmp_path}/policies.db"
    PolicyStore.open(url).close()
    code = (
        "import sys; from controlplane.store.store import PolicyStore\n"
        f"PolicyStore.open({url!r}).close(); print('alembic' in sys.modules)"
    )

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=_environment())

    assert told.stdout.strip() == "False", told.stderr


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@pytest.mark.parametrize("ask", ["newest", "history", "resources", "last_changes"])
def test_database_that_cannot_be_read_is_our_error(store: PolicyStore, ask: str) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("SELECT secrets", {}, sqlite3.OperationalError("disk I/O error"))

    event.listen(store._reading, "before_cursor_execute", fail)

    with pytest.raises(StoreError, match="the policy store failed: disk I/O error"):
        getattr(store, ask)(*([1] if ask != "newest" else []))


def test_readers_do_not_wait_for_a_writer(store: PolicyStore) -> None:
    store.commit(resources(a="x"), WHO, base=0)

    with store.engine.begin() as writer:
        writer.execute(insert(REVISIONS).values(number=2, at=0, author="", reason=""))

        assert store.newest() == 1


def test_what_is_read_at_once_is_of_one_moment(url: str, store: PolicyStore) -> None:
    """Or the changes of a revision that another replica makes between two statements belong to none that was read."""
    store.commit(resources(a="x"), WHO, base=0)
    other = PolicyStore.open(url)
    made = list[int]()

    def commit_between(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if "FROM changes" in statement and not made:
            made.append(other.commit(resources(a="y"), WHO, base=1).number)

    event.listen(store._reading, "before_cursor_execute", commit_between)

    assert [record.number for record in store.history(10)] == [1]
    assert made == [2]
    assert [record.number for record in store.history(10)] == [2, 1]
    other.close()


def test_replicas_that_start_together_make_the_tables_once(url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(PolicyStore.open, [url] * 4))

    assert [store.newest() for store in stores] == [0] * 4
    for store in stores:
        store.close()


def test_new_file_that_another_replica_writes_is_waited_for(tmp_path: Path) -> None:
    """SQLite refuses to turn it to WAL at once, whatever the busy timeout is."""
    with closing(sqlite3.connect(tmp_path / "p.db", isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(1) as pool:
            opening = pool.submit(PolicyStore.open, f"sqlite:///{tmp_path / 'p.db'}")
            with pytest.raises(TimeoutError):
                opening.result(timeout=0.2)
            other.execute("COMMIT")
            store = opening.result()

    assert store.newest() == 0
    store.close()


@pytest.mark.peers
def test_connections_that_the_database_cut_are_made_anew(postgres: str) -> None:
    """A failover, or a restart of the database."""
    store = PolicyStore.open(database(postgres, "failover"))
    store.commit(resources(a="x"), WHO, base=0)
    with store.engine.connect() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        connection.invalidate()

    assert store.newest() == 1
    assert store.commit(resources(a="y"), WHO, base=1).number == 2
    store.close()


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("postgresql+nonsense://a:hunter2@b/c", "no SQLAlchemy URL"),
        ("://hunter2", "no SQLAlchemy URL"),
        ("mysql+pymysql://a:hunter2@b/c", "driver pymysql is not installed"),
    ],
)
def test_url_that_cannot_be_used_is_told_without_its_password(url: str, complaint: str) -> None:
    with pytest.raises(StoreError, match=complaint) as refused:
        PolicyStore.open(url)

    assert "hunter2" not in str(refused.value)


# --- revise ---


def beaten(store: PolicyStore, times: int) -> Callable[[int], tuple[Resources, int]]:
    """Makes something of the newest revision while somebody else, `times` times, makes a revision first."""
    bases: list[int] = []

    def make(base: int) -> tuple[Resources, int]:
        bases.append(base)
        if len(bases) <= times:
            store.commit({**store.resources(base), **resources(other=f"{len(bases)}")}, WHO, base=base)
        return {**store.resources(base), **resources(ours="x")}, base

    return make


def test_revision_is_made_anew_upon_what_somebody_else_made_meanwhile(store: PolicyStore) -> None:
    number, base = revise(store, beaten(store, 2), WHO)

    assert (number, base) == (3, 2)
    assert store.resources(3) == resources(other="2", ours="x")


def test_who_is_beaten_again_and_again_is_told(store: PolicyStore) -> None:
    with pytest.raises(ConflictError, match=f"newest revision is {ATTEMPTS}"):
        revise(store, beaten(store, ATTEMPTS), WHO)

    assert "ours" not in {name for _, name in store.resources(store.newest())}


@pytest.mark.parametrize("times", [0, 1])
def test_expected_revision_is_never_gone_beyond(store: PolicyStore, times: int) -> None:
    if times == 0:
        store.commit(resources(other="0"), WHO, base=0)

    with pytest.raises(ConflictError, match="newest revision is 1"):
        revise(store, beaten(store, times), WHO, expected=0)


def test_nothing_new_makes_no_revision(store: PolicyStore) -> None:
    store.commit(resources(ours="x"), WHO, base=0)

    assert revise(store, beaten(store, 0), WHO) == (1, 1)
