"""The client goes away: whoever works for it stops at once. Always exactly one leaf."""

import asyncio
from contextlib import suppress

import pytest

from policies.model import ResultCode
from tests.fakes.chat import SSE_HEAD, chunked, completion, event, prompt
from tests.fakes.datapath import (
    Visit,
    answering_upstream,
    request,
    running_datapath,
    scripted_upstream,
    snapshot_of,
)
from tests.fakes.policies import Dwelling, Pondering, Swapping, Watching

CHAT = "/v1/chat/completions"
STREAM = prompt("x", stream=True)
READERS = [(), (Watching(),), (Swapping(),)]


@pytest.mark.parametrize("policies", READERS)
@pytest.mark.parametrize("moment", ["before the answer", "within the stream"])
async def test_client_that_goes_away_cancels_the_upstream_at_once(policies: tuple[Swapping, ...], moment: str) -> None:
    """T19."""
    cancelled: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def script(visit: Visit) -> None:
        await visit.request()
        if moment == "within the stream":
            await visit.send(SSE_HEAD + chunked(event("begun")))
        with suppress(ConnectionError):
            await visit.reader.read(1)
        cancelled.set_result(asyncio.get_running_loop().time())

    async with (
        scripted_upstream(script) as upstream,
        running_datapath(snapshot_of(upstream.url, *policies)) as sidecar,
    ):
        client = await sidecar.connect()
        await client.send(request(CHAT, STREAM))
        await _eventually(lambda: upstream.visits)
        if moment == "within the stream":
            await client.reader.readuntil(b"begun")

        gone_at = asyncio.get_running_loop().time()
        client.close()

        assert await cancelled - gone_at < 0.1
        (entry,) = await sidecar.settled()
        assert entry.result is ResultCode.CLIENT_GONE
        assert entry.status == (200 if moment == "within the stream" else 0)


async def test_client_that_goes_away_while_its_prompt_is_inspected_sends_nothing() -> None:
    pondering = Pondering()
    async with answering_upstream() as upstream, running_datapath(snapshot_of(upstream.url, pondering)) as sidecar:
        client = await sidecar.connect()
        await client.send(request(CHAT, prompt("long " * 100_000)))
        await _eventually(pondering.has_begun.is_set)

        client.reset()

        (entry,) = await sidecar.settled()
        assert entry.result is ResultCode.CLIENT_GONE
        pondering.may_end.set()
        await _eventually(pondering.has_ended.is_set)
        await asyncio.sleep(0.01)
        assert not upstream.visits


async def test_client_that_goes_away_while_its_long_answer_is_restored_leaves_a_leaf() -> None:
    dwelling = Dwelling()
    body = completion("[NAME-000001] " * 10_000)
    async with answering_upstream(body) as upstream, running_datapath(snapshot_of(upstream.url, dwelling)) as sidecar:
        client = await sidecar.connect()
        await client.send(request(CHAT, prompt("Alice")))
        await _eventually(dwelling.has_begun.is_set)

        client.reset()

        (entry,) = await sidecar.settled()
        assert entry.result is ResultCode.CLIENT_GONE
        assert entry.findings == {"name": 1}
        dwelling.may_end.set()
        await _eventually(dwelling.has_ended.is_set)
        await asyncio.sleep(0.01)
        assert len(sidecar.trail.entries) == 1


async def test_client_that_goes_away_in_the_middle_of_its_request_leaves_a_leaf() -> None:
    async with answering_upstream() as upstream, running_datapath(snapshot_of(upstream.url)) as sidecar:
        client = await sidecar.connect()
        await client.send(request(CHAT, b"x" * 1000)[:500])
        await sidecar.begun()

        client.reset()

        (entry,) = await sidecar.settled()
        assert entry.result is ResultCode.CLIENT_GONE


async def _eventually(condition: object) -> None:
    async with asyncio.timeout(5):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.005)
