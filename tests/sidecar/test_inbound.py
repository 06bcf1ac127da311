"""Requests of other workloads: routes of their own, and everything in the name of who sent them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from policies.snapshot import BlockedRoute, PolicySnapshot, Route
from sidecar.inbound import MAX_KEPT, InboundStreams
from sidecar.listener import ConnectionLimits
from tests.fakes.chat import completion, error_code, prompt
from tests.fakes.datapath import DataPath, RawClient, answering_upstream, running_datapath, snapshot_of

BOT, OTHER = "spiffe://mesh.local/ns/app/sa/bot", "spiffe://mesh.local/ns/app/sa/other"


def routes(url: str) -> list[Route]:
    """One route for the application, and one for the tunnel of the peer `llm`."""
    (ours,) = snapshot_of(url, prefix="/local").routes
    return [ours, replace(ours, name="theirs", prefix="/", inbound="llm")]


@asynccontextmanager
async def inbound(datapath: DataPath, workload: str) -> AsyncIterator[tuple[InboundStreams, RawClient]]:
    """A connection on which `workload` speaks as through the tunnel of the peer `llm`."""
    streams = InboundStreams(datapath.services, datapath.deadlines, ConnectionLimits())
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: streams.stream(workload, "llm"), "127.0.0.1", 0)
    client = await RawClient.connect(server.sockets[0].getsockname()[1])
    try:
        yield streams, client
    finally:
        client.reset()
        streams.abort()
        server.close()


async def test_tunnel_and_application_have_routes_of_their_own() -> None:
    async with answering_upstream(completion("hi")) as upstream:
        snapshot = PolicySnapshot(routes(upstream.url), revision=1, source="file")
        async with running_datapath(snapshot) as datapath, inbound(datapath, BOT) as (_, caller):
            application = await datapath.connect()

            theirs = await caller.post("/v1/chat/completions", prompt("hello"))
            ours = await application.post("/local/v1/chat/completions", prompt("hello"))
            astray = await application.post("/v1/chat/completions", prompt("hello"))

            assert (theirs.status, ours.status, astray.status) == (200, 200, 404)
            assert b"/local" in astray.body
            assert [entry.route for entry in await datapath.settled(3)] == ["theirs", "test", ""]


async def test_ban_holds_for_the_workload_that_earned_it() -> None:
    async with answering_upstream(completion("hi")) as upstream:
        snapshot = PolicySnapshot(routes(upstream.url), revision=1, source="file")
        async with (
            running_datapath(snapshot) as datapath,
            inbound(datapath, BOT) as (_, bot),
            inbound(datapath, OTHER) as (_, other),
        ):
            datapath.effects.banned_peers.add(BOT)

            refused, served = await bot.post(body=prompt("x")), await other.post(body=prompt("x"))

            assert (refused.status, served.status) == (403, 200)


async def test_blocked_inbound_route_blocks_the_tunnel_only() -> None:
    async with answering_upstream(completion("hi")) as upstream:
        (ours, _) = routes(upstream.url)
        blocked = [BlockedRoute("theirs", "/", {}, "llm")]
        snapshot = PolicySnapshot([replace(ours, prefix="/")], revision=1, source="file", blocked=blocked)
        async with running_datapath(snapshot) as datapath, inbound(datapath, BOT) as (_, caller):
            application = await datapath.connect()

            theirs, ours_answer = await caller.post(body=prompt("x")), await application.post(body=prompt("x"))

            assert (theirs.status, ours_answer.status) == (503, 200)
            assert error_code(theirs.body)


async def test_draining_ends_idle_streams() -> None:
    async with answering_upstream(completion("hi")) as upstream:
        snapshot = PolicySnapshot(routes(upstream.url), revision=1, source="file")
        async with running_datapath(snapshot) as datapath, inbound(datapath, BOT) as (streams, caller):
            await caller.post(body=prompt("x"))
            assert (streams.connections, streams.exchanges) == (1, 0)

            streams.stop_accepting()
            await streams.drained()

            assert await caller.is_closed()


async def test_caller_beyond_those_that_are_remembered_is_served_while_all_others_are_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sidecar.inbound.MAX_KEPT", 1)
    async with answering_upstream(completion("hi")) as upstream:
        snapshot = PolicySnapshot(routes(upstream.url), revision=1, source="file")
        async with running_datapath(snapshot) as datapath, inbound(datapath, BOT) as (streams, caller):
            await caller.post(body=prompt("x"))

            streams.stream(OTHER, "llm")

            assert [workload for workload, _ in streams._listeners] == [BOT, OTHER]


async def test_callers_that_are_gone_are_forgotten() -> None:
    async with running_datapath(None) as datapath:
        streams = InboundStreams(datapath.services, datapath.deadlines, ConnectionLimits())

        for number in range(MAX_KEPT + 10):
            streams.stream(f"spiffe://mesh.local/{number}", "llm")

        assert len(streams._listeners) == MAX_KEPT
