"""The producer index: a cache of the log that can be lost, and never contradicts it."""

import sqlite3
from pathlib import Path

import pytest

from controlplane.ledger.errors import DamagedLogError, FatalError
from controlplane.ledger.index import Placed, ProducerIndex, ProducerKey, Recorded
from controlplane.ledger.intake import RewrittenError
from controlplane.ledger.records import Records
from ledger.rfc6962 import leaf_hash
from tests.controlplane.ledger.logs import ORIGIN, load, new_storage, packed
from tests.fakes.ledger_producers import OTHER, PRODUCER, leaf
from tests.fakes.ledger_storage import MemoryStorage

KEY, SECOND = ProducerKey(PRODUCER, 1), ProducerKey(OTHER, 7)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.sqlite3"


def test_what_was_recorded_is_found_after_reopening(path: Path) -> None:
    index = ProducerIndex(path, ORIGIN)
    index.record([Recorded(KEY, "peer", Placed(0, 10, 100)), Recorded(SECOND, "", Placed(0, 5, 110))], 115)
    index.record([Recorded(KEY, "other peer", Placed(10, 10, 200))], 210)
    index.collected = 77
    index.close()

    index = ProducerIndex(path, ORIGIN)

    assert (index.size, index.collected) == (210, 77)
    assert (index.next_seq(KEY), index.next_seq(SECOND), index.next_seq(ProducerKey(PRODUCER, 2))) == (20, 5, 0)
    assert (index.owner(PRODUCER), index.owner(OTHER)) == ("peer", "")
    assert index.placed(KEY, 8, 12) == [Placed(8, 2, 108), Placed(10, 2, 200)]
    assert index.placed(KEY, 20, 30) == []
    index.close()


def test_runs_of_a_lone_producer_grow_instead_of_becoming_many(path: Path) -> None:
    index = ProducerIndex(path, ORIGIN)
    for first in range(0, 100, 10):
        index.record([Recorded(KEY, "", Placed(first, 10, first))], first + 10)
    index.close()

    rows = sqlite3.connect(path).execute("SELECT count(*) FROM runs").fetchone()

    assert rows == (1,)


@pytest.mark.parametrize("spoil", ["origin", "version", "bytes", "text"])
def test_index_of_another_log_or_version_or_damaged_is_begun_anew(path: Path, spoil: str) -> None:
    index = ProducerIndex(path, ORIGIN if spoil != "origin" else "forest.example/other")
    index.record([Recorded(KEY, "", Placed(0, 10, 0))], 10)
    index.close()
    match spoil:
        case "version":
            with sqlite3.connect(path) as db:
                db.execute("UPDATE meta SET value = 99 WHERE key = 'version'")
            db.close()
        case "bytes":
            path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 4096)
        case "text":
            path.write_text("this is not a database, but long enough to be looked at " * 100)
        case _:
            pass

    index = ProducerIndex(path, ORIGIN)

    assert (index.size, index.next_seq(KEY)) == (0, 0)
    index.close()


async def grown(storage: MemoryStorage, *leaves: bytes) -> int:
    log = await load(storage)
    first = await log.append(*packed(leaves))
    await log.publish()
    return first


async def test_lost_index_is_rebuilt_from_the_log(path: Path) -> None:
    storage = new_storage()
    await grown(storage, *[leaf(seq) for seq in range(600)])
    await grown(storage, *[leaf(seq, producer_id=OTHER, epoch=7) for seq in range(3)], b"no leaf", leaf(600))
    records = Records(ProducerIndex(path, ORIGIN), storage)

    await records.catch_up(605)

    assert (await records.next_seq(KEY), await records.next_seq(SECOND)) == (601, 3)
    hashes = [leaf_hash(leaf(seq)) for seq in range(598, 601)]
    assert await records.placed(KEY, 598, hashes, 605) == [Placed(598, 2, 598), Placed(600, 1, 604)]
    records.close()


async def test_index_that_is_behind_reads_only_the_rest(path: Path) -> None:
    storage = new_storage()
    await grown(storage, *[leaf(seq) for seq in range(300)])
    records = Records(ProducerIndex(path, ORIGIN), storage)
    await records.catch_up(300)
    await grown(storage, *[leaf(seq) for seq in range(300, 700)])
    del storage.objects["tile/entries/000"]

    await records.catch_up(700)

    assert await records.next_seq(KEY) == 700
    records.close()


async def test_leaf_that_comes_again_with_another_content_is_told_from_the_recorded_one(path: Path) -> None:
    storage = new_storage()
    await grown(storage, *[leaf(seq) for seq in range(300)])
    records = Records(ProducerIndex(path, ORIGIN), storage)
    await records.catch_up(300)
    hashes = [leaf_hash(leaf(seq)) for seq in range(254, 259)]
    assert await records.placed(KEY, 254, hashes, 300) == [Placed(254, 5, 254)]

    hashes[3] = leaf_hash(leaf(257, content=1))

    with pytest.raises(RewrittenError, match="seq 257"):
        await records.placed(KEY, 254, hashes, 300)
    records.close()


async def test_log_shorter_than_what_was_acknowledged_was_rolled_back(path: Path) -> None:
    # I9, as far as one machine can tell: a backup of the log was restored, its index was not.
    storage = new_storage()
    records = Records(ProducerIndex(path, ORIGIN), storage)
    await records.record([Recorded(KEY, "", Placed(0, 10, 0))], 10)

    with pytest.raises(DamagedLogError, match="backup"):
        await records.catch_up(9)
    records.close()


async def test_missing_or_malformed_entries_stop_the_rebuilding(path: Path) -> None:
    storage = new_storage()
    await grown(storage, leaf(0), leaf(1))
    records = Records(ProducerIndex(path, ORIGIN), storage)
    storage.objects["tile/entries/000.p/2"] += b"x"
    with pytest.raises(DamagedLogError, match=r"tile/entries/000\.p/2"):
        await records.catch_up(2)
    del storage.objects["tile/entries/000.p/2"]
    with pytest.raises(DamagedLogError, match="missing"):
        await records.catch_up(2)
    await records.record([Recorded(KEY, "", Placed(0, 2, 0))], 2)
    storage.objects["tile/0/000.p/2"] += b"x"
    with pytest.raises(DamagedLogError, match="65"):
        await records.placed(KEY, 0, [b""], 2)
    del storage.objects["tile/0/000.p/2"]
    with pytest.raises(DamagedLogError, match="missing"):
        await records.placed(KEY, 0, [b""], 2)
    records.close()


async def test_index_that_cannot_be_written_stops_the_node(path: Path) -> None:
    records = Records(ProducerIndex(path, ORIGIN), new_storage())
    with sqlite3.connect(path) as other:
        other.execute("DROP TABLE runs")
    other.close()

    with pytest.raises(FatalError, match="index"):
        await records.record([Recorded(KEY, "", Placed(0, 2, 0))], 2)
    records.close()
