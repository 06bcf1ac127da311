"""Networks that break, peers that hang, strangers that knock: what was promised survives, what did not is told."""

import asyncio
import os
import socket
from dataclasses import replace
from typing import Any

import pytest
import uvloop

from tests.fakes.mesh import Mesh, ech_key, static_key
from tests.fakes.tunnels import Stage, eventually, stage, view_of
from transport.decisions import PeerMode, TunnelMode
from transport.ech.config import encode_config_list
from transport.peers import Endpoint, PeerDirectory, Statics
from transport.tcp.attempts import NoTunnelError
from transport.tcp.server import Bounds
from transport.tcp.stream import StreamResetError
from transport.tunnel.errors import End, TunnelLostError
from transport.tunnel.session import Times

QUICK = Times(
    ping_after=0.05,
    pong_within=0.1,
    busy_ping_after=0.05,
    busy_pong_within=0.4,
    doubt_after=0.1,
    look_every=0.02,
    busy_look_every=0.02,
)


async def ask(it: Stage, body: bytes) -> bytes:
    """One request and its whole answer. Raises what the stream was lost by."""
    stream = await it.connect()
    stream.transport.write(body)
    stream.transport.write_eof()
    await stream.until(lambda found: found.is_lost)
    if stream.error is not None:
        raise stream.error
    return bytes(stream.data)


async def cut_off(reader: asyncio.StreamReader) -> bool:
    """Whether the connection ends without a word."""
    try:
        return not await reader.read()
    except ConnectionResetError:
        return True


# --- the network ---


async def test_the_first_answer_takes_one_round_trip_more_than_tcp_itself() -> None:
    """Hello, flight, then message 3 and the request together, then the answer: as many turns as plain TLS takes."""
    async with stage(relayed=True) as it:
        stream = await it.connect()
        stream.transport.write(b"question")
        await stream.until(lambda found: found.data == b"question")

        turns = [direction for direction, _ in it.relay.flights]
        assert turns[:3] == ["up", "down", "up"]
        assert len(turns) <= 6, "and a PING that crosses"


@pytest.mark.parametrize("chop", [1, 13, 1000])
async def test_bytes_that_come_one_by_one_change_nothing(chop: int) -> None:
    async with stage(relayed=True) as it:
        it.relay.chop = chop

        assert await ask(it, b"x" * chop * 3000) == b"x" * chop * 3000


async def test_a_slow_network_loses_nothing() -> None:
    async with stage(relayed=True) as it:
        it.relay.delay = 0.005
        answers = await asyncio.gather(*(ask(it, b"%d" % n * 20_000) for n in range(10)))

        assert answers == [b"%d" % n * 20_000 for n in range(10)]


async def test_a_reset_loses_streams_loudly_and_the_next_request_gets_a_new_tunnel() -> None:
    async with stage(relayed=True) as it:
        streams = await asyncio.gather(*(it.connect() for _ in range(5)))
        for stream in streams:
            stream.transport.write(b"x")
            await stream.until(lambda found: bool(found.data))
        it.relay.reset()
        for stream in streams:
            await stream.until(lambda found: found.is_lost)

        assert all(isinstance(stream.error, TunnelLostError) for stream in streams)
        assert await ask(it, b"again") == b"again"
        assert it.count("aegis_tunnel_ends", "dialler", "lost") == 1


async def test_a_half_open_tunnel_is_found_by_both_ends() -> None:
    async with stage(relayed=True, times=QUICK) as it:
        stream = await it.connect()
        stream.transport.write(b"x")
        await stream.until(lambda found: bool(found.data))
        it.relay.frozen = True
        await stream.until(lambda found: found.is_lost)

        assert isinstance(stream.error, TunnelLostError)
        assert stream.error.end is End.SILENT
        await eventually(lambda: it.server.tunnels == 0)
        assert it.count("aegis_tunnel_ends", "acceptor", "silent") == 1


@pytest.mark.slow
async def test_a_peer_that_vanished_is_noticed_within_seconds_of_the_first_request() -> None:
    """With the times of a product: a request used to wait for up to 35 s."""
    async with stage(relayed=True) as it:
        await it.tunnels.warm("bob")
        await eventually(lambda: it.server.tunnels == 1)
        await asyncio.sleep(3)  # a warm tunnel at rest, and then the power goes
        it.relay.frozen = True
        began = asyncio.get_running_loop().time()
        stream = await it.connect()
        stream.transport.write(b"a prompt")
        await stream.until(lambda found: found.is_lost)

        assert isinstance(stream.error, TunnelLostError)
        assert stream.error.end is End.SILENT
        assert asyncio.get_running_loop().time() - began < 6
        assert stream.transport.get_extra_info("unsent") == 0, "it may have arrived: nobody may send it again"
        assert len(it.served) == 0


@pytest.mark.parametrize("mode", [PeerMode.REQUIRED, PeerMode.OFF])
async def test_requests_go_to_another_endpoint_as_soon_as_there_is_doubt(mode: PeerMode) -> None:
    """... in the same mode, and the tunnel in doubt is not given anything new."""
    async with stage(relayed=True, times=QUICK) as it:
        it.peer(mode=mode)
        lost = await it.connect()
        lost.transport.write(b"x")
        await lost.until(lambda found: bool(found.data))
        endpoints = tuple(Endpoint.parse(f"tcp://127.0.0.1:{port}") for port in (it.port, it.relay.target))
        it.peer(endpoints=endpoints, mode=mode)
        it.relay.frozen = True
        lost.transport.write(b"nobody hears")
        await eventually(lambda: bool(lost.transport.get_extra_info("leaving")))
        assert not it.tunnels.has_room("bob")

        began = asyncio.get_running_loop().time()
        assert await ask(it, b"another way") == b"another way"

        assert asyncio.get_running_loop().time() - began < 2
        assert {each.mode for each in it.served} == {TunnelMode.ECH if mode is PeerMode.REQUIRED else TunnelMode.NO_ECH}
        await lost.until(lambda found: found.is_lost)


async def test_a_tunnel_that_was_in_doubt_and_is_heard_again_is_used_again() -> None:
    async with stage(relayed=True, times=replace(QUICK, pong_within=10, busy_pong_within=10)) as it:
        stream = await it.connect()
        it.relay.frozen = True
        stream.transport.write(b"x")
        await eventually(lambda: bool(stream.transport.get_extra_info("leaving")))
        it.relay.frozen = False
        await stream.until(lambda found: found.data == b"x")
        await eventually(lambda: it.tunnels.has_room("bob"))

        assert await ask(it, b"on the same") == b"on the same"
        assert it.server.tunnels == 1


async def test_what_no_socket_took_is_told_from_what_may_have_arrived() -> None:
    async with stage(relayed=True, times=replace(QUICK, pong_within=10, busy_pong_within=1.0, doubt_after=1.0)) as it:
        bulk = await it.connect()
        it.relay.frozen = True
        for _ in range(4):
            more = await it.connect()
            more.transport.write(bytes(60_000_000))  # credit for 256 KiB leaves, the rest stays
        await asyncio.sleep(0.05)
        small = await it.connect()
        small.transport.write(b"a prompt")  # the credit of the tunnel is gone
        for stream in (bulk, more, small):
            await stream.until(lambda found: found.is_lost)

        assert bulk.transport.get_extra_info("unsent") == 0
        assert 0 < more.transport.get_extra_info("unsent") < 60_000_000
        assert small.transport.get_extra_info("unsent") == len(b"a prompt")


async def test_a_process_that_was_stopped_does_not_blame_its_peer() -> None:
    async with stage(relayed=True, times=QUICK) as it:
        stream = await it.connect()
        stream.transport.write(b"x")
        await stream.until(lambda found: bool(found.data))
        link = it.tunnels._links()[0]
        link.standing.mux.ping(b"answer??")
        link.standing._asked = link.loop.time() - 100
        link._look_at -= 100  # as after SIGSTOP: the timer is late by as much
        link._tick()

        assert not link.is_over
        assert await ask(it, b"still there") == b"still there"


@pytest.mark.looptime
async def test_an_idle_tunnel_on_a_sound_network_lives() -> None:
    async with stage(relayed=True) as it:
        await it.tunnels.warm("bob")
        await asyncio.sleep(250)  # of silence but for a dozen PINGs; after 300 it would be of no use

        assert it.server.tunnels == 1
        assert it.count("aegis_tunnel_ends") == 0


async def test_a_bit_flipped_on_the_way_ends_the_tunnel_before_it_reaches_anybody() -> None:
    async with stage(relayed=True) as it:
        stream = await it.connect()
        stream.transport.write(b"first")
        await stream.until(lambda found: found.data == b"first")
        it.relay.flip_next = True
        stream.transport.write(b"second")
        await stream.until(lambda found: found.is_lost)

        assert stream.data == b"first"
        assert isinstance(stream.error, TunnelLostError)
        assert stream.error.end is End.PROTOCOL
        assert await ask(it, b"again") == b"again"


async def test_an_old_tunnel_is_replaced_under_load() -> None:
    async with stage(times=Times(max_age=0.1, drain_within=5, look_every=0.02)) as it:
        for n in range(60):
            assert await ask(it, b"%d" % n) == b"%d" % n
            await asyncio.sleep(0.005)

        assert it.count("aegis_tunnel_handshakes", "dialler", "ech") >= 2
        assert it.count("aegis_tunnel_ends", "acceptor", "lost") == 0


@pytest.mark.looptime
async def test_streams_that_outlive_an_old_tunnel_are_cut_with_a_word() -> None:
    async with stage(times=Times(max_age=10, drain_within=10)) as it:
        stream = await it.connect()
        await stream.until(lambda found: found.is_lost, within=60)

        assert isinstance(stream.error, TunnelLostError)
        assert stream.error.end is End.CLOSED
        await eventually(lambda: it.server.tunnels == 0)
        assert it.count("aegis_tunnel_ends", "acceptor", "peer_closed") == 1, "not one that broke"


# --- keys ---


async def test_every_key_is_rotated_under_load_and_no_request_fails() -> None:
    """ECH keys twice, then both Noise statics: announced to servers first, used by clients then, old ones dropped."""
    async with stage() as it:
        mesh = it.mesh
        answered = 0
        stop = asyncio.Event()

        async def load() -> None:
            nonlocal answered
            while not stop.is_set():
                body = os.urandom(3000)
                assert await ask(it, body) == body
                answered += 1

        async def some_requests() -> None:
            already = answered
            await eventually(lambda: answered >= already + 15)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(4):
                tasks.create_task(load())
            for _ in range(2):
                await rotate_ech(it, some_requests)
            await rotate_statics(it, mesh, some_requests)
            stop.set()

        assert it.count("aegis_tunnel_handshakes", "dialler", "ech") >= 4
        assert it.count("aegis_tunnel_handshakes", "dialler", "rejected_with_configs") == 0
        assert it.told == []


async def rotate_ech(it: Stage, some_requests: Any) -> None:
    old, new = it.mesh.key, ech_key(it.mesh.key)
    reception = it.mesh.reception
    it.server._reception = lambda: reception(ech_keys=(old, new))
    await some_requests()
    it.view = view_of(it.mesh, it.port, ech_configs=encode_config_list([new.config]))
    it.tunnels.renew()
    await some_requests()
    it.mesh.key = new
    it.server._reception = lambda: reception(ech_keys=(new,))
    await some_requests()


async def rotate_statics(it: Stage, mesh: Mesh, some_requests: Any) -> None:
    old, mesh.bob = mesh.bob, static_key()
    it.server._reception = lambda: mesh.reception(statics=(mesh.bob, old))
    known = it.view.directory
    alice = static_key()
    mesh.allowed[alice.public] = mesh.allowed[mesh.alice.public]
    statics = {
        name: Statics(mesh.bob.public, old.public) if old.public in each.all else each
        for name, each in known.statics.items()
    }
    it.view = view_of(mesh, it.port, directory=PeerDirectory(known.peers, statics))
    it.tunnels.renew()
    await some_requests()
    mesh.alice = alice
    it.view = view_of(mesh, it.port)
    it.server._reception = mesh.reception
    it.tunnels.renew()
    await some_requests()


# --- strangers ---


async def test_recorded_flights_that_are_sent_again_are_recognised_and_serve_nothing() -> None:
    async with stage(relayed=True) as it:
        assert await ask(it, b"a prompt that costs money") == b"a prompt that costs money"
        recorded = [data for direction, data in it.relay.flights if direction == "up"]
        reader, writer = await asyncio.open_connection("127.0.0.1", it.relay.target)
        writer.writelines(recorded)
        while await reader.read(65536):
            pass
        writer.close()
        await writer.wait_closed()

        assert len(it.served) == 1
        assert it.count("aegis_tunnel_handshakes", "acceptor", "replay") == 1


async def test_who_sends_a_hello_byte_by_byte_is_late() -> None:
    async with stage(bounds=Bounds(handshake_within=0.1)) as it:
        reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
        writer.write(b"\x16\x03\x01\x02\x00")
        assert await cut_off(reader)
        writer.close()

        assert it.count("aegis_tunnel_handshakes", "acceptor", "late") == 1
        assert await ask(it, b"others are served") == b"others are served"


async def test_strangers_in_a_handshake_are_so_many_and_no_more() -> None:
    async with stage(bounds=Bounds(handshakes=3, handshake_within=0.3)) as it:
        hanging = [await asyncio.open_connection("127.0.0.1", it.port) for _ in range(3)]
        await eventually(lambda: len(it.server._handshaking) == 3)
        reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
        assert await cut_off(reader)
        assert it.count("aegis_tunnel_handshakes", "acceptor", "full") == 1
        for _, each in [*hanging, (reader, writer)]:
            each.close()
        await eventually(lambda: not it.server._handshaking)

        assert await ask(it, b"served again") == b"served again"


async def test_tunnels_are_so_many_and_no_more() -> None:
    async with stage(bounds=Bounds(tunnels=1)) as it:
        await it.tunnels.warm("bob")
        await eventually(lambda: it.server.tunnels == 1)
        reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
        assert await cut_off(reader)
        writer.close()

        assert it.count("aegis_tunnel_handshakes", "acceptor", "full") == 1


async def test_an_address_that_floods_is_cut_off_before_anything_is_computed() -> None:
    async with stage() as it:
        it.doorman.admits = lambda source: source != "127.0.0.1"
        with pytest.raises(NoTunnelError):
            await it.connect(deadline=2.0)

        assert it.count("aegis_tunnel_handshakes", "acceptor", "flood") > 0
        assert not it.doorman.seen


@pytest.mark.parametrize(
    "noise",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(1000),
        b"\x16\x03\x01\xff\xff" + bytes(70_000),
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
    ],
    ids=["http", "zeros", "a record that is too long", "a message that is too long"],
)
async def test_noise_at_the_door_costs_a_connection_and_nothing_else(noise: bytes) -> None:
    async with stage() as it:
        reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
        writer.write(noise)
        try:
            answer = await reader.read()
        except ConnectionResetError:
            answer = b""
        writer.close()

        assert len(answer) <= 7, "an alert"
        assert await ask(it, b"others are served") == b"others are served"


async def test_a_peer_that_vanishes_while_dialled_is_no_tunnel() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with stage() as it:
        it.view = view_of(it.mesh, port)

        with pytest.raises(NoTunnelError):
            await it.connect()


async def test_a_server_that_ends_tells_everybody() -> None:
    async with stage() as it:
        streams = await asyncio.gather(*(it.connect() for _ in range(5)))
        for stream in streams:
            stream.transport.write(b"x")
            await stream.until(lambda found: bool(found.data))
        it.server.close()
        for stream in streams:
            await stream.until(lambda found: found.is_lost)

        assert all(isinstance(stream.error, TunnelLostError | StreamResetError) for stream in streams)


def test_all_of_it_runs_on_uvloop() -> None:
    async def main() -> None:
        async with stage(relayed=True, times=QUICK) as it:
            body = bytes(range(256)) * 8000
            assert await ask(it, body) == body
            stream = await it.connect()
            assert stream.transport.get_extra_info("tunnel") is TunnelMode.ECH
            stream.transport.abort()
            it.relay.reset()
            await eventually(lambda: not it.tunnels.has_room("bob"))
            assert await ask(it, b"again") == b"again"
            it.relay.frozen = True
            with pytest.raises(TunnelLostError):
                await ask(it, b"nobody hears")
            it.relay.frozen = False
            await it.server.drain(1.0)

    uvloop.run(main())
