"""One answer on its way to one client: which framing it gets, and the bytes that make it.

A body that comes through unchanged keeps its length. Any other is chunked; HTTP/1.0 knows no chunks, there the end of
the connection ends the answer. As long as nothing was taken, nothing is decided: an answer that is whole by then gets a
length, and one that turns out to be refused can still become an error.
"""

from typing import Final

from sidecar.codecs.http1_chunked import LAST_CHUNK, chunk
from sidecar.codecs.http1_head import RequestHead

UNKNOWN: Final = -1
"""In place of a length: the body may change on its way."""
NO_BODY: Final = -2
"""In place of a length: an answer that has neither body nor length (204, 304)."""


def at_once(rendered: bytes, fields: bytes, body: bytes) -> bytes:
    """A whole answer with a body, for a client of HTTP/1.1 whose connection is kept."""
    return b"%b%bcontent-length: %d\r\n\r\n%b" % (rendered, fields, len(body), body)


def delivery_to(head: RequestHead) -> "Delivery":
    """One for an answer to this request."""
    return Delivery(is_http11=head.is_http11, to_head=head.method == "HEAD", keep_alive=head.keep_alive)


class Delivery:
    """The answer to one request, as bytes for the client's connection."""

    __slots__ = ("_chunks", "_is_http11", "_length", "_pieces", "_rendered", "begun", "ended", "keep_alive", "to_head")

    def __init__(self, *, is_http11: bool, to_head: bool, keep_alive: bool) -> None:
        self._is_http11 = is_http11
        self.to_head = to_head
        self.keep_alive = keep_alive
        """Whether the connection can serve another request after this answer."""
        self._rendered = b""
        self._length = UNKNOWN
        self._pieces: list[bytes] = []
        self._chunks = False
        self.begun = False
        """Whether the head was taken: the status can no longer change."""
        self.ended = False

    def head(self, rendered: bytes, length: int) -> None:
        """First line and all fields but those of framing, and the length of the body, UNKNOWN or NO_BODY. May be called
        again until `begun`: what was to be said is forgotten."""
        self._rendered = rendered
        self._length = length
        self._pieces.clear()
        self.ended = False

    def body(self, data: bytes) -> None:
        """Some of the body; not empty."""
        self._pieces.append(data)

    def end(self) -> None:
        """The body is whole."""
        self.ended = True

    def whole(self, rendered: bytes, body: bytes) -> None:
        """All of an answer with a body, which may be empty: `head`, `body` and `end` at once."""
        self._rendered = rendered
        self._length = len(body)
        self._pieces = [body]
        self.ended = True

    @property
    def has_news(self) -> bool:
        """Whether there is more to take than a head."""
        return self.ended or bool(self._pieces)

    @property
    def is_open_ended(self) -> bool:
        """Whether a body that has begun may still be longer than was planned."""
        return self._length == UNKNOWN

    @property
    def passes_chunks(self) -> bool:
        """Whether chunks of the body may go to the client at once, past this."""
        return self.begun and self._chunks and not self.ended and not self._pieces

    def take(self) -> bytes:
        """What to write to the client now."""
        pieces, self._pieces = self._pieces, []
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self.begun:
            return self._framed(body)
        self.begun = True
        if self.to_head or self._length == NO_BODY:
            return self._head(self._length)
        if self._length == UNKNOWN and self.ended:
            self._length = len(body)
        if self._length != UNKNOWN:
            return b"%bcontent-length: %d\r\n%b%b" % (self._rendered, self._length, self._connection(), body)
        if self._is_http11:
            self._chunks = True
            return b"%btransfer-encoding: chunked\r\n%b%b" % (self._rendered, self._connection(), self._framed(body))
        self.keep_alive = False
        return self._head(UNKNOWN) + body

    def _head(self, length: int) -> bytes:
        if length < 0:
            return self._rendered + self._connection()
        return b"%bcontent-length: %d\r\n%b" % (self._rendered, length, self._connection())

    def _connection(self) -> bytes:
        """The field for this hop, and the empty line."""
        if not self.keep_alive:
            return b"connection: close\r\n\r\n"
        return b"\r\n" if self._is_http11 else b"connection: keep-alive\r\n\r\n"

    def _framed(self, body: bytes) -> bytes:
        if self.to_head or self._length == NO_BODY:
            return b""
        if not self._chunks:
            return body
        framed = chunk(body) if body else b""
        return framed + LAST_CHUNK if self.ended else framed
