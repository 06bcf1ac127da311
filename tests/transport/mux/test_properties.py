"""What holds for any order of calls, any cut and any delay: bytes, order, credit, turns."""

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.cuts import cuts
from tests.transport.mux.ends import Ends, Recorder
from transport.mux.errors import MuxError
from transport.mux.frames import HEADER, MAX_PAYLOAD, Code, Type
from transport.mux.limits import Limits
from transport.mux.mux import Mux

TIGHT = Limits(
    stream_window=500, grown_window=700, grows_after=600, tunnel_window=900, streams=8, queue_high=300, queue_low=100
)

SEND = st.tuples(st.just("send"), st.booleans(), st.integers(1, 8), st.binary(max_size=700), st.booleans())
STEPS = st.lists(
    st.one_of(
        SEND,
        SEND,
        st.tuples(st.just("open"), st.booleans()),
        st.tuples(st.just("consume"), st.booleans(), st.integers(1, 8), st.integers(1, 900)),
        st.tuples(st.just("carry"), st.booleans(), st.integers(0, 2**16)),
        st.tuples(st.just("reset"), st.booleans(), st.integers(1, 8)),
        st.tuples(st.just("close"), st.booleans(), st.integers(1, 8)),
        st.tuples(st.just("ping"), st.booleans()),
    ),
    max_size=60,
)


class Wire:
    """One direction: keeps what was taken and hands on any cut of it."""

    def __init__(self, sender: Mux, receiver: Mux) -> None:
        self.sender, self.receiver = sender, receiver
        self.flying = b""

    def carry(self, count: int) -> None:
        while record := self.sender.take():
            assert len(record) <= 16384
            self.flying += record
        piece, self.flying = self.flying[:count], self.flying[count:]
        self.receiver.receive(piece, 0.0)


class Conversation:
    """Two ends that keep the rules, and what each of them was given to send."""

    def __init__(self) -> None:
        ends = Ends(TIGHT)
        self.sinks = (ends.asking, ends.asked)
        self.muxes = (ends.dialler, ends.acceptor)
        self.wires = (Wire(*self.muxes), Wire(*reversed(self.muxes)))
        self.opened = 0
        self.sent: dict[tuple[bool, int], bytearray] = {}
        self.finished: set[tuple[bool, int]] = set()
        self.dropped: set[int] = set()
        self.consumed = Counter[tuple[bool, int]]()
        for sink in self.sinks:
            sink.eager = False

    def open(self, _: bool) -> None:
        if self.muxes[0].has_room:
            self.opened = self.muxes[0].open({"n": "1"})

    def send(self, side: bool, stream: int, data: bytes, end: bool) -> None:
        known = stream in self.sinks[1].opened if side else stream <= self.opened
        if known and stream not in self.dropped and (side, stream) not in self.finished:
            self.muxes[side].send(stream, data, end=end)
            self.sent.setdefault((side, stream), bytearray()).extend(data)
            if end:
                self.finished.add((side, stream))

    def consume(self, side: bool, stream: int, count: int) -> None:
        held = len(self.sinks[side].data.get(stream, b"")) - self.consumed[side, stream]
        if stream not in self.dropped:
            count = min(count, held)
            self.muxes[side].consumed(stream, count)
            self.consumed[side, stream] += count

    def carry(self, side: bool, count: int) -> None:
        self.wires[side].carry(count)
        self.dropped.update(self.sinks[0].resets, self.sinks[1].resets)

    def reset(self, side: bool, stream: int) -> None:
        self.muxes[side].reset(stream, Code.CANCELLED)
        self.dropped.add(stream)

    def close(self, side: bool, stream: int) -> None:
        self.muxes[side].close(stream)
        self.dropped.add(stream)

    def ping(self, side: bool) -> None:
        self.muxes[side].ping(b"12345678")

    def finish(self) -> None:
        for _ in range(400):
            for side in (False, True):
                self.carry(side, 1 << 20)
                for stream in list(self.sinks[side].data):
                    self.consume(side, stream, 1 << 20)


@settings(max_examples=300)
@given(STEPS)
def test_two_honest_ends_never_accuse_each_other_and_lose_neither_bytes_nor_credit(
    steps: list[tuple[Any, ...]],
) -> None:
    talk = Conversation()

    for name, *arguments in steps:
        getattr(talk, name)(*arguments)
    talk.finish()

    for sender, receiver in (talk.muxes, talk.muxes[::-1]):
        held = sum(stream.held for stream in receiver._streams.values())
        assert sender._outbox.credit + receiver._returnable + held == TIGHT.tunnel_window, "credit has leaked"
        assert receiver._receive_credit == sender._outbox.credit
    for (side, stream), data in talk.sent.items():
        if stream not in talk.dropped:
            assert talk.sinks[not side].data.get(stream, b"") == data
            assert (stream in talk.sinks[not side].ended) is ((side, stream) in talk.finished)


@settings(max_examples=100)
@given(
    st.lists(st.binary(min_size=1, max_size=2500), min_size=1, max_size=6),
    st.lists(st.integers(0, 100_000), max_size=12),
)
def test_any_cut_tells_the_same(bodies: list[bytes], at: list[int]) -> None:
    ends = Ends()
    for body in bodies:
        ends.dialler.send(ends.dialler.open({"length": str(len(body))}), body, end=True)
    ends.dialler.ping(b"01234567")
    ends.dialler.go_away()
    flight = b"".join(iter(ends.dialler.take, b""))

    logs = []
    for pieces in ([flight], cuts(flight, at), [flight[n : n + 1] for n in range(len(flight))]):
        sink = Recorder()
        sink.mux = Mux(sink, opens=False, now=0.0)
        for piece in pieces:
            sink.mux.receive(piece, 0.0)
        logs.append(sink.log)

    assert logs[0] == logs[1] == logs[2]


class Watched:
    """Reads a sender's frames and holds them against the credit it was given."""

    def __init__(self, limits: Limits) -> None:
        self.stream = Counter[int]()
        self.limits = limits

    def see(self, record: bytes) -> None:
        while record:
            kind, _, stream, length = HEADER.unpack_from(record)
            if kind == Type.DATA:
                self.stream[stream] += length
                assert self.stream[stream] <= self.limits.stream_window
                assert self.stream.total() <= self.limits.tunnel_window
            record = record[HEADER.size + length :]


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2000)), max_size=30))
def test_without_credit_back_no_more_than_the_windows_is_ever_sent(sends: list[tuple[int, int]]) -> None:
    ends = Ends(TIGHT)
    for _ in range(4):
        ends.dialler.open({})
    watched = Watched(TIGHT)

    for stream, count in sends:
        ends.dialler.send(stream, bytes(count))
        while record := ends.dialler.take():
            watched.see(record)


@settings(max_examples=100)
@given(
    sends=st.lists(st.tuples(st.integers(1, 2), st.integers(1, 70_000), st.booleans()), max_size=12),
    limits=st.lists(st.integers(1, 9), min_size=1, max_size=8),
)
def test_many_records_at_once_are_the_same_as_one_after_the_other(
    sends: list[tuple[int, int, bool]], limits: list[int]
) -> None:
    wide = Limits(stream_window=200_000, grown_window=200_000, tunnel_window=300_000, queue_high=90_000)
    one, many = Ends(wide), Ends(wide)
    ended = set[int]()
    for ends in (one, many):
        for _ in range(2):
            ends.dialler.open({})
    for at, (stream, count, end) in enumerate(sends):
        if stream not in ended:
            ended |= {stream} if end else set()
            for ends in (one, many):
                ends.dialler.send(stream, bytes([at]) * count, end=end)

    singly = list(iter(lambda: one.dialler.take(b"!"), b""))
    found: list[bytes] = []
    for limit in limits:
        found += (burst := many.dialler.records(limit, b"!"))
        assert len(burst) == min(limit, len(singly) - len(found) + len(burst))
    found += many.dialler.records(1000, b"!")

    assert found == singly
    assert many.asking.writable == one.asking.writable


@settings(max_examples=30)
@given(bulk=st.integers(1, 6), queued=st.integers(1, 1_000_000), size=st.integers(1, 1000))
def test_a_small_event_waits_for_one_record_of_each_bulk_stream_at_most(bulk: int, queued: int, size: int) -> None:
    limits = Limits(stream_window=1 << 22, grown_window=1 << 22, tunnel_window=1 << 25)
    ends = Ends(limits)
    for _ in range(bulk):
        ends.dialler.send(ends.dialler.open({}), bytes(queued))
    ends.dialler.take()
    event = ends.dialler.open({})
    ends.dialler.send(event, bytes(size))

    for _ in range(bulk + 1):
        if _holds(ends.dialler.take(), event):
            return
    raise AssertionError("the event was not among the next records")


def _holds(record: bytes, wanted: int) -> bool:
    while record:
        kind, _, stream, length = HEADER.unpack_from(record)
        if kind == Type.DATA and stream == wanted:
            return True
        record = record[HEADER.size + length :]
    return False


@given(st.lists(st.integers(1, 40_000), min_size=2, max_size=6))
def test_bulk_streams_get_equal_shares(queues: list[int]) -> None:
    ends = Ends(Limits(stream_window=1 << 20, grown_window=1 << 20, tunnel_window=1 << 22))
    for queued in queues:
        ends.dialler.send(ends.dialler.open({}), bytes(queued + 5 * MAX_PAYLOAD))
    served = Counter[int]()
    while not served or min(served.values()) < 3 or len(served) < len(queues):
        record = ends.dialler.take()
        while record:
            kind, _, stream, length = HEADER.unpack_from(record)
            if kind == Type.DATA:
                served[stream] += 1
            record = record[HEADER.size + length :]
        assert max(served.values()) - min(served[n] for n in range(1, len(queues) + 1)) <= 1


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 3), st.integers(0, 5), st.binary(max_size=20)), max_size=30)
)
def test_frames_at_random_give_only_our_error_and_leave_the_bounds_standing(
    frames: list[tuple[int, int, int, bytes]],
) -> None:
    sink = Recorder()
    sink.mux = mux = Mux(sink, opens=False, now=0.0, limits=TIGHT)

    try:
        for kind, flags, stream, payload in frames:
            mux.receive(HEADER.pack(kind, flags, stream, len(payload)) + payload, 0.0)
    except MuxError:
        assert len(mux.take()) == 13, "a GOAWAY and nothing else"

    assert mux.streams <= TIGHT.streams
