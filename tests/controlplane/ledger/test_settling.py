"""Step 7: growths become durable in their places after a while, or when too much would have to be replayed."""

import asyncio

import pytest

from controlplane.ledger.errors import LostWritesError
from controlplane.ledger.partials import PartialTiles
from controlplane.ledger.settling import Settling
from tests.controlplane.ledger.logs import load, new_storage, numbered, packed
from tests.controlplane.ledger.test_partials import Memory
from tests.fakes.ledger_storage import FailingStorage, Failure, MemoryStorage

pytestmark = pytest.mark.looptime


async def staged(storage: MemoryStorage) -> int:
    return len(await storage.keys(".state/staging/"))


async def test_growths_are_settled_at_intervals_or_when_there_are_too_many_bytes() -> None:
    storage = new_storage()
    log = await load(storage)
    settling = Settling(log, PartialTiles(storage, Memory()), every=5, max_bytes=20_000)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(settling.run())
        for count in (10, 10):
            await log.append(*packed(numbered(log.size, count)))
            await log.publish()
            settling.published(log.size)
        await asyncio.sleep(4.9)
        assert await staged(storage) == 2
        await asyncio.sleep(0.2)
        assert await staged(storage) == 0

        await log.append(*packed(numbered(log.size, 1000)))
        await log.publish()
        settling.published(log.size)
        await asyncio.sleep(0.1)
        assert await staged(storage) == 0
        task.cancel()


async def test_storage_that_cannot_settle_is_asked_again() -> None:
    inner = new_storage()
    storage = FailingStorage(inner)
    log = await load(storage)
    await log.append(*packed(numbered(0, 10)))
    await log.publish()
    storage.plan[len(storage.log)] = Failure.REFUSED
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(Settling(log, PartialTiles(storage, Memory()), every=5, max_bytes=1000).run())
        await asyncio.sleep(6)
        assert await staged(inner) == 1
        await asyncio.sleep(5)
        assert await staged(inner) == 0
        task.cancel()


async def test_partial_tiles_that_are_full_go_with_the_settling() -> None:
    storage = new_storage()
    log = await load(storage)
    partials = PartialTiles(storage, Memory(), kept=1)
    settling = Settling(log, partials, every=5, max_bytes=10**9)
    for count in (100, 300):
        await log.append(*packed(numbered(log.size, count)))
        await log.publish()
        partials.published(log.size)
    assert await storage.keys("tile/0/000.p/")

    await settling.settle()

    assert not await storage.keys("tile/0/000.p/")


async def test_lost_writes_end_the_node() -> None:
    storage = new_storage()
    log = await load(storage)
    await log.append(*packed(numbered(0, 10)))
    await log.publish()

    async def lose() -> None:
        raise LostWritesError("syncing failed")

    storage.settle = lose  # type: ignore[method-assign] # a disk that dies
    with pytest.raises(LostWritesError):
        await Settling(log, PartialTiles(storage, Memory()), every=5, max_bytes=1000).run()
    with pytest.raises(LostWritesError):
        await log.append(*packed(numbered(10, 1)))
