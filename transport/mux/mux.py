"""One end of the streams in a tunnel, sans-I/O: bytes in, calls to a sink; calls in, bytes out.

How credit works. Each direction of a stream begins with `stream_window` bytes, the tunnel with `tunnel_window`; DATA
takes from both, WINDOW gives back. Bytes are given back when the user says that they are consumed, not when they came,
so nothing is ever held beyond the windows. A stream that turns out to be bulk gets a larger window, once. A peer that
sends more than it may, or gives back more than there can be, is broken or hostile: the tunnel ends.
"""

from typing import Final, NoReturn

from transport.mux import headers as header_block
from transport.mux.errors import MuxError, SaturatedError
from transport.mux.frames import (
    ACK,
    END,
    GOAWAY,
    HEADER,
    MAX_PAYLOAD,
    MAX_STREAM,
    U32,
    Code,
    Type,
    frame,
)
from transport.mux.headers import Headers
from transport.mux.limits import Calm, Limits
from transport.mux.outbox import Outbox
from transport.mux.sink import Sink
from transport.mux.stream import Stream

_DATA: Final = int(Type.DATA)


class Mux:
    """One end. Owned by one tunnel; not thread-safe."""

    def __init__(self, sink: Sink, *, opens: bool, now: float, limits: Limits | None = None) -> None:
        """`opens`: whether this end dialled and so opens streams. `now`: seconds, any monotonic clock."""
        self._sink = sink
        self._opens = opens
        self._limits = limits or Limits()
        self._streams: dict[int, Stream] = {}
        self._last_stream = 0
        """The highest number used so far."""
        self._outbox = Outbox(self._limits.tunnel_window, self)
        self.take: Final = self._outbox.take
        """What goes into the next record; see `Outbox.take`."""
        self.records: Final = self._outbox.records
        """What goes into the next records; see `Outbox.records`."""
        self._receive_credit = self._limits.tunnel_window
        self._returnable = 0
        self._partial = b""
        """A frame whose end has not come yet, at most MAX_RECORD bytes."""
        self._calm = Calm(self._limits, now)
        self._error: MuxError | None = None
        self._leaving = False
        self._peer_leaving = False

    # --- state ---

    @property
    def streams(self) -> int:
        """Streams that are not over."""
        return len(self._streams)

    @property
    def has_room(self) -> bool:
        """Whether `open` will work."""
        return (
            self._opens
            and not self._leaving
            and not self._peer_leaving
            and len(self._streams) < self._limits.streams
            and self._last_stream < MAX_STREAM
        )

    @property
    def is_leaving(self) -> bool:
        """Whether one of the ends said GOAWAY: streams that stand go on, and there will be no others."""
        return self._leaving or self._peer_leaving

    @property
    def is_drained(self) -> bool:
        """Whether one of the ends said GOAWAY and nothing is left to do or to send."""
        return self.is_leaving and not self._streams and not self._outbox.control

    @property
    def has_output(self) -> bool:
        """Whether `take` would give something."""
        return self._outbox.has_output

    # --- calls of the user ---

    def open(self, headers: Headers, *, end: bool = False) -> int:
        """The number of a new stream. Raises SaturatedError, and ValueError for headers that cannot be sent."""
        if not self.has_room:
            raise SaturatedError("this tunnel takes no further stream")
        block = header_block.encode(headers)
        self._last_stream = number = self._last_stream + 1
        stream = self._streams[number] = Stream(number, self._limits)
        stream.end_queued = stream.end_sent = end
        self._outbox.control.append(frame(Type.OPEN, END if end else 0, number, block))
        return number

    def send(self, number: int, data: bytes, *, end: bool = False) -> bool:
        """Queue bytes; `end`: the last ones. False: wait for `stream_writable` before sending more.

        On a stream that is gone they are dropped, and the sink was told. Raises ValueError after `end`, and
        BufferError when `queue_max` is reached, because somebody did not wait.
        """
        stream = self._streams.get(number)
        if stream is None:
            return True
        if stream.end_queued:
            raise ValueError("sent after the end")
        if data:
            if stream.queued + len(data) > self._limits.queue_max:
                raise BufferError("a stream's queue is full: wait for stream_writable")
            stream.queue.append(memoryview(data))
            stream.queued += len(data)
        stream.end_queued = end
        self._outbox.stand_in_line(stream)
        # Once full it stays so until `stream_writable` was said, or a writer who writes on would never hear it.
        stream.is_full = stream.is_full or stream.queued > stream.queue_high
        return not stream.is_full

    def consumed(self, number: int, count: int) -> None:
        """Bytes of `stream_data` are done with: the peer may send as many again. Raises ValueError beyond what came."""
        stream = self._streams.get(number)
        if stream is None:
            return  # its bytes were given back when it went
        if count > stream.held:
            raise ValueError("more consumed than came")
        stream.held -= count
        stream.consumed += count
        stream.returnable += count
        self._give_back(count)
        if not stream.remote_ended and stream.returnable * 2 >= stream.window:
            self._widen(stream)
        self._forget_if_over(stream)

    def queued(self, number: int) -> int:
        """Bytes sent on a stream that still wait here."""
        stream = self._streams.get(number)
        return 0 if stream is None else stream.queued

    def watermarks(self, number: int, high: int, low: int) -> None:
        """Another `queue_high` and `queue_low` for one stream."""
        stream = self._streams.get(number)
        if stream is not None:
            stream.queue_high, stream.queue_low = high, low

    def close(self, number: int) -> None:
        """Send what is queued and the end; drop whatever comes. The sink hears no more of this stream.

        A peer that has not ended its side by then is told to stop: RESET with NO_ERROR.
        """
        stream = self._streams.get(number)
        if stream is None or stream.closed:
            return
        stream.closed = stream.end_queued = True
        self._give_back(stream.held)
        stream.held = 0
        self._outbox.stand_in_line(stream)
        self._end_closed(stream)

    def reset(self, number: int, code: Code) -> None:
        """Drop a stream, in both directions, now."""
        stream = self._streams.get(number)
        if stream is not None:
            self._outbox.control.append(frame(Type.RESET, 0, number, bytes([code])))
            self._drop(stream)

    def ping(self, opaque: bytes) -> None:
        """Ask for a sign of life; `opaque`: 8 bytes."""
        if len(opaque) != 8:
            raise ValueError("a ping has 8 bytes")
        self._outbox.control.append(frame(Type.PING, 0, 0, opaque))

    def go_away(self, code: Code = Code.NO_ERROR) -> None:
        """Take no new streams; those that stand go on to their end."""
        if not self._leaving:
            self._leaving = True
            self._outbox.control.append(
                frame(Type.GOAWAY, 0, 0, GOAWAY.pack(0 if self._opens else self._last_stream, code))
            )

    # --- bytes in ---

    def receive(self, data: bytes | memoryview, now: float) -> None:
        """Tell the sink what came. Cut as you like; `now` in seconds. Raises MuxError, and again ever after."""
        if self._error is not None:
            raise self._error
        view = data if type(data) is memoryview else memoryview(data)
        try:
            if self._partial:
                view = self._complete(view, now)
            done = self._frames(view, now)
        except MuxError as error:
            self._error = error
            self._outbox.fail()
            self._leaving = False
            self.go_away(error.code)
            raise
        if done < len(view):
            self._partial = bytes(view[done:])

    def _complete(self, data: memoryview, now: float) -> memoryview:
        """What is left of `data` once the frame begun in `_partial` is whole; it is handled on the way."""
        missing = HEADER.size - len(self._partial)
        if missing > 0:
            self._partial += data[:missing]
            data = data[missing:]
            if len(self._partial) < HEADER.size:
                return data
        length: int = HEADER.unpack_from(self._partial)[3]
        missing = HEADER.size + min(length, MAX_PAYLOAD) - len(self._partial)
        if length <= MAX_PAYLOAD and missing > len(data):
            self._partial += data
            return data[:0]
        whole, self._partial = self._partial + data[:missing], b""
        self._frames(memoryview(whole), now)
        return data[missing:]

    def _frames(self, data: memoryview, now: float) -> int:
        """Where the last whole frame ends."""
        at, end = 0, len(data)
        streams, unpack = self._streams, HEADER.unpack_from
        while end - at >= 8:
            kind, flags, number, length = unpack(data, at)
            if length > MAX_PAYLOAD:
                self._fail(Code.PROTOCOL, "a frame is too long")
            begin = at + 8
            at = begin + length
            if at > end:
                return begin - 8
            if kind == _DATA and flags <= END and length:
                stream = streams.get(number)
                if stream is not None and not stream.remote_ended:
                    stream.receive_credit = left = stream.receive_credit - length
                    self._receive_credit = left_of_all = self._receive_credit - length
                    if left < 0 or left_of_all < 0:
                        self._fail(Code.FLOW_CONTROL, "more data than the window allows")
                    stream.remote_ended = ended = flags == END
                    if stream.closed:
                        self._give_back(length)
                        self._forget_if_over(stream)
                        continue
                    stream.held += length
                    self._sink.stream_data(number, data[begin:at], ended=ended)
                    continue
            self._frame(kind, flags, number, data[begin:at], now)
        return at

    def _frame(self, kind: int, flags: int, number: int, payload: memoryview, now: float) -> None:
        """Any frame but the ordinary DATA."""
        if len(self._outbox.control) > self._limits.control_queue:  # whoever made us say all that, and why
            self._fail(Code.ENHANCE_YOUR_CALM, "the peer asks and does not read")
        match kind:
            case Type.DATA:
                self._odd_data(flags, number, len(payload), now)
            case Type.OPEN:
                self._opened(flags, number, bytes(payload), now)
            case Type.WINDOW:
                self._widened(flags, number, payload, now)
            case Type.RESET:
                self._expect(flags == 0 and len(payload) == 1 and self._is_known(number), "RESET is malformed")
                self._spend_calm(now)
                stream = self._streams.get(number)
                if stream is not None:
                    self._drop(stream)
                    if not stream.closed:
                        self._sink.stream_reset(number, Code(payload[0]))
            case Type.PING:
                self._expect(flags in {0, ACK} and len(payload) == 8 and number == 0, "PING is malformed")
                self._spend_calm(now)
                if flags == ACK:
                    self._sink.pong(bytes(payload))
                else:
                    self._outbox.control.append(frame(Type.PING, ACK, 0, bytes(payload)))
            case Type.GOAWAY:
                self._expect(flags == 0 and len(payload) == GOAWAY.size and number == 0, "GOAWAY is malformed")
                self._spend_calm(now)
                self._peer_leaves(*GOAWAY.unpack(payload))
            case _:
                self._fail(Code.PROTOCOL, "a frame has an unknown type")

    def _odd_data(self, flags: int, number: int, length: int, now: float) -> None:
        """Empty, or on a stream that ended."""
        self._expect(flags <= END and self._is_known(number), "DATA is malformed or on a stream that was never opened")
        stream = self._streams.get(number)
        if stream is None:  # we dropped it while this was under way
            if not length:
                self._spend_calm(now)
            self._receive_credit -= length
            if self._receive_credit < 0:
                self._fail(Code.FLOW_CONTROL, "more data than the window allows")
            self._give_back(length)
            return
        self._expect(not stream.remote_ended, "DATA after the end of its stream")
        if flags != END:
            self._spend_calm(now)
            return
        stream.remote_ended = True
        if not stream.closed:
            self._sink.stream_data(number, memoryview(b""), ended=True)
        self._forget_if_over(stream)

    def _opened(self, flags: int, number: int, block: bytes, now: float) -> None:
        self._expect(
            flags <= END and not self._opens and number > self._last_stream, "OPEN is malformed or out of order"
        )
        self._last_stream = number
        headers = header_block.decode(block)
        if self._leaving or len(self._streams) >= self._limits.streams:
            self._spend_calm(now)
            self._outbox.control.append(frame(Type.RESET, 0, number, bytes([Code.REFUSED])))
            return
        stream = self._streams[number] = Stream(number, self._limits)
        stream.remote_ended = flags == END
        self._sink.stream_opened(number, headers, ended=flags == END)

    def _widened(self, flags: int, number: int, payload: memoryview, now: float) -> None:
        known = number == 0 or self._is_known(number)
        self._expect(flags == 0 and len(payload) == U32.size and known, "WINDOW is malformed")
        (count,) = U32.unpack(payload)
        self._expect(count > 0, "WINDOW of nothing")
        if count * 8 < self._limits.stream_window:
            self._spend_calm(now)  # we ourselves give back half a window at a time
        if number == 0:
            self._outbox.credit += count
            if self._outbox.credit > self._limits.tunnel_window:
                self._fail(Code.FLOW_CONTROL, "WINDOW gives back more than was sent")
            return
        stream = self._streams.get(number)
        if stream is not None:
            stream.send_credit += count
            if stream.send_credit > self._limits.grown_window:
                self._fail(Code.FLOW_CONTROL, "WINDOW gives more than any window has")
            self._outbox.stand_in_line(stream)

    def _peer_leaves(self, last: int, code: int) -> None:
        self._peer_leaving = True
        if self._opens:
            for stream in [stream for number, stream in self._streams.items() if number > last]:
                self._drop(stream)
                if not stream.closed:
                    self._sink.stream_reset(stream.id, Code.REFUSED)
        self._sink.going_away(Code(code))

    # --- called by the outbox ---

    def stream_writable(self, stream: Stream) -> None:
        """Its queue is short again."""
        if not stream.closed:
            self._sink.stream_writable(stream.id)

    def stream_sent(self, stream: Stream) -> None:
        """A frame of it went out, perhaps the last one."""
        self._end_closed(stream)
        self._forget_if_over(stream)

    # --- bookkeeping ---

    def _is_known(self, number: int) -> bool:
        return 0 < number <= self._last_stream

    def _give_back(self, count: int) -> None:
        """Bytes of the tunnel's window are free again."""
        self._returnable += count
        if self._returnable * 2 >= self._limits.tunnel_window:
            self._widen_tunnel()

    def _widen_tunnel(self) -> None:
        self._receive_credit += self._returnable
        self._outbox.control.append(frame(Type.WINDOW, 0, 0, U32.pack(self._returnable)))
        self._returnable = 0

    def _widen(self, stream: Stream) -> None:
        """Let the peer send on, and more at a time once the stream is bulk."""
        limits = self._limits
        if stream.consumed >= limits.grows_after and stream.window < limits.grown_window:
            stream.returnable += limits.grown_window - stream.window
            stream.window = limits.grown_window
        stream.receive_credit += stream.returnable
        self._outbox.control.append(frame(Type.WINDOW, 0, stream.id, U32.pack(stream.returnable)))
        stream.returnable = 0
        if self._returnable * 4 >= limits.tunnel_window:
            self._widen_tunnel()  # sooner than it must: the record goes anyway, and the peer is woken once

    def _drop(self, stream: Stream) -> None:
        stream.gone = True
        stream.queue.clear()
        stream.queued = 0
        self._give_back(stream.held)
        del self._streams[stream.id]

    def _end_closed(self, stream: Stream) -> None:
        """Stop a peer that would go on sending to nobody."""
        if stream.closed and stream.end_sent and not stream.remote_ended and not stream.gone:
            self._outbox.control.append(frame(Type.RESET, 0, stream.id, bytes([Code.NO_ERROR])))
            self._drop(stream)

    def _forget_if_over(self, stream: Stream) -> None:
        if stream.remote_ended and stream.end_sent and not stream.held:
            stream.gone = True
            self._streams.pop(stream.id, None)

    def _spend_calm(self, now: float) -> None:
        if not self._calm.spend(now):
            self._fail(Code.ENHANCE_YOUR_CALM, "too many control frames")

    def _expect(self, holds: bool, message: str) -> None:
        if not holds:
            self._fail(Code.PROTOCOL, message)

    def _fail(self, code: Code, message: str) -> NoReturn:
        raise MuxError(code, message)
