"""Keeps a handful of programs running: restarts what dies, stops all in order, leaves no orphan.

Each program is the leader of its own session, so a Ctrl-C reaches this process only and the order of stopping stays
ours; and each is tied to this process (see tether.py), so that even kill -9 leaves nothing behind. What a program
prints goes to a file of its own, directly: it can still write while this process is gone.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from commands.up.errors import ProgramFailedError

_TETHER: Final = Path(__file__).with_name("tether.py")
_MAX_LOG: Final = 64 << 20
"""Bytes of a log file above which the next start moves it aside."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run and how patiently to stop it."""

    name: str
    argv: tuple[str, ...]
    """The first is an absolute path."""
    stop_timeout: float = 10.0
    """Seconds between SIGTERM and SIGKILL."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how fast a program that dies is started again. All in seconds but `attempts`."""

    first: float = 0.5
    longest: float = 30.0
    """The wait doubles up to this."""
    steady: float = 30.0
    """A program that ran for this long starts afresh with the first wait."""
    attempts: int = 5
    """Deaths in a row after which everything is stopped."""


class ProcessTree:
    """Programs in the order of their start. One use: `run` once."""

    def __init__(
        self,
        programs: Sequence[Program],
        logs: Path,
        say: Callable[[str], None],
        patience: Patience = Patience(),
    ) -> None:
        self._programs = tuple(programs)
        self._logs = logs
        self._say = say
        self._patience = patience
        self._stop = asyncio.Event()
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._stopping: set[str] = set()
        self._failure: ProgramFailedError | None = None

    def stop(self) -> None:
        """Ask `run` to end. May be called at any time, from this event loop."""
        self._stop.set()

    def pid(self, name: str) -> int | None:
        """The process id of a program that runs at this moment."""
        process = self._running.get(name)
        return process.pid if process else None

    def log(self, name: str) -> Path:
        """Where a program's output goes."""
        return self._logs / f"{name}.log"

    async def run(self) -> None:
        """Run everything until `stop`; then stop in reverse order, each program gone before the next is asked.

        Raises ProgramFailedError after the orderly stop if a program could not be kept running, and OSError if one
        cannot be started at all.
        """
        self._logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        async with asyncio.TaskGroup() as group:
            for program in self._programs:
                group.create_task(self._keep(program))
            try:
                await self._stop.wait()
            finally:  # cancelled or not; bounded by the programs' stop_timeout
                await self._stop_all()
        if self._failure is not None:
            raise self._failure

    async def _keep(self, program: Program) -> None:
        deaths, wait = 0, self._patience.first
        while not self._stop.is_set():
            process = await self._start(program)
            if program.name in self._stopping:  # its turn to stop came while it was being started
                return await self._stop_one(program, process)
            born = asyncio.get_running_loop().time()
            status = await process.wait()
            del self._running[program.name]
            if program.name in self._stopping:
                return None
            if asyncio.get_running_loop().time() - born >= self._patience.steady:
                deaths, wait = 0, self._patience.first
            deaths += 1
            if deaths >= self._patience.attempts:
                self._failure = self._give_up(program, status, deaths)
                self._stop.set()
                return None
            self._say(f"{program.name} {_ending(status)}; next start in {wait:g} s (see {self.log(program.name)})")
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stop.wait()
            wait = min(wait * 2, self._patience.longest)
        return None

    async def _start(self, program: Program) -> asyncio.subprocess.Process:
        argv = (sys.executable, "-I", "-S", str(_TETHER), str(os.getpid()), *program.argv)
        with self._open_log(program.name) as log:
            process = await asyncio.create_subprocess_exec(
                *argv, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._running[program.name] = process
        return process

    def _open_log(self, name: str) -> BinaryIO:
        path = self.log(name)
        if path.exists() and path.stat().st_size > _MAX_LOG:
            path.replace(path.with_suffix(".log.1"))
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")

    async def _stop_all(self) -> None:
        self._stop.set()
        for program in reversed(self._programs):
            self._stopping.add(program.name)
            process = self._running.get(program.name)
            if process is not None:
                await self._stop_one(program, process)

    async def _stop_one(self, program: Program, process: asyncio.subprocess.Process) -> None:
        self._say(f"stopping {program.name}")
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(program.stop_timeout):
                await process.wait()
        except TimeoutError:
            self._say(f"{program.name} did not stop within {program.stop_timeout:g} s and is killed")
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its whole session: workers that outlived it included
        await process.wait()

    def _give_up(self, program: Program, status: int, deaths: int) -> ProgramFailedError:
        tail = self.log(program.name).read_bytes()[-4096:].decode("utf-8", "replace").splitlines()[-20:]
        lines = "\n".join("  " + line for line in tail)
        return ProgramFailedError(
            f"{program.name} {_ending(status)}, {deaths} times in a row. Its last words:\n{lines}"
        )


def _ending(status: int) -> str:
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
