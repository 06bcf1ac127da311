"""kill -9 at random moments under load: no acknowledged leaf is lost, no second tree of one size is ever shown.

A real process (`aegis ledger run`) is killed again and again, also while it recovers. Producers behave as sidecars do:
they keep what is not acknowledged and send it again. AEGIS_KILLS and AEGIS_KILL_SEED (hex) repeat or extend a run.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import grpc
import pytest
from aegispb.v1 import audit_pb2, audit_pb2_grpc
from click.testing import CliRunner

from commands.audit import command as audit
from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.errors import MissingError
from ledger.note import parse_note
from ledger.reader import TreeReader, with_full_tiles
from tests.fakes.ledger_producers import batch, leaf

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[3]
KILLS = int(os.environ.get("AEGIS_KILLS", "40"))


def numbers(seed: str) -> Iterator[float]:
    """Uniform in [0, 1), the same for one seed everywhere."""
    counter = 0
    while True:
        yield int.from_bytes(sha256(f"{seed}/{counter}".encode()).digest()[:6], "big") / (1 << 48)
        counter += 1


def start(data: Path, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", "aegis", "ledger", "run", "--data", str(data), "--init-if-missing"),
            *("--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--insecure-loopback", "--period", "5ms"),
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"},
        **options,
    )


async def port_of(process: subprocess.Popen[str]) -> int:
    """Of gRPC, once it serves; 0 if it died before."""
    assert process.stdout is not None
    line = await asyncio.to_thread(process.stdout.readline)
    found = re.search(r"grpc port (\d+)", line)
    return int(found[1]) if found else 0


class Watcher:
    """Remembers every checkpoint that anybody could have seen."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.roots: dict[int, bytes] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def look(self) -> Checkpoint | None:
        """The published checkpoint; it and the lock are compared with everything seen before."""
        published = None
        for name in (".state/lock", "checkpoint"):
            with suppress(OSError):
                published = parse_checkpoint(parse_note((self._log / name).read_bytes()).text)
                known = self.roots.setdefault(published.size, published.root)
                assert known == published.root, f"two trees of {published.size} leaves were signed"
        return published

    def _watch(self) -> None:
        while not self._done.wait(0.001):
            self.look()


class Producer:
    """A sidecar: numbers its leaves, keeps what is not acknowledged, and checks what it is told."""

    def __init__(self, name: str, draw: Iterator[float]) -> None:
        self.id = sha256(name.encode()).digest()[:16]
        self.places: dict[int, int] = {}
        """seq -> index, as acknowledged."""
        self._draw = draw

    @property
    def next_seq(self) -> int:
        return len(self.places)

    async def send_to(self, port: int) -> None:
        """Send until the stream breaks."""
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, asyncio.CancelledError):  # the node is dead
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                call = audit_pb2_grpc.AuditIngestStub(channel).Append()
                await call.write(audit_pb2.LeafBatch(producer_id=self.id, epoch=1))
                resume = (await call.read()).next_seq
                assert resume >= self.next_seq, f"{self.next_seq - resume} acknowledged leaves are lost"
                async with asyncio.TaskGroup() as tasks:
                    reading = tasks.create_task(self._read(call))
                    with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                        await self._write(call, reading)

    async def _write(self, call: Any, reading: "asyncio.Task[None]") -> None:
        # From the first leaf that nobody acknowledged: some of these are in the log already.
        sent = self.next_seq
        while not reading.done():
            count = 1 + int(next(self._draw) ** 3 * 600)
            if sent - self.next_seq + count < 4000:
                await call.write(batch(sent, count, producer_id=self.id))
                sent += count
            await asyncio.sleep(0.002)

    async def _read(self, call: Any) -> None:
        with suppress(grpc.aio.AioRpcError):
            while isinstance(ack := await call.read(), audit_pb2.LeafAck):
                for at in range(ack.count):
                    seq, index = ack.through_seq - ack.count + 1 + at, ack.first_index + at
                    assert self.places.setdefault(seq, index) == index, f"leaf {seq} was put into the log twice"


def check(data: Path, watcher: Watcher, producers: list[Producer]) -> int:
    """The oracle, while the process is dead: the size of the log."""
    result = CliRunner().invoke(audit, ["fsck", str(data)])
    assert result.exit_code == 0, result.output
    head = watcher.look()
    assert head is not None
    fetch = with_full_tiles(lambda path: read(data / "log" / path))
    reader = TreeReader(head.size, head.root, fetch)
    stored = [entry for number in range(-(-head.size // 256)) for entry in reader.entries(number)]
    for producer in producers:
        for seq, index in producer.places.items():
            assert index < head.size, f"acknowledged leaf {seq} is not in the log"
            assert stored[index] == leaf(seq, producer_id=producer.id), f"acknowledged leaf {seq} is not where it was"
    for size, root in watcher.roots.items():
        assert size > head.size or reader.root_at(size) == root, f"the tree of {size} leaves was rewritten"
    assert len(set(stored)) == len(stored), "a leaf stands in the log twice"
    return head.size


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise MissingError(str(path)) from None


async def life(data: Path, producers: list[Producer], draw: Iterator[float]) -> bool:
    """One process from start to kill; whether it got as far as serving."""
    process = start(data)
    try:
        # A third of the kills hit the start and what it recovers; the others come under load.
        port = 0
        if next(draw) < 0.33:
            await asyncio.sleep(0.2 + next(draw) * 0.6)
        else:
            port = await port_of(process)
            assert port, "the node did not start"
            async with asyncio.TaskGroup() as tasks:
                sending = [tasks.create_task(producer.send_to(port)) for producer in producers]
                await asyncio.sleep(0.02 + next(draw) * 0.5)
                process.send_signal(signal.SIGKILL)
                await asyncio.to_thread(process.wait)
                for task in sending:
                    task.cancel()
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    return port != 0


async def test_kill_9_loses_no_acknowledged_leaf_and_shows_no_second_tree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = os.environ.get("AEGIS_KILL_SEED") or os.urandom(8).hex()
    with capsys.disabled():
        print(f"\nkill seed {seed}")  # noqa: T201 whoever sees a failure needs it
    draw, data = numbers(seed), tmp_path / "data"
    producers = [Producer(name, numbers(f"{seed}/{name}")) for name in ("one", "two", "three")]
    size = served = 0

    def acknowledged() -> int:
        return sum(producer.next_seq for producer in producers)

    with Watcher(data / "log") as watcher:
        for _ in range(KILLS):
            served += await life(data, producers, draw)
            if (data / "log/checkpoint").exists():
                grown = check(data, watcher, producers)
                assert grown >= size
                size = grown

        # A last one in peace: everything that was sent becomes durable, and the process ends well.
        process = start(data)
        port = await port_of(process)
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            sending = [tasks.create_task(producer.send_to(port)) for producer in producers]
            # The first acknowledgements are of leaves that the log had already.
            while (head := watcher.look()) is None or head.size <= size or acknowledged() <= 20 * KILLS:
                await asyncio.sleep(0.01)
            for task in sending:
                task.cancel()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 30) == 0
        assert process.stdout is not None
        process.stdout.close()
        assert check(data, watcher, producers) > size
    assert served >= KILLS // 3


async def test_of_two_processes_on_one_log_exactly_one_serves(tmp_path: Path) -> None:
    for _ in range(5):
        racers = [start(tmp_path / "data", stderr=subprocess.PIPE) for _ in range(2)]
        ports = await asyncio.gather(*(port_of(process) for process in racers))

        assert sum(port != 0 for port in ports) == 1
        for process, port in zip(racers, ports, strict=True):
            if port:
                process.send_signal(signal.SIGTERM)
            _, errors = await asyncio.to_thread(process.communicate)
            assert process.returncode == (0 if port else 1)
            assert port or "another process" in errors or "not empty" in errors, errors
    assert CliRunner().invoke(audit, ["fsck", str(tmp_path / "data")]).exit_code == 0
