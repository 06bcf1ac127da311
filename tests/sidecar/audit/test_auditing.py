"""The whole trail against a ledger over real gRPC: spool, thread, stream. control-api.md 1.5, ledger.md 3.9."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest
from aegispb.v1 import audit_pb2

from ledger.commitment import open_leaf
from ledger.leaf import Leaf, LeafKind
from observability import names
from observability.metrics import Registry
from sidecar.audit.auditing import Auditing, spool_path
from sidecar.audit.flusher import TrailLimits
from sidecar.audit.openings import latest_openings
from sidecar.audit.shipper import ShipperPace
from tests.fakes.entries import BEGAN, audit_entry
from tests.fakes.ledger_node import ORIGIN, FakeLedger, serving

HASTE = TrailLimits(linger=0.0, retry=0.01)
QUICK = [(f"grpc.{name}_reconnect_backoff_ms", 20) for name in ("initial", "min", "max")]
PACE = ShipperPace(linger=0.0, first_backoff=0.01, longest_backoff=0.05)


class Sidecar:
    """One life of a sidecar's audit trail."""

    def __init__(self, auditing: Auditing, registry: Registry) -> None:
        self.auditing = auditing
        self.registry = registry
        self.durable = False

    def append(self, *numbers: int) -> None:
        for n in numbers:
            self.auditing.trail.append(audit_entry(n))

    def count(self, family: names.Family, *labels: str) -> float:
        return self.registry.counter(family).values().get(labels, 0)


@asynccontextmanager
async def life(
    directory: Path,
    port: int,
    *,
    limits: TrailLimits = HASTE,
    pace: ShipperPace = PACE,
    grace: float = 5,
    clock: Callable[[], int] = time.time_ns,
) -> AsyncIterator[Sidecar]:
    """A sidecar from start to orderly end."""
    registry = Registry()
    sidecar = Sidecar(Auditing(spool_path(directory, 0), registry, limits, pace, build="test", clock=clock), registry)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", QUICK) as channel, asyncio.TaskGroup() as tasks:
        shipping = tasks.create_task(sidecar.auditing.run(channel))
        try:
            yield sidecar
            sidecar.durable = await sidecar.auditing.close(grace)
        finally:
            shipping.cancel()


async def eventually(true: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.002)


def exchanges(leaves: list[Leaf]) -> list[Leaf]:
    return [leaf for leaf in leaves if leaf.kind == LeafKind.EXCHANGE]


def check(ledger: FakeLedger, directory: Path, numbers: range, *, lost: int = 0) -> None:
    """The oracle: every exchange stands in the log exactly once, where the spool says, and its opening opens it."""
    leaves = ledger.leaves
    commitments = [leaf.commitment for leaf in leaves]
    assert len(set(commitments)) == len(commitments), "a leaf stands in the log twice"
    assert lost == sum(leaf.lost for leaf in leaves)
    assert len(numbers) == len(exchanges(leaves)) + lost
    for indices in ledger.indices.values():
        assert [leaves[index].seq for index in indices] == list(range(len(indices)))
    kept_openings = latest_openings(directory, 10**6)
    assert len(numbers) - lost == len(kept_openings)
    for kept in kept_openings:
        assert kept.index is not None
        assert kept.origin == ORIGIN
        statement = open_leaf(leaves[kept.index], kept.opening)
        assert kept.exchange == getattr(statement, "exchange", None)


async def test_every_exchange_becomes_a_durable_leaf_whose_opening_and_place_are_known(tmp_path: Path) -> None:
    ledger = FakeLedger()
    async with serving(ledger) as port, life(tmp_path, port) as sidecar:
        sidecar.append(*range(500))

    assert sidecar.durable
    check(ledger, tmp_path, range(500))
    assert [ledger.leaves[0].kind, ledger.leaves[-1].kind] == [LeafKind.EPOCH_START, LeafKind.EPOCH_END]
    assert sidecar.count(names.AUDIT_ENTRIES) == 500
    assert 502 == sidecar.count(names.AUDIT_SPOOLED) == sidecar.count(names.AUDIT_DURABLE)


async def test_leaves_travel_packed_and_not_one_by_one(tmp_path: Path) -> None:
    """performance.md section 7: a message costs 110 µs, a leaf in it 0.2."""
    ledger = FakeLedger()
    async with serving(ledger) as port, life(tmp_path, port) as sidecar:
        for n in range(0, 2000, 100):
            sidecar.append(*range(n, n + 100))
            await asyncio.sleep(0)

    assert ledger.messages < 60
    check(ledger, tmp_path, range(2000))


async def test_an_exchange_is_never_kept_waiting_by_a_ledger_that_is_away(tmp_path: Path) -> None:
    ledger = FakeLedger()
    async with serving(ledger) as port:
        pass

    async with life(tmp_path, port, grace=0.05) as sidecar:
        sidecar.append(*range(100))
        assert sidecar.auditing.trail.accepting
    assert not sidecar.durable

    async with serving(ledger, port), life(tmp_path, port) as sidecar:
        sidecar.append(*range(100, 120))
    assert sidecar.durable
    check(ledger, tmp_path, range(120))
    assert [leaf.flags for leaf in ledger.leaves if leaf.kind == LeafKind.EPOCH_START] == [0, 0]


async def test_a_ledger_that_comes_back_while_running_gets_everything(tmp_path: Path) -> None:
    ledger = FakeLedger()
    async with serving(ledger) as port:
        pass
    async with life(tmp_path, port) as sidecar:
        sidecar.append(*range(50))
        await eventually(lambda: sidecar.count(names.AUDIT_RECONNECTS, "unavailable") >= 2)
        async with serving(ledger, port):
            await eventually(lambda: len(ledger.entries) == 51)
            sidecar.append(*range(50, 60))
            await sidecar.auditing.close(5)

    check(ledger, tmp_path, range(60))


async def test_a_stream_cut_before_the_acknowledgement_repeats_and_the_ledger_recognises(tmp_path: Path) -> None:
    """Rule of audit.proto: at-least-once delivery becomes exactly-once."""
    ledger = FakeLedger()
    ledger.cut_after = 100
    async with serving(ledger) as port, life(tmp_path, port) as sidecar:
        sidecar.append(*range(300))

    assert ledger.repeated > 0
    assert ledger.streams == 2
    check(ledger, tmp_path, range(300))


async def test_no_more_leaves_are_outstanding_than_the_credit_allows(tmp_path: Path) -> None:
    ledger = FakeLedger()
    ledger.credit = 10
    async with serving(ledger) as port, life(tmp_path, port, grace=20) as sidecar:
        ledger.open.clear()
        sidecar.append(*range(100))
        ledger.open.set()
        await eventually(lambda: ledger.entries)
        ledger.open.clear()
        await eventually(lambda: sidecar.auditing.waiting >= 91)
        held = len(ledger.entries)
        await asyncio.sleep(0.05)
        assert len(ledger.entries) <= held + 10
        ledger.open.set()

    assert sidecar.durable
    check(ledger, tmp_path, range(100))


async def test_credit_of_zero_pauses_until_the_ledger_grants_some(tmp_path: Path) -> None:
    ledger = FakeLedger()
    ledger.credit = 0
    async with serving(ledger) as port, life(tmp_path, port) as sidecar:
        sidecar.append(*range(20))
        await eventually(lambda: ledger.streams and sidecar.auditing.waiting == 21)
        await asyncio.sleep(0.03)
        assert ledger.entries == []
        await ledger.grant(100)

    assert sidecar.durable
    check(ledger, tmp_path, range(20))


async def test_a_ledger_that_takes_and_never_acknowledges_is_given_up(tmp_path: Path) -> None:
    ledger = FakeLedger()
    pace = ShipperPace(linger=0.0, first_backoff=0.01, ack_timeout=0.05)
    async with serving(ledger) as port, life(tmp_path, port, pace=pace) as sidecar:
        await eventually(lambda: ledger.entries and sidecar.auditing.waiting == 0)
        ledger.open.clear()
        sidecar.append(*range(5))
        await eventually(lambda: sidecar.count(names.AUDIT_RECONNECTS, "stalled"))
        ledger.open.set()

    assert sidecar.durable
    check(ledger, tmp_path, range(5))


async def test_a_ledger_that_never_says_a_word_is_given_up(tmp_path: Path) -> None:
    ledger = FakeLedger()
    ledger.open.clear()
    pace = ShipperPace(linger=0.0, first_backoff=0.01, hello_timeout=0.03)
    async with serving(ledger) as port, life(tmp_path, port, pace=pace) as sidecar:
        await eventually(lambda: sidecar.count(names.AUDIT_RECONNECTS, "silent"))
        ledger.open.set()

    assert sidecar.durable


async def test_a_ledger_that_lost_leaves_gets_a_new_epoch_with_what_is_left(tmp_path: Path) -> None:
    ledger = FakeLedger()
    async with serving(ledger) as port:
        async with life(tmp_path, port) as sidecar:
            sidecar.append(*range(10))
            await eventually(lambda: sidecar.auditing.waiting == 0 and len(ledger.entries) == 11)
            ledger.forget(keep=4)
            ledger.cut_after = 0
            sidecar.append(*range(10, 15))
        starts = [leaf for leaf in ledger.leaves if leaf.kind == LeafKind.EPOCH_START]

    assert sidecar.durable
    assert sidecar.count(names.AUDIT_EPOCHS, "ledger_behind") == 1
    assert len(starts) == 2
    assert len(exchanges(ledger.leaves)) == 3 + 5, "what it lost is lost; all that was not acknowledged is there"


async def test_a_spool_restored_from_a_backup_begins_a_new_epoch(tmp_path: Path) -> None:
    """Or the ledger would take new leaves for repetitions of those it has, and they were lost."""
    ledger = FakeLedger()
    path = spool_path(tmp_path, 0)
    async with serving(ledger) as port:
        async with life(tmp_path, port, grace=0) as sidecar:
            await eventually(lambda: ledger.entries and sidecar.auditing.waiting == 0)
            ledger.credit = 0
            ledger.cut_after = 0
            sidecar.append(0, 1)
            await eventually(lambda: sidecar.auditing.waiting == 2)
        backup = path.read_bytes()
        ledger.credit = 100
        async with life(tmp_path, port) as sidecar:
            sidecar.append(2, 3, 4)
        ledger_before = len(ledger.entries)
        path.write_bytes(backup)
        async with life(tmp_path, port) as sidecar:
            sidecar.append(5, 6, 7, 8)

    assert sidecar.durable
    assert ledger_before + 2 + 4 == len(ledger.entries), "the old leaves are recognised, the new ones are new"
    assert len({leaf.commitment for leaf in exchanges(ledger.leaves)}) == 9


async def test_an_epoch_that_the_ledger_knows_before_we_sent_anything_of_it_is_not_ours(tmp_path: Path) -> None:
    """A restored spool, and a clock that stands still: the second life gives the numbers of the first once more."""
    ledger = FakeLedger()
    path = spool_path(tmp_path, 0)
    async with serving(ledger) as port:
        async with life(tmp_path, port) as sidecar:
            sidecar.append(0)
        backup = path.read_bytes()
        async with life(tmp_path, port, clock=lambda: BEGAN) as sidecar:
            sidecar.append(1, 2, 3)
        path.write_bytes(backup)
        async with life(tmp_path, port, clock=lambda: BEGAN, limits=TrailLimits(linger=0.05)) as sidecar:
            sidecar.append(4, 5, 6, 7, 8, 9)

    assert sidecar.durable
    assert sidecar.count(names.AUDIT_EPOCHS, "ledger_ahead") == 1
    assert len({leaf.commitment for leaf in exchanges(ledger.leaves)}) == 10


async def test_a_ledger_with_another_leaf_under_our_number_gets_new_numbers(tmp_path: Path) -> None:
    ledger = FakeLedger()
    ledger.refuse = grpc.StatusCode.ALREADY_EXISTS
    async with serving(ledger) as port, life(tmp_path, port) as sidecar:
        sidecar.append(*range(5))
        await eventually(lambda: sidecar.count(names.AUDIT_EPOCHS, "already_exists"))
        ledger.refuse = None

    assert sidecar.durable
    check(ledger, tmp_path, range(5))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda ack: ack.MergeFrom(audit_pb2.LeafAck(through_seq=10**6, count=1)), "contradiction"),
        (lambda ack: ack.MergeFrom(audit_pb2.LeafAck(producer_id=b"somebody else")), "contradiction"),
    ],
)
async def test_a_ledger_that_contradicts_itself_deletes_nothing_here(
    tmp_path: Path, change: Callable[[audit_pb2.LeafAck], None], reason: str
) -> None:
    ledger = FakeLedger()

    def falsify(ack: audit_pb2.LeafAck) -> audit_pb2.LeafAck:
        if ack.count:
            change(ack)
        return ack

    ledger.falsify = falsify
    async with serving(ledger) as port, life(tmp_path, port) as sidecar:
        sidecar.append(*range(5))
        await eventually(lambda: sidecar.count(names.AUDIT_RECONNECTS, reason) and len(ledger.entries) == 6)
        assert sidecar.auditing.waiting == 6
        ledger.falsify = None

    assert sidecar.durable
    check(ledger, tmp_path, range(5))


async def test_an_acknowledgement_that_does_not_say_durable_deletes_nothing(tmp_path: Path) -> None:
    ledger = FakeLedger()

    def vague(ack: audit_pb2.LeafAck) -> audit_pb2.LeafAck:
        ack.state = audit_pb2.LeafAck.STATE_UNSPECIFIED
        return ack

    ledger.falsify = vague
    async with serving(ledger) as port:
        async with life(tmp_path, port, grace=0.05) as sidecar:
            sidecar.append(*range(5))
            await eventually(lambda: len(ledger.entries) == 6)
        assert not sidecar.durable
        assert sidecar.count(names.AUDIT_DURABLE) == 0


async def test_a_refusal_that_waiting_does_not_mend_is_an_error_for_someone_to_act_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = FakeLedger()
    ledger.refuse = grpc.StatusCode.PERMISSION_DENIED
    async with serving(ledger) as port, life(tmp_path, port) as sidecar:
        await eventually(lambda: sidecar.count(names.AUDIT_RECONNECTS, "permission_denied"))
        ledger.refuse = None

    assert "ledger refuses our leaves" in [r.message for r in caplog.records if r.levelname == "ERROR"]
    assert sidecar.durable


async def test_a_full_queue_loses_the_newest_counts_them_and_leaves_a_gap_leaf(tmp_path: Path) -> None:
    ledger = FakeLedger()
    async with serving(ledger) as port, life(tmp_path, port, limits=TrailLimits(linger=0.1, max_queued=10)) as sidecar:
        sidecar.append(*range(15))
        assert not sidecar.auditing.trail.accepting
        await eventually(lambda: sidecar.auditing.trail.accepting)
        sidecar.append(15)

    assert sidecar.count(names.AUDIT_LOST, "queue_full") == 5
    check(ledger, tmp_path, range(16), lost=5)
    assert [leaf.kind for leaf in ledger.leaves[-3:]] == [LeafKind.GAP, LeafKind.EXCHANGE, LeafKind.EPOCH_END]


async def test_a_loss_at_the_very_end_is_on_record_too(tmp_path: Path) -> None:
    ledger = FakeLedger()
    async with serving(ledger) as port, life(tmp_path, port, limits=TrailLimits(linger=0.1, max_queued=2)) as sidecar:
        sidecar.append(*range(5))

    check(ledger, tmp_path, range(5), lost=3)


async def test_a_full_spool_stops_accepting_until_the_ledger_took_some(tmp_path: Path) -> None:
    ledger = FakeLedger()
    ledger.credit = 0
    async with serving(ledger) as port, life(tmp_path, port, limits=TrailLimits(linger=0, max_waiting=50)) as sidecar:
        sidecar.append(*range(60))
        await eventually(lambda: not sidecar.auditing.trail.accepting)
        sidecar.append(60, 61)
        await ledger.grant(1000)
        await eventually(lambda: sidecar.auditing.trail.accepting)
        sidecar.append(62)

    assert sidecar.count(names.AUDIT_LOST, "spool_full") == 2
    check(ledger, tmp_path, range(63), lost=2)


async def test_a_disk_that_fails_stops_accepting_and_loses_nothing_when_it_recovers(tmp_path: Path) -> None:
    ledger = FakeLedger()
    async with serving(ledger) as port, life(tmp_path, port) as sidecar:
        await eventually(lambda: ledger.entries and sidecar.auditing.waiting == 0)
        spool = sidecar.auditing._flusher._spool
        spool._connection.execute("PRAGMA max_page_count = 1")
        sidecar.append(*range(500))
        await eventually(lambda: not sidecar.auditing.trail.accepting)
        spool._connection.execute("PRAGMA max_page_count = 100000")
        await eventually(lambda: sidecar.auditing.trail.accepting)

    assert sidecar.durable
    check(ledger, tmp_path, range(500))


@pytest.mark.slow
async def test_killing_the_process_loses_only_what_was_not_yet_committed(tmp_path: Path) -> None:
    """kill -9 in full run: what the ledger has and what the spool has is everything that was committed, once."""
    script = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        import grpc.aio
        from observability.metrics import Registry
        from sidecar.audit.auditing import Auditing, spool_path
        from tests.fakes.entries import audit_entry

        async def main(directory, port):
            auditing = Auditing(spool_path(Path(directory), 0), Registry())
            shipping = asyncio.get_running_loop().create_task(
                auditing.run(grpc.aio.insecure_channel(f"127.0.0.1:{port}")))
            n = 0
            while True:
                for _ in range(10):
                    auditing.trail.append(audit_entry(n))
                    n += 1
                print(n, flush=True)
                await asyncio.sleep(0.002)

        asyncio.run(main(*sys.argv[1:]))
        """
    )
    ledger = FakeLedger()
    worst = 0
    async with serving(ledger) as port:
        for attempt in range(5):
            directory = tmp_path / str(attempt)
            process = subprocess.Popen(
                [sys.executable, "-c", script, str(directory), str(port)],
                stdout=subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            )
            before = len(ledger.entries)
            await eventually(lambda before=before, attempt=attempt: len(ledger.entries) > before + 200 * (attempt + 1))
            os.kill(process.pid, signal.SIGKILL)
            appended = int((await asyncio.to_thread(process.communicate))[0].split()[-1])

            async with life(directory, port) as sidecar:
                pass

            assert sidecar.durable
            recorded = len(exchanges(ledger.leaves[before:]))
            worst = max(worst, appended - recorded)
            kept = {opening.exchange for opening in latest_openings(directory, 10**6)}
            assert {audit_entry(n).exchange for n in range(recorded)} == kept, "what is missing is the end"
            starts = [leaf.flags for leaf in ledger.leaves[before:] if leaf.kind == LeafKind.EPOCH_START]
            assert starts == [0, 8], "the crash is on record"
    # 20 ms of gathering and one commit, at some 4,000 a second; a loaded machine takes longer over both.
    assert worst < 2000
