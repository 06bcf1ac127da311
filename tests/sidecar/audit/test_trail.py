"""What the data path leaves for the thread: leaves that were made on the way, and the entries after them."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.leaf import PACKED_SIZE, LeafKind, parse_leaf
from observability.metrics import Registry
from sidecar.audit.flusher import Flusher, TrailLimits
from sidecar.audit.leaves import AT_ONCE, Sealed
from sidecar.audit.openings import latest_openings
from sidecar.audit.spool import Spool, open_spool
from sidecar.audit.trail import Trail
from tests.fakes.entries import audit_entry
from tests.sidecar.audit.test_flusher import Ledger, hasty


class Bench:
    """A trail whose thread is the test."""

    def __init__(self, path: Path, **limits: Any) -> None:
        self.spool = hasty(open_spool(path, entropy=os.urandom, now_us=0))
        self.limits = TrailLimits(**limits)
        self.flusher = Flusher(
            self.spool, Ledger(), Registry(), self.limits, build="", clock=time.time_ns, entropy=os.urandom
        )
        self.trail = Trail(self.flusher, Registry(), self.limits)
        self.flusher.begin()
        self.flusher.turn(self.queue, finishing=False)

    @property
    def queue(self) -> Any:
        return self.trail._queue

    def append(self, *numbers: int) -> None:
        for n in numbers:
            self.trail.append(audit_entry(n))

    def spooled(self) -> list[str]:
        """The exchanges of all openings, in the order of their numbers; checks that those have no hole."""
        leaves = leaves_of(self.spool)
        assert [leaf.seq for leaf in leaves] == list(range(len(leaves)))
        kept = sorted(latest_openings(self.spool.path, 10**6), key=lambda one: one.seq)
        commitments = [leaf.commitment for leaf in leaves if leaf.kind == LeafKind.EXCHANGE]
        assert commitments == [one.opening.commitment for one in kept]
        return [one.exchange for one in kept]


def leaves_of(spool: Spool) -> list[Any]:
    packed = b"".join(batch.packed for batch in spool.batches(None, 10**6))
    return [parse_leaf(packed[at + 2 : at + PACKED_SIZE]) for at in range(0, len(packed), PACKED_SIZE)]


def names_of(*numbers: int) -> list[str]:
    return [audit_entry(n).exchange for n in numbers]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "worker-0.spool")
    yield bench
    bench.flusher.close()


def test_what_has_gathered_becomes_leaves_on_the_data_path(bench: Bench) -> None:
    bench.append(*range(2 * AT_ONCE + 3))

    assert [type(item) is Sealed for item in bench.queue] == [True, True, False, False, False]
    assert bench.trail.queued == 2 * AT_ONCE + 3

    bench.flusher.turn(bench.queue, finishing=False)

    assert bench.trail.queued == 0
    assert bench.spooled() == names_of(*range(2 * AT_ONCE + 3))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(steps=st.lists(st.integers(1, 40) | st.none(), max_size=12))
def test_the_order_is_kept_whenever_the_thread_takes_its_turn(tmp_path: Path, steps: list[int | None]) -> None:
    bench, appended = Bench(tmp_path / f"{os.urandom(8).hex()}.spool"), 0
    for step in steps:
        if step is None:
            bench.flusher.turn(bench.queue, finishing=False)
        else:
            bench.append(*range(appended, appended + step))
            appended += step
    bench.trail.finish()
    bench.flusher.turn(bench.queue, finishing=True)

    assert bench.spooled() == names_of(*range(appended))
    assert bench.trail.queued == 0
    bench.flusher.close()


@pytest.mark.parametrize("taken", [1, AT_ONCE - 1])
def test_what_the_thread_takes_while_leaves_are_made_comes_before_them(bench: Bench, taken: int) -> None:
    bench.append(*range(AT_ONCE - 1))
    thread = [bench.queue.popleft() for _ in range(taken)]
    bench.append(AT_ONCE - 1)

    (sealed,) = bench.queue
    assert sealed.leaves == AT_ONCE - taken
    assert sealed.openings.last_exchange == audit_entry(AT_ONCE - 1).exchange
    assert [entry.exchange for entry in thread] == names_of(*range(taken))


def test_the_bound_is_in_entries_whatever_form_they_have(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "worker-0.spool", max_queued=3 * AT_ONCE)

    bench.append(*range(3 * AT_ONCE + 5))

    assert bench.trail.queued == 3 * AT_ONCE
    assert not bench.trail.accepting
    bench.flusher.turn(bench.queue, finishing=False)
    assert bench.trail.accepting
    bench.trail.finish()
    bench.flusher.turn(bench.queue, finishing=True)
    assert [leaf.lost for leaf in leaves_of(bench.spool) if leaf.kind == LeafKind.GAP] == [5]
    bench.flusher.close()


def test_a_bug_while_making_leaves_never_reaches_the_data_path_and_costs_no_entry(bench: Bench) -> None:
    bench.append(*range(AT_ONCE - 1))
    broken: Any = audit_entry(AT_ONCE - 1)._replace(findings=object())  # type: ignore[arg-type]

    bench.trail.append(broken)

    assert [entry.exchange for entry in bench.queue] == names_of(*range(AT_ONCE))
    with pytest.raises(TypeError):
        bench.flusher.turn(bench.queue, finishing=False)
    assert bench.trail.queued == AT_ONCE
