"""Whoever reads slowly slows down whoever sends, and gets everything."""

import asyncio
import socket

import pytest

from policies.model import ResultCode
from sidecar.services import Limits
from tests.fakes.chat import prompt
from tests.fakes.datapath import (
    Visit,
    request,
    running_datapath,
    scripted_upstream,
    snapshot_of,
)
from tests.fakes.policies import Watching

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize("policies", [(), (Watching(),)])
async def test_slow_reader_pauses_the_upstream_and_gets_everything(policies: tuple[Watching, ...]) -> None:
    """T20."""
    size = 20 * 1024 * 1024
    sent = 0

    async def script(visit: Visit) -> None:
        nonlocal sent
        await visit.request()
        visit.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        await visit.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        for _ in range(size // 65536):
            await visit.send(b"x" * 65536)
            sent += 65536

    async with (
        scripted_upstream(script) as upstream,
        running_datapath(snapshot_of(upstream.url, *policies)) as sidecar,
    ):
        client = await sidecar.connect()
        # The kernel's own buffers grow to 10 MB a connection, which two of them would make as much as the answer.
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        await client.send(request(CHAT, prompt("x")))
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await sidecar.begun()
        (connection,) = sidecar.listener._connections
        before, still = -1, 0
        async with asyncio.timeout(15):
            while still < 10:
                await asyncio.sleep(0.01)
                before, still = sent, still + 1 if connection._is_full and before == sent else 0

        assert sent < size
        assert connection._transport.get_write_buffer_size() < 1024 * 1024
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert len((await client.answer()).body) == size


@pytest.mark.looptime
async def test_client_that_never_reads_is_let_go() -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
        while True:
            await visit.send(b"x" * 65536)

    async with (
        scripted_upstream(script) as upstream,
        running_datapath(snapshot_of(upstream.url), limits=Limits(stall_timeout=30)) as sidecar,
    ):
        client = await sidecar.connect()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(request(CHAT, b"{}"))

        (entry,) = await sidecar.settled_within(60)

        assert entry.result is ResultCode.CLIENT_GONE


async def test_slow_upstream_pauses_the_client_and_gets_everything() -> None:
    size = 20 * 1024 * 1024
    gate = asyncio.Event()

    async def script(visit: Visit) -> None:
        visit.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await gate.wait()
        visit.writer.transport.resume_reading()  # type: ignore[attr-defined]
        message = await visit.request()
        await visit.answer(b"%d" % len(message.body))

    async with scripted_upstream(script) as upstream, running_datapath(snapshot_of(upstream.url)) as sidecar:
        client = await sidecar.connect()
        client.writer.write(request(CHAT, b"x" * size))
        await _eventually(lambda: all(connection._paused for connection in sidecar.listener._connections))

        gate.set()

        assert (await client.answer()).body == b"%d" % size


async def _eventually(condition: object) -> None:
    async with asyncio.timeout(5):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.005)
