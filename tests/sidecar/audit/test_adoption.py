"""What workers left that no longer run. ADR 0080, control-api.md 1.5."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import grpc.aio

from ledger.leaf import LeafFlag, LeafKind
from observability.metrics import Registry
from policies.model import UnixNanos
from sidecar.audit.adoption import Orphans
from sidecar.audit.auditing import Auditing, spool_path
from sidecar.audit.errors import SpoolBusyError
from sidecar.audit.flusher import TrailLimits
from sidecar.audit.openings import find_openings
from sidecar.audit.spool import Spool, open_spool
from tests.fakes.entries import BEGAN, audit_entry
from tests.fakes.ledger_node import FakeLedger, serving
from tests.sidecar.audit.test_auditing import HASTE, PACE, QUICK, check, eventually


async def left_behind(directory: Path, worker: int, *numbers: int, orderly: bool = True, ago: int = 0) -> None:
    """A worker that lived, some nanoseconds before the other entries of these tests, and shipped nothing."""
    auditing = Auditing(spool_path(directory, worker), Registry(), HASTE, clock=lambda: BEGAN - ago)
    for n in numbers:
        entry = audit_entry(n)
        auditing.trail.append(entry._replace(ended_at=UnixNanos(entry.ended_at - ago)))
    if orderly:
        await auditing.close(5, shipping=False)
    else:
        await eventually(lambda: auditing.waiting == len(numbers) + 1)
        auditing.trail.close(5)


def opened(path: Path) -> Spool:
    return open_spool(path, entropy=lambda _: b"", now_us=0)


def orphans_in(directory: Path, first: int, *, limits: TrailLimits = HASTE) -> Orphans:
    return Orphans(directory, first, Registry(), limits, PACE, build="test")


@asynccontextmanager
async def looking_after(orphans: Orphans, port: int | None) -> AsyncIterator[None]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", QUICK) as channel, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(orphans.run(channel if port else None))
        try:
            yield
        finally:
            running.cancel()


def at_rest(orphans: Orphans) -> bool:
    """Whether every spool of them was shipped and let go."""
    return all(shipped(path) and not busy(path) for path in orphans.paths())


def shipped(path: Path) -> bool:
    """Looks without holding it: whoever finds a spool held looks again a minute later."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        (waiting,) = connection.execute("SELECT count(*) FROM batches").fetchone()
        (ended,) = connection.execute("SELECT ended FROM epochs ORDER BY epoch DESC").fetchone()
    return not waiting and bool(ended)


def test_orphans_are_the_spools_of_higher_numbers(tmp_path: Path) -> None:
    for name in ("worker-0", "worker-1", "worker-2", "worker-10", "worker-02", "worker-x", "sidecar"):
        (tmp_path / f"{name}.spool").touch()

    assert [path.name for path in orphans_in(tmp_path, 2).paths()] == ["worker-10.spool", "worker-2.spool"]


async def test_leaves_of_a_worker_that_is_gone_are_shipped_as_its_own(tmp_path: Path) -> None:
    await left_behind(tmp_path, 1, *range(10))
    await left_behind(tmp_path, 2, *range(10, 15))
    orphans, ledger = orphans_in(tmp_path, 1), FakeLedger()

    async with serving(ledger) as port, looking_after(orphans, port):
        await eventually(lambda: at_rest(orphans))

    check(ledger, tmp_path, range(15))
    assert len({leaf.producer_id for leaf in ledger.leaves}) == 2
    starts = [leaf.flags for leaf in ledger.leaves if leaf.kind == LeafKind.EPOCH_START]
    assert starts == [0, 0, 0, 0], "two lives each, and every one said its last word"
    assert orphans.waiting == 0


async def test_a_worker_that_crashed_before_it_was_adopted_is_on_record(tmp_path: Path) -> None:
    await left_behind(tmp_path, 1, 0, 1, orderly=False)
    orphans, ledger = orphans_in(tmp_path, 1), FakeLedger()

    async with serving(ledger) as port, looking_after(orphans, port):
        await eventually(lambda: at_rest(orphans))

    check(ledger, tmp_path, range(2))
    kinds = [(leaf.kind, leaf.flags) for leaf in ledger.leaves if leaf.kind != LeafKind.EXCHANGE]
    assert kinds == [
        (LeafKind.EPOCH_START, 0),
        (LeafKind.EPOCH_START, LeafFlag.AFTER_CRASH),
        (LeafKind.EPOCH_END, 0),
    ]


async def test_a_spool_with_nothing_left_to_say_gets_no_further_epoch(tmp_path: Path) -> None:
    await left_behind(tmp_path, 1, 0)
    orphans, ledger = orphans_in(tmp_path, 1), FakeLedger()
    async with serving(ledger) as port:
        async with looking_after(orphans, port):
            await eventually(lambda: at_rest(orphans))
        shipped = len(ledger.entries)

        async with looking_after(orphans, port):
            await asyncio.sleep(0.05)

    assert shipped == len(ledger.entries)


async def test_adoption_that_is_cut_off_goes_on_where_it_was(tmp_path: Path) -> None:
    await left_behind(tmp_path, 1, *range(20))
    orphans, ledger = orphans_in(tmp_path, 1), FakeLedger()
    ledger.credit = 0
    async with serving(ledger) as port:
        async with looking_after(orphans, port):
            await eventually(lambda: ledger.streams and orphans.waiting)
        await eventually(lambda: not busy(spool_path(tmp_path, 1)))
        assert ledger.entries == []
        ledger.credit = 4096

        async with looking_after(orphans, port):
            await eventually(lambda: at_rest(orphans))

    check(ledger, tmp_path, range(20))


def busy(path: Path) -> bool:
    try:
        opened(path).close()
    except SpoolBusyError:
        return True
    return False


async def test_a_spool_that_somebody_has_is_left_alone(tmp_path: Path) -> None:
    await left_behind(tmp_path, 1, 0)
    held = opened(spool_path(tmp_path, 1))
    orphans, ledger = orphans_in(tmp_path, 1), FakeLedger()

    async with serving(ledger) as port, looking_after(orphans, port):
        await asyncio.sleep(0.05)
        assert ledger.entries == []
    held.close()


async def test_openings_of_workers_that_are_gone_expire_without_any_ledger(tmp_path: Path) -> None:
    await left_behind(tmp_path, 1, 0, 1, ago=BEGAN // 2)
    exchange = audit_entry(0).exchange
    assert find_openings(tmp_path, exchange)
    orphans = orphans_in(tmp_path, 1, limits=TrailLimits(keep_openings=60))

    async with looking_after(orphans, None):
        await eventually(lambda: not find_openings(tmp_path, exchange))
    # Their thread may be about to close it; nothing waits for a thread whose task was cancelled.
    await eventually(lambda: not busy(spool_path(tmp_path, 1)))

    spool = opened(spool_path(tmp_path, 1))
    assert spool.waiting() == 4, "the leaves stay for a ledger"
    spool.close()
