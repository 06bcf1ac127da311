"""Server-sent events as bytes: where one ends, what its data is, and how one is written.

WHATWG HTML section 9.2.6. Lines end in LF, CR or CRLF, and a read may end between CR and LF. The splitter cuts a stream
into units (an event with its empty line, a comment line, a blank line, a byte order mark) such that joined they are the
stream again, and such that where the reads were cut makes no difference to what is written before or after a unit.
"""

import re
from typing import Final, NamedTuple

MAX_EVENT: Final = 16 * 1024 * 1024
"""Bytes of one event."""

_BOM: Final = b"\xef\xbb\xbf"
_EVENT_END: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
_COMMENT_OR_BLANK: Final = re.compile(rb"(?::[^\r\n]*+)?(?:\r\n|\n|\r)")
_ODD: Final = re.compile(rb"(?:\n\n|\A)[:\n]")
"""A comment or a blank line where an event could begin."""

_LINE: Final = re.compile(rb"([^\r\n]*+)(?:\r\n|\n|\r|\Z)")
_NEWLINES: Final = b"\r\n"
_COLON_OR_LF: Final = b":\n"
_COLON: Final = 0x3A
_LF: Final = 0x0A


class EventTooLargeError(Exception):
    """An event passed the bound. A stream that is not cut into events cannot be inspected: end it."""

    def __init__(self, before: list[bytes], rest: bytes) -> None:
        super().__init__("an event is larger than the bound")
        self.before = before
        """The complete units before it."""
        self.rest = rest
        """Its bytes as far as they came, and what followed."""


class Splitter:
    """Cuts a stream into units as it arrives. Holds at most one unfinished unit, bounded by `max_event` bytes."""

    __slots__ = ("_after_cr", "_buffer", "_scanned", "_started", "max_event")

    def __init__(self, max_event: int = MAX_EVENT) -> None:
        self.max_event = max_event
        self._buffer = bytearray()
        self._scanned = 0
        """Bytes of the buffer in which no event end begins."""
        self._after_cr = False
        """The last unit ended in CR at the end of a read: an LF that follows belongs to it."""
        self._started = False
        """Whether a byte order mark is no longer possible."""

    def feed(self, data: bytes) -> list[bytes]:
        """The units that are complete by now. Raises `EventTooLargeError`."""
        size = len(data)
        if size and not self._started and not self._buffer:
            self._started = data[0] != _BOM[0]
        if not self._started or self._buffer or self._after_cr or b"\r" in data:
            units, size = self._buffered(data)
        elif 0 < data.find(b"\n\n") == size - 2 and data[0] not in _COLON_OR_LF:
            units = [data]  # nearly always: one event a read
        elif data.endswith(b"\n\n") and not _ODD.search(data):
            units = [part + b"\n\n" for part in data[:-2].split(b"\n\n")]
        else:
            units, size = self._buffered(data)
        if size > self.max_event:
            self._check(units)
        return units

    @property
    def is_between_events(self) -> bool:
        """Whether what comes next begins a unit, whatever it is."""
        return self._started and not self._buffer and not self._after_cr

    def close(self) -> bytes:
        """What is left when the stream ended without an empty line; readers differ on whether it is an event."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def _check(self, units: list[bytes]) -> None:
        for index, unit in enumerate(units):
            if len(unit) > self.max_event:
                raise EventTooLargeError(units[:index], b"".join(units[index:]) + self.close())
        if len(self._buffer) > self.max_event:
            raise EventTooLargeError(units, self.close())

    def _buffered(self, data: bytes) -> tuple[list[bytes], int]:
        self._buffer += data
        size = len(self._buffer)
        return self._complete_units(), size

    def _complete_units(self) -> list[bytes]:
        buffer = self._buffer
        if not buffer or (not self._started and len(buffer) < len(_BOM) and _BOM.startswith(buffer)):
            return []
        units: list[bytes] = []
        at = self._take_start(units)
        while at < len(buffer):
            if buffer[at] == _COLON or buffer[at] in _NEWLINES:
                match = _COMMENT_OR_BLANK.match(buffer, at)
            else:
                match = _EVENT_END.search(buffer, max(at, self._scanned))
            if match is None:
                break
            units.append(bytes(buffer[at : match.end()]))
            at = match.end()
        self._after_cr = at == len(buffer) and units[-1].endswith(b"\r")
        match = None  # it holds on to the buffer, which could not shrink
        del buffer[:at]
        self._scanned = max(0, len(buffer) - 3)
        return units

    def _take_start(self, units: list[bytes]) -> int:
        """Take what belongs to no event off the front: the LF of a CRLF cut in two, a byte order mark."""
        if not self._started:
            self._started = True
            if self._buffer.startswith(_BOM):
                units.append(_BOM)
                return len(_BOM)
        if self._after_cr and self._buffer[0] == _LF:
            units.append(b"\n")
            return 1
        return 0


class Data(NamedTuple):
    """The data of one event and where in the event's bytes its lines stand."""

    value: bytes
    """All data lines joined by LF, without the one space that may follow the colon."""
    spans: tuple[tuple[int, int], ...]


def event_data(event: bytes) -> Data | None:
    """The data of an event, or None if it has no data line."""
    first = event.find(b"\n") + 1 if event.startswith(b"event:") else 0
    end = len(event) - 2
    if event.startswith(b"data: ", first) and event.find(b"\n", first) == end and b"\r" not in event:
        return Data(event[first + 6 : end], ((first + 6, end),))
    spans = []
    for line in _LINE.finditer(event):
        start, end = line.span(1)
        if event.startswith(b"data:", start):
            start += 6 if event[start + 5 : start + 6] == b" " else 5
            spans.append((start, end))
        elif end - start == 4 and event.startswith(b"data", start):
            spans.append((end, end))  # a field without a colon has an empty value
    if not spans:
        return None
    return Data(b"\n".join([event[start:end] for start, end in spans]), tuple(spans))


def with_data(event: bytes, data: Data, value: bytes) -> bytes:
    """The event with another value on its data lines, every other byte kept. `value` has as many lines as before."""
    pieces: list[bytes] = []
    at = 0
    for (start, end), line in zip(data.spans, value.split(b"\n"), strict=True):
        pieces += (event[at:start], line)
        at = end
    pieces.append(event[at:])
    return b"".join(pieces)


def new_event(data: bytes, name: str = "") -> bytes:
    """An event of ours: LF line ends, one space after the colon, data on one line."""
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + data + b"\n\n"
