"""What one end sends, and in which order.

What a stream wants to send waits in the stream's own queue; streams that may send stand in one line.
`take` fills a record: control frames first, then the first stream of the line gives at most one record's worth
and goes to the end of the line. So a stream of one small event waits for at most one record of each other stream,
however much these have queued, and small frames of many streams share a record.
"""

from collections import deque
from typing import Final, Protocol

from transport.mux.frames import END, HEADER, MAX_PAYLOAD, MAX_RECORD, Type
from transport.mux.stream import Stream

_LEAST_ROOM: Final = 256
"""Bytes left in a record below which it goes out as it is, lest a bulk stream is cut into slivers."""
_DATA: Final = int(Type.DATA)


class Owner(Protocol):
    """The mux."""

    def stream_writable(self, stream: Stream) -> None:
        """The queue of a stream that was full is short again."""

    def stream_sent(self, stream: Stream) -> None:
        """A frame of it went out, perhaps the last one."""


class Outbox:
    """Owned by one mux."""

    def __init__(self, credit: int, owner: Owner) -> None:
        """`credit`: bytes that all streams together may send."""
        self._owner = owner
        self._line: deque[Stream] = deque()
        self._failed = False
        self.control: deque[bytes] = deque()
        """Frames that go before all data."""
        self.credit = credit

    @property
    def has_output(self) -> bool:
        """Whether `take` would give something."""
        return bool(self.control) or (bool(self._line) and (self.credit > 0 or not self._line[0].queued))

    def fail(self) -> None:
        """Drop everything; only control frames that are queued from now on are sent."""
        self._failed = True
        self.control.clear()

    def take(self, tail: bytes = b"") -> bytes:
        """What goes into the next record, at most MAX_RECORD bytes and then `tail`; empty: nothing for now."""
        return next(iter(self.records(1, tail)), b"")

    def records(self, limit: int, tail: bytes = b"") -> list[bytes]:
        """What goes into the next records, `limit` of them if there is so much: as `take`, again and again."""
        found: list[bytes] = []
        while (room := limit - len(found)) > 0 and (self._line or self.control):
            if not self.control and len(self._line) == 1 and self._bulk(self._line[0], room, tail, found):
                continue
            if not (mixed := self._mixed(tail)):
                break
            found.append(mixed)
        return found

    def _mixed(self, tail: bytes) -> bytes:
        """One record of whatever there is."""
        room = MAX_RECORD
        pieces: list[bytes | memoryview] = []
        control = self.control
        while control:
            if len(control[0]) > room:
                pieces.append(tail)
                return b"".join(pieces)
            room -= len(control[0])
            pieces.append(control.popleft())
        while self._line and room > _LEAST_ROOM and not self._failed:
            stream = self._line[0]
            if not stream.gone:
                count = min(room - HEADER.size, stream.queued, stream.send_credit, self.credit)
                if count == 0 and stream.queued and self.credit == 0:
                    break  # the whole tunnel waits for credit; who stands in line keeps the place
                room -= HEADER.size + count
                self._cut(stream, count, pieces)
            self._line.popleft()
            stream.in_line = False
            if not stream.gone:
                self.stand_in_line(stream)
                self._owner.stream_sent(stream)
        if pieces:
            pieces.append(tail)
        return b"".join(pieces)

    def _bulk(self, stream: Stream, limit: int, tail: bytes, found: list[bytes]) -> int:
        """Append full records of a stream that is alone in the line and stays there; how many.

        The way of bulk, at a third of the cost of the general one; 0 when it is not that simple: the last bytes, those
        that use up the credit, and those after which its writer is to be told.
        """
        if stream.queued <= MAX_PAYLOAD:
            return 0
        spare = min(stream.send_credit, self.credit, stream.queued) - 1
        if stream.is_full:
            spare = min(spare, stream.queued - stream.queue_low - 1)
        count = min(limit, spare // MAX_PAYLOAD)
        if count <= 0 or self._failed:
            return 0
        header = HEADER.pack(_DATA, 0, stream.id, MAX_PAYLOAD)
        queue = stream.queue
        for _ in range(count):
            piece = queue[0]
            if len(piece) > MAX_PAYLOAD:
                queue[0] = piece[MAX_PAYLOAD:]
                found.append(b"".join((header, piece[:MAX_PAYLOAD], tail)))
            else:
                found.append(b"".join((header, *_pull(queue, MAX_PAYLOAD), tail)))
        size = count * MAX_PAYLOAD
        stream.queued -= size
        stream.send_credit -= size
        self.credit -= size
        return count

    def _cut(self, stream: Stream, count: int, pieces: list[bytes | memoryview]) -> None:
        """One DATA frame of `count` bytes."""
        is_last = stream.end_queued and count == stream.queued
        pieces.append(HEADER.pack(_DATA, END if is_last else 0, stream.id, count))
        stream.end_sent = is_last
        stream.queued -= count
        stream.send_credit -= count
        self.credit -= count
        pieces.extend(_pull(stream.queue, count))
        if stream.is_full and stream.queued <= stream.queue_low:
            stream.is_full = False
            self._owner.stream_writable(stream)

    def stand_in_line(self, stream: Stream) -> None:
        """If it has something to send and may."""
        if stream.in_line or stream.end_sent:
            return
        if (stream.queued and stream.send_credit) or (stream.end_queued and not stream.queued):
            stream.in_line = True
            self._line.append(stream)


def _pull(queue: deque[memoryview], count: int) -> list[memoryview]:
    """The first `count` bytes of a queue, which has as many."""
    pieces: list[memoryview] = []
    while count:
        piece = queue[0]
        if len(piece) > count:
            pieces.append(piece[:count])
            queue[0] = piece[count:]
            break
        count -= len(piece)
        pieces.append(queue.popleft())
    return pieces
