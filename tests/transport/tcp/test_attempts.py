"""Attempts that come to nothing: what they are counted as, and what is tried next."""

import asyncio
import socket
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.mesh import ech_key
from tests.fakes.tunnels import reason_of, stage, view_of
from transport.decisions import Reason, SecurityEvent
from transport.ech.config import encode_config_list
from transport.fallback import Counts
from transport.peers import Endpoint
from transport.tcp.attempts import Attempts
from transport.tcp.meter import Meter
from transport.tls13.record import BufferPool


async def test_a_peer_that_says_nothing_is_counted_as_one_that_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever clock strikes first: that of the attempt, or that of the link, which begins after connecting."""
    loop = asyncio.get_running_loop()
    connect = loop.create_connection

    async def slowly(*args: Any, **options: Any) -> Any:
        await asyncio.sleep(0.02)
        return await connect(*args, **options)

    monkeypatch.setattr(loop, "create_connection", slowly)
    monkeypatch.setattr("transport.tcp.attempts.ATTEMPT_WITHIN", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with stage() as it:
            it.view = view_of(it.mesh, silent.getsockname()[1])

            assert await reason_of(it) is Reason.TIMEOUT
            assert it.count("aegis_tunnel_handshakes", "dialler", "timeout") == 4
            assert it.count("aegis_tunnel_handshakes") == 4


async def test_an_endpoint_with_an_impossible_name_is_passed_over() -> None:
    async with stage() as it:
        nowhere = Endpoint.parse(f"tcp://{'0' * 64}.internal:1")
        it.peer(endpoints=(nowhere, Endpoint.parse(f"tcp://127.0.0.1:{it.port}")))

        assert await it.connect()
        assert it.count("aegis_tunnel_decisions", "ech", "reset") == 1


async def test_retry_configs_with_a_key_that_is_none_are_unusable() -> None:
    """Of the right length, and no point: found when it is encrypted to, and no reason to fail in another way."""
    async with stage() as it:
        useless = replace(it.mesh.key.config, public_key=bytes(32))
        reception = it.mesh.reception(ech_retry=(useless,))
        it.server._reception = lambda: reception
        it.view = view_of(it.mesh, it.port, ech_configs=encode_config_list([ech_key(it.mesh.key).config]))

        assert await reason_of(it) is Reason.CONFIG_UNUSABLE
        assert it.told == [SecurityEvent.ECH_KEY_STALE, SecurityEvent.ECH_CONFIG_UNUSABLE]


async def test_the_one_attempt_after_a_hold_may_take_another_endpoint() -> None:
    """Whether the peer is itself again was not told by an endpoint that is down."""
    async with stage() as it:
        it.peer(endpoints=(Endpoint.parse("tcp://127.0.0.1:1"), Endpoint.parse(f"tcp://127.0.0.1:{it.port}")))
        attempts = Attempts("bob", meter=Meter(it.registry), buffers=BufferPool(), on_event=lambda *_: None)
        attempts._breaker.failed(Counts.AUTHENTICATION, asyncio.get_running_loop().time() - 61)

        link = await attempts.dial(it.view)

        assert link.has_room
        link.close()


async def test_endpoints_that_are_gone_are_forgotten() -> None:
    async with stage() as it:
        sound = Endpoint.parse(f"tcp://127.0.0.1:{it.port}")
        for port in range(1, 5):
            it.peer(endpoints=(Endpoint.parse(f"tcp://127.0.0.1:{port}"), sound))
            it.tunnels.renew()
            assert await it.connect()

        assert len(it.tunnels._pools["bob"].attempts._breakers) == 2
