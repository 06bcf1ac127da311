"""What only many exchanges, many connections or long bodies show, in a sidecar as its users start it."""

import asyncio
import json
import re
import resource
import signal
import statistics
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.fakes.chat import completion, content_of, prompt
from tests.fakes.datapath import RawClient, Visit, answering_upstream, request, scripted_upstream
from tests.sidecar.test_app import CHAT, ask, connected, policy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

MIB = 1024 * 1024


class Process:
    """A sidecar in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, ports: dict[str, int]) -> None:
        self.pid = process.pid
        self.port = ports["listen"]
        self.ports = ports

    @property
    def rss(self) -> int:
        """Bytes of resident memory."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found is not None
        return int(found[1]) * 1024


@asynccontextmanager
async def running_process(tmp_path: Path, text: str, free_ports: list[int]) -> AsyncIterator[Process]:
    ports = dict(zip(("listen", "ready", "metrics", "admin"), free_ports, strict=False))
    (tmp_path / "policy.yaml").write_text(text)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "aegis", "sidecar", "--policy-file", str(tmp_path / "policy.yaml")),
        *("--data", str(tmp_path / "data"), "--idle-timeout", "10m", "--head-timeout", "10m"),
        *(part for name, port in ports.items() for part in (f"--{name}", f"127.0.0.1:{port}")),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(60):
            while await _status(ports["ready"]) != 200:
                await asyncio.sleep(0.1)
        yield Process(process, ports)
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


async def _status(port: int) -> int:
    try:
        return (await ask(port, "GET", "/healthz/ready")).status
    except (OSError, asyncio.IncompleteReadError):
        return 0


async def test_memory_stays_flat_over_twenty_thousand_exchanges(tmp_path: Path, free_ports: list[int]) -> None:
    """T28, with the audit sink down: every leaf stays in the spool."""
    body = completion("All is well.")
    async with answering_upstream(body) as upstream:
        upstream.requests = _Nothing()  # the fake must not be what grows
        async with running_process(tmp_path, policy(upstream.url), free_ports) as sidecar:

            async def ask_often(times: int) -> None:
                async with connected(sidecar.port) as client:
                    for number in range(times):
                        answer = await client.post(CHAT, prompt(f"Record {number} of Ada, SSN 536-22-8726, please"))
                        assert answer.body == body

            async def wave(times: int) -> int:
                async with asyncio.TaskGroup() as tasks:
                    for _ in range(8):
                        tasks.create_task(ask_often(times))
                return sidecar.rss

            await wave(500)
            early = await wave(1000)
            late = await wave(1000)

            assert late < early + 4 * MIB
            assert late < 90 * MIB


async def test_ten_thousand_idle_connections_cost_little_and_disturb_nobody(
    tmp_path: Path, free_ports: list[int]
) -> None:
    count = 10_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count + 500:
        pytest.skip(f"at most {hard} open files are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        async with (
            answering_upstream(completion("ok")) as upstream,
            running_process(tmp_path, policy(upstream.url, airlock="none"), free_ports) as sidecar,
        ):
            async with connected(sidecar.port) as client:
                await client.post(CHAT, prompt("x"))
            before = sidecar.rss
            idle = []
            for _ in range(count // 100):
                idle += await asyncio.gather(*(RawClient.connect(sidecar.port) for _ in range(100)))

            async with connected(sidecar.port) as client:
                answer = await client.post(CHAT, prompt("x"))

            each = (sidecar.rss - before) / count
            for one in idle:
                one.reset()
            assert content_of(answer.body) == "ok"
            assert each < 64 * 1024
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_floods_of_identifiers_do_not_hold_up_small_requests(tmp_path: Path, free_ports: list[int]) -> None:
    """20 bodies of 576 KiB with an identifier every 18 bytes, answered with themselves: at first they held up everybody
    else for 7 seconds."""

    async def script(visit: Visit) -> None:
        while True:
            asked = json.loads((await visit.request()).body)
            await visit.answer(completion(asked["messages"][-1]["content"]))

    def flood(number: int) -> str:
        return "".join([f"u{number:02}{at:06}@ab.org " for at in range(576 * 1024 // 18)])

    async with (
        scripted_upstream(script) as upstream,
        running_process(tmp_path, policy(upstream.url), free_ports) as sidecar,
        connected(sidecar.port) as small,
    ):
        loop = asyncio.get_running_loop()

        async def one(text: str) -> float:
            async with connected(sidecar.port) as client:
                began = loop.time()
                answer = await client.post(CHAT, prompt(text))
                assert answer.status == 200
                assert content_of(answer.body) == text
                return loop.time() - began

        texts = [flood(number) for number in range(20)]
        async with asyncio.TaskGroup() as tasks:
            floods = [tasks.create_task(one(text)) for text in texts]
            waits = []
            while not all(task.done() for task in floods):
                await asyncio.sleep(0.02)
                began = loop.time()
                answer = await small.post(CHAT, prompt("Dear Ms Ada Byron, SSN 536-22-8726"))
                waits.append(loop.time() - began)
                assert content_of(answer.body) == "Dear Ms Ada Byron, SSN 536-22-8726"

        assert statistics.median(waits) < 0.05
        assert max(waits) < max(task.result() for task in floods) / 5


async def test_body_of_32_mib_passes_and_one_byte_more_does_not(tmp_path: Path, free_ports: list[int]) -> None:
    """T23."""

    async def script(visit: Visit) -> None:
        while True:
            message = await visit.request()
            await visit.answer(completion(str(len(message.body))))

    async with (
        scripted_upstream(script) as upstream,
        running_process(tmp_path, policy(upstream.url), free_ports) as sidecar,
        connected(sidecar.port) as client,
    ):
        fitting = prompt("river " * (2 * MIB)).ljust(32 * MIB)  # the airlock reads up to 16 Mi characters
        assert len(fitting) == 32 * MIB

        answer = await client.post(CHAT, fitting)
        after = sidecar.rss
        await client.send(request(CHAT, fitting + b" "))
        refused = await client.answer()

        assert content_of(answer.body) == str(32 * MIB)
        assert refused.status == 413
        assert after < 600 * MIB


async def test_twenty_mib_echo_is_intact_and_a_slow_reader_does_not_fill_the_sidecar(
    tmp_path: Path, free_ports: list[int]
) -> None:
    """T20."""
    size = 200 * MIB

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: %d\r\n\r\n" % size
        )
        piece = bytes(range(256)) * 256
        for _ in range(size // len(piece)):
            await visit.send(piece)

    async with (
        scripted_upstream(script) as upstream,
        running_process(tmp_path, policy(upstream.url, airlock="none"), free_ports) as sidecar,
        connected(sidecar.port) as client,
    ):
        before = sidecar.rss
        await client.send(request(CHAT, prompt("x")))
        read = 0
        head = await client.reader.readuntil(b"\r\n\r\n")
        while read < size:
            data = await client.reader.read(65536)
            assert data
            assert data[0] == read % 256
            read += len(data)
            if read < 2 * MIB:
                await asyncio.sleep(0.05)
        assert head.startswith(b"HTTP/1.1 200")
        assert sidecar.rss < before + 30 * MIB


class _Nothing(list[object]):
    def append(self, _: object) -> None:
        """Forgets it."""
