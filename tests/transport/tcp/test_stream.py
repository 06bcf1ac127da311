"""What asyncio promises of a transport, promised by a stream."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes.tunnels import Collector
from tests.transport.mux.ends import Ends, carry
from transport.mux.frames import Code
from transport.mux.limits import Limits
from transport.mux.mux import Mux
from transport.tcp.stream import StreamResetError, StreamTransport


class Tunnel:
    """Implements `Owner`, with a peer at the other end that a test speaks for."""

    def __init__(self) -> None:
        self.ends = Ends(Limits(queue_high=100, queue_low=10))
        self.loop = asyncio.get_running_loop()
        self.forgotten: list[int] = []
        self.flushes = 0

    @property
    def mux(self) -> Mux:
        return self.ends.dialler

    def flush_soon(self) -> None:
        self.flushes += 1

    def forget(self, number: int) -> None:
        self.forgotten.append(number)

    def extra_info(self, name: str, default: Any) -> Any:
        return {"peer": "spiffe://mesh/bob"}.get(name, default)

    def open(self, protocol: asyncio.Protocol | None = None) -> tuple[StreamTransport, Collector]:
        number = self.mux.open({"a": "b"})
        carry(self.mux, self.ends.acceptor)
        transport = StreamTransport(self, number, {"a": "b"})
        collector = protocol or Collector()
        transport.begin(collector)
        assert isinstance(collector, Collector)
        return transport, collector

    def at_peer(self, number: int) -> bytes:
        carry(self.mux, self.ends.acceptor)
        return bytes(self.ends.asked.data.get(number, b""))


async def test_what_is_written_in_any_shape_arrives_as_it_was_at_that_moment() -> None:
    tunnel = Tunnel()
    transport, _ = tunnel.open()
    changing = bytearray(b"one ")

    transport.write(changing)
    changing[:] = b"two "
    transport.write(memoryview(b"three "))
    transport.writelines([b"four ", b"five"])
    transport.write(b"")

    assert tunnel.at_peer(transport.number) == b"one three four five"
    assert tunnel.flushes == 3


async def test_limits_of_the_write_buffer_are_those_of_asyncio() -> None:
    tunnel = Tunnel()
    transport, collector = tunnel.open()

    transport.set_write_buffer_limits(high=50)
    assert transport.get_write_buffer_limits() == (12, 50)
    transport.set_write_buffer_limits(low=100)
    assert transport.get_write_buffer_limits() == (100, 400)
    transport.set_write_buffer_limits()
    assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
    transport.set_write_buffer_limits(high=50, low=20)
    with pytest.raises(ValueError, match="must be"):
        transport.set_write_buffer_limits(high=1, low=2)

    transport.write(bytes(51))
    assert collector.is_paused
    transport.write(bytes(51))
    assert collector.pauses == 1
    assert transport.get_write_buffer_size() == 102
    tunnel.at_peer(transport.number)
    assert transport.get_write_buffer_size() == 0
    assert tunnel.ends.asking.writable == [transport.number]
    transport.writable()
    assert not collector.is_paused


async def test_a_protocol_can_be_exchanged() -> None:
    tunnel = Tunnel()
    transport = StreamTransport(tunnel, tunnel.mux.open({}), {})
    with pytest.raises(RuntimeError, match="no protocol"):
        transport.get_protocol()
    first, second = Collector(), Collector()
    transport.begin(first)
    transport.set_protocol(second)
    with pytest.raises(TypeError):
        transport.set_protocol(asyncio.BaseProtocol())

    assert transport.get_protocol() is second
    assert second.transport is None, "connection_made is for the first one"


async def test_what_comes_while_reading_is_paused_waits_without_credit() -> None:
    tunnel = Tunnel()
    transport, collector = tunnel.open()
    consumed: list[int] = []
    tunnel.mux.consumed = lambda _, count: consumed.append(count)  # type: ignore[method-assign]
    assert transport.is_reading()
    transport.pause_reading()
    assert not transport.is_reading()

    assert transport.received(memoryview(b"one "), ended=False)
    assert not transport.received(memoryview(b"two"), ended=True)
    transport.settle()
    assert collector.data == b""
    assert consumed == []

    transport.resume_reading()
    await collector.until(lambda found: found.has_ended)
    assert collector.data == b"one two"
    assert collector.pieces == 1
    assert consumed == [7]


async def test_a_protocol_that_pauses_in_the_middle_gets_the_rest_later() -> None:
    class Sipping(Collector):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()

    tunnel = Tunnel()
    transport, collector = tunnel.open(Sipping())
    tunnel.mux.consumed = lambda *_: None  # type: ignore[method-assign]
    for piece in (b"one", b"two"):
        transport.received(memoryview(piece), ended=False)
        transport.settle()
    assert collector.data == b"one"

    transport.resume_reading()
    await collector.until(lambda found: found.data == b"onetwo")


async def test_the_end_is_said_once_and_reading_goes_on() -> None:
    tunnel = Tunnel()
    transport, collector = tunnel.open()
    assert transport.can_write_eof()
    transport.write_eof()
    transport.write_eof()
    with pytest.raises(RuntimeError, match="write_eof"):
        transport.write(b"x")
    tunnel.at_peer(transport.number)
    transport.received(memoryview(b"answer"), ended=False)
    tunnel.mux.consumed = lambda *_: None  # type: ignore[method-assign]
    transport.settle()

    assert tunnel.ends.asked.ended == [transport.number]
    assert collector.data == b"answer"


async def test_a_protocol_that_keeps_its_half_open_can_go_on_writing() -> None:
    class Half(Collector):
        def eof_received(self) -> bool:
            super().eof_received()
            return True

    tunnel = Tunnel()
    transport, _ = tunnel.open(Half())
    transport.received(memoryview(b""), ended=True)
    transport.settle()
    transport.write(b"more")

    assert tunnel.at_peer(transport.number) == b"more"
    assert not transport.is_closing()


ENDINGS: dict[str, tuple[Callable[[StreamTransport], None], type[Exception] | None]] = {
    "close": (lambda transport: transport.close(), None),
    "abort": (lambda transport: transport.abort(), None),
    "reset": (lambda transport: transport.was_reset(Code.REFUSED), StreamResetError),
    "reset without an error": (lambda transport: transport.was_reset(Code.NO_ERROR), None),
    "lost": (lambda transport: transport.lost(OSError()), OSError),
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_stream_that_is_over_is_over_once_and_quietly(ending: str) -> None:
    tunnel = Tunnel()
    transport, collector = tunnel.open()
    end, error = ENDINGS[ending]

    end(transport)
    for again, _ in ENDINGS.values():
        again(transport)
    transport.write(b"dropped")
    transport.write_eof()
    transport.pause_reading()
    transport.resume_reading()
    transport.writable()
    transport.received(memoryview(b"late"), ended=True)
    transport.settle()
    transport.set_write_buffer_limits(high=10)
    await collector.until(lambda found: found.is_lost)

    assert transport.is_closing()
    assert transport.get_write_buffer_size() == 0
    assert tunnel.forgotten == [transport.number]
    assert collector.data == b""
    assert type(collector.error) is (error or type(None))
    assert tunnel.at_peer(transport.number) == b""


async def test_what_came_before_a_reset_is_handed_on_first() -> None:
    tunnel = Tunnel()
    transport, collector = tunnel.open()
    tunnel.mux.consumed = lambda *_: None  # type: ignore[method-assign]

    transport.received(memoryview(b"answer"), ended=True)
    transport.was_reset(Code.NO_ERROR)
    await collector.until(lambda found: found.is_lost)

    assert collector.data == b"answer"
    assert collector.has_ended
    assert collector.error is None


@pytest.mark.parametrize("ending", ["reset without an error", "lost"])
async def test_who_pauses_gets_the_whole_answer_although_the_stream_is_over(ending: str) -> None:
    """A slow application behind us: the peer has said everything and closed, or its drained tunnel is gone already."""
    tunnel = Tunnel()
    transport, collector = tunnel.open()
    transport.write(bytes(200))
    assert collector.is_paused
    transport.pause_reading()
    transport.received(memoryview(b"answer"), ended=True)
    transport.settle()

    ENDINGS[ending][0](transport)
    tunnel.ends.dialler = None  # type: ignore[assignment]  # whoever asks a tunnel that is gone fails
    transport.write(b"nobody hears this")
    transport.write_eof()
    assert transport.get_write_buffer_size() == 0
    await collector.until(lambda found: not found.is_paused)  # what it waited for will not come
    assert not collector.is_lost
    assert tunnel.forgotten == [transport.number]

    transport.resume_reading()
    await collector.until(lambda found: found.is_lost)
    assert (collector.data, collector.has_ended, collector.error) == (b"answer", True, None)
    assert tunnel.forgotten == [transport.number]


async def test_who_pauses_and_did_not_get_the_end_learns_that_the_stream_is_lost() -> None:
    tunnel = Tunnel()
    transport, collector = tunnel.open()
    transport.pause_reading()
    transport.received(memoryview(b"half of it"), ended=False)
    transport.settle()

    transport.lost(OSError())
    await collector.until(lambda found: found.is_lost)

    assert isinstance(collector.error, OSError)


@pytest.mark.parametrize("drop", [StreamTransport.close, StreamTransport.abort])
async def test_an_answer_that_waits_can_be_dropped(drop: Callable[[StreamTransport], None]) -> None:
    tunnel = Tunnel()
    transport, collector = tunnel.open()
    transport.pause_reading()
    transport.received(memoryview(b"answer"), ended=True)
    transport.settle()
    transport.lost(OSError())
    tunnel.ends.dialler = None  # type: ignore[assignment]

    drop(transport)
    await collector.until(lambda found: found.is_lost)

    assert (collector.data, collector.error) == (b"", None)


@pytest.mark.parametrize("failing", ["connection_made", "pause_writing", "resume_writing"])
async def test_a_protocol_that_fails_at_any_call_loses_its_stream_only(failing: str) -> None:
    """What it raises must not run through the mux: whatever was taken for the record under way would be lost."""
    tunnel = Tunnel()
    reported: list[dict[str, Any]] = []
    tunnel.loop.set_exception_handler(lambda _, context: reported.append(context))

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    collector = Collector()
    collector.__dict__[failing] = fail
    transport, _ = tunnel.open(collector)
    transport.write(bytes(200))
    transport.writable()
    await collector.until(lambda found: found.is_lost)

    assert [type(context["exception"]) for context in reported] == [ZeroDivisionError]


async def test_info_is_that_of_the_tunnel_and_the_headers() -> None:
    transport, _ = Tunnel().open()

    assert transport.get_extra_info("peer") == "spiffe://mesh/bob"
    assert transport.get_extra_info("headers") == {"a": "b"}
    assert transport.get_extra_info("socket") is None
    assert transport.get_extra_info("nothing", 7) == 7


def test_a_refused_stream_was_not_served() -> None:
    assert StreamResetError(Code.REFUSED).is_unserved
    assert not StreamResetError(Code.CANCELLED).is_unserved
