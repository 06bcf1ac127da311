"""Several processes that share one port: their parent starts them again when they die, and speaks for all of them.

The kernel spreads connections over the listening sockets (SO_REUSEPORT). The parent holds the port bound but does not
listen: nobody else gets it while a worker restarts, and port 0 means one port for all. A worker ends when the pipe to
its parent does, so that even kill -9 of the parent leaves no orphan.

Workers share nothing: each has its policy stream, its audit spool, its bans.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from observability.exposition import render
from settings import Address, Setting, settings_of
from sidecar.admin import dump
from sidecar.app import CannotListenError, pages_on_ports
from sidecar.config import SidecarConfig

ATTEMPTS: Final = 5
"""Deaths of one worker in a row after which everything ends."""
FIRST_WAIT: Final = 0.5
LONGEST_WAIT: Final = 30.0
"""Seconds before a worker is started again; doubles from the first to the longest."""
STEADY: Final = 30.0
"""Seconds after which a worker's earlier deaths are forgotten."""
GRACE: Final = 10.0
"""Seconds on top of `drain_timeout` until a worker is killed."""
ASK_TIMEOUT: Final = 3.0
"""Seconds for a worker to answer its parent."""
LONGEST_SOCKET: Final = 107
"""Bytes of a socket's path: unix(7), sun_path with the zero at its end."""

PREFIX: Final = "AEGIS_SIDECAR_"
"""Of the variables that hold a sidecar's settings."""

logger = logging.getLogger(__name__)


class WorkersFailedError(Exception):
    """A worker could not be kept running."""


class WorkerSilentError(Exception):
    """A worker does not answer its parent."""


class Workers:
    """The parent of `config.workers` sidecars. `run` it once."""

    def __init__(self, config: SidecarConfig) -> None:
        self._config = config
        self._stopping = asyncio.Event()
        self._failure: WorkersFailedError | None = None
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._directory: Path
        self.ports: dict[str, int] = {}
        """Setting -> port, as in `Sidecar`."""

    async def run(self, ready: Callable[["Workers"], None]) -> None:
        """Keep all workers running until `drain`. Raises CannotListenError, or WorkersFailedError after the others were
        ended in good order."""
        config = self._config
        with _held_port(config.listen) as port, tempfile.TemporaryDirectory(prefix="aegis-sidecar-") as directory:
            self.ports["listen"] = port
            self._directory = Path(directory)
            if len(os.fsencode(self._socket(config.workers - 1))) > LONGEST_SOCKET:
                # Told now: every worker would die of it, again and again.
                raise CannotListenError(
                    f"TMPDIR: {directory} is too long, a socket in it has a name of at most {LONGEST_SOCKET} bytes"
                )
            self._write_config(port)
            async with asyncio.TaskGroup() as tasks:
                pages = await pages_on_ports(config, self, tasks)
                keepers = [tasks.create_task(self._keep(index)) for index in range(config.workers)]
                self.ports.update({name: server.port for name, server in pages.items()})
                try:
                    ready(self)
                    await self._stopping.wait()
                    await asyncio.wait(keepers)
                finally:
                    for server in pages.values():
                        server.close()
        if self._failure is not None:
            raise self._failure

    # --- what the pages ask ---

    async def snapshot(self) -> object:
        """The policies in force, by worker."""
        return await self._ask_all("GET", "/snapshot")

    async def counts(self) -> object:
        """Connections by worker and kind."""
        return await self._ask_all("GET", "/clients")

    async def tunnels(self) -> object:
        """Tunnels by worker."""
        return await self._ask_all("GET", "/tunnels")

    async def blockers(self) -> Mapping[str, str]:
        """What keeps any of the workers from being ready."""
        found = {}
        for index in range(self._config.workers):
            try:
                answer = msgspec.json.decode(await self._ask(index, "GET", "/healthz/ready"))
            except WorkerSilentError as error:
                found[f"worker-{index}"] = str(error)
                continue
            found.update({f"worker-{index}/{name}": reason for name, reason in answer["blockers"].items()})
        return found

    async def set_log_level(self, level: str) -> None:
        """In every worker."""
        await self._ask_all("POST", f"/log_level?level={level}")

    async def metrics(self, accept: str) -> tuple[str, bytes]:
        """(content type, page): all workers added up."""
        snapshots = []
        for index in range(self._config.workers):
            with suppress(WorkerSilentError):
                snapshots.append(await self._ask(index, "GET", "/metrics_snapshot"))
        return render(snapshots, accept)

    def drain(self) -> None:
        """End every worker in good order, and then this process."""
        self._stopping.set()
        for process in list(self._processes.values()):
            self._end(process)

    # --- the workers ---

    def _end(self, process: asyncio.subprocess.Process) -> None:
        def kill() -> None:
            if process.returncode is None:
                logger.error("worker killed: it did not end in time", extra={"pid": process.pid})
                process.kill()

        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            asyncio.get_running_loop().call_later(self._config.drain_timeout + GRACE, kill)

    async def _keep(self, index: int) -> None:
        loop = asyncio.get_running_loop()
        deaths, wait = 0, FIRST_WAIT
        while not self._stopping.is_set():
            born = loop.time()
            status = await self._live(index)
            if self._stopping.is_set():
                return
            if loop.time() - born >= STEADY:
                deaths, wait = 0, FIRST_WAIT
            deaths += 1
            logger.error("worker died", extra={"worker": index, "status": status, "again_in": wait})
            if deaths >= ATTEMPTS:
                self._failure = WorkersFailedError(f"worker {index} died {deaths} times in a row (status {status})")
                self.drain()
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stopping.wait()
            wait = min(wait * 2, LONGEST_WAIT)

    async def _live(self, index: int) -> int:
        """One life of a worker; its exit status."""
        self._socket(index).unlink(missing_ok=True)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "aegis", "sidecar", "--config", str(self._directory / "config.json")),
            *("--worker", str(index), "--worker-socket", str(self._socket(index))),
            stdin=asyncio.subprocess.PIPE,  # its end tells the worker that we are gone
            env=_environment(self._config),
        )
        self._processes[index] = process
        if self._stopping.is_set():  # drain() came before there was anyone to tell
            self._end(process)
        try:
            return await process.wait()
        finally:
            del self._processes[index]

    def _socket(self, index: int) -> Path:
        return self._directory / f"worker-{index}.sock"

    def _write_config(self, port: int) -> None:
        secret = {setting.name for setting in _secrets()}
        settings = {
            name: value for name, value in dump(self._config).items() if value is not None and name not in secret
        }
        settings["listen"] = str(Address(self._config.listen.host, port))
        (self._directory / "config.json").write_bytes(msgspec.json.encode(settings))

    async def _ask_all(self, method: str, target: str) -> dict[str, object]:
        answers: dict[str, object] = {}
        for index in range(self._config.workers):
            try:
                answers[f"worker-{index}"] = msgspec.json.decode(await self._ask(index, method, target))
            except WorkerSilentError as error:
                answers[f"worker-{index}"] = {"error": str(error)}
        return answers

    async def _ask(self, index: int, method: str, target: str) -> bytes:
        try:
            async with asyncio.timeout(ASK_TIMEOUT):
                return await _ask_over(self._socket(index), method, target)
        except (OSError, TimeoutError, EOFError):
            raise WorkerSilentError("does not answer; it starts, or it hangs") from None


def _secrets() -> list[Setting]:
    """The settings that stand in no file: workers get them as they came to us, through the environment."""
    return [setting for setting in settings_of(SidecarConfig) if setting.kind.is_secret]


def _environment(config: SidecarConfig) -> dict[str, str]:
    """A worker's environment: every setting comes from the file, except the secrets."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    held = {secret.variable(PREFIX): str(getattr(config, secret.name)) for secret in _secrets()}
    return inherited | {name: value for name, value in held.items() if value}


async def _ask_over(path: Path, method: str, target: str) -> bytes:
    """The body of one page. Raises OSError or EOFError."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        writer.write(f"{method} {target} HTTP/1.1\r\nhost: worker\r\nconnection: close\r\n\r\n".encode("ascii"))
        await reader.readuntil(b"\r\n\r\n")
        return await reader.read()
    finally:
        writer.close()


@contextmanager
def _held_port(address: Address) -> Iterator[int]:
    """The port, which nobody else can have for as long. Raises CannotListenError."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family) as probe, socket.socket(family) as holder:
        try:
            if address.port:  # SO_REUSEPORT alone would share it with another sidecar of the same user
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address.host, address.port))
            probe.close()
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind((address.host, address.port))
        except OSError as error:
            raise CannotListenError(f"--listen {address}: {error.strerror or error}") from None
        yield holder.getsockname()[1]
