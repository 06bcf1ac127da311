"""Starts a plugin's process, calls it, and tells of everything it did.

A plugin is read from its folder once: manifest and sources. What runs later is what was read, whatever happens to the
folder. Calls of one plugin run one after another; the process is started anew when it died.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from policies.mathprotocol.manifest import MAX_MANIFEST, Manifest, ManifestError, PluginTask, read_manifest
from policies.mathprotocol.responses import is_valid_response

MAX_SOURCES: Final = 2 << 20
"""Bytes of all source files of a plugin together."""
MAX_WAITING: Final = 64
"""Calls that may wait for one plugin; one more is refused."""

_JAIL: Final = Path(__file__).with_name("jail.py")
_MAX_FRAME: Final = 64 << 20
_START_SECONDS: Final = 10.0
_GRACE_SECONDS: Final = 2.0


class PluginEvent(StrEnum):
    """What happened, as a bounded name for the audit trail."""

    LOADED = "plugin_loaded"
    STARTED = "plugin_started"
    UNAVAILABLE = "plugin_sandbox_unavailable"
    ANSWERED = "plugin_answered"
    FAULT = "plugin_fault"
    ESCAPE_ATTEMPT = "plugin_escape_attempt"
    """It made a system call that it has no right to, and was killed."""
    INVALID_ANSWER = "plugin_invalid_answer"
    OVERLOADED = "plugin_overloaded"
    STOPPED = "plugin_stopped"


@dataclass(frozen=True, slots=True)
class PluginAction:
    """One thing that a plugin did or that was done to it. No text."""

    plugin: str
    event: PluginEvent
    task: int = 0
    detail: str = ""
    """Name of the fault, or of the protections in force."""
    cpu_ms: float = 0.0
    peak_kib: int = 0


class PluginError(Exception):
    """Root of this module's errors. Messages hold no text of a prompt or an answer."""


class SandboxUnavailableError(PluginError):
    """This machine cannot hold a plugin, so none is run."""


class PluginFaultError(PluginError):
    """A call gave no valid answer."""

    def __init__(self, fault: str) -> None:
        super().__init__(f"the plugin gave no answer: {fault}")
        self.fault = fault


@dataclass(frozen=True, slots=True)
class LoadedPlugin:
    """A plugin as it was read from its folder."""

    manifest: Manifest
    sources: dict[str, str]
    """Module name -> source."""


def load(folder: Path) -> LoadedPlugin:
    """Read a plugin without running anything. Raises ManifestError or OSError."""
    with (folder / "plugin.toml").open("rb") as file:
        manifest = read_manifest(file.read(MAX_MANIFEST + 1))
    sources: dict[str, str] = {}
    left = MAX_SOURCES
    for path in sorted(folder.glob("*.py")):
        # A link could bring in a file of the host's.
        if path.is_symlink() or not path.is_file():
            raise ManifestError([f"{path.name}: expected a regular file"])
        raw = path.read_bytes() if path.stat().st_size <= left else b""
        left -= path.stat().st_size
        if left < 0:
            raise ManifestError([f"the sources take more than {MAX_SOURCES} bytes"])
        try:
            sources[path.stem] = raw.decode()
        except UnicodeDecodeError:
            raise ManifestError([f"{path.name}: not UTF-8"]) from None
    for task in manifest.tasks:
        if task.entry and task.entry.partition(":")[0] not in sources:
            raise ManifestError([f"task {task.prime}: there is no {task.entry.partition(':')[0]}.py"])
    return LoadedPlugin(manifest, sources)


class PluginHost:
    """One plugin and its process. Owned by one event loop."""

    def __init__(self, plugin: LoadedPlugin, on_action: Callable[[PluginAction], None]) -> None:
        self._plugin = plugin
        self._on_action = on_action
        self._tasks = {task.prime: task for task in plugin.manifest.tasks if task.entry}
        self._process: asyncio.subprocess.Process | None = None
        self._ending: list[asyncio.subprocess.Process] = []
        """Killed, and perhaps not gone yet."""
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._tell(PluginEvent.LOADED, detail=".".join(map(str, plugin.manifest.version)))

    @property
    def tasks(self) -> Mapping[int, PluginTask]:
        """Prime -> the task that its code answers."""
        return self._tasks

    async def call(self, prime: int, param: int, context: str) -> str:
        """The plugin's answer, valid for its task. Raises PluginFaultError or SandboxUnavailableError."""
        task = self._tasks.get(prime)
        if task is None or param not in task.params:
            raise PluginFaultError("no_such_task")
        if self._waiting >= MAX_WAITING:
            self._tell(PluginEvent.OVERLOADED, prime)
            raise PluginFaultError("overloaded")
        self._waiting += 1
        try:
            async with self._turn:
                told = await self._asked(task, param, context)
        finally:
            self._waiting -= 1
        return self._judged(task, told)

    async def stop(self) -> None:
        """End the process. A later call starts it anew."""
        async with self._turn:
            await self._end()
            for process in self._ending:
                await process.wait()

    async def _asked(self, task: PluginTask, param: int, context: str) -> dict[str, Any]:
        limits = self._plugin.manifest.limits
        process = await self._running()
        try:
            async with asyncio.timeout(limits.wall_seconds + _GRACE_SECONDS):
                await _send(process, {"entry": task.entry, "context": context, "param": param})
                return await _receive(process)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, ValueError):
            await self._end()
            return {"fault": "died"}
        except asyncio.CancelledError:
            # The answer of an abandoned call must not become that of the next.
            self._abandon(process)
            raise

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        process = self._process = await self._started()
        settings = {"limits": asdict(self._plugin.manifest.limits), "sources": self._plugin.sources}
        try:
            async with asyncio.timeout(_START_SECONDS):
                await _send(process, settings)
                ready = await _receive(process)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, ValueError):
            ready = {"unavailable": "the process did not start"}
        except asyncio.CancelledError:
            # What it says when it is ready must not be taken for the answer to a call, nor each answer for the next.
            self._abandon(process)
            raise
        if "ready" not in ready:
            await self._end()
            raise self._unavailable(str(ready.get("unavailable", "")))
        self._tell(PluginEvent.STARTED, detail=" ".join(ready["ready"]))
        return process

    async def _started(self) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-B", str(_JAIL)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                cwd="/",
                env={},
                close_fds=True,
                start_new_session=True,
            )
        except OSError as error:  # no descriptor, memory or process is left
            raise self._unavailable(error.strerror or type(error).__name__) from None

    def _unavailable(self, reason: str) -> SandboxUnavailableError:
        self._tell(PluginEvent.UNAVAILABLE, detail=reason[:200])
        return SandboxUnavailableError(f"plugins cannot run here: {reason}")

    def _abandon(self, process: asyncio.subprocess.Process) -> None:
        """End a process without waiting for it."""
        self._process = None
        with suppress(ProcessLookupError):  # it ended by itself
            process.kill()
        self._ending = [*(each for each in self._ending if each.returncode is None), process]
        self._tell(PluginEvent.STOPPED)

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        await process.wait()
        self._tell(PluginEvent.STOPPED)

    def _judged(self, task: PluginTask, told: dict[str, Any]) -> str:
        cpu_ms, peak_kib = float(told.get("cpu_ms", 0.0)), int(told.get("peak_kib", 0))
        if "answer" not in told:
            fault = str(told.get("fault", "no_answer"))
            event = PluginEvent.ESCAPE_ATTEMPT if fault == "forbidden_system_call" else PluginEvent.FAULT
            self._tell(event, task.prime, fault, cpu_ms, peak_kib)
            raise PluginFaultError(fault)
        answer = str(told["answer"])
        too_long = len(answer.encode("utf-8", "surrogatepass")) > self._plugin.manifest.limits.max_output
        if too_long or not is_valid_response(answer, task.kind):
            self._tell(PluginEvent.INVALID_ANSWER, task.prime, "", cpu_ms, peak_kib)
            raise PluginFaultError("output" if too_long else "invalid_answer")
        self._tell(PluginEvent.ANSWERED, task.prime, "", cpu_ms, peak_kib)
        return answer

    def _tell(
        self, event: PluginEvent, task: int = 0, detail: str = "", cpu_ms: float = 0.0, peak_kib: int = 0
    ) -> None:
        self._on_action(PluginAction(self._plugin.manifest.name, event, task, detail, cpu_ms, peak_kib))


async def _send(process: asyncio.subprocess.Process, frame: dict[str, Any]) -> None:
    assert process.stdin is not None  # noqa: S101 it was asked for
    raw = json.dumps(frame).encode()
    process.stdin.write(len(raw).to_bytes(4, "big") + raw)
    await process.stdin.drain()


async def _receive(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None  # noqa: S101 it was asked for
    length = int.from_bytes(await process.stdout.readexactly(4), "big")
    if length > _MAX_FRAME:
        raise ValueError("a frame beyond the bound")
    frame = json.loads(await process.stdout.readexactly(length))
    if not isinstance(frame, dict):
        raise ValueError("a frame that is no object")
    return frame
