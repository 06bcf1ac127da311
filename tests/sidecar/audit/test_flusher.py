"""From the queue to the spool to the shipper, one turn at a time, with every write failing once."""

import os
from collections import deque
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from ledger.leaf import PACKED_SIZE, Leaf, LeafKind, parse_leaf
from observability import names
from observability.metrics import Registry
from sidecar.audit.errors import SpoolError
from sidecar.audit.flusher import MAX_GROUP, Flusher, Queue, TrailLimits
from sidecar.audit.leaves import AT_ONCE
from sidecar.audit.openings import find_openings
from sidecar.audit.spool import Batch, Placement, Spool, open_spool
from sidecar.audit.statements import Gap
from tests.fakes.entries import BEGAN, audit_entry
from tests.fakes.faulty_spool import Fault, faulty_spool


class Ledger:
    """An outlet that is also a ledger: keeps what it is offered and acknowledges when told."""

    def __init__(self) -> None:
        self.offered: list[Batch] = []
        self.afresh = 0

    def offer(self, batches: list[Batch], *, afresh: bool) -> None:
        if afresh:
            self.offered.clear()
            self.afresh += 1
        self.offered.extend(batches)

    def leaves(self) -> list[Leaf]:
        return [leaf for batch in self.offered for leaf in leaves_of(batch)]


class Bench:
    """A flusher, its queue and its ledger."""

    def __init__(self, spool: Spool, limits: TrailLimits | None = None) -> None:
        self.now = BEGAN
        self.spool = spool
        self.ledger = Ledger()
        self.queue: Queue = deque()
        self.registry = Registry()
        self.flusher = Flusher(
            spool,
            self.ledger,
            self.registry,
            limits or TrailLimits(),
            build="test",
            clock=lambda: self.now,
            entropy=os.urandom,
        )

    def begin(self) -> None:
        self.now += 1_000_000
        self.flusher.begin()
        self.turn()

    def turn(self, *, finishing: bool = False) -> None:
        """Take turns until one succeeds."""
        while True:
            try:
                return self.flusher.turn(self.queue, finishing=finishing)
            except SpoolError:
                continue

    def append(self, *numbers: int) -> None:
        self.queue.extend(audit_entry(n) for n in numbers)

    def acknowledge(self, count: int, index: int = 0) -> None:
        """The first `count` leaves that were offered are durable."""
        done = 0
        for batch in self.ledger.offered:
            if done == count:
                break
            taken = min(batch.count, count - done)
            self.flusher.acknowledge(
                Placement(batch.epoch, batch.first_seq, taken, index + done, "log", index + done + taken)
            )
            done += taken


def leaves_of(batch: Batch) -> list[Leaf]:
    return [
        parse_leaf(batch.packed[start + 2 : start + PACKED_SIZE]) for start in range(0, len(batch.packed), PACKED_SIZE)
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "worker-0.spool"


@pytest.fixture
def bench(path: Path) -> Bench:
    bench = Bench(opened(path))
    bench.begin()
    return bench


def opened(path: Path) -> Spool:
    return hasty(open_spool(path, entropy=os.urandom, now_us=0))


def hasty(spool: Spool) -> Spool:
    """Without waiting for the disk: no power cut happens here."""
    spool._connection.execute("PRAGMA synchronous = OFF")
    return spool


def test_what_is_queued_is_offered_after_it_is_on_disk(bench: Bench) -> None:
    bench.append(0, 1)
    bench.turn()
    bench.append(2)
    bench.turn()

    kinds = [leaf.kind for leaf in bench.ledger.leaves()]
    assert [LeafKind.EPOCH_START, *[LeafKind.EXCHANGE] * 3] == kinds
    assert [leaf.seq for leaf in bench.ledger.leaves()] == [0, 1, 2, 3]
    assert bench.ledger.offered == bench.spool.batches(None, 10)
    assert bench.flusher.waiting == 4


def test_a_long_queue_becomes_groups_of_bounded_size(bench: Bench) -> None:
    bench.append(*range(2 * MAX_GROUP + 10))

    bench.turn()
    assert [batch.count for batch in bench.ledger.offered] == [1, MAX_GROUP, MAX_GROUP]

    bench.turn()
    assert bench.ledger.offered[-1].count == 10
    assert not bench.queue


def test_acknowledged_leaves_leave_the_spool_with_the_next_commit(bench: Bench) -> None:
    bench.append(0, 1)
    bench.turn()

    bench.acknowledge(3, index=40)
    bench.turn()

    assert bench.spool.batches(None, 10) == []
    assert bench.flusher.waiting == 0
    assert [kept.index for kept in find_openings(bench.spool.path, audit_entry(0).exchange)] == [41]


def test_a_batch_is_forgotten_only_when_all_of_it_is_acknowledged(bench: Bench) -> None:
    bench.append(*range(10))
    bench.turn()

    bench.acknowledge(6)
    bench.turn()
    assert bench.flusher.waiting == 10

    bench.flusher.acknowledge(Placement(bench.ledger.offered[1].epoch, 6, 5, 6, "log", 11))
    bench.turn()
    assert bench.flusher.waiting == 0


def test_the_last_word_comes_after_everything_that_was_queued(bench: Bench) -> None:
    bench.append(*range(2 * MAX_GROUP))

    bench.turn(finishing=True)
    bench.turn(finishing=True)

    leaves = bench.ledger.leaves()
    assert len(leaves) == 2 * MAX_GROUP + 2
    assert [leaf.kind for leaf in leaves if leaf.kind != LeafKind.EXCHANGE][1:] == [LeafKind.EPOCH_END]
    assert leaves[-1].kind == LeafKind.EPOCH_END
    assert bench.flusher.ended


def test_the_next_life_offers_what_the_last_one_left_and_then_its_own(bench: Bench, path: Path) -> None:
    bench.append(0, 1, 2)
    bench.turn()
    bench.acknowledge(1)
    bench.turn()
    bench.flusher.close()

    after = Bench(opened(path))
    after.now = bench.now
    after.begin()
    after.append(3)
    after.turn()

    found = [(leaf.kind, leaf.seq) for leaf in after.ledger.leaves()]
    assert [(LeafKind.EXCHANGE, n) for n in (1, 2, 3)] == found[:3]
    assert found[3:] == [(LeafKind.EPOCH_START, 0), (LeafKind.EXCHANGE, 1)]
    epochs = [leaf.epoch for leaf in after.ledger.leaves()]
    assert epochs[0] < epochs[-1]
    assert after.flusher.left_by(epochs[0]) == 4
    assert after.ledger.leaves()[3].flags == 8, "the last life never said EPOCH_END"


def test_an_epoch_is_later_than_any_before_it_even_when_the_clock_went_back(bench: Bench, path: Path) -> None:
    first = bench.ledger.leaves()[0].epoch
    bench.flusher.close()

    after = Bench(opened(path))
    after.now = BEGAN // 2
    after.begin()

    assert first + 1 == after.ledger.leaves()[-1].epoch


def test_a_shipper_that_is_behind_gets_a_window_and_the_rest_from_disk(path: Path) -> None:
    bench = Bench(opened(path), TrailLimits(window=20))
    bench.begin()
    for n in range(0, 1000, 5):
        bench.append(*range(n, n + 5))
        bench.turn()
    assert len(bench.ledger.leaves()) == 21

    seen = 0
    while bench.flusher.waiting:
        pending = len(bench.ledger.leaves())
        assert pending - seen < 20 + 5 * 64, "the window and one read"
        bench.flusher.acknowledge(Placement(bench.ledger.offered[0].epoch, seen, pending - seen, seen, "log", pending))
        seen = pending
        bench.turn()

    assert list(range(1001)) == [leaf.seq for leaf in bench.ledger.leaves()]


def test_a_full_spool_says_so_and_has_room_again_a_tenth_later(path: Path) -> None:
    bench = Bench(opened(path), TrailLimits(max_waiting=100))
    bench.begin()
    for n in range(0, 100, 10):
        bench.append(*range(n, n + 10))
        bench.turn()
    assert bench.flusher.full

    bench.acknowledge(1)
    bench.turn()
    assert bench.flusher.full, "100 wait"

    bench.acknowledge(21)
    bench.turn()
    assert not bench.flusher.full


def test_old_openings_are_deleted_while_running(path: Path) -> None:
    bench = Bench(opened(path), TrailLimits(keep_openings=60))
    bench.begin()
    bench.append(0)
    bench.turn()
    assert find_openings(path, audit_entry(0).exchange)

    bench.now += 121 * 1_000_000_000
    bench.turn()

    assert not find_openings(path, audit_entry(0).exchange)
    assert bench.registry.gauge(names.AUDIT_OPENINGS).values() == {(): 0}


def test_a_ledger_that_disagrees_gets_everything_that_waits_under_a_new_epoch(bench: Bench) -> None:
    bench.append(0, 1, 2)
    bench.turn()
    bench.acknowledge(1)
    bench.turn()
    before = {leaf.commitment for leaf in bench.ledger.leaves() if leaf.kind == LeafKind.EXCHANGE}
    bench.now += 1_000_000

    bench.flusher.begin_epoch("ledger_behind")
    bench.append(3)
    bench.turn()

    leaves = bench.ledger.leaves()
    assert bench.ledger.afresh == 1
    assert [leaf.seq for leaf in leaves] == [0, 1, 2, 3, 4]
    assert len({leaf.epoch for leaf in leaves}) == 1
    assert leaves[0].kind == LeafKind.EPOCH_START
    assert leaves[0].flags == 0
    assert before == {leaf.commitment for leaf in leaves[1:4]}, "the same leaf can be recognised in both logs"
    assert bench.flusher.left_by(leaves[0].epoch) == 0
    bench.acknowledge(5)
    bench.turn()
    assert bench.flusher.waiting == 0


def test_a_new_epoch_after_the_last_word_has_a_last_word_too(bench: Bench) -> None:
    bench.append(0)
    bench.turn(finishing=True)
    bench.acknowledge(3)
    bench.turn(finishing=True)
    bench.now += 1_000_000

    bench.flusher.begin_epoch("ledger_behind")
    bench.turn(finishing=True)

    assert [leaf.kind for leaf in bench.ledger.leaves()] == [LeafKind.EPOCH_START, LeafKind.EPOCH_END]


@pytest.mark.parametrize("good", [1, AT_ONCE, 2 * AT_ONCE + 5])
@pytest.mark.parametrize("bug", [{"findings": object()}, {"request_digest": "not bytes"}, {"ended_at": "noon"}])
def test_a_bug_while_making_leaves_costs_no_entry_and_no_number(bench: Bench, good: int, bug: dict[str, Any]) -> None:
    bench.append(*range(good))
    bench.queue.append(audit_entry(good)._replace(**bug))

    with pytest.raises((TypeError, AttributeError)):
        bench.flusher.turn(bench.queue, finishing=False)

    assert [entry.exchange for entry in bench.queue] == [audit_entry(n).exchange for n in range(good + 1)]
    bench.queue.pop()
    bench.turn()
    assert [leaf.seq for leaf in bench.ledger.leaves()] == list(range(good + 1))


@pytest.mark.parametrize("faults", list(product(Fault, repeat=4)), ids=lambda faults: "-".join(f.name for f in faults))
def test_no_fault_of_the_disk_loses_an_entry_or_gives_a_number_twice(faults: tuple[Fault, ...], path: Path) -> None:
    bench = Bench(hasty(faulty_spool(path, list(faults), entropy=os.urandom, now_us=0)))
    bench.begin()
    bench.append(0, 1)
    bench.queue.append(Gap(5, "queue_full", audit_entry(1).ended_at, audit_entry(1).ended_at))
    bench.turn()
    bench.acknowledge(2)
    bench.append(2)
    bench.turn()
    bench.now += 1_000_000
    bench.flusher.begin_epoch("ledger_ahead")
    bench.turn(finishing=True)

    check(bench, {0, 1, 2}, lost=5)


def check(bench: Bench, exchanges: set[int], *, lost: int) -> None:
    """The oracle: everything that was appended is in the spool or acknowledged, once, and the numbers have no hole."""
    on_disk = [leaf for batch in bench.spool.batches(None, 1000) for leaf in leaves_of(batch)]
    assert on_disk == bench.ledger.leaves()
    assert list(range(on_disk[0].seq, on_disk[0].seq + len(on_disk))) == [leaf.seq for leaf in on_disk]
    assert len({leaf.epoch for leaf in on_disk}) == 1
    assert len({leaf.commitment for leaf in on_disk}) == len(on_disk)
    assert lost == sum(leaf.lost for leaf in on_disk)
    assert on_disk[-1].kind == LeafKind.EPOCH_END
    assert bench.flusher.waiting == len(on_disk)
    for n in exchanges:
        (kept,) = find_openings(bench.spool.path, audit_entry(n).exchange)
        waiting = [leaf for leaf in on_disk if (leaf.epoch, leaf.seq) == (kept.epoch, kept.seq)]
        assert (kept.index is None) == bool(waiting)
        assert all(kept.opening.commitment == leaf.commitment for leaf in waiting)
