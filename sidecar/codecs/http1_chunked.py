"""The chunked transfer coding (RFC 9112 section 7.1), strict, both ways.

httptools reads chunks too, but does not tell where a message ended within what it was fed, and the next one may follow
at once. The tests hold this reader against httptools: what it accepts, llhttp accepts, with the same body.
Extensions and trailers are read past and dropped.
"""

import re
from typing import Final

from sidecar.codecs.http1_errors import Http1Error

MAX_LINE: Final = 1024
"""Bytes of a size line with its extensions, and of a trailer line."""
MAX_TRAILERS: Final = 8 * 1024
"""Bytes of all trailers."""

LAST_CHUNK: Final = b"0\r\n\r\n"

_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[\t !-~\x80-\xff]*)?\r\n")
_TRAILER: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t !-~\x80-\xff]*\r\n")


class BadChunkError(Http1Error):
    """The bytes are not the chunked coding."""


def chunk(data: bytes) -> bytes:
    """One chunk. `data` is not empty: an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def whole_chunk(data: bytes) -> int:
    """Where the content of `data` begins if it is one chunk, nothing more or less, written as `chunk` would write it;
    0: it is not, or it is longer than is looked for here."""
    size = len(data)
    if size < len(_SIZE_LINES):
        line = _SIZE_LINES[size]
        if line and data.startswith(line) and data.endswith(b"\r\n"):
            return len(line)
    return 0


def whole_chunks(data: bytes) -> list[bytes]:
    """The contents of `data` if it is nothing but whole chunks with some content, each written as `chunk` would write
    it; empty: it is not."""
    contents = []
    at = 0
    while at < len(data):
        start = data.find(b"\r\n", at, at + 10) + 2
        size = data[at : start - 2] if start > at + 2 else b""
        if not _HEX.fullmatch(size):
            return []
        end = start + int(size, 16)
        if not data.startswith(b"\r\n", end):
            return []
        contents.append(data[start:end])
        at = end + 2
    return contents


_HEX: Final = re.compile(rb"[1-9a-f][0-9a-f]{0,7}")


def _size_line(size: int) -> bytes:
    """What begins a chunk that takes `size` bytes; empty: none does."""
    for digits in range(1, 9):
        content = size - digits - 4
        line = b"%x\r\n" % max(content, 0)
        if content > 0 and len(line) == digits + 2:
            return line
    return b""


_SIZE_LINES: Final = tuple(map(_size_line, range(2048)))
"""By the bytes of a whole chunk: to read the number takes longer than to know it."""


class ChunkedReader:
    """Reads one chunked body, cut anywhere."""

    __slots__ = ("_held", "_left", "_trailers", "finished")

    def __init__(self) -> None:
        self._held = b""
        """The beginning of a line whose end has not come."""
        self._left = 0
        """Bytes of the current chunk still to come, its CRLF included."""
        self._trailers = -1
        """Bytes of trailers read; -1 before the last chunk."""
        self.finished = False

    @property
    def is_between_chunks(self) -> bool:
        """Whether what comes next begins a chunk."""
        return not self._left and not self._held and self._trailers < 0

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """(body bytes, what follows the message once `finished`). Raises BadChunkError."""
        if self._held:
            data, self._held = self._held + data, b""
        elif not self._left and self._trailers < 0:
            # Streams: nearly always one whole chunk a read.
            match = _SIZE_LINE.match(data)
            if match is not None:
                start, size = match.end(), int(match[1], 16)
                if size and start + size + 2 == len(data) and data.endswith(b"\r\n") and start <= MAX_LINE:
                    return data[start:-2], b""
        pieces = []
        at = 0
        while at < len(data) and not self.finished:
            if self._left > 2:
                piece = data[at : at + self._left - 2]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
            elif self._left:
                at = self._chunk_end(data, at)
            else:
                at = self._line(data, at)
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return body, data[at:] if self.finished else b""

    def _chunk_end(self, data: bytes, at: int) -> int:
        expected = b"\r\n"[2 - self._left :]
        came = data[at : at + self._left]
        if not expected.startswith(came):
            raise BadChunkError("a chunk is longer than its size")
        self._left -= len(came)
        return at + len(came)

    def _line(self, data: bytes, at: int) -> int:
        """Reads one line that is not data; the position after it."""
        end = data.find(b"\n", at) + 1
        if not end:
            self._hold(data[at:])
            return len(data)
        if self._trailers < 0:
            self._size_line(data, at, end)
        else:
            self._trailer_line(data, at, end)
        return end

    def _hold(self, line: bytes) -> None:
        if len(line) > MAX_LINE:
            raise BadChunkError(f"a line in a chunked body is longer than {MAX_LINE} bytes")
        self._held = line

    def _size_line(self, data: bytes, at: int, end: int) -> None:
        match = _SIZE_LINE.fullmatch(data, at, end)
        if match is None or end - at > MAX_LINE:
            raise BadChunkError("a chunk has no size")
        size = int(match[1], 16)
        if size:
            self._left = size + 2
        else:
            self._trailers = 0

    def _trailer_line(self, data: bytes, at: int, end: int) -> None:
        if data[at:end] == b"\r\n":
            self.finished = True
            return
        self._trailers += end - at
        if self._trailers > MAX_TRAILERS or _TRAILER.fullmatch(data, at, end) is None:
            raise BadChunkError("the trailers of a chunked body are malformed or too long")
