"""Whose turn it is at the thread for long work."""

import asyncio
import logging
import threading
from collections.abc import Callable
from functools import partial

import pytest

from sidecar.inspector import Inspector


class Gate:
    """Work that goes on until it is let go, so that a queue forms behind it."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.may_end.wait(10)
        return "gate"


class Line:
    """Work in the order in which it was done."""

    def __init__(self, inspector: Inspector) -> None:
        self.inspector = inspector
        self.done: list[str | None] = []
        self.changed = asyncio.Event()

    def add(self, name: str, size: int, work: Callable[[], str] | None = None, *, wanted: bool = True) -> None:
        self.inspector.submit(size, work or partial(str, name), self._then, lambda: wanted)

    def _then(self, result: str | None) -> None:
        self.done.append(result)
        self.changed.set()

    async def until(self, count: int) -> list[str | None]:
        async with asyncio.timeout(10):
            while len(self.done) < count:
                self.changed.clear()
                await self.changed.wait()
        return self.done


@pytest.fixture
async def line() -> Line:
    return Line(Inspector(asyncio.get_running_loop()))


async def test_short_work_passes_long_work_that_waits(line: Line) -> None:
    gate = Gate()
    line.add("gate", 1000, gate)
    for name, size in (("long", 900), ("longer", 5000), ("short", 10), ("shorter", 5)):
        line.add(name, size)

    assert line.inspector.waiting == 4
    gate.may_end.set()

    assert await line.until(5) == ["gate", "shorter", "short", "long", "longer"]
    assert line.inspector.waiting == 0


async def test_long_work_waits_for_no_more_later_work_than_it_is_long_itself(line: Line) -> None:
    gate = Gate()
    line.add("gate", 1000, gate)
    line.add("long", 50)
    line.add("short 0", 20)

    def another(number: int, _result: str | None) -> None:
        """Work that leaves more of its kind behind, so that there is always some that came after the long one."""
        line.done.append(f"short {number}")
        line.changed.set()
        if number < 6:
            for _ in range(2):
                line.inspector.submit(20, str, partial(another, number + 1), lambda: True)

    line.inspector.submit(20, str, partial(another, 1), lambda: True)
    gate.may_end.set()

    done = await line.until(8)

    assert done.index("long") <= 4


async def test_equals_come_in_their_order(line: Line) -> None:
    gate = Gate()
    line.add("gate", 10, gate)
    for number in range(20):
        line.add(f"{number}", 10)
    gate.may_end.set()

    assert await line.until(21) == ["gate", *map(str, range(20))]


async def test_work_that_nobody_wants_any_more_is_not_begun(line: Line) -> None:
    gate = Gate()
    line.add("gate", 10, gate)
    line.add("given up", 1, wanted=False)
    line.add("wanted", 10)
    gate.may_end.set()

    assert await line.until(2) == ["gate", "wanted"]


async def test_fault_in_the_thread_is_logged_and_told_and_harms_nobody_else(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> str:
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR):
        line.add("fails", 1, fail)
        line.add("next", 2)
        done = await line.until(2)

    assert done == [None, "next"]
    assert "fault while inspecting" in caplog.text


async def test_nothing_is_told_once_it_is_closed(line: Line) -> None:
    gate = Gate()
    line.add("gate", 1, gate)
    line.add("waits", 2)

    line.inspector.close()
    gate.may_end.set()
    await asyncio.sleep(0.05)

    assert "waits" not in line.done
