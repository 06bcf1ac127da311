"""Thousands of crash points: the process dies at one operation, then again at one of the recovery, then lives on.

Some deaths are power cuts: whatever was written and not yet made durable is gone, cut short, or full of zeros.
"""

import asyncio
from collections.abc import Iterator, Mapping
from hashlib import sha256

import pytest

from controlplane.ledger.errors import NodeError
from tests.controlplane.ledger.logs import check, load, new_storage, numbered, packed
from tests.fakes.ledger_storage import CRASHES, Crash, FailingStorage, Failure, MemoryStorage

GROWTHS = (3, 260, 1, 270)
SETTLED_AFTER = 2


def draws(seed: object) -> Iterator[int]:
    """Numbers below 256, the same for one seed."""
    counter = 0
    while True:
        yield from sha256(f"{seed}/{counter}".encode()).digest()
        counter += 1


async def live(inner: MemoryStorage, plan: Mapping[int, Failure], acknowledged: dict[int, bytes]) -> FailingStorage:
    """One process: load, append, publish, settle now and then, until done or dead."""
    storage = FailingStorage(inner, plan)
    try:
        log = await load(storage)
        for number, count in enumerate(GROWTHS):
            entries = numbered(log.size, count)
            first = await log.append(*packed(entries))
            await log.publish()
            acknowledged |= dict(enumerate(entries, first))
            if number == SETTLED_AFTER:
                await log.settle()
    except (Crash, NodeError):
        pass
    return storage


def survive(first: Mapping[int, Failure], second: Mapping[int, Failure], power: Iterator[int] | None = None) -> int:
    """Die, recover, die, recover; the oracle looks at the end. The operations of the first life."""

    async def lives() -> int:
        inner, acknowledged = new_storage(), dict[int, bytes]()
        operations = len((await live(inner, first, acknowledged)).log)
        if power:
            inner.cut_power(power)
        again = await live(inner, second, acknowledged)
        if power:
            inner.cut_power(power)
        # Whatever was given up for lost by a process that is gone may still arrive.
        again.land()
        await live(inner, {}, acknowledged)
        check(inner, acknowledged)
        return operations

    return asyncio.run(lives())


def test_process_may_die_at_any_operation() -> None:
    operations = survive({}, {})

    for at in range(operations):
        survive({at: CRASHES[at % 3]}, {})


def test_power_may_be_cut_at_any_operation() -> None:
    operations = survive({}, {}, draws("none"))

    for at in range(operations):
        survive({at: CRASHES[at % 3]}, {at // 2: CRASHES[(at + 1) % 3]}, draws(at))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_process_may_die_at_any_two_operations_in_any_way() -> None:
    operations, points = survive({}, {}), 0
    for at in range(operations):
        for crash in CRASHES:
            survive({at: crash}, {})
            # The second life begins with a recovery of about ten operations.
            for again in range(0, 16, 2):
                survive({at: crash}, {again + at % 2: CRASHES[(at + again) % 3]})
                points += 1
    assert points >= 500


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_power_may_be_cut_at_any_two_operations_in_any_way() -> None:
    operations, points = survive({}, {}), 0
    for at in range(operations):
        for crash in CRASHES:
            for again in range(0, 24, 2):
                plan = {again + at % 2: CRASHES[(at + again) % 3]}
                survive({at: crash}, plan, draws((at, crash, again)))
                points += 1
    assert points >= 800


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_process_may_die_after_any_error_in_any_way() -> None:
    operations, points = survive({}, {}), 0
    errors = (Failure.REFUSED, Failure.APPLIED, Failure.PARTIAL, Failure.DELAYED)
    for at in range(operations):
        for error in errors:
            for later in range(1, 7):
                survive({at: error, at + later: CRASHES[(at + later) % 3]}, {later: errors[(at + later) % 4]})
                points += 1
    assert points >= 500
