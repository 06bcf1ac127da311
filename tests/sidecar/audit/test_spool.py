"""The spool on disk: what survives, what is forgotten, what is erased."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.leaf import PACKED_SIZE, parse_leaf
from policies.model import UnixNanos
from sidecar.audit.errors import SpoolBusyError, SpoolError
from sidecar.audit.leaves import Group, LeafWriter, Previous
from sidecar.audit.openings import find_openings, latest_openings, spools
from sidecar.audit.spool import Batch, Placement, Spool, erase_openings, open_spool
from tests.fakes.entries import BEGAN, audit_entry

NOW_US = BEGAN // 1000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit" / "worker-0.spool"


@pytest.fixture
def spool(path: Path) -> Iterator[Spool]:
    spool = opened(path)
    yield spool
    spool.close()


def opened(path: Path) -> Spool:
    return open_spool(path, entropy=os.urandom, now_us=NOW_US)


def writer(spool: Spool, epoch: int = 1) -> LeafWriter:
    return LeafWriter(spool.producer_id, epoch, build="test", entropy=os.urandom)


def group_of(ours: LeafWriter, *numbers: int) -> Group:
    return ours.group([audit_entry(n) for n in numbers])


def commit(spool: Spool, group: Group) -> Batch:
    batch = spool.commit(group, now_us=NOW_US, durable_through=None, placements=[])
    assert batch is not None
    return batch


def forget(spool: Spool, batch: Batch, *placements: Placement) -> None:
    spool.commit(None, now_us=NOW_US, durable_through=batch.id, placements=placements)


def seqs(batches: list[Batch]) -> list[tuple[int, int]]:
    """(epoch, seq) of every leaf, as the leaves themselves say."""
    found = []
    for batch in batches:
        for start in range(0, len(batch.packed), PACKED_SIZE):
            leaf = parse_leaf(batch.packed[start + 2 : start + PACKED_SIZE])
            found.append((leaf.epoch, leaf.seq))
    assert sum(batch.count for batch in batches) == len(found)
    return found


def test_a_committed_group_survives_with_its_producer_and_its_numbers(path: Path) -> None:
    spool = opened(path)
    ours = writer(spool)
    commit(spool, group_of(ours, 0, 1))
    commit(spool, group_of(ours, 2))
    producer_id = spool.producer_id
    spool.close()

    again = opened(path)

    assert producer_id == again.producer_id
    assert len(producer_id) == 16
    assert seqs(again.batches(None, 10)) == [(1, 0), (1, 1), (1, 2)]
    assert again.waiting() == 3
    assert Previous(1, 3, ended=False) == again.previous()
    assert again.next_seqs() == {1: 3}
    again.close()


def test_a_new_spool_has_another_producer_and_no_past(spool: Spool, tmp_path: Path) -> None:
    other = opened(tmp_path / "other.spool")

    assert spool.producer_id != other.producer_id
    assert Previous(0, 0, ended=True) == other.previous()
    other.close()


def test_an_epoch_that_said_its_last_word_is_remembered_as_ended(spool: Spool) -> None:
    ours = writer(spool)
    commit(spool, group_of(ours, 0))

    commit(spool, ours.end(UnixNanos(BEGAN)))

    assert Previous(1, 2, ended=True) == spool.previous()


def test_a_second_commit_of_one_group_changes_nothing(spool: Spool) -> None:
    """The first may have taken effect although it reported an error."""
    group = group_of(writer(spool), 0, 1)
    first = commit(spool, group)

    second = commit(spool, group)

    assert first == second
    assert spool.waiting() == 2
    assert len(find_openings(spool.path, audit_entry(0).exchange)) == 1


@pytest.mark.parametrize("skipped", [-1, 1])
def test_a_group_that_does_not_follow_the_last_one_is_refused(spool: Spool, skipped: int) -> None:
    ours = writer(spool)
    commit(spool, group_of(ours, 0, 1))
    ours.next_seq += skipped

    with pytest.raises(SpoolError, match="should have seq 2"):
        commit(spool, group_of(ours, 2))

    assert spool.waiting() == 2


def test_durable_leaves_are_forgotten_and_their_openings_kept(spool: Spool) -> None:
    ours = writer(spool)
    first = commit(spool, group_of(ours, 0, 1))
    commit(spool, group_of(ours, 2))

    forget(spool, first, Placement(1, 0, 2, 100, "log", 200))

    assert seqs(spool.batches(None, 10)) == [(1, 2)]
    (kept,) = find_openings(spool.path, audit_entry(1).exchange)
    assert (spool.producer_id, 1, 1, 101, "log", 200) == (
        *(kept.producer_id, kept.epoch, kept.seq, kept.index, kept.origin, kept.tree_size),
    )
    (pending,) = find_openings(spool.path, audit_entry(2).exchange)
    assert (pending.index, pending.origin, pending.tree_size) == (None, None, None)


def test_batch_ids_are_never_used_twice(spool: Spool) -> None:
    """Or an old acknowledgement would delete new leaves."""
    ours = writer(spool)
    first = commit(spool, group_of(ours, 0))
    forget(spool, first)

    second = commit(spool, group_of(ours, 1))

    assert second.id > first.id
    forget(spool, first)
    assert spool.waiting() == 1


def test_consecutive_placements_are_one(spool: Spool) -> None:
    for first_seq, first_index in [(0, 10), (3, 13), (6, 50), (9, 53)]:
        spool.commit(
            None, now_us=NOW_US, durable_through=None, placements=[Placement(1, first_seq, 3, first_index, "log", 99)]
        )

    with sqlite3.connect(spool.path) as connection:
        rows = connection.execute("SELECT first_seq, count, first_index FROM placements").fetchall()
    connection.close()
    assert rows == [(0, 6, 10), (6, 6, 50)]


def test_everything_that_waits_moves_to_a_new_epoch_in_its_order(spool: Spool) -> None:
    old, ours = writer(spool, 1), writer(spool, 2)
    first = commit(spool, group_of(old, 0, 1))
    commit(spool, group_of(old, 2, 3))
    commit(spool, group_of(ours, 4))
    forget(spool, first, Placement(1, 0, 2, 0, "log", 2))

    start = writer(spool, 9).start(Previous(2, 1, ended=True), "ledger_behind", UnixNanos(BEGAN))
    spool.begin_again(start, now_us=NOW_US)

    assert seqs(spool.batches(None, 10)) == [(9, 0), (9, 1), (9, 2), (9, 3)]
    assert spool.next_seqs() == {9: 4}
    spool.commit(None, now_us=NOW_US, durable_through=None, placements=[Placement(9, 0, 4, 50, "log", 54)])
    indices = {n: find_openings(spool.path, audit_entry(n).exchange)[0].index for n in range(5)}
    assert indices == {0: 0, 1: 1, 2: 51, 3: 52, 4: 53}


def test_an_epoch_end_that_waited_ends_the_new_epoch(spool: Spool) -> None:
    ours = writer(spool, 1)
    commit(spool, group_of(ours, 0))
    commit(spool, ours.end(UnixNanos(BEGAN)))

    spool.begin_again(writer(spool, 2).start(spool.previous(), "ledger_ahead", UnixNanos(BEGAN)), now_us=NOW_US)

    assert Previous(2, 3, ended=True) == spool.previous()


def test_a_new_epoch_can_begin_with_nothing_that_waits(spool: Spool) -> None:
    ours = writer(spool, 1)
    forget(spool, commit(spool, ours.end(UnixNanos(BEGAN))))

    spool.begin_again(writer(spool, 2).start(spool.previous(), "ledger_behind", UnixNanos(BEGAN)), now_us=NOW_US)

    assert seqs(spool.batches(None, 10)) == [(2, 0)]
    assert Previous(2, 1, ended=False) == spool.previous()


def test_the_oldest_openings_go_first_by_number_and_by_age(spool: Spool) -> None:
    ours = writer(spool)
    for n in range(0, 100, 10):
        commit(spool, group_of(ours, *range(n, n + 10)))

    assert spool.keep_openings(at_most=60, since_us=0) == (False, 60)
    assert not find_openings(spool.path, audit_entry(39).exchange)
    assert find_openings(spool.path, audit_entry(40).exchange)

    young = audit_entry(90).ended_at // 1000
    assert spool.keep_openings(at_most=60, since_us=young) == (False, 10)
    assert not find_openings(spool.path, audit_entry(89).exchange)
    assert find_openings(spool.path, audit_entry(90).exchange)

    assert spool.keep_openings(at_most=60, since_us=young * 2) == (False, 0)
    assert spool.keep_openings(at_most=60, since_us=0) == (False, 0)
    assert spool.waiting() == 100


def test_many_openings_are_deleted_a_few_thousand_at_a_time(spool: Spool) -> None:
    ours = writer(spool)
    for n in range(0, 6000, 500):
        commit(spool, group_of(ours, *range(n, n + 500)))

    assert spool.keep_openings(at_most=600, since_us=0) == (True, 1000)
    assert spool.keep_openings(at_most=600, since_us=0) == (False, 500), "whole batches only, and never more"


@pytest.mark.parametrize("number", [0, 7, 19])
def test_an_erased_opening_is_nowhere_on_disk(path: Path, number: int) -> None:
    """GDPR Art. 17. The salt alone would allow guesses to be tested."""
    spool = opened(path)
    ours = writer(spool)
    group = group_of(ours, *range(20))
    commit(spool, group)
    salts = [group.openings.salts[n : n + 32] for n in range(0, 640, 32)]
    erased, other = audit_entry(number), audit_entry(8)

    def on_disk(secret: bytes) -> list[str]:
        return [file.name for file in path.parent.iterdir() if secret in file.read_bytes()]

    assert on_disk(salts[number])
    assert on_disk(erased.request_digest)
    assert erase_openings(path, erased.exchange) == 1
    for secret in (salts[number], erased.request_digest, erased.response_digest, erased.exchange.encode()):
        assert on_disk(secret) == []
    assert find_openings(path, erased.exchange) == []
    for secret in (salts[8], other.request_digest, other.exchange.encode()):
        assert on_disk(secret)
    (kept,) = find_openings(path, other.exchange)
    leaf = parse_leaf(group.packed[8 * PACKED_SIZE + 2 : 9 * PACKED_SIZE])
    assert kept.opening.commitment == leaf.commitment
    assert erase_openings(path, erased.exchange) == 0
    assert erase_openings(path, "") == 0
    spool.close()


def test_erasing_never_makes_a_spool(tmp_path: Path) -> None:
    with pytest.raises(SpoolError):
        erase_openings(tmp_path / "none.spool", "x")

    assert list(tmp_path.iterdir()) == []


def test_a_second_process_is_kept_out(spool: Spool) -> None:
    with pytest.raises(SpoolBusyError, match="in use"):
        opened(spool.path)


def test_only_the_owner_may_read_it(spool: Spool) -> None:
    commit(spool, group_of(writer(spool), 0))

    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in spool.path.parent.iterdir()}

    assert {0o600} == set(modes.values())
    assert stat.S_IMODE(spool.path.parent.stat().st_mode) == 0o700


def test_a_damaged_file_is_set_aside_and_never_deleted(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database, but evidence" * 100)

    spool = opened(path)

    assert Previous(0, 0, ended=True) == spool.previous()
    (kept,) = path.parent.glob("*.broken-*")
    assert kept.read_bytes().startswith(b"not a database")
    spool.close()


def test_a_spool_of_a_later_version_is_refused(path: Path) -> None:
    opened(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()

    with pytest.raises(SpoolError, match="version 99"):
        opened(path)
    with pytest.raises(SpoolError, match="version 99"):  # the lock was given back
        opened(path)


def test_a_directory_that_cannot_be_made_is_a_spool_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SpoolError, match="cannot open"):
        opened(tmp_path / "file" / "x.spool")


def test_a_full_disk_is_a_spool_error_and_costs_nothing(spool: Spool) -> None:
    ours = writer(spool)
    commit(spool, group_of(ours, 0))
    spool._connection.execute("PRAGMA max_page_count = 20")
    group = group_of(ours, *range(1, 400))

    with pytest.raises(SpoolError, match="full"):
        commit(spool, group)

    assert spool.waiting() == 1
    spool._connection.execute("PRAGMA max_page_count = 10000")
    assert commit(spool, group).count == 399


def test_openings_are_listed_newest_first_over_all_workers(tmp_path: Path) -> None:
    for worker, numbers in enumerate([(0, 3), (1, 2)]):
        spool = opened(tmp_path / f"worker-{worker}.spool")
        commit(spool, group_of(writer(spool), *numbers))
        spool.close()

    found = latest_openings(tmp_path, 3)

    assert [audit_entry(n).exchange for n in (3, 2, 1)] == [kept.exchange for kept in found]


def test_where_there_is_no_spool_is_an_error(tmp_path: Path) -> None:
    for where in (tmp_path, tmp_path / "none.spool"):
        with pytest.raises(SpoolError, match="no audit spool"):
            spools(where)
    (tmp_path / "bad.spool").write_bytes(b"garbage" * 1000)
    with pytest.raises(SpoolError, match="cannot read"):
        find_openings(tmp_path, "x")
