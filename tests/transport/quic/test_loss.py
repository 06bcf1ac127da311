"""Tunnels over QUIC on a network that loses, repeats and reorders datagrams: nothing of what was promised is lost."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

pytest.importorskip("aioquic", reason="the extra quic is not installed")

from tests.fakes.mesh import CREDENTIAL
from tests.fakes.tunnels import Collector, Stage, stage
from tests.fakes.udp_relay import udp_relay
from tests.fakes.weather import Weather
from transport.decisions import TunnelMode
from transport.peers import Endpoint
from transport.quic import tunnels
from transport.tls13.config import ServerConfig
from transport.tunnel.errors import End, TunnelLostError
from transport.tunnel.session import Times

pytestmark = [pytest.mark.looptime(False), pytest.mark.timeout(120)]
BAD = {"loss": 0.05, "late": 0.1, "twice": 0.05}


@asynccontextmanager
async def quic_stage(weather: Weather, **settings: Any) -> AsyncIterator[Stage]:
    async with stage(datagrams=tunnels, **settings) as it:
        listener = await tunnels.listen(it.server, ServerConfig((CREDENTIAL,), alpn=(b"h3",)), "127.0.0.1", 0)
        async with udp_relay(listener.port, weather) as port:
            it.peer(endpoints=(Endpoint.parse(f"quic://127.0.0.1:{port}"),))
            try:
                yield it
            finally:
                weather.loss = weather.late = weather.twice = 0.0
                it.tunnels.close()
                it.server.close()
                await asyncio.sleep(0)
                listener.close()


async def ask(it: Stage, body: bytes) -> bytes:
    stream = await it.connect()
    await said(stream, body)
    return bytes(stream.data)


async def said(stream: Collector, body: bytes) -> None:
    for at in range(0, len(body), 60_000):
        stream.transport.write(body[at : at + 60_000])
        await stream.until(lambda found: not found.is_paused)
    stream.transport.write_eof()
    await stream.until(lambda found: found.is_lost, within=60)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_handshake_with_ech_survives_the_loss_of_every_fifth_datagram(seed: int) -> None:
    weather = Weather(seed, loss=0.2)
    async with quic_stage(weather) as it:
        stream = await it.connect()
        stream.transport.write(b"ping")
        await stream.until(lambda found: found.data == b"ping")

        assert stream.transport.get_extra_info("tunnel") is TunnelMode.ECH
        assert it.told == [], "loss is no reason to leave anything out"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
async def test_bulk_arrives_whole_although_datagrams_are_lost_repeated_and_overtaken(seed: int) -> None:
    weather = Weather(seed, **BAD)
    body = os.urandom(1_000_000)
    async with quic_stage(weather) as it:
        assert await ask(it, body) == body

    assert min(weather.counts[what] for what in ("lost", "late", "twice")) > 20


@pytest.mark.slow
async def test_many_streams_arrive_whole_and_none_mixes_with_another() -> None:
    weather = Weather(4, **BAD)
    async with quic_stage(weather) as it:
        bodies = [b"%3d" % number * 7000 for number in range(40)]

        answers = await asyncio.gather(*(ask(it, body) for body in bodies))

        assert answers == bodies
        assert it.count("aegis_tunnel_ends") == 0
        assert it.count("aegis_tunnel_decisions", "refused", "timeout") == 0


async def test_network_that_falls_dark_is_noticed_by_both_ends() -> None:
    quick = Times(ping_after=0.2, pong_within=0.5, busy_ping_after=0.2, busy_pong_within=0.5, busy_look_every=0.05)
    weather = Weather()
    async with quic_stage(weather, times=quick) as it:
        stream = await it.connect()
        stream.transport.write(b"x")
        await stream.until(lambda found: bool(found.data))
        weather.is_dark = True
        await stream.until(lambda found: found.is_lost)

        assert isinstance(stream.error, TunnelLostError)
        assert stream.error.end is End.SILENT
        weather.is_dark = False
        assert await ask(it, b"again") == b"again"
