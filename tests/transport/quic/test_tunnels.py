"""Tunnels over QUIC on loopback: the same streams, decisions and refusals as over TCP."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("aioquic", reason="the extra quic is not installed")

from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.mesh import ALICE, BOB, CREDENTIAL, SERVICE, Mesh, ech_key, static_key
from tests.fakes.tunnels import Stage, eventually, reason_of, stage
from transport.decisions import PeerMode, Reason, SecurityEvent, TunnelMode
from transport.peers import Endpoint
from transport.quic import tunnels
from transport.quic.channel import MAX_FRAME, QuicChannel
from transport.tcp.attempts import NoTunnelError
from transport.tcp.server import Bounds, StreamInfo
from transport.tls13.alerts import AlertDescription, PeerAlertError, TlsError
from transport.tls13.config import ServerConfig
from transport.tls13.events import ApplicationData, CloseNotify, HandshakeComplete

pytestmark = pytest.mark.looptime(False)


@asynccontextmanager
async def quic_stage(**settings: Any) -> AsyncIterator[Stage]:
    """A stage whose dialler knows an endpoint `quic://` and no other."""
    async with stage(datagrams=tunnels, **settings) as it:
        listener = await tunnels.listen(it.server, ServerConfig((CREDENTIAL,), alpn=(b"h3",)), "127.0.0.1", 0)
        it.peer(endpoints=(Endpoint.parse(f"quic://127.0.0.1:{listener.port}"),))
        try:
            yield it
        finally:
            it.tunnels.close()
            it.server.close()
            await asyncio.sleep(0)
            listener.close()


async def test_a_stream_is_a_connection_to_the_peer() -> None:
    async with quic_stage() as it:
        stream = await it.connect(headers={"traceparent": "00-1-2-01"})
        stream.transport.write(b"ping")
        await stream.until(lambda found: found.data == b"ping")
        stream.transport.write_eof()
        await stream.until(lambda found: found.is_lost)

        assert stream.has_ended
        assert stream.error is None
        assert it.served == [StreamInfo(ALICE, SERVICE, {"traceparent": "00-1-2-01"}, TunnelMode.ECH)]
        assert stream.transport.get_extra_info("peer") == BOB
        assert it.tunnels.counts() == {"bob": 1}


async def test_bulk_both_ways_arrives_whole() -> None:
    body = bytes(range(256)) * 4096
    async with quic_stage() as it:
        stream = await it.connect()
        for at in range(0, len(body), 100_000):
            stream.transport.write(body[at : at + 100_000])
            await stream.until(lambda found: not found.is_paused)
        stream.transport.write_eof()
        await stream.until(lambda found: found.is_lost)

        assert stream.data == body


async def test_streams_share_a_connection() -> None:
    async with quic_stage() as it:
        streams = await asyncio.gather(*(it.connect() for _ in range(10)))
        for number, stream in enumerate(streams):
            stream.transport.write(b"%d" % number)
        for number, stream in enumerate(streams):
            await stream.until(lambda found, number=number: found.data == b"%d" % number)

        assert it.server.tunnels == 1
        assert it.count("aegis_tunnel_handshakes", "acceptor", "ech") == 1


async def test_stale_key_is_replaced_on_a_new_connection() -> None:
    mesh = Mesh()
    async with quic_stage(mesh=mesh) as it:
        mesh.key = ech_key()  # the server's; the dialler goes on with the old one

        stream = await it.connect()
        stream.transport.write(b"ping")
        await stream.until(lambda found: found.data == b"ping")

        assert stream.transport.get_extra_info("tunnel") is TunnelMode.ECH
        await eventually(lambda: it.doorman.stale == 1)


async def test_retry_configs_with_a_key_that_is_none_are_unusable() -> None:
    """The hello is made when aioquic begins: what cannot be sealed to shows there, and leaves no socket behind."""
    mesh = Mesh()
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    async with quic_stage(mesh=mesh) as it:
        mesh.key = ech_key()  # the server's; the dialler goes on with the old one
        reception = mesh.reception(ech_retry=(replace(mesh.key.config, public_key=bytes(32)),))
        it.server._reception = lambda: reception

        assert await reason_of(it) is Reason.CONFIG_UNUSABLE
        assert it.count("aegis_tunnel_handshakes", "dialler", "config_unusable") == 1
    assert reported == []


async def test_without_ech_there_is_noise_still() -> None:
    async with quic_stage() as it:
        endpoints = it.view.directory.peers["bob"].endpoints
        it.peer(mode=PeerMode.OFF, endpoints=endpoints)

        stream = await it.connect()
        stream.transport.write(b"ping")
        await stream.until(lambda found: found.data == b"ping")

        assert stream.transport.get_extra_info("tunnel") is TunnelMode.NO_ECH
        assert [each.mode for each in it.served] == [TunnelMode.NO_ECH]


async def test_peer_with_an_unknown_key_is_turned_away() -> None:
    mesh = Mesh()
    async with quic_stage(mesh=mesh) as it:
        mesh.allowed.clear()

        stream = await it.connect()
        await stream.until(lambda found: found.is_lost)

        assert stream.error is not None
        assert it.served == []
        await eventually(lambda: SecurityEvent.UNKNOWN_STATIC in it.doorman.events)


async def test_peer_that_is_not_who_it_should_be_is_refused() -> None:
    mesh = Mesh()
    async with quic_stage(mesh=mesh) as it:
        mesh.bob = static_key()  # the server has another key than the control plane said

        with pytest.raises(NoTunnelError):
            await it.connect()

        assert it.served == []


async def test_revoked_peer_loses_its_streams() -> None:
    mesh = Mesh()
    async with quic_stage(mesh=mesh) as it:
        stream = await it.connect()
        stream.transport.write(b"ping")
        await stream.until(lambda found: found.data == b"ping")

        assert it.server.review(lambda tunnel: tunnel.peer_static != mesh.alice.public) == 1
        await stream.until(lambda found: found.is_lost)

        assert stream.error is not None
        assert it.server.tunnels == 0


async def test_full_server_takes_no_more() -> None:
    async with quic_stage(bounds=Bounds(handshakes=0)) as it:
        with pytest.raises(NoTunnelError) as error:
            await it.connect(deadline=0.4)

        assert error.value.decision.reason is Reason.TIMEOUT


async def test_nobody_there_is_a_timeout_and_not_plaintext() -> None:
    async with quic_stage() as it:
        it.peer(endpoints=(Endpoint.parse("quic://127.0.0.1:1"),))

        with pytest.raises(NoTunnelError) as error:
            await it.connect(deadline=0.5)

        assert error.value.decision.reason is Reason.TIMEOUT


async def test_without_the_extra_a_quic_endpoint_is_passed_over() -> None:
    async with stage() as it:
        it.peer(endpoints=(Endpoint.parse("quic://127.0.0.1:1"),))

        with pytest.raises(NoTunnelError):
            await it.connect()


# --- the channel by itself


class Standing(QuicChannel):
    """A channel whose handshake is complete."""

    def __init__(self) -> None:
        super().__init__(ServerConfig((CREDENTIAL,)), random=os.urandom, now=tunnels.utc)
        self.make_tls().complete = HandshakeComplete(0x1301, 0x1D, b"mesh/1", SERVICE, None, ())  # type: ignore[arg-type]
        assert isinstance(self.next_event(), HandshakeComplete)


@given(st.lists(st.binary(min_size=1, max_size=40_000), max_size=4), st.integers(1, 5000))
def test_what_is_sent_arrives_wherever_the_stream_is_cut(messages: list[bytes], cut: int) -> None:
    sender, receiver = Standing(), Standing()
    found: list[bytes] = []

    for message in messages:
        sender.send(message)
    stream = bytes(sender.data_to_send())
    for at in range(0, len(stream), cut):
        receiver.received(stream[at : at + cut], ended=False)
        receiver.burst(lambda data, _: found.append(bytes(data)), 0.0)

    assert b"".join(found) == b"".join(messages)
    assert all(len(each) <= MAX_FRAME for each in found)
    assert receiver.next_event() is None


def test_inner_plaintexts_lose_their_type_byte() -> None:
    sender, receiver = Standing(), Standing()
    sender.send_inner([b"one\x17", b"two\x17"])
    receiver.received(bytes(sender.data_to_send()), ended=True)

    events = [receiver.next_event() for _ in range(3)]

    assert [bytes(event.data) for event in events if isinstance(event, ApplicationData)] == [b"one", b"two"]
    assert events[2] == CloseNotify()


@pytest.mark.parametrize("header", [b"\0\0", b"\x40\x01", b"\xff\xff"])
def test_frame_of_another_length_ends_the_connection(header: bytes) -> None:
    channel = Standing()
    channel.received(header + bytes(10), ended=False)

    with pytest.raises(TlsError) as error:
        channel.next_event()

    assert error.value.alert == channel.close_code == AlertDescription.RECORD_OVERFLOW


@pytest.mark.parametrize(("code", "by_application", "alert"), [(0x100 + 121, False, 121), (49, True, 49)])
def test_code_of_the_end_is_an_alert(code: int, by_application: bool, alert: int) -> None:
    channel = Standing()
    channel.closed_by_peer(code, by_application=by_application)

    with pytest.raises(PeerAlertError) as error:
        channel.next_event()

    assert error.value.alert == alert


def test_broken_connection_is_an_error_and_a_closed_one_an_end() -> None:
    broken, closed = Standing(), Standing()
    broken.closed_by_peer(1, by_application=False)
    closed.closed_by_peer(0, by_application=True)

    with pytest.raises(TlsError):
        broken.next_event()
    assert closed.next_event() == CloseNotify()
    with pytest.raises(RuntimeError):
        broken.send(b"x")
