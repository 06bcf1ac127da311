"""Tunnels over TCP on a link that loses packets below TCP: it is slow, and nothing else."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.fakes.lossy_link import lossy_link
from tests.fakes.tunnels import Stage, eventually, stage, view_of
from tests.fakes.weather import Weather
from transport.peers import Endpoint
from transport.tunnel.errors import End, TunnelLostError

pytestmark = [pytest.mark.looptime(False), pytest.mark.slow, pytest.mark.timeout(120)]


@asynccontextmanager
async def far_stage(weather: Weather, **settings: Any) -> AsyncIterator[Stage]:
    """A stage whose server is on the other host."""
    async with lossy_link(weather) as (ours, theirs), stage(**settings) as it:
        with theirs.here():
            it.port = await it.server.listen(theirs.address, 0)
        it.view = view_of(it.mesh, it.port)
        it.peer(endpoints=(Endpoint.parse(f"tcp://{theirs.address}:{it.port}"),))
        with ours.here():  # the loop's thread, and every socket that it opens meanwhile
            try:
                yield it
            finally:
                weather.loss = 0.0
                weather.is_dark = False
                it.tunnels.close()
                it.server.close()
                await asyncio.sleep(0.1)


async def ask(it: Stage, body: bytes) -> bytes:
    stream = await it.connect()
    for at in range(0, len(body), 100_000):
        stream.transport.write(body[at : at + 100_000])
        await stream.until(lambda found: not found.is_paused, within=60)
    stream.transport.write_eof()
    await stream.until(lambda found: found.is_lost, within=60)
    if stream.error is not None:
        raise stream.error
    return bytes(stream.data)


@pytest.mark.parametrize("loss", [0.01, 0.05])
async def test_bulk_and_many_streams_arrive_whole(loss: float) -> None:
    weather = Weather(1, loss=loss, late=0.05, twice=0.02, delay=0.002)
    async with far_stage(weather) as it:
        bulk = os.urandom(2_000_000)
        bodies = [bulk, *(b"%3d" % number * 5000 for number in range(40))]

        answers = await asyncio.gather(*(ask(it, body) for body in bodies))

        assert answers == bodies
        assert weather.counts["lost"] > 20
        assert it.count("aegis_tunnel_ends") == 0


async def test_handshakes_survive_loss_in_the_mode_that_policy_says() -> None:
    weather = Weather(2, loss=0.1, delay=0.002)
    async with far_stage(weather) as it:
        for number in range(10):
            assert await ask(it, b"%d" % number) == b"%d" % number
            it.tunnels.renew()

        assert it.count("aegis_tunnel_handshakes", "dialler", "ech") >= 10
        assert it.told == []


async def test_dark_link_is_noticed_with_the_times_of_a_product() -> None:
    """No FIN, no RST: packets of the kernel's own go unanswered, too, as after a power cut."""
    weather = Weather(3, delay=0.001)
    async with far_stage(weather) as it:
        assert await ask(it, b"warm") == b"warm"
        stream = await it.connect()
        weather.is_dark = True
        began = asyncio.get_running_loop().time()
        stream.transport.write(b"a prompt")
        await stream.until(lambda found: found.is_lost, within=30)

        assert isinstance(stream.error, TunnelLostError)
        assert stream.error.end is End.SILENT
        assert asyncio.get_running_loop().time() - began < 7
        weather.is_dark = False
        await eventually(lambda: it.tunnels.counts() == {"bob": 0})
        assert await ask(it, b"again") == b"again"
