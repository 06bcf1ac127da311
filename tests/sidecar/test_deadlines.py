"""Time runs out: upstreams that are silent, requests that do not go on, connections that idle."""

import asyncio

import pytest

from policies.model import ResultCode
from sidecar.listener import LINGER, ConnectionLimits
from sidecar.services import Limits
from tests.fakes.chat import SSE_HEAD, chunked, error_code, event, prompt
from tests.fakes.datapath import (
    Visit,
    answering_upstream,
    request,
    running_datapath,
    scripted_upstream,
    snapshot_of,
)
from tests.fakes.policies import Swapping, Watching

CHAT = "/v1/chat/completions"
STREAM = prompt("x", stream=True)
READERS = [(), (Watching(),), (Swapping(),)]


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("times", "code", "after"),
    [({"idle_timeout": 20.0}, "aegis_upstream_idle", 20), ({"total_timeout": 30.0}, "aegis_deadline", 30)],
)
async def test_upstream_that_never_answers_is_a_504(times: dict[str, float], code: str, after: float) -> None:
    async def script(visit: Visit) -> None:
        await visit.reader.read()

    async with (
        scripted_upstream(script) as upstream,
        running_datapath(snapshot_of(upstream.url, **times)) as sidecar,  # type: ignore[arg-type]
    ):
        client = await sidecar.connect()
        began = asyncio.get_running_loop().time()

        answer = await client.post()

        took = asyncio.get_running_loop().time() - began
        assert (answer.status, error_code(answer.body)) == (504, code)
        assert after <= took < after + 2
        (entry,) = await sidecar.settled()
        assert entry.result is ResultCode.DEADLINE


@pytest.mark.looptime
@pytest.mark.parametrize("policies", READERS)
async def test_stream_that_falls_silent_ends_in_an_error_event(policies: tuple[Swapping, ...]) -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(SSE_HEAD)
        for _ in range(5):
            await asyncio.sleep(8)
            await visit.send(chunked(event("slowly ")))
        await visit.reader.read()

    async with (
        scripted_upstream(script) as upstream,
        running_datapath(snapshot_of(upstream.url, *policies, idle_timeout=10)) as sidecar,
    ):
        client = await sidecar.connect()

        answer = await client.post(CHAT, STREAM)

        assert answer.body.count(b"slowly") == 5
        assert b"aegis_upstream_idle" in answer.body
        (entry,) = await sidecar.settled()
        assert entry.result is ResultCode.DEADLINE


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: a\r\nX: ", 408),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc", 408),
    ],
)
async def test_request_that_does_not_go_on_is_ended(sent: bytes, status: int) -> None:
    """Slowloris."""
    async with (
        answering_upstream() as upstream,
        running_datapath(snapshot_of(upstream.url, Watching()), limits=Limits(body_timeout=15)) as sidecar,
    ):
        client = await sidecar.connect()
        await client.send(sent)

        answer = await client.answer()

        assert answer.status == status
        assert await client.is_closed()
        assert 9 < asyncio.get_running_loop().time() < 20
        (entry,) = await sidecar.settled()
        assert entry.result is ResultCode.MALFORMED_REQUEST


@pytest.mark.looptime
async def test_client_that_was_told_its_body_is_late_is_not_reset_while_it_still_sends() -> None:
    async with (
        answering_upstream() as upstream,
        running_datapath(snapshot_of(upstream.url, Watching()), limits=Limits(body_timeout=15)) as sidecar,
    ):
        client = await sidecar.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        assert (await client.answer()).status == 408

        await asyncio.sleep(LINGER / 2)

        assert sidecar.listener.connections == 1
        await asyncio.sleep(LINGER)
        assert sidecar.listener.connections == 0


@pytest.mark.looptime
async def test_body_that_goes_on_slowly_gets_its_time() -> None:
    async with (
        answering_upstream() as upstream,
        running_datapath(snapshot_of(upstream.url, Watching()), limits=Limits(body_timeout=15)) as sidecar,
    ):
        client = await sidecar.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n")

        for byte in b"{}":
            await asyncio.sleep(10)
            await client.send(bytes([byte]))

        assert (await client.answer()).status == 200


@pytest.mark.looptime
async def test_head_that_begins_behind_a_request_gets_its_time() -> None:
    async with answering_upstream() as upstream, running_datapath(snapshot_of(upstream.url)) as sidecar:
        client = await sidecar.connect()
        await client.send(request(CHAT, b"{}") + b"GET / HTTP/1.1\r\nHost: a\r\n")
        assert (await client.answer()).status == 200

        await asyncio.sleep(5)
        await client.send(b"\r\n")
        assert (await client.answer()).status == 200

        await client.send(b"GET / HTTP/1.1\r\n")
        began = asyncio.get_running_loop().time()
        assert (await client.answer()).status == 408
        assert 9 < asyncio.get_running_loop().time() - began < 13


@pytest.mark.looptime
async def test_head_that_comes_byte_by_byte_does_not_get_more_time() -> None:
    async with running_datapath(snapshot_of("http://127.0.0.1:9")) as sidecar:
        client = await sidecar.connect()

        async def dribble() -> None:
            for byte in b"GET / HTTP/1.1\r\nX: " + b"y" * 100:
                await client.send(bytes([byte]))
                await asyncio.sleep(1)

        async with asyncio.TaskGroup() as tasks:
            dribbling = tasks.create_task(dribble())
            answer = await client.answer()
            dribbling.cancel()

        assert answer.status == 408
        assert asyncio.get_running_loop().time() < 13


@pytest.mark.looptime
async def test_idle_connections_are_closed_and_busy_ones_are_not() -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await asyncio.sleep(100)
        await visit.answer(b"after all")

    async with (
        scripted_upstream(script) as upstream,
        running_datapath(
            snapshot_of(upstream.url, idle_timeout=200, total_timeout=200),
            connections=ConnectionLimits(idle_timeout=20, head_timeout=5),
        ) as sidecar,
    ):
        silent, busy = await sidecar.connect(), await sidecar.connect()
        await busy.send(request(CHAT, b"{}"))
        began = asyncio.get_running_loop().time()

        assert await silent.is_closed()
        assert asyncio.get_running_loop().time() - began < 10
        assert (await busy.answer()).body == b"after all"
        ended = asyncio.get_running_loop().time()
        assert await busy.is_closed()
        assert 19 < asyncio.get_running_loop().time() - ended < 23
        assert len(await sidecar.settled()) == 1


@pytest.mark.looptime
async def test_unused_connections_to_the_upstream_expire() -> None:
    async with answering_upstream() as upstream, running_datapath(snapshot_of(upstream.url)) as sidecar:
        client = await sidecar.connect()
        await client.post()
        assert sidecar.pools.counts() == {"model": {"open": 1, "idle": 1}}

        await asyncio.sleep(60)

        assert sidecar.pools.counts() == {"model": {"open": 0, "idle": 0}}
