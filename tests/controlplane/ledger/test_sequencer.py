"""The sequencer: nothing is acknowledged before it is published and known, whatever storage does meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from controlplane.ledger.errors import FatalError
from controlplane.ledger.index import Placed, ProducerKey, Recorded
from controlplane.ledger.intake import Intake
from controlplane.ledger.log import Log
from controlplane.ledger.sequencer import Sequencer
from ledger.rfc6962 import leaf_hash
from observability import names
from observability.metrics import Registry
from tests.controlplane.ledger.logs import FAST, NOW, check, new_storage, packed
from tests.fakes.ledger_producers import OTHER, PRODUCER, leaf
from tests.fakes.ledger_storage import FailingStorage, Failure, MemoryStorage

pytestmark = pytest.mark.looptime


@dataclass
class Memory:
    """An index in memory."""

    runs: list[Recorded] = field(default_factory=list)

    async def next_seq(self, key: ProducerKey) -> int:
        return max((run.placed.end_seq for run in self.runs if run.key == key), default=0)

    async def owner(self, producer_id: bytes) -> str:
        return ""

    async def record(self, runs: list[Recorded], size: int) -> None:
        self.runs += runs


class Producing:
    """A producer that sends numbered leaves and checks every acknowledgement against storage, the moment it comes."""

    def __init__(self, intake: Intake, inner: MemoryStorage, memory: Memory, producer_id: bytes = PRODUCER) -> None:
        self.key = ProducerKey(producer_id, 1)
        self.acknowledged: dict[int, bytes] = {}
        self.has_failed = False
        self._intake, self._inner, self._memory = intake, inner, memory
        self._more = asyncio.Event()

    async def send(self, count: int) -> None:
        producer = await self._intake.attach(self.key, "", self)
        first = producer.next_seq
        leaves = [leaf(seq, producer_id=self.key.producer_id) for seq in range(first, first + count)]
        self._intake.offer(producer, first, packed(leaves)[0], [leaf_hash(one) for one in leaves])

    async def until(self, count: int) -> None:
        while len(self.acknowledged) < count and not self.has_failed:
            self._more.clear()
            await self._more.wait()

    def acknowledge(self, placed: Placed, tree_size: int) -> None:
        for at in range(placed.length):
            self.acknowledged[placed.first_index + at] = leaf(placed.first_seq + at, producer_id=self.key.producer_id)
        assert check(self._inner, self.acknowledged) == tree_size, "I7: published before it is acknowledged"
        assert any(run.placed == placed for run in self._memory.runs), "known before it is acknowledged"
        self._more.set()

    def supersede(self) -> None:
        pass

    def fail(self) -> None:
        self.has_failed = True
        self._more.set()


@dataclass
class Running:
    inner: MemoryStorage
    storage: FailingStorage
    intake: Intake
    sequencer: Sequencer
    memory: Memory
    metrics: Registry
    task: "asyncio.Task[None]"
    published: list[int]
    now: list[int]

    def producer(self, producer_id: bytes = PRODUCER) -> Producing:
        return Producing(self.intake, self.inner, self.memory, producer_id)


@asynccontextmanager
async def running() -> AsyncIterator[Running]:
    inner, memory, metrics, now = new_storage(), Memory(), Registry(), [NOW]
    storage = FailingStorage(inner)
    log = await Log.load(storage, storage, FAST, lambda: now[0])
    intake, published = Intake(memory), list[int]()

    sequencer = Sequencer(log, intake, memory, [published.append], metrics, period=0.05)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(sequencer.run())
        yield Running(inner, storage, intake, sequencer, memory, metrics, task, published, now)
        intake.close()


async def test_leaves_of_several_producers_are_acknowledged_where_they_stand() -> None:
    async with running() as node:
        one, two = node.producer(), node.producer(OTHER)
        for _ in range(3):
            await one.send(10)
            await two.send(200)
            await one.until(len(one.acknowledged) + 1)

        await one.until(30)
        await two.until(600)

    assert check(node.inner, one.acknowledged | two.acknowledged) == 630
    assert node.metrics.counter(names.LEDGER_LEAVES).values() == {(): 630}
    assert node.published == sorted(node.inner.roots)[1:]


async def test_growths_start_no_sooner_than_the_period() -> None:
    loop = asyncio.get_running_loop()
    async with running() as node:
        producer, times = node.producer(), []
        for count in range(1, 5):
            await producer.send(1)
            await producer.until(count)
            times.append(loop.time())

    assert all(later - earlier >= 0.0499 for earlier, later in pairwise(times))


@pytest.mark.parametrize("failure", [Failure.REFUSED, Failure.APPLIED, Failure.PARTIAL])
@pytest.mark.parametrize("step", ["staging", "checkpoint"])
async def test_refused_step_is_tried_again_until_it_succeeds(step: str, failure: Failure) -> None:
    async with running() as node:
        producer, at = node.producer(), len(node.storage.log)
        first = at + (0 if step == "staging" else 3)
        node.storage.plan |= {first + again: failure for again in range(4)}
        await producer.send(300)
        await asyncio.sleep(0.1)
        assert node.sequencer.trouble
        assert not producer.acknowledged

        await producer.until(300)
        assert not node.sequencer.trouble

    assert check(node.inner, producer.acknowledged) == 300
    assert sum(node.metrics.counter(names.LEDGER_RETRIES).values().values()) == 4


async def test_clock_that_went_back_is_waited_for() -> None:
    async with running() as node:
        producer = node.producer()
        node.now[0] = NOW - 1
        await producer.send(1)
        await asyncio.sleep(1)
        assert "clock" in node.sequencer.trouble

        node.now[0] = NOW
        await producer.until(1)


async def test_fatal_failure_ends_the_sequencer_and_tells_every_producer() -> None:
    seen = list[Producing]()

    async def life() -> None:
        async with running() as node:
            seen.append(node.producer())
            node.storage.plan[len(node.storage.log) + 2] = Failure.REFUSED
            await seen[0].send(5)
            await seen[0].until(5)

    with pytest.raises(ExceptionGroup) as raised:
        await life()

    assert raised.group_contains(FatalError)
    assert seen[0].has_failed
    assert seen[0].acknowledged == {}


async def test_closing_sequences_what_is_in_the_pool_and_ends() -> None:
    async with running() as node:
        producer = node.producer()
        await producer.send(5)
        await producer.until(1)
        await producer.send(300)

        node.intake.close()
        await node.task

    assert len(producer.acknowledged) == 305
