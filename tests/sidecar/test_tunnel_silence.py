"""A peer that vanished without a word: what may have reached it is not sent twice, what cannot have goes elsewhere."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from policies.snapshot import PolicySnapshot
from sidecar.upstream import UpstreamConnection
from tests.fakes.chat import error_code
from tests.fakes.datapath import DataPath, RawClient, request, running_datapath, snapshot_of
from tests.fakes.tunnels import Stage, eventually, stage
from transport.peers import Endpoint
from transport.tcp.server import StreamInfo
from transport.tunnel.session import Times

QUICK = Times(
    ping_after=0.1, pong_within=10, busy_ping_after=0.1, busy_pong_within=0.5, doubt_after=0.4, busy_look_every=0.02
)
BULK = 4_000_000
"""Bytes of a body that a tunnel without a reader does not take."""


class Model(asyncio.Protocol):
    """Counts what begins to come, and answers what is whole."""

    def __init__(self, seen: list[bytes]) -> None:
        self._seen = seen
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, gap, body = self._data.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if gap and len(body) == int(fields[b"content-length"]):
            self._seen.append(body)
            self._data = b""
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")


@dataclass
class Way:
    """An application, a sidecar's data path, and a peer behind a tunnel."""

    stage: Stage
    datapath: DataPath
    seen: list[bytes]

    async def client(self) -> RawClient:
        return await self.datapath.connect()


@asynccontextmanager
async def way() -> AsyncIterator[Way]:
    seen: list[bytes] = []

    def serve(_: StreamInfo) -> asyncio.Protocol:
        return Model(seen)

    class Dialler:
        async def connect(self, connection: UpstreamConnection, peer: str, within: float) -> None:
            await it.tunnels.create_connection(lambda: connection, peer, deadline=within)

    async with stage(serve, relayed=True, times=QUICK) as it:
        (route,) = snapshot_of("http://secret.internal").routes
        route = replace(route, upstream=replace(route.upstream, peer="bob"))
        snapshot = PolicySnapshot([route], revision=1, source="file")
        async with running_datapath(snapshot, tunnels=Dialler()) as datapath:
            yield Way(it, datapath, seen)


async def test_request_that_never_left_the_process_goes_by_another_tunnel_and_the_others_fail() -> None:
    async with way() as it:
        first = await it.client()
        assert (await first.post(body=b"warm")).status == 200
        endpoints = (it.stage.port, it.stage.relay.target)
        it.stage.peer(endpoints=tuple(Endpoint.parse(f"tcp://127.0.0.1:{port}") for port in endpoints))
        it.stage.relay.frozen = True
        bulk = [await it.client() for _ in range(5)]
        for client in bulk:
            await client.send(request("/v1/chat/completions", bytes(BULK)))
        await eventually(lambda: it.stage.tunnels._links()[0].load == 5)
        await asyncio.sleep(0.1)  # the tunnel's credit is used up
        await first.send(request("/v1/chat/completions", b"small"))

        answer = await first.answer()
        others = [await client.answer() for client in bulk]

        assert answer.status == 200
        assert [each.status for each in others].count(502) >= 4, "what the tunnel's credit let out may have arrived"
        assert {error_code(each.body) for each in others if each.status == 502} == {"aegis_upstream_broken"}
        assert it.seen.count(b"small") == 1
        assert len(it.seen) == 2 + [each.status for each in others].count(200)


async def test_request_that_may_have_arrived_is_an_error_and_is_not_sent_again() -> None:
    async with way() as it:
        client = await it.client()
        assert (await client.post(body=b"warm")).status == 200
        it.stage.relay.frozen = True

        answer = await client.post(body=b"a prompt")

        assert (answer.status, error_code(answer.body)) == (502, "aegis_upstream_broken")
        it.stage.relay.frozen = False
        assert (await client.post(body=b"another")).status == 200
        assert it.seen.count(b"a prompt") <= 1


async def test_stream_that_a_leaving_peer_did_not_serve_is_asked_for_again() -> None:
    """It says REFUSED of a stream that came after its GOAWAY: it did nothing with it."""
    async with way() as it:
        one, other = await it.client(), await it.client()
        assert (await one.post(body=b"warm")).status == 200
        (link,) = it.stage.tunnels._links()
        it.stage.relay.frozen = True
        await one.send(request("/v1/chat/completions", b"on a stream that stood"))
        await other.send(request("/v1/chat/completions", b"on a new one"))
        await eventually(lambda: link.load == 2)
        next(iter(it.stage.server._tunnels)).go_away()
        it.stage.relay.frozen = False

        answers = await one.answer(), await other.answer()

        assert [answer.status for answer in answers] == [200, 200]
        assert sorted(it.seen) == [b"on a new one", b"on a stream that stood", b"warm"]
        assert it.stage.count("aegis_tunnel_handshakes", "dialler", "ech") == 2
