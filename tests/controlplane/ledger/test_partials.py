"""tesseract#644: partial tiles go once the full ones are there, and never earlier."""

from dataclasses import dataclass

import pytest

from controlplane.ledger.partials import PartialTiles, filled_between
from ledger.tiles import Bundle, Tile
from tests.controlplane.ledger.logs import check, load, new_storage, numbered, packed
from tests.fakes.ledger_storage import FailingStorage, Failure, MemoryStorage


@dataclass
class Memory:
    size: int = 0

    async def collected(self) -> int:
        return self.size

    async def set_collected(self, size: int) -> None:
        self.size = size


async def grow(storage: MemoryStorage, partials: PartialTiles | None, *growths: int) -> None:
    log = await load(storage)
    for count in growths:
        await log.append(*packed(numbered(log.size, count)))
        await log.publish()
        if partials:
            partials.published(log.size)
            await partials.collect()


def partial(storage: MemoryStorage) -> set[str]:
    return {key for key in storage.objects if ".p/" in key}


async def test_partial_tiles_go_when_full_and_out_of_the_last_checkpoints() -> None:
    storage = new_storage()
    partials = PartialTiles(storage, Memory(), kept=2)
    await grow(storage, partials, 100, 100)
    before = partial(storage)
    await grow(storage, partials, 100)
    assert partial(storage) >= before, "a reader may still be at the checkpoint of 200 leaves"

    await grow(storage, partials, 10, 10)

    assert partial(storage) == {
        *("tile/0/001.p/44", "tile/0/001.p/54", "tile/0/001.p/64"),
        *("tile/entries/001.p/44", "tile/entries/001.p/54", "tile/entries/001.p/64"),
        "tile/1/000.p/1",
    }
    check(storage, {})


async def test_partial_tiles_of_higher_levels_go_as_well() -> None:
    storage = new_storage()
    partials = PartialTiles(storage, Memory(), kept=1)

    await grow(storage, partials, *[8192] * 9)

    assert {key for key in partial(storage) if key.startswith(("tile/1/", "tile/2/"))} == {
        "tile/1/001.p/32",
        "tile/2/000.p/1",
    }
    check(storage, {})


async def test_what_a_crashed_process_left_is_removed_at_the_start() -> None:
    storage = new_storage()
    await grow(storage, None, 100, 100, 100, 10)
    memory = Memory()
    partials = PartialTiles(storage, memory, kept=1)

    await partials.start(310)

    assert {key for key in partial(storage) if "/000.p/" in key} == {"tile/1/000.p/1"}
    assert memory.size == 310
    await grow(storage, partials, 300)
    assert not any("/001.p/" in key for key in partial(storage)), "those found at the start go too"
    check(storage, {})


async def test_progress_is_noted_when_something_went() -> None:
    storage, memory = new_storage(), Memory()

    await grow(storage, PartialTiles(storage, memory, kept=1), *[1] * 300)

    assert memory.size == 256


async def test_many_checkpoints_are_collected_at_once() -> None:
    storage = new_storage()
    partials = PartialTiles(storage, Memory(), kept=1)
    log = await load(storage)
    for _ in range(30):
        await log.append(*packed(numbered(log.size, 100)))
        await log.publish()
        partials.published(log.size)
    before = len(partial(storage))

    await partials.collect()

    assert before > 60
    assert {key for key in partial(storage) if not key.startswith("tile/1/")} == {
        *("tile/0/011.p/84", "tile/0/011.p/184"),
        *("tile/entries/011.p/84", "tile/entries/011.p/184"),
    }
    check(storage, {})


async def test_storage_that_cannot_delete_does_not_stop_the_log() -> None:
    storage = FailingStorage(new_storage())
    partials = PartialTiles(storage, Memory(), kept=1)
    await grow(storage.inner, partials, 200)
    storage.plan[len(storage.log)] = Failure.REFUSED

    await grow(storage.inner, partials, 100)

    assert "tile/0/000.p/200" in storage.inner.objects
    check(storage.inner, {})


@pytest.mark.parametrize(
    ("old", "new", "full"),
    [
        (0, 255, []),
        (255, 256, [Bundle(0), Tile(0, 0)]),
        (256, 511, []),
        (300, 800, [Bundle(1), Bundle(2), Tile(0, 1), Tile(0, 2)]),
        (65_535, 65_536, [Bundle(255), Tile(0, 255), Tile(1, 0)]),
    ],
)
def test_what_became_full_is_counted_at_every_level(old: int, new: int, full: list[Tile | Bundle]) -> None:
    assert filled_between(old, new) == full
