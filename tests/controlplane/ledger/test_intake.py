"""§3.9: each producer's leaves once and in order, duplicates recognised in all three places, memory bounded."""

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.ledger.index import Placed, ProducerKey
from controlplane.ledger.intake import MIN_CREDIT, GapError, Intake, NotOwnerError, Producer, RewrittenError
from ledger.rfc6962 import leaf_hash
from tests.fakes.ledger_producers import OTHER, PRODUCER, leaf

KEY = ProducerKey(PRODUCER, 1)


@dataclass
class Memory:
    """What the log knows."""

    seqs: dict[ProducerKey, int] = field(default_factory=dict)
    owners: dict[bytes, str] = field(default_factory=dict)

    async def next_seq(self, key: ProducerKey) -> int:
        await asyncio.sleep(0)
        return self.seqs.get(key, 0)

    async def owner(self, producer_id: bytes) -> str:
        await asyncio.sleep(0)
        return self.owners.get(producer_id, "")


@dataclass(eq=False)
class Told:
    """A stream that only remembers."""

    placed: list[Placed] = field(default_factory=list)
    is_superseded: bool = False
    has_failed: bool = False

    def acknowledge(self, placed: Placed, tree_size: int) -> None:
        self.placed.append(placed)

    def supersede(self) -> None:
        self.is_superseded = True

    def fail(self) -> None:
        self.has_failed = True


def offer(intake: Intake, producer: Producer, first_seq: int, count: int, content: int = 0) -> int:
    leaves = [
        leaf(seq, producer_id=producer.key.producer_id, content=content) for seq in range(first_seq, first_seq + count)
    ]
    return intake.offer(producer, first_seq, leaves, [leaf_hash(one) for one in leaves])


def sequence(intake: Intake, first_index: int = 0) -> int:
    """Publish what is in the pool; the size of the tree after it."""
    taken = intake.take()
    for one in taken:
        intake.placed(one, first_index, 1000)
        first_index += len(one.run.entries)
    return first_index


async def test_leaves_of_one_producer_stand_together_and_are_acknowledged_together() -> None:
    intake, told = Intake(Memory()), Told()
    one, other = await intake.attach(KEY, "", told), await intake.attach(ProducerKey(OTHER, 1), "", Told())

    for first in (0, 10, 20):
        offer(intake, one, first, 10)
        offer(intake, other, first, 10)

    assert sequence(intake, 100) == 160
    assert told.placed == [Placed(0, 30, 100)]


async def test_gap_is_refused_and_names_the_number_that_is_expected() -> None:
    intake = Intake(Memory({KEY: 5}))
    producer = await intake.attach(KEY, "", Told())

    with pytest.raises(GapError, match="expected seq 5"):
        offer(intake, producer, 6, 1)
    offer(intake, producer, 5, 2)
    with pytest.raises(GapError, match="expected seq 7"):
        offer(intake, producer, 8, 1)


async def test_leaf_that_comes_again_is_taken_once_wherever_it_is() -> None:
    intake, told = Intake(Memory({KEY: 3})), Told()
    producer = await intake.attach(KEY, "", told)

    assert offer(intake, producer, 0, 5) == 3, "the first three are in the log"
    assert offer(intake, producer, 3, 2) == 0, "in the pool"
    taken = intake.take()
    assert offer(intake, producer, 3, 4) == 0, "two are being sequenced, two are new"
    assert offer(intake, producer, 4, 3) == 0
    intake.placed(taken[0], 50, 100)
    assert offer(intake, producer, 0, 7) == 5
    sequence(intake, 60)

    assert told.placed == [Placed(3, 2, 50), Placed(5, 2, 60)]


async def test_leaf_that_comes_again_with_another_content_is_refused() -> None:
    intake = Intake(Memory())
    producer = await intake.attach(KEY, "", Told())
    offer(intake, producer, 0, 4)
    with pytest.raises(RewrittenError, match="seq 1"):
        offer(intake, producer, 1, 3, content=9)
    intake.take()
    offer(intake, producer, 4, 2)

    with pytest.raises(RewrittenError, match="seq 1"):
        offer(intake, producer, 1, 3, content=9)
    with pytest.raises(RewrittenError, match="seq 4"):
        offer(intake, producer, 4, 5, content=9)
    assert intake.leaves == 2


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12), st.booleans(), st.booleans()), max_size=12))
def test_every_leaf_enters_the_log_once_and_in_order_however_often_it_is_sent(
    sends: list[tuple[int, int, bool, bool]],
) -> None:
    async def life() -> None:
        memory, log = Memory(), list[bytes]()
        intake = Intake(memory)
        producer = await intake.attach(KEY, "", Told())
        for first, count, publish, reconnect in sends:
            offer(intake, producer, min(first, producer.next_seq), count)
            if publish:
                for one in intake.take():
                    log += one.run.entries
                    memory.seqs[KEY] = one.run.first_seq + len(one.run.entries)
                    intake.placed(one, 0, 0)
            if reconnect:
                producer = await intake.attach(KEY, "", Told())
        for one in intake.take():
            log += one.run.entries
        assert log == [leaf(seq) for seq in range(len(log))]

    asyncio.run(life())


# --- who speaks for a producer ---


async def test_newer_stream_takes_over_with_everything_that_is_on_its_way() -> None:
    intake, old, new = Intake(Memory()), Told(), Told()
    producer = await intake.attach(KEY, "peer", old)
    offer(intake, producer, 0, 5)

    assert await intake.attach(KEY, "peer", new) is producer
    intake.detach(producer, old)
    sequence(intake)

    assert old.is_superseded
    assert (old.placed, new.placed) == ([], [Placed(0, 5, 0)])


async def test_leaves_outlive_the_stream_that_brought_them() -> None:
    memory, old, new = Memory(), Told(), Told()
    intake = Intake(memory)
    producer = await intake.attach(KEY, "", old)
    offer(intake, producer, 0, 5)
    intake.detach(producer, old)

    again = await intake.attach(KEY, "", new)
    assert again.next_seq == 5
    sequence(intake)

    assert new.placed == [Placed(0, 5, 0)]


async def test_producer_id_of_another_peer_cannot_be_used() -> None:
    # Leaves are public: without this anybody could number a leaf of his own in the place of the next real one.
    intake = Intake(Memory(owners={OTHER: "spiffe://local/sidecar/victim"}))

    with pytest.raises(NotOwnerError):
        await intake.attach(ProducerKey(OTHER, 1), "spiffe://local/sidecar/mallory", Told())
    await intake.attach(ProducerKey(OTHER, 1), "spiffe://local/sidecar/victim", Told())
    await intake.attach(KEY, "spiffe://local/sidecar/one", Told())
    with pytest.raises(NotOwnerError):
        await intake.attach(KEY, "spiffe://local/sidecar/two", Told())


async def test_two_streams_that_come_at_once_share_one_state() -> None:
    intake = Intake(Memory({KEY: 7}))

    one, two = await asyncio.gather(intake.attach(KEY, "", Told()), intake.attach(KEY, "", Told()))

    assert one is two
    assert intake.streams == 1


# --- bounds ---


async def test_full_pool_makes_readers_wait_until_it_is_emptied() -> None:
    for intake in (Intake(Memory(), max_leaves=4096), Intake(Memory(), max_bytes=4096 * 96)):
        producer = await intake.attach(KEY, "", Told())
        offer(intake, producer, 0, 4095)
        await intake.room()
        offer(intake, producer, 4095, 1)
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(intake.room())
            await asyncio.sleep(0)
            assert not reader.done()
            intake.take()


async def test_state_of_a_producer_is_dropped_when_nobody_needs_it() -> None:
    intake = Intake(Memory())
    for number in range(100):
        told = Told()
        producer = await intake.attach(ProducerKey(PRODUCER, number), "", told)
        offer(intake, producer, 0, 1)
        sequence(intake)
        intake.detach(producer, told)

    assert len(intake._producers) == 0
    assert intake.streams == 0


async def test_credit_is_a_share_of_the_pool_and_never_nothing() -> None:
    intake = Intake(Memory(), max_leaves=20_000, max_credit=16_384)
    seen = []
    for number in range(6):
        await intake.attach(ProducerKey(PRODUCER, number), "", Told())
        seen.append(intake.credit)

    assert seen == [16_384, 10_000, 6666, 5000, MIN_CREDIT, MIN_CREDIT]


async def test_failure_of_the_node_is_told_to_everybody() -> None:
    intake, told = Intake(Memory()), Told()
    await intake.attach(KEY, "", told)

    intake.fail()

    assert told.has_failed
    assert intake.closing.is_set()
