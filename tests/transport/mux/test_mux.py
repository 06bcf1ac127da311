"""One stream and its rules: opening, credit, endings, and what a hostile peer gets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.cuts import cuts
from tests.transport.mux.ends import Ends, Recorder, carry
from transport.mux.errors import MuxError, SaturatedError
from transport.mux.frames import ACK, END, GOAWAY, HEADER, MAX_PAYLOAD, MAX_RECORD, U32, Code, Type, frame
from transport.mux.headers import encode
from transport.mux.limits import Limits
from transport.mux.mux import Mux

SMALL = Limits(
    stream_window=1000, grown_window=1000, tunnel_window=1500, queue_high=400, queue_low=100, queue_max=20_000
)


def acceptor(limits: Limits | None = None) -> tuple[Mux, Recorder]:
    sink = Recorder()
    sink.mux = mux = Mux(sink, opens=False, now=0.0, limits=limits)
    return mux, sink


def test_a_request_and_its_answer() -> None:
    ends = Ends()

    stream = ends.dialler.open({":service": "billing", "traceparent": "00-ab"})
    ends.dialler.send(stream, b"GET / ", end=False)
    ends.dialler.send(stream, b"HTTP/1.1", end=True)
    assert carry(ends.dialler, ends.acceptor) == 1, "headers and body share a record"
    ends.acceptor.send(stream, b"200", end=True)
    ends.settle()

    assert ends.asked.opened == {1: {":service": "billing", "traceparent": "00-ab"}}
    assert ends.asked.data[1] == b"GET / HTTP/1.1"
    assert ends.asking.data[1] == b"200"
    assert ends.asked.ended == ends.asking.ended == [1]
    assert ends.dialler.streams == ends.acceptor.streams == 0


def test_a_stream_that_ends_with_its_headers() -> None:
    ends = Ends()

    ends.dialler.open({"a": "b"}, end=True)
    ends.settle()
    ends.acceptor.send(1, b"", end=True)
    ends.settle()

    assert ends.asked.ended == [1]
    assert ends.asking.ended == [1]
    assert ends.dialler.streams == ends.acceptor.streams == 0


def test_one_frame_fills_one_record() -> None:
    ends = Ends()
    stream = ends.dialler.open({})
    ends.dialler.take()
    ends.dialler.send(stream, bytes(3 * MAX_PAYLOAD))

    assert [len(ends.dialler.take()) for _ in range(4)] == [MAX_RECORD] * 3 + [0]


def test_a_tail_stands_behind_every_record_and_is_no_record_itself() -> None:
    ends = Ends()
    stream = ends.dialler.open({})
    assert ends.dialler.take(b"!")[-1:] == b"!"
    ends.dialler.send(stream, bytes(2 * MAX_PAYLOAD))
    for _ in range(1500):
        ends.dialler.ping(b"12345678")

    records = list(iter(lambda: ends.dialler.take(b"!"), b""))

    assert {record[-1:] for record in records} == {b"!"}
    assert max(map(len, records)) == MAX_RECORD + 1


def test_credit_is_what_was_consumed_not_what_came() -> None:
    ends = Ends(SMALL)
    ends.asked.eager = False
    stream = ends.dialler.open({})
    ends.dialler.send(stream, bytes(1800))
    ends.settle()
    assert len(ends.asked.data[1]) == 1000

    ends.acceptor.consumed(1, 499)
    ends.settle()
    assert len(ends.asked.data[1]) == 1000, "less than half a window is not worth a frame"

    ends.acceptor.consumed(1, 1)
    ends.settle()
    assert len(ends.asked.data[1]) == 1500

    with pytest.raises(ValueError, match="consumed"):
        ends.acceptor.consumed(1, 1001)


def test_a_bulk_stream_gets_a_larger_window_once() -> None:
    ends = Ends(Limits(stream_window=1000, grown_window=3000, grows_after=2000, tunnel_window=10_000))
    stream = ends.dialler.open({})
    ends.dialler.send(stream, bytes(20_000))
    ends.settle()
    assert len(ends.asked.data[stream]) == 20_000

    ends.asked.eager = False
    ends.dialler.send(stream, bytes(20_000))
    ends.settle()

    assert 1500 < len(ends.asked.data[stream]) - 20_000 <= 3000


def test_the_tunnel_window_bounds_all_streams_together() -> None:
    ends = Ends(SMALL)
    ends.asked.eager = False
    for _ in range(3):
        ends.dialler.send(ends.dialler.open({}), bytes(1000))
    ends.settle()
    assert sum(map(len, ends.asked.data.values())) == 1500

    for stream, data in ends.asked.data.items():
        ends.acceptor.consumed(stream, len(data))
    ends.settle()
    assert sum(map(len, ends.asked.data.values())) == 3000


@pytest.mark.parametrize(("tunnel_window", "given"), [(2000, [1, 0]), (2004, [1])])
def test_a_quarter_of_the_tunnels_window_goes_with_that_of_a_stream(tunnel_window: int, given: list[int]) -> None:
    ends = Ends(Limits(stream_window=1000, grown_window=1000, tunnel_window=tunnel_window))
    ends.asked.eager = False
    ends.dialler.send(ends.dialler.open({}), bytes(1000))
    ends.settle()

    ends.acceptor.consumed(1, 500)
    record = ends.acceptor.take()

    size = HEADER.size + U32.size
    frames = [record[at : at + size] for at in range(0, len(record), size)]
    assert frames == [frame(Type.WINDOW, 0, stream, U32.pack(500)) for stream in given]


def test_bytes_of_a_dropped_stream_are_given_back() -> None:
    ends = Ends(SMALL)
    ends.asked.eager = False
    ends.dialler.send(ends.dialler.open({}), bytes(1000))
    ends.settle()
    ends.acceptor.reset(1, Code.CANCELLED)
    ends.settle()
    assert ends.asking.resets == {1: Code.CANCELLED}

    ends.dialler.send(ends.dialler.open({}), bytes(1000))
    ends.settle()

    assert len(ends.asked.data[2]) == 1000


def test_data_under_way_to_a_dropped_stream_is_given_back_too() -> None:
    ends = Ends(SMALL)
    for stream in range(1, 11):
        ends.dialler.send(ends.dialler.open({}), bytes(1000))
        opening = ends.dialler.take()
        ends.acceptor.receive(opening[:8], 0.0)
        under_way = opening[8:]
        ends.acceptor.reset(stream, Code.CANCELLED)
        ends.acceptor.receive(under_way, 0.0)
        ends.acceptor.reset(stream, Code.CANCELLED)
        ends.settle()

    assert ends.dialler.streams == ends.acceptor.streams == 0


def test_a_writer_is_told_to_wait_and_to_go_on() -> None:
    ends = Ends(SMALL)
    ends.asked.eager = False
    stream = ends.dialler.open({})

    assert ends.dialler.send(stream, bytes(400))
    assert not ends.dialler.send(stream, bytes(1000))
    ends.settle()
    assert ends.asking.writable == [], "400 bytes are still queued"
    ends.acceptor.consumed(1, 1000)
    ends.settle()
    assert ends.asking.writable == [stream]

    with pytest.raises(BufferError, match="full"):
        ends.dialler.send(stream, bytes(20_001))


def test_a_writer_who_writes_on_while_waiting_is_still_told_to_go_on() -> None:
    """asyncio's `pause_writing` is advice: who is asked to wait may have the end of a chunk to write yet."""
    ends = Ends(SMALL)
    ends.asked.eager = False
    stream = ends.dialler.open({})
    assert not ends.dialler.send(stream, bytes(1300))
    ends.settle()
    assert ends.dialler.queued(stream) == 300, "below where waiting begins, above where it ends"

    assert not ends.dialler.send(stream, b"x"), "it waits, and was not told otherwise"
    ends.acceptor.consumed(stream, 1000)
    ends.settle()

    assert ends.asking.writable == [stream]


def test_nothing_is_sent_after_the_end() -> None:
    ends = Ends()
    stream = ends.dialler.open({})
    ends.dialler.send(stream, b"", end=True)

    with pytest.raises(ValueError, match="after the end"):
        ends.dialler.send(stream, b"more")


def test_a_closed_stream_sends_what_is_queued_and_stops_the_peer() -> None:
    ends = Ends(SMALL)
    stream = ends.dialler.open({})
    ends.settle()
    ends.acceptor.send(stream, bytes(800))
    ends.settle()
    ends.asked.eager = False
    ends.dialler.send(stream, b"goodbye")
    ends.dialler.close(stream)
    ends.dialler.close(stream)
    ends.acceptor.send(stream, b"nobody listens")
    ends.settle()

    assert ends.asked.data[stream] == b"goodbye"
    assert ends.asked.log[-2:] == [("data", stream, b"goodbye", True), ("reset", stream, Code.NO_ERROR)]
    assert len(ends.asking.data[stream]) == 800
    assert ends.dialler.streams == ends.acceptor.streams == 0


def test_a_closed_stream_gives_its_bytes_back_unread() -> None:
    ends = Ends(SMALL)
    ends.asked.eager = False
    for _ in range(10):
        stream = ends.dialler.open({})
        ends.dialler.send(stream, bytes(900), end=True)
        ends.settle()
        ends.acceptor.close(stream)
        ends.settle()

    assert ends.dialler.streams == ends.acceptor.streams == 0
    assert ends.asking.resets == {}


def test_watermarks_of_one_stream() -> None:
    ends = Ends(SMALL)
    stream = ends.dialler.open({})
    ends.dialler.watermarks(stream, 10, 0)

    assert not ends.dialler.send(stream, bytes(11))
    assert ends.dialler.queued(stream) == 11
    ends.settle()
    assert ends.asking.writable == [stream]
    assert ends.dialler.queued(stream) == ends.dialler.queued(99) == 0


def test_what_is_sent_on_a_stream_that_is_gone_is_dropped() -> None:
    ends = Ends()
    stream = ends.dialler.open({})
    ends.settle()
    ends.acceptor.reset(stream, Code.UNAVAILABLE)
    ends.settle()

    assert ends.dialler.send(stream, b"late")
    assert not ends.dialler.has_output


def test_one_stream_too_many_is_refused_and_may_go_elsewhere() -> None:
    ends = Ends(Limits(streams=2))
    ends.acceptor = ends.asked.mux = Mux(ends.asked, opens=False, now=0.0, limits=Limits(streams=1))
    for _ in range(2):
        ends.dialler.send(ends.dialler.open({}), b"request")
    with pytest.raises(SaturatedError):
        ends.dialler.open({})

    ends.settle()

    assert list(ends.asked.opened) == [1]
    assert ends.asking.resets == {2: Code.REFUSED}


def test_only_the_dialler_opens() -> None:
    mux, _ = acceptor()

    assert not mux.has_room
    with pytest.raises(SaturatedError):
        mux.open({})


def test_ping_is_answered_ahead_of_bulk() -> None:
    ends = Ends()
    stream = ends.dialler.open({})
    ends.settle()
    ends.acceptor.send(stream, bytes(200_000))
    ends.dialler.ping(b"12345678")
    carry(ends.dialler, ends.acceptor)

    ends.dialler.receive(ends.acceptor.take(), 0.0)

    assert ends.asking.pongs == [b"12345678"]
    with pytest.raises(ValueError, match="8 bytes"):
        ends.dialler.ping(b"")


def test_an_acceptor_that_leaves_finishes_what_it_began() -> None:
    ends = Ends()
    served = ends.dialler.open({})
    carry(ends.dialler, ends.acceptor)
    late = ends.dialler.open({})
    ends.acceptor.go_away()
    ends.acceptor.go_away()
    ends.settle()

    assert ends.asking.goaways == [Code.NO_ERROR]
    assert ends.asking.resets == {late: Code.REFUSED}
    assert not ends.dialler.has_room
    assert not ends.acceptor.is_drained
    ends.dialler.send(served, b"request", end=True)
    ends.acceptor.send(served, b"answer", end=True)
    ends.settle()
    assert ends.asking.data[served] == b"answer"
    assert ends.acceptor.is_drained
    assert ends.dialler.is_drained


def test_a_dialler_that_leaves_finishes_what_it_began() -> None:
    ends = Ends()
    stream = ends.dialler.open({})
    ends.dialler.go_away()
    ends.dialler.send(stream, b"request", end=True)
    ends.settle()
    ends.acceptor.send(stream, b"answer", end=True)
    ends.settle()

    assert ends.asking.data[stream] == b"answer"
    assert ends.dialler.is_drained
    assert ends.acceptor.is_drained


HOSTILE = {
    "unknown type": frame(9, 0, 1),  # type: ignore[arg-type]  # on purpose
    "unknown flag": frame(Type.DATA, 4, 1, b"x"),
    "frame too long": bytes([2, 0, 0, 0, 0, 1, 0xFF, 0xFF]),
    "data on stream 0": frame(Type.DATA, 0, 0, b"x"),
    "data before open": frame(Type.DATA, 0, 7, b"x"),
    "open of stream 0": frame(Type.OPEN, 0, 0),
    "open twice": frame(Type.OPEN, 0, 1),
    "open with a bad block": frame(Type.OPEN, 0, 2, b"\xff"),
    "window of nothing": frame(Type.WINDOW, 0, 1, U32.pack(0)),
    "window before open": frame(Type.WINDOW, 0, 7, U32.pack(1)),
    "window too short": frame(Type.WINDOW, 0, 1, b"1"),
    "reset of stream 0": frame(Type.RESET, 0, 0, b"\0"),
    "reset before open": frame(Type.RESET, 0, 7, b"\0"),
    "reset too long": frame(Type.RESET, 0, 1, b"\0\0"),
    "ping on a stream": frame(Type.PING, 0, 1, bytes(8)),
    "ping too short": frame(Type.PING, 0, 0, b"1"),
    "ping with a flag": frame(Type.PING, 2, 0, bytes(8)),
    "goaway on a stream": frame(Type.GOAWAY, 0, 1, GOAWAY.pack(0, 0)),
    "goaway too short": frame(Type.GOAWAY, 0, 0, b""),
}


@pytest.mark.parametrize("bad", HOSTILE.values(), ids=HOSTILE)
def test_a_malformed_frame_ends_the_tunnel(bad: bytes) -> None:
    mux, _ = acceptor()
    mux.receive(frame(Type.OPEN, 0, 1, encode({})), 0.0)

    with pytest.raises(MuxError) as caught:
        mux.receive(bad, 0.0)

    assert caught.value.code is Code.PROTOCOL
    assert mux.take() == frame(Type.GOAWAY, 0, 0, GOAWAY.pack(max(1, bad.count(b"\xff") == 1 and 2), Code.PROTOCOL))
    with pytest.raises(MuxError):
        mux.receive(b"", 0.0)


def test_data_after_the_end_ends_the_tunnel() -> None:
    for late in (b"x", b""):
        mux, _ = acceptor()
        mux.receive(frame(Type.OPEN, END, 1), 0.0)
        with pytest.raises(MuxError, match="after the end"):
            mux.receive(frame(Type.DATA, 0, 1, late), 0.0)


def test_a_dialler_takes_no_open() -> None:
    ends = Ends()

    with pytest.raises(MuxError):
        ends.dialler.receive(frame(Type.OPEN, 0, 1), 0.0)


def test_more_data_than_the_window_ends_the_tunnel() -> None:
    mux, sink = acceptor(SMALL)
    sink.eager = False
    mux.receive(frame(Type.OPEN, 0, 1) + frame(Type.DATA, 0, 1, bytes(1000)), 0.0)

    with pytest.raises(MuxError) as caught:
        mux.receive(frame(Type.DATA, 0, 1, b"x"), 0.0)

    assert caught.value.code is Code.FLOW_CONTROL


def test_more_data_than_the_tunnel_window_ends_the_tunnel() -> None:
    mux, sink = acceptor(SMALL)
    sink.eager = False
    mux.receive(frame(Type.OPEN, 0, 1) + frame(Type.DATA, 0, 1, bytes(1000)), 0.0)
    mux.receive(frame(Type.OPEN, 0, 2) + frame(Type.DATA, 0, 2, bytes(500)), 0.0)

    with pytest.raises(MuxError) as caught:
        mux.receive(frame(Type.DATA, 0, 2, b"x"), 0.0)

    assert caught.value.code is Code.FLOW_CONTROL


def test_a_dropped_stream_cannot_be_used_to_pass_the_tunnel_window() -> None:
    mux, sink = acceptor(SMALL)
    sink.eager = False
    mux.receive(frame(Type.OPEN, 0, 1) + frame(Type.OPEN, 0, 2) + frame(Type.DATA, 0, 1, bytes(1000)), 0.0)
    mux.reset(2, Code.CANCELLED)

    with pytest.raises(MuxError) as caught:
        mux.receive(frame(Type.DATA, 0, 2, bytes(501)), 0.0)

    assert caught.value.code is Code.FLOW_CONTROL


@pytest.mark.parametrize("stream", [0, 1])
def test_a_window_beyond_what_was_sent_ends_the_tunnel(stream: int) -> None:
    mux, _ = acceptor()
    mux.receive(frame(Type.OPEN, 0, 1), 0.0)

    with pytest.raises(MuxError) as caught:
        mux.receive(frame(Type.WINDOW, 0, stream, U32.pack(256 * 1024 + 1)), 0.0)

    assert caught.value.code is Code.FLOW_CONTROL


FLOODS = {
    "ping": frame(Type.PING, 0, 0, bytes(8)),
    "pong": frame(Type.PING, ACK, 0, bytes(8)),
    "empty data": frame(Type.DATA, 0, 1),
    "reset of a gone stream": frame(Type.RESET, 0, 1, b"\0"),
    "goaway": frame(Type.GOAWAY, 0, 0, GOAWAY.pack(0, 0)),
}


@pytest.mark.parametrize("cheap", FLOODS.values(), ids=FLOODS)
def test_a_flood_of_cheap_frames_ends_the_tunnel(cheap: bytes) -> None:
    mux, _ = acceptor(Limits(calm_burst=100, calm_rate=10))
    mux.receive(frame(Type.OPEN, 0, 1), 0.0)
    mux.receive(cheap * 100, 0.0)
    mux.receive(cheap * 50, 5.0)

    with pytest.raises(MuxError) as caught:
        mux.receive(cheap, 5.0)

    assert caught.value.code is Code.ENHANCE_YOUR_CALM


def test_a_flood_on_a_dropped_stream_ends_the_tunnel() -> None:
    mux, _ = acceptor(Limits(calm_burst=100))
    mux.receive(frame(Type.OPEN, 0, 1), 0.0)
    mux.reset(1, Code.CANCELLED)

    with pytest.raises(MuxError) as caught:
        mux.receive(frame(Type.DATA, 0, 1) * 101, 0.0)

    assert caught.value.code is Code.ENHANCE_YOUR_CALM


def test_rapid_reset_ends_the_tunnel() -> None:
    mux, sink = acceptor(Limits(calm_burst=100))
    flood = b"".join(frame(Type.OPEN, 0, n) + frame(Type.RESET, 0, n, b"\x04") for n in range(1, 1000))

    with pytest.raises(MuxError) as caught:
        mux.receive(flood, 0.0)

    assert caught.value.code is Code.ENHANCE_YOUR_CALM
    assert len(sink.opened) == 101


def test_byte_by_byte_windows_end_the_tunnel() -> None:
    ends = Ends(Limits(calm_burst=100))
    ends.dialler.send(ends.dialler.open({}), bytes(1000))
    ends.dialler.take()

    with pytest.raises(MuxError) as caught:
        ends.dialler.receive(frame(Type.WINDOW, 0, 1, U32.pack(1)) * 101, 0.0)

    assert caught.value.code is Code.ENHANCE_YOUR_CALM


def test_who_asks_and_does_not_read_is_cut_off() -> None:
    mux, _ = acceptor(Limits(control_queue=10))

    with pytest.raises(MuxError) as caught:
        mux.receive(frame(Type.PING, 0, 0, bytes(8)) * 12, 0.0)

    assert caught.value.code is Code.ENHANCE_YOUR_CALM


def test_who_opens_what_nobody_serves_and_does_not_read_is_cut_off() -> None:
    """Each OPEN makes us say RESET, and costs no calm: nobody refused it but the user."""
    mux, sink = acceptor(Limits(control_queue=10))
    sink.stream_opened = lambda stream, *_, **__: mux.reset(stream, Code.UNAVAILABLE)  # type: ignore[method-assign]
    flood = b"".join(frame(Type.OPEN, 0, n) for n in range(1, 20))

    with pytest.raises(MuxError) as caught:
        mux.receive(flood, 0.0)

    assert caught.value.code is Code.ENHANCE_YOUR_CALM


def test_an_unknown_code_is_an_internal_error() -> None:
    ends = Ends()
    stream = ends.dialler.open({})

    ends.dialler.receive(frame(Type.RESET, 0, stream, b"\xee"), 0.0)

    assert ends.asking.resets == {stream: Code.INTERNAL}


@given(st.binary(max_size=2000), st.lists(st.integers(0, 2000), max_size=5))
def test_garbage_gives_only_our_error_wherever_it_is_cut(garbage: bytes, at: list[int]) -> None:
    whole, whole_sink = acceptor()
    cut, cut_sink = acceptor()
    outcomes = []
    for mux, pieces in ((whole, [garbage]), (cut, cuts(garbage, at))):
        try:
            for piece in pieces:
                mux.receive(piece, 0.0)
            outcomes.append(None)
        except MuxError as error:
            outcomes.append((error.code, str(error)))

    assert outcomes[0] == outcomes[1]
    assert whole_sink.log == cut_sink.log
