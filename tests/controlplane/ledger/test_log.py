"""The commit order and invariants I1 to I8, each against storage that fails in every way."""

import asyncio
from collections.abc import Callable

import pytest

from controlplane.ledger.errors import (
    ClockError,
    ConflictError,
    DamagedLogError,
    FatalError,
    NoLogError,
    StorageError,
)
from controlplane.ledger.log import Log
from controlplane.ledger.signed import Signers
from ledger.checkpoint import Checkpoint
from ledger.cosignature import signer
from ledger.staging import pack_staging, staged_size, unpack_staging
from tests.controlplane.ledger.logs import (
    ED25519,
    FAST,
    MLDSA,
    NOW,
    check,
    load,
    new_storage,
    numbered,
    packed,
)
from tests.fakes.ledger_storage import CRASHES, Crash, FailingStorage, Failure, MemoryStorage

GROWTHS = (5, 300, 1, 250)


async def grow_by(log: Log, count: int, acknowledged: dict[int, bytes]) -> None:
    """One batch, acknowledged only after publication."""
    entries = numbered(log.size, count)
    first = await log.append(*packed(entries))
    await log.publish()
    acknowledged |= dict(enumerate(entries, first))


async def grow_to(storage: MemoryStorage, *growths: int) -> dict[int, bytes]:
    log, acknowledged = await load(storage), dict[int, bytes]()
    for count in growths:
        await grow_by(log, count, acknowledged)
    return acknowledged


async def test_what_was_appended_stands_in_a_log_that_verifies() -> None:
    storage = new_storage()

    acknowledged = await grow_to(storage, *GROWTHS)

    assert check(storage, acknowledged) == sum(GROWTHS) == len(acknowledged)


async def test_log_goes_on_after_a_restart_as_if_nothing_happened() -> None:
    storage, together = new_storage(), new_storage()
    for count in GROWTHS:
        await grow_to(storage, count)

    await grow_to(together, sum(GROWTHS))

    assert check(storage, {}) == sum(GROWTHS)
    assert storage.roots[sum(GROWTHS)] == together.roots[sum(GROWTHS)]


async def test_commit_order_is_the_one_that_is_documented() -> None:
    storage = FailingStorage(new_storage())
    log = await load(storage)
    storage.log.clear()

    await grow_by(log, 300, {})

    await grow_by(log, 1, {})
    await log.settle()

    growth = ["stage", "swap lock", "put tile", "replace checkpoint"]
    assert storage.log == [*growth, *growth, "settle", "delete"]


async def test_staging_bundles_stay_until_their_growth_is_durable_in_its_place() -> None:
    storage = new_storage()
    log = await load(storage)
    for count in GROWTHS:
        await grow_by(log, count, {})
    assert len(await storage.keys(".state/staging/")) == 4
    assert log.unsettled_bytes > 500

    await log.settle()

    assert (await storage.keys(".state/"), log.unsettled_bytes, storage.unsettled) == ([], 0, set())
    await log.settle()


async def test_growth_that_is_not_published_is_not_settled() -> None:
    storage = new_storage()
    log = await load(storage)
    await grow_by(log, 5, {})
    await log.append(*packed(numbered(5, 3)))

    await log.settle()

    assert [staged_size(key) for key in await storage.keys(".state/staging/")] == [8]


async def test_real_keys_sign_every_checkpoint_twice() -> None:
    signers = Signers(signer(ED25519), signer(MLDSA))
    storage = MemoryStorage()
    storage.create(signers.sign_empty(NOW).note)
    log = await Log.load(storage, storage, signers, lambda: NOW + 5)

    await log.append(*packed([b"one"]))
    await log.publish()

    found = signers.verify(storage.objects["checkpoint"], "checkpoint")
    assert (found.checkpoint.size, found.time) == (1, NOW + 5)
    assert storage.objects["checkpoint"] == log.published.note


# --- what each failure of each step does (sunlight's TestSequenceErrors) ---

STAGE, SWAP, TILES, PUBLISH = range(4)
ERRORS = (Failure.REFUSED, Failure.APPLIED, Failure.PARTIAL, Failure.DELAYED)


@pytest.mark.parametrize("failure", ERRORS)
@pytest.mark.parametrize("step", [STAGE, SWAP, TILES, PUBLISH])
async def test_no_failure_of_any_step_loses_or_forks(step: int, failure: Failure) -> None:
    inner = new_storage()
    acknowledged = await grow_to(inner, 7)
    storage = FailingStorage(inner)
    log = await load(storage)
    storage.plan[len(storage.log) + step] = failure
    fatal = step == TILES or (step == SWAP and failure is not Failure.APPLIED)

    if fatal:
        with pytest.raises(FatalError):
            await grow_by(log, 300, acknowledged)
        with pytest.raises(FatalError):
            await log.append(*packed([b"more"]))
        with pytest.raises(FatalError):
            await log.publish()
    elif step == STAGE:
        with pytest.raises(StorageError):
            await grow_by(log, 300, acknowledged)
        await grow_by(log, 300, acknowledged)
    elif step == PUBLISH:
        first = await log.append(*packed(numbered(7, 300)))
        with pytest.raises(StorageError):
            await log.publish()
        assert log.published.checkpoint.size == 7, "I7: not published, so not acknowledged"
        await log.publish()
        acknowledged |= dict(enumerate(numbered(7, 300), first))
    else:
        await grow_by(log, 300, acknowledged)

    # Whatever happened, a new process goes on; before and after the delayed operation lands.
    acknowledged |= await grow_to(inner, 3)
    storage.land()
    try:
        acknowledged |= await grow_to(inner, 3)
    except DamagedLogError:
        # Only a checkpoint that came late can lie behind a lock whose bundle is gone, and it must heal.
        pytest.fail("a late write wedged the log")
    check(inner, acknowledged)


@pytest.mark.parametrize("failure", [*ERRORS, *CRASHES])
def test_every_operation_of_a_life_may_fail_once(failure: Failure) -> None:
    """10^2 points here; `test_log_crashes.py` has the thousands."""

    async def life(fail_at: int) -> int:
        inner, acknowledged = new_storage(), dict[int, bytes]()
        storage = FailingStorage(inner, {fail_at: failure})
        try:
            log = await load(storage)
            for count in GROWTHS:
                await grow_by(log, count, acknowledged)
        except (FatalError, StorageError, Crash):
            pass
        storage.land()
        acknowledged |= await grow_to(inner, 40)
        check(inner, acknowledged)
        return len(storage.log)

    operations = asyncio.run(life(-1))
    assert operations > 20
    for at in range(operations):
        asyncio.run(life(at))


async def test_i1_i2_a_growth_that_lost_the_swap_leaves_no_tile() -> None:
    storage = new_storage()
    stale, winner = await load(storage), await load(storage)
    await grow_by(winner, 5, {})
    before = {key: data for key, data in storage.objects.items() if not key.startswith(".state/")}

    with pytest.raises(ConflictError):
        await stale.append(*packed([b"another history"] * 5))

    assert {key: data for key, data in storage.objects.items() if not key.startswith(".state/")} == before


async def test_i1_of_two_writers_exactly_one_goes_on() -> None:
    storage = new_storage()
    one, two = await load(storage), await load(storage)

    results = await asyncio.gather(
        one.append(*packed([b"one"] * 9)), two.append(*packed([b"two"] * 9)), return_exceptions=True
    )

    assert sorted(type(result).__name__ for result in results) == ["ConflictError", "int"]
    await grow_to(storage, 3)
    check(storage, {})


async def test_i3_swap_that_failed_but_happened_counts_as_done() -> None:
    inner = new_storage()
    storage = FailingStorage(inner)
    log = await load(storage)
    storage.plan[len(storage.log) + SWAP] = Failure.APPLIED

    await grow_by(log, 5, {})

    assert log.published.checkpoint.size == check(inner, {}) == 5


async def test_i3_swap_of_unknown_fate_is_fatal_even_when_the_lock_cannot_be_read() -> None:
    inner = new_storage()
    storage = FailingStorage(inner)
    log = await load(storage)
    storage.plan |= {len(storage.log) + SWAP: Failure.APPLIED, len(storage.log) + SWAP + 1: Failure.REFUSED}

    with pytest.raises(FatalError, match="not known"):
        await grow_by(log, 5, {})

    assert (await load(inner)).size == 5


async def test_i3_late_swap_finds_its_bundle_still_there() -> None:
    """The swap is given up for lost, a new process starts, and only then the swap arrives."""
    inner = new_storage()
    storage = FailingStorage(inner)
    log = await load(storage)
    storage.plan[len(storage.log) + SWAP] = Failure.DELAYED
    with pytest.raises(FatalError):
        await grow_by(log, 5, {})
    successor = await load(inner)

    storage.land()

    with pytest.raises(ConflictError):
        await grow_by(successor, 6, {})
    assert (await load(inner)).size == 5
    check(inner, {})


async def damaged(storage: MemoryStorage, complaint: str | None = None) -> None:
    with pytest.raises(DamagedLogError, match=complaint):
        await load(storage)


def forge(storage: MemoryStorage, size: int) -> bytes:
    """A checkpoint of another tree, signed with the right keys."""
    return FAST.sign(Checkpoint(FAST.origin, size, b"x" * 32), NOW).note


async def test_i4_lock_behind_the_checkpoint_is_refused() -> None:
    storage = new_storage()
    await grow_to(storage, 5)
    old = storage.lock
    await grow_to(storage, 5)

    storage.lock = old

    await damaged(storage, "rolled back")


async def test_i4_two_trees_of_one_size_are_refused() -> None:
    storage = new_storage()
    await grow_to(storage, 5)

    storage.lock = forge(storage, 5)

    await damaged(storage, "two different trees")


async def test_i4_checkpoint_that_is_no_beginning_of_the_log_is_refused() -> None:
    storage = new_storage()
    await grow_to(storage, 5, 5)

    storage.objects["checkpoint"] = forge(storage, 5)

    await damaged(storage, "not the beginning")


@pytest.mark.parametrize("failure", ERRORS)
@pytest.mark.parametrize("step", ["settle", "delete"])
async def test_settling_that_fails_is_done_later(step: str, failure: Failure) -> None:
    inner, acknowledged = new_storage(), dict[int, bytes]()
    storage = FailingStorage(inner)
    log = await load(storage)
    await grow_by(log, 5, acknowledged)
    storage.plan[len(storage.log) + (step == "delete")] = failure
    with pytest.raises(StorageError):
        await log.settle()
    await grow_by(log, 300, acknowledged)

    await log.settle()

    assert await inner.keys(".state/") == []
    storage.land()
    await grow_to(inner, 1)
    check(inner, acknowledged)


async def test_i4_committed_growth_without_its_bundle_is_refused() -> None:
    storage = new_storage()
    await grow_to(storage, 5)
    log = await load(storage)
    await log.settle()
    await log.append(*packed(numbered(5, 300)))
    for key in await storage.keys(".state/staging/"):
        del storage.objects[key]
    del storage.objects["tile/entries/000"]

    await damaged(storage, "staging bundle is gone")


async def test_checkpoint_that_went_back_is_published_again() -> None:
    """A write of an older checkpoint, given up for lost, came after its successors."""
    storage = new_storage()
    await grow_to(storage, 5)
    old = storage.objects["checkpoint"]
    acknowledged = await grow_to(storage, 300, 300)
    await (await load(storage)).settle()

    storage.objects["checkpoint"] = old

    await load(storage)
    assert check(storage, acknowledged) == 605


@pytest.mark.parametrize("lost", ["lock", "checkpoint"])
async def test_i8_half_a_log_is_refused(lost: str) -> None:
    storage = new_storage()
    await grow_to(storage, 5)

    if lost == "lock":
        storage.lock = None
    else:
        del storage.objects["checkpoint"]

    await damaged(storage, f"no {lost}")


async def test_no_log_is_told_apart_from_a_damaged_one() -> None:
    with pytest.raises(NoLogError):
        await load(MemoryStorage())


@pytest.mark.parametrize("size", [5, 256, 300, 700])
async def test_i5_altered_end_of_the_log_is_noticed_on_load(size: int) -> None:
    def flip(data: bytes) -> bytes:
        return data[:-1] + bytes([data[-1] ^ 1])

    def cut(data: bytes) -> bytes:
        return data[:-1]

    healthy = new_storage()
    await grow_to(healthy, size)
    number = (size - 1) // 256
    last = [key for key in healthy.objects if key.startswith((f"tile/0/{number:03}", f"tile/entries/{number:03}"))]
    assert len(last) == 2
    for key in last:
        for alter in (flip, cut):
            storage = new_storage()
            await grow_to(storage, size)
            await (await load(storage)).settle()
            storage.objects[key] = alter(storage.objects[key])
            await damaged(storage)
        del storage.objects[key]
        await damaged(storage, "missing")


async def test_i6_no_checkpoint_is_signed_before_the_last_one() -> None:
    storage = new_storage()
    await grow_to(storage, 5)
    now = NOW - 1
    log = await Log.load(storage, storage, FAST, lambda: now)

    with pytest.raises(ClockError):
        await grow_by(log, 5, {})
    now = NOW
    await grow_by(log, 5, {})

    assert check(storage, {}) == 10


async def test_i7_nothing_can_be_appended_before_the_last_growth_is_published() -> None:
    log = await load(new_storage())
    await log.append(*packed([b"one"]))

    with pytest.raises(ValueError, match="publish"):
        await log.append(*packed([b"two"]))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"garbage",
        lambda note: note.replace(b"node-a\n", b"node-b\n", 1),
        lambda note: note[: note.rindex(b"\xe2\x80\x94")],
        lambda _: Signers(signer(ED25519), signer(MLDSA)).sign_empty(NOW).note,
    ],
)
async def test_checkpoint_that_our_keys_did_not_sign_is_refused(spoil: Callable[[bytes], bytes]) -> None:
    storage = new_storage()
    storage.lock = spoil(storage.lock or b"")

    await damaged(storage, "the lock is not a checkpoint")


async def test_cancellation_after_the_commit_makes_the_log_unusable() -> None:
    inner = new_storage()
    storage = FailingStorage(inner)
    log = await load(storage)
    storage.plan[len(storage.log) + TILES] = Failure.CRASH_BEFORE

    with pytest.raises(Crash):
        await grow_by(log, 5, {})

    with pytest.raises(FatalError):
        await log.append(*packed([b"more"]))


async def test_damaged_staging_bundle_is_not_replayed() -> None:
    storage = new_storage()
    log = await load(storage)
    await log.append(*packed(numbered(0, 5)))
    key = next(iter(await storage.keys(".state/staging/")))
    bundle = unpack_staging(storage.objects[key])
    storage.objects[key] = storage.objects[key][:-1]
    await damaged(storage, "cannot be completed")

    storage.objects[key] = pack_staging(key, bundle.objects)
    await damaged(storage, "came before it")
