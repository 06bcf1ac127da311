"""Tunnels over loopback TCP: streams as asyncio transports, and everything that ends them."""

import asyncio
import socket
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.mesh import ALICE, BOB, SERVICE, Mesh, ech_key, static_key
from tests.fakes.tunnels import Collector, Echo, directory, eventually, reason_of, refusal, stage, view_of
from transport.decisions import PeerMode, Reason, SecurityEvent, TunnelMode
from transport.ech.config import encode_config_list
from transport.mux.frames import Code
from transport.mux.limits import Limits
from transport.peers import Endpoint
from transport.rollout import Rollout, Switches
from transport.tcp.attempts import NoTunnelError
from transport.tcp.server import StreamInfo
from transport.tcp.stream import StreamResetError
from transport.tunnel.errors import End, TunnelLostError


async def test_a_stream_is_a_connection_to_the_peer() -> None:
    async with stage() as it:
        stream = await it.connect(headers={"traceparent": "00-1-2-01"})
        stream.transport.write(b"ping")
        await stream.until(lambda found: found.data == b"ping")
        stream.transport.write_eof()
        await stream.until(lambda found: found.is_lost)

        assert stream.has_ended
        assert stream.error is None
        assert it.served == [StreamInfo(ALICE, SERVICE, {"traceparent": "00-1-2-01"}, TunnelMode.ECH)]
        assert stream.transport.get_extra_info("peer") == BOB
        assert stream.transport.get_extra_info("service") == SERVICE
        assert stream.transport.get_extra_info("tunnel") is TunnelMode.ECH
        assert stream.transport.get_extra_info("headers") == {"traceparent": "00-1-2-01"}
        assert stream.transport.get_extra_info("ssl_object") is None


async def test_all_streams_of_a_peer_share_a_tunnel() -> None:
    async with stage() as it:
        streams = await asyncio.gather(*(it.connect() for _ in range(20)))
        for number, stream in enumerate(streams):
            stream.transport.write(b"%d" % number)
        for number, stream in enumerate(streams):
            await stream.until(lambda found, number=number: found.data == b"%d" % number)

        assert it.server.tunnels == 1
        assert it.count("aegis_tunnel_handshakes", "dialler", "ech") == 1
        assert it.count("aegis_tunnel_handshakes", "acceptor", "ech") == 1
        assert it.count("aegis_tunnel_streams", "acceptor") == 20
        assert it.tunnels.counts() == {"bob": 1}


async def test_many_streams_get_a_second_tunnel() -> None:
    async with stage() as it:
        for _ in range(40):
            await it.connect()
        await eventually(lambda: it.tunnels.counts() == {"bob": 2})


async def test_bulk_both_ways_arrives_whole() -> None:
    body = bytes(range(256)) * 4096 * 3
    async with stage() as it:
        stream = await it.connect()
        for at in range(0, len(body), 100_000):
            stream.transport.write(body[at : at + 100_000])
            await stream.until(lambda found: not found.is_paused)
        stream.transport.write_eof()
        await stream.until(lambda found: found.is_lost)

        assert stream.data == body
        assert stream.pauses > 0


async def test_a_reader_that_pauses_stops_the_writer_and_nobody_else() -> None:
    served: list[Collector] = []

    def slow(_: StreamInfo) -> Collector:
        served.append(Collector())
        return served[-1]

    async with stage(slow) as it:
        blocked, free = await it.connect(), await it.connect()
        blocked.transport.write(b"x")
        free.transport.write(b"y")
        await eventually(lambda: len(served) == 2 and bool(served[0].data))
        served[0].transport.pause_reading()
        blocked.transport.write(bytes(600_000))
        await blocked.until(lambda found: found.is_paused)
        free.transport.write(b"z" * 100_000)
        await served[1].until(lambda found: len(found.data) == 100_001)
        assert len(served[0].data) == 1
        assert blocked.transport.get_write_buffer_size() >= 600_000 - 256 * 1024

        served[0].transport.resume_reading()
        await served[0].until(lambda found: len(found.data) == 600_001)
        await blocked.until(lambda found: not found.is_paused)


async def test_an_aborted_stream_is_cancelled_at_the_peer() -> None:
    served: list[Collector] = []

    def keep(_: StreamInfo) -> Collector:
        served.append(Collector())
        return served[-1]

    async with stage(keep) as it:
        stream = await it.connect()
        stream.transport.write(b"question")
        await eventually(lambda: bool(served and served[0].data))
        stream.transport.abort()
        await served[0].until(lambda found: found.is_lost)

        assert isinstance(served[0].error, StreamResetError)
        assert served[0].error.code is Code.CANCELLED
        assert not served[0].error.is_unserved
        assert it.server.tunnels == 1


async def test_a_closed_stream_delivers_what_was_written() -> None:
    served: list[Collector] = []

    def keep(_: StreamInfo) -> Collector:
        served.append(Collector())
        return served[-1]

    async with stage(keep) as it:
        stream = await it.connect()
        stream.transport.write(bytes(500_000))
        stream.transport.close()
        stream.transport.write(b"after the close")
        await eventually(lambda: bool(served))
        await served[0].until(lambda found: found.is_lost)

        assert len(served[0].data) == 500_000
        assert served[0].has_ended
        assert served[0].error is None


async def test_a_slow_reader_gets_an_answer_whose_server_has_drained_and_left() -> None:
    class Answering(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(bytes(100_000))
            self.transport.close()

    async with stage(lambda _: Answering()) as it:
        stream = await it.connect()
        stream.transport.pause_reading()
        stream.transport.write(b"question")
        await eventually(lambda: bool(it.served))
        await it.server.drain(10.0)
        await eventually(lambda: it.tunnels.counts() == {"bob": 0})
        assert not stream.is_lost
        stream.transport.resume_reading()
        await stream.until(lambda found: found.is_lost)

        assert (len(stream.data), stream.has_ended, stream.error) == (100_000, True, None)


async def test_nobody_to_serve_is_a_reset() -> None:
    async with stage(lambda _: None) as it:
        stream = await it.connect()
        await stream.until(lambda found: found.is_lost)

        assert isinstance(stream.error, StreamResetError)
        assert stream.error.code is Code.UNAVAILABLE


async def test_a_protocol_that_fails_loses_its_stream_only() -> None:
    class Broken(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            raise ZeroDivisionError

    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    kinds: list[asyncio.Protocol] = [Broken(), Echo()]
    async with stage(lambda _: kinds.pop(0)) as it:
        broken, sound = await it.connect(), await it.connect()
        broken.transport.write(b"x")
        await broken.until(lambda found: found.is_lost)
        sound.transport.write(b"still here")
        await sound.until(lambda found: found.data == b"still here")

        assert isinstance(broken.error, StreamResetError)
    assert [type(context["exception"]) for context in reported] == [ZeroDivisionError]


# --- modes, refusals, and what follows them ---


async def test_without_ech_the_service_is_reached_all_the_same() -> None:
    async with stage() as it:
        it.peer(mode=PeerMode.OFF)
        stream = await it.connect()

        assert stream.transport.get_extra_info("tunnel") is TunnelMode.NO_ECH
        assert it.count("aegis_tunnel_decisions", "no_ech", "peer_off") == 1


async def test_the_kill_switch_takes_ech_and_never_the_tunnel() -> None:
    async with stage() as it:
        it.view = view_of(it.mesh, it.port, switches=Switches(enabled=False))
        stream = await it.connect()

        assert stream.transport.get_extra_info("tunnel") is TunnelMode.NO_ECH
        assert it.told == [SecurityEvent.REQUIRED_OVERRULED]


async def test_a_rollout_of_nothing_reaches_nobody_by_ech() -> None:
    async with stage() as it:
        it.view = view_of(
            it.mesh,
            it.port,
            rollout=Rollout(percentage=0),
            directory=directory(it.mesh, it.port, mode=PeerMode.OPPORTUNISTIC),
        )

        assert (await it.connect()).transport.get_extra_info("tunnel") is TunnelMode.NO_ECH


async def test_a_stale_ech_key_costs_one_retry() -> None:
    async with stage() as it:
        it.view = view_of(it.mesh, it.port, ech_configs=encode_config_list([ech_key(it.mesh.key).config]))
        stream = await it.connect()

        assert stream.transport.get_extra_info("tunnel") is TunnelMode.ECH
        assert it.told == [SecurityEvent.ECH_KEY_STALE]
        assert it.count("aegis_tunnel_handshakes", "dialler", "rejected_with_configs") == 1
        assert it.count("aegis_tunnel_handshakes", "dialler", "ech") == 1
        await eventually(lambda: it.doorman.stale == 1)
        assert it.count("aegis_tunnel_handshakes", "acceptor", "stale_ech") == 1


@pytest.mark.parametrize(
    ("configs", "reason"),
    [(None, Reason.NO_CONFIG), (b"\x00\x04\xfe\x0d\x00\x00", Reason.CONFIG_UNUSABLE)],
    ids=["none", "unusable"],
)
async def test_required_without_a_key_is_no_tunnel(configs: bytes | None, reason: Reason) -> None:
    async with stage() as it:
        it.view = view_of(it.mesh, it.port, ech_configs=configs)

        assert await reason_of(it) is reason
        assert it.count("aegis_tunnel_handshakes") == 0, "nothing was sent"


async def test_opportunistic_without_a_key_goes_without_ech_and_says_so() -> None:
    async with stage() as it:
        it.view = view_of(
            it.mesh,
            it.port,
            ech_configs=None,
            directory=directory(it.mesh, it.port, mode=PeerMode.OPPORTUNISTIC),
        )
        stream = await it.connect()

        assert stream.transport.get_extra_info("tunnel") is TunnelMode.NO_ECH
        assert it.told == [SecurityEvent.ECH_CONFIG_MISSING]


async def test_a_workload_that_is_not_admitted_learns_it_and_its_breaker_opens() -> None:
    async with stage() as it:
        it.mesh.allowed.clear()
        assert await refusal(it) in {End.NOT_ADMITTED, Reason.NOISE_AUTHENTICATION}
        assert it.served == []
        assert it.doorman.events == [SecurityEvent.UNKNOWN_STATIC]
        assert it.told == [SecurityEvent.AUTHENTICATION_FAILED]
        with pytest.raises(NoTunnelError) as caught:
            await it.connect()
        assert caught.value.decision.reason is Reason.BREAKER_OPEN


async def test_another_workload_in_the_peers_place_gets_nothing() -> None:
    """Same certificate, same ECH key, another Noise static: retried as an alert, never without ECH."""
    async with stage() as it:
        it.mesh.bob = static_key()

        with pytest.raises(NoTunnelError) as caught:
            await it.connect()

        assert caught.value.decision.reason is Reason.ALERT
        assert it.count("aegis_tunnel_handshakes", "dialler", "no_ech") == 0
        assert it.count("aegis_tunnel_handshakes", "dialler", "alert") == 4
        assert it.count("aegis_tunnel_handshakes", "acceptor", "noise") == 4
        assert set(it.doorman.events) == {SecurityEvent.AUTHENTICATION_FAILED}


async def test_an_unknown_peer_and_a_revoked_one_are_no_tunnel() -> None:
    async with stage() as it:
        with pytest.raises(NoTunnelError) as caught:
            await it.tunnels.create_connection(Collector, "nobody", deadline=1.0)
        assert caught.value.decision.reason is Reason.UNKNOWN_PEER

        peers = directory(it.mesh, it.port)
        revoked = type(peers)(peers.peers, peers.statics, frozenset([it.mesh.bob.public]))
        it.view = view_of(it.mesh, it.port, directory=revoked)
        with pytest.raises(NoTunnelError) as caught:
            await it.connect()
        assert caught.value.decision.reason is Reason.REVOKED


async def test_a_peer_that_is_down_is_tried_at_its_other_endpoint() -> None:
    async with stage() as it:
        down = Endpoint.parse("tcp://127.0.0.1:1")
        it.peer(endpoints=(down, Endpoint.parse(f"tcp://127.0.0.1:{it.port}")))

        assert await it.connect()
        assert it.count("aegis_tunnel_handshakes", "dialler", "reset") == 1


async def test_a_deadline_ends_the_wait() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with stage() as it:
            it.view = view_of(it.mesh, silent.getsockname()[1])

            with pytest.raises(NoTunnelError) as caught:
                await it.connect(deadline=0.2)

            assert caught.value.decision.reason is Reason.TIMEOUT


async def test_a_fault_of_ours_costs_one_tunnel_and_not_the_process() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    async with stage() as it:
        sound = it.view
        it.view = replace(sound, static=None)  # type: ignore[arg-type]  # the fault

        with pytest.raises(NoTunnelError) as caught:
            await it.connect()

        assert caught.value.decision.mode is TunnelMode.REFUSED
        it.view = sound
        assert await it.connect()
    assert [type(context["exception"]) for context in reported] == [AttributeError]


# --- ends ---


async def test_a_revoked_key_loses_its_tunnels_at_once() -> None:
    async with stage() as it:
        stream = await it.connect()
        stream.transport.write(b"x")
        await stream.until(lambda found: bool(found.data))

        assert it.server.review(lambda tunnel: tunnel.peer_static != static_key().public) == 0
        assert it.server.review(lambda tunnel: tunnel.peer_static != it.mesh.alice.public) == 1
        await stream.until(lambda found: found.is_lost)

        assert isinstance(stream.error, TunnelLostError)
        assert it.server.tunnels == 0
        assert it.count("aegis_tunnel_ends", "acceptor", "revoked") == 1
        assert it.doorman.events == [SecurityEvent.REVOKED_STATIC]


async def test_a_dialler_drops_tunnels_to_a_revoked_key() -> None:
    async with stage() as it:
        stream = await it.connect()

        assert it.tunnels.revoke([it.mesh.bob.public]) == 1
        await stream.until(lambda found: found.is_lost)

        assert isinstance(stream.error, TunnelLostError)
        assert stream.error.end is End.REVOKED


async def test_a_server_that_drains_finishes_what_it_began() -> None:
    async with stage() as it:
        stream = await it.connect()
        stream.transport.write(b"before")
        await stream.until(lambda found: found.data == b"before")

        async with asyncio.TaskGroup() as tasks:
            draining = tasks.create_task(it.server.drain(10.0))
            await eventually(lambda: not it.tunnels.has_room("bob"))
            stream.transport.write(b" and after")
            await stream.until(lambda found: found.data == b"before and after")
            assert not draining.done()
            stream.transport.write_eof()
            await stream.until(lambda found: found.is_lost)

        assert stream.error is None
        assert it.server.tunnels == 0


async def test_new_policy_renews_tunnels_without_losing_a_stream() -> None:
    async with stage() as it:
        old = await it.connect()
        it.tunnels.renew()
        new = await it.connect()
        for stream in (old, new):
            stream.transport.write(b"served")
            await stream.until(lambda found: found.data == b"served")
            stream.transport.write_eof()
            await stream.until(lambda found: found.is_lost)
            assert stream.error is None

        assert it.count("aegis_tunnel_handshakes", "dialler", "ech") == 2


async def test_an_acceptor_knows_its_own_mesh_only() -> None:
    """A flight meant for somebody with other ECH keys and another name is a web server's business."""
    other = Mesh()
    async with stage() as it:
        it.view = view_of(other, it.port)
        with pytest.raises(NoTunnelError):
            await it.connect()

        assert it.served == []


async def test_streams_that_do_not_end_are_not_waited_for_for_ever() -> None:
    async with stage(lambda _: Collector()) as it:
        stream = await it.connect()
        await eventually(lambda: bool(it.served))
        await it.server.drain(0.05)
        await stream.until(lambda found: found.is_lost)

        assert isinstance(stream.error, TunnelLostError)
        assert it.server.tunnels == 0
        with pytest.raises(NoTunnelError):
            await it.connect(deadline=0.3)


async def test_a_stream_that_a_leaving_server_has_not_seen_was_not_served() -> None:
    async with stage() as it:
        await it.tunnels.warm("bob")
        await eventually(lambda: it.server.tunnels == 1)
        stream = await it.connect()
        await it.server.drain(0.05)
        await stream.until(lambda found: found.is_lost)

        assert isinstance(stream.error, StreamResetError)
        assert stream.error.is_unserved
        assert it.served == []


async def test_a_stream_that_nobody_can_make_is_not_its_tunnels_fault() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    def fail(_: StreamInfo) -> asyncio.Protocol:
        raise LookupError

    async with stage(fail) as it:
        stream = await it.connect()
        await stream.until(lambda found: found.is_lost)

        assert isinstance(stream.error, StreamResetError)
        assert it.tunnels.has_room("bob")
    assert [type(context["exception"]) for context in reported] == [LookupError]


async def test_a_tunnel_that_is_full_is_not_the_last_one() -> None:
    async with stage(limits=Limits(streams=2)) as it:
        streams = [await it.connect() for _ in range(4)]
        for stream in streams:
            stream.transport.write(b"x")
            await stream.until(lambda found: bool(found.data))

        assert it.tunnels.counts() == {"bob": 2}


async def test_a_reception_that_cannot_be_made_hangs_nobody() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    async with stage() as it:
        reception, it.server._reception = it.server._reception, lambda: {}["keys"]
        reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
        assert await reader.read() == b""
        writer.close()
        it.server._reception = reception
        assert await it.connect()
    assert [type(context["exception"]) for context in reported] == [KeyError]


async def test_a_tunnel_that_comes_to_be_while_its_server_leaves_takes_no_streams() -> None:
    async with stage(relayed=True) as it:
        it.relay.delay = 0.02
        async with asyncio.TaskGroup() as tasks:
            kept = await it.connect()  # keeps the server from being done at once
            await eventually(lambda: bool(it.served))
            it.tunnels.renew()
            warming = tasks.create_task(it.tunnels.warm("bob"))
            await eventually(lambda: bool(it.server._handshaking))
            draining = tasks.create_task(it.server.drain(10.0))
            await warming
            await eventually(lambda: not it.tunnels.has_room("bob"))
            kept.transport.close()
            await draining

        assert it.server.tunnels == 0
