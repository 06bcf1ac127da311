"""A dead program is started again and named; all are stopped in order; nothing survives, not even kill -9."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from commands.up.tree import Patience, ProcessTree, Program, ProgramFailedError
from tests.fakes.processes import lives

FAST = Patience(first=0.01, longest=0.02, attempts=3)


def shell(name: str, script: str, stop_timeout: float = 5.0) -> Program:
    return Program(name, ("/bin/sh", "-c", script), stop_timeout)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


class Running:
    """A tree that runs while the block does."""

    def __init__(self, logs: Path, *programs: Program) -> None:
        self.said: list[str] = []
        self.tree = ProcessTree(programs, logs, self.said.append, FAST)

    async def __aenter__(self) -> Self:
        self._task = asyncio.get_running_loop().create_task(self.tree.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.tree.stop()
        await self._task


async def test_a_program_that_dies_is_named_and_started_again(tmp_path: Path) -> None:
    async with Running(tmp_path, shell("one", "exec sleep 60"), shell("two", "exec sleep 60")) as running:
        await until(lambda: running.tree.pid("one") and running.tree.pid("two"))
        first, other = running.tree.pid("one"), running.tree.pid("two")
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: running.tree.pid("one") not in {None, first})

        assert running.tree.pid("two") == other
        assert running.said[0].startswith("one was killed by SIGKILL; next start in 0.01 s")


async def test_programs_stop_in_reverse_order_each_gone_before_the_next_is_asked(tmp_path: Path) -> None:
    order = tmp_path / "order"

    def script(name: str) -> str:
        trap = f"trap 'sleep 0.05; echo {name} >> {order}; exit 0' TERM"
        return f"{trap}; echo > {order}.{name}; while :; do sleep 0.01; done"

    async with Running(tmp_path, *(shell(name, script(name)) for name in "abc")):
        await until(lambda: all((tmp_path / f"order.{name}").exists() for name in "abc"))

    assert order.read_text().split() == ["c", "b", "a"]


async def test_a_program_that_does_not_stop_is_killed_with_all_its_workers(tmp_path: Path) -> None:
    script = f"trap '' TERM; sleep 60 & echo $! > {tmp_path}/worker; while :; do sleep 1; done"

    async with Running(tmp_path, shell("deaf", script, stop_timeout=0.05)) as running:
        await until(lambda: (tmp_path / "worker").exists() and (tmp_path / "worker").read_text())
        pid, worker = running.tree.pid("deaf"), int((tmp_path / "worker").read_text())

    assert pid is not None
    assert "deaf did not stop within 0.05 s and is killed" in running.said
    await until(lambda: not lives(pid) and not lives(worker))


async def test_a_program_that_never_works_ends_everything_with_its_last_words(tmp_path: Path) -> None:
    tree = ProcessTree(
        [shell("good", "exec sleep 60"), shell("bad", "echo no such port; exit 3")], tmp_path, lambda _: None, FAST
    )

    with pytest.raises(ProgramFailedError, match="bad ended with status 3, 3 times in a row") as failed:
        await tree.run()

    assert "no such port" in str(failed.value)
    assert tree.pid("good") is None


async def test_a_cancelled_tree_still_stops_its_programs(tmp_path: Path) -> None:
    tree = ProcessTree([shell("one", "exec sleep 60")], tmp_path, lambda _: None, FAST)
    task = asyncio.get_running_loop().create_task(tree.run())
    await until(lambda: tree.pid("one"))
    pid = tree.pid("one")
    assert pid is not None

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    await until(lambda: not lives(pid))


async def test_output_goes_to_a_file_that_only_the_owner_reads(tmp_path: Path) -> None:
    async with Running(tmp_path, shell("one", "echo hello; exec sleep 60")) as running:
        await until(lambda: running.tree.log("one").exists() and running.tree.log("one").read_text())

    assert running.tree.log("one").read_text() == "hello\n"
    assert running.tree.log("one").stat().st_mode & 0o777 == 0o600


async def test_kill_9_of_the_supervisor_leaves_no_orphan(tmp_path: Path) -> None:
    supervisor = """
import asyncio, sys, pathlib
from commands.up.tree import ProcessTree, Program
logs = pathlib.Path(sys.argv[1])
programs = [Program(n, ("/bin/sh", "-c", f"echo $$ > {logs}/{n}.pid; exec sleep 60")) for n in "ab"]
tree = ProcessTree(programs, logs, print)
asyncio.run(tree.run())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", supervisor, str(tmp_path), cwd=Path(__file__).parents[2]
    )
    await until(lambda: all((tmp_path / f"{n}.pid").exists() and (tmp_path / f"{n}.pid").read_text() for n in "ab"))
    pids = [int((tmp_path / f"{n}.pid").read_text()) for n in "ab"]

    process.kill()
    await process.wait()

    await until(lambda: not any(map(lives, pids)))
