"""HTTP/1 messages out of a byte stream that is cut anywhere: bytes in, calls to a sink out.

One message at a time. After the end of a request the reader holds what follows until `next_message`: answers then leave
in the order of their requests without a queue of exchanges, and the depth of pipelining is bounded by bytes.

    between messages ──head──▶ body ──end──▶ held ──next_message──▶ between messages

Messages that come in one piece are the common case and take the shortest way.
"""

from collections.abc import Callable
from typing import Final, Protocol

from sidecar.codecs.http1_chunked import ChunkedReader
from sidecar.codecs.http1_errors import BadAnswerError, BadRequestError, Http1Error
from sidecar.codecs.http1_head import (
    CHUNKED,
    MAX_HEAD,
    UNTIL_CLOSE,
    AnswerHead,
    AnswerHeads,
    FamiliarHead,
    RequestHead,
    RequestHeads,
)

_END_OF_HEAD: Final = b"\r\n\r\n"


class RequestSink(Protocol):
    """Who is told of one request after its head."""

    def request_body(self, data: bytes) -> None:
        """Some of the body, never empty; more follows."""

    def request_end(self, data: bytes) -> None:
        """The request is whole; `data` is the last of its body, or empty."""


class AnswerSink(Protocol):
    """Who is told of one answer."""

    def answer_interim(self, head: AnswerHead) -> None:
        """A 1xx answer; the final one follows."""

    def answer_head(self, head: AnswerHead, length: int) -> None:
        """The answer begins; `length` is what it says of its body, CHUNKED or UNTIL_CLOSE. An answer to HEAD, a 204 and
        a 304 have no body whatever it says."""

    def answer_body(self, data: bytes) -> None:
        """Some of the body, never empty; more follows."""

    def answer_end(self, data: bytes) -> None:
        """The answer is whole; `data` is the last of its body, or empty."""

    def answer_whole(self, head: AnswerHead, body: bytes) -> None:
        """An answer came at once, head and body, as most do: in place of `answer_head` and `answer_end`. Never one that
        has no body."""


Begin = Callable[[RequestHead, int, bytes], RequestSink]
"""`begin(head, length, traceparent)`: a request begins; who is to be told of the rest. `length` may be CHUNKED."""


class RequestReader:
    """Reads the requests of one client connection."""

    __slots__ = (
        "_begin",
        "_buffer",
        "_chunks",
        "_familiar",
        "_heads",
        "_is_at_border",
        "_left",
        "_running",
        "_sink",
        "is_held",
    )

    def __init__(self, heads: RequestHeads, begin: Begin) -> None:
        self._heads = heads
        self._familiar: FamiliarHead[RequestHead] = FamiliarHead()
        self._begin = begin
        self._buffer = b""
        """What came and was not read yet."""
        self._sink: RequestSink | None = None
        """Who is told of the body; None between messages."""
        self._left = 0
        """Bytes of a body of known length still to come."""
        self._chunks: ChunkedReader | None = None
        self._running = False
        self._is_at_border = True
        """Whether nothing of a request came since the last one was dealt with."""
        self.is_held = False
        """Whether a request ended and `next_message` must come before the next one."""

    @property
    def in_head(self) -> bool:
        """Whether a head has begun and not ended."""
        return bool(self._buffer) and self._sink is None and not self.is_held

    @property
    def in_body(self) -> bool:
        """Whether body bytes are still to come."""
        return self._sink is not None

    @property
    def waiting(self) -> int:
        """Bytes that came and were not read yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> bool:
        """Reads on. Whether that was one request, all of it, and nothing else. Raises BadRequestError; the connection
        is then beyond repair."""
        if self._is_at_border:
            self._is_at_border = False
            familiar = self._familiar
            end = familiar.end(data)
            if end and end + familiar.length == len(data) and familiar.head is not None:  # nearly always
                self.is_held = True
                self._begin(familiar.head, familiar.length, b"").request_end(data[end:])
                return True
        self._buffer = self._buffer + data if self._buffer else data
        if not self._running:
            self._run()
        return False

    def next_message(self) -> None:
        """The request that ended is dealt with: read what came after it. Raises like `feed`."""
        self.is_held = False
        if not self._buffer:
            self._is_at_border = True
        elif not self._running:
            self._run()

    def _run(self) -> None:
        # A sink that answers at once calls `next_message` from within; a loop instead of recursion, because the
        # number of pipelined requests is the client's choice.
        self._running = True
        try:
            while self._buffer and not self.is_held:
                if self._sink is not None:
                    self._body(self._sink)
                elif not self._head():
                    return
        except BadRequestError:
            raise
        except Http1Error as error:
            raise BadRequestError(str(error)) from None
        finally:
            self._running = False

    def _head(self) -> bool:
        """Reads a head, and the body too if it is there; False when more of the head must come first."""
        data, familiar, traceparent = self._buffer, self._familiar, b""
        end, head, length = familiar.end(data), familiar.head, familiar.length
        if not end or head is None:
            end = data.find(_END_OF_HEAD) + 4
            if end == 3:
                self._buffer = _unfinished_head(data)
                return False
            if data[0] == 13:  # RFC 9112 section 2.2: empty lines before a request are to be ignored
                self._buffer = data.lstrip(b"\r\n")
                return bool(self._buffer)
            if end > MAX_HEAD:
                raise BadRequestError(f"the head is longer than {MAX_HEAD} bytes", 431)
            head, length, traceparent = self._heads.read(data[:end])
            familiar.learn(data[:end], head)
        sink = self._begin(head, length, traceparent)
        if 0 <= length <= len(data) - end:
            self._buffer = data[end + length :]
            self.is_held = True
            sink.request_end(data[end : end + length])
            return True
        self._buffer = data[end:]
        self._sink = sink
        self._left = length
        if length == CHUNKED:
            self._chunks = ChunkedReader()
        return True

    def _body(self, sink: RequestSink) -> None:
        data = self._buffer
        if self._chunks is not None:
            body, self._buffer = self._chunks.feed(data)
            ended = self._chunks.finished
        else:
            body, self._buffer = data[: self._left], data[self._left :]
            self._left -= len(body)
            ended = not self._left
        if ended:
            self._sink = self._chunks = None
            self.is_held = True
        if ended:
            sink.request_end(body)
        elif body:
            sink.request_body(body)


class AnswerReader:
    """Reads the answers of one upstream connection, each to its own sink."""

    __slots__ = (
        "_bodyless",
        "_buffer",
        "_chunks",
        "_familiar",
        "_heads",
        "_is_fresh",
        "_left",
        "is_between_chunks",
        "reusable",
        "sink",
    )

    def __init__(self, heads: AnswerHeads) -> None:
        self._heads = heads
        self._familiar: FamiliarHead[AnswerHead] = FamiliarHead()
        self.sink: AnswerSink | None = None
        """Who waits for an answer; None: none is due."""
        self._buffer = b""
        self._bodyless = False
        self._is_fresh = False
        """Whether nothing came yet of an answer that has a body."""
        self._left = 0
        """Bytes of the body still to come, CHUNKED or UNTIL_CLOSE; 0 before the head."""
        self._chunks: ChunkedReader | None = None
        self.is_between_chunks = False
        """Whether what comes next begins another chunk of an answer. A chunk that comes whole may then be read by
        others: it changes nothing here."""
        self.reusable = True
        """Whether another request may be sent on this connection once this answer ended."""

    def expect(self, sink: AnswerSink, *, to_head: bool) -> None:
        """The next answer is for `sink`. `to_head`: the request was HEAD, whose answer has no body."""
        self.sink = sink
        self._bodyless = to_head
        self._is_fresh = not to_head

    def feed(self, data: bytes) -> None:
        """Reads on. Raises BadAnswerError; the connection is then beyond repair."""
        if self._is_fresh:
            self._is_fresh = False
            familiar = self._familiar
            end, head, sink = familiar.end(data), familiar.head, self.sink
            if end and end + familiar.length == len(data) and head is not None and head.has_body and sink is not None:
                self.sink = None  # nearly always
                self.reusable = head.keep_alive
                sink.answer_whole(head, data[end:])
                return
        self._buffer = self._buffer + data if self._buffer else data
        try:
            while self._buffer and self.sink is not None:
                if self._left:
                    self._body(self.sink)
                elif not self._head(self.sink):
                    return
        except BadAnswerError:
            raise
        except Http1Error as error:
            raise BadAnswerError(f"from the upstream: {error}") from None
        if self._buffer:
            # Nobody asked for this. Read as the answer to the next request, it would reach the wrong client.
            self.reusable = False

    def close(self) -> None:
        """The connection ended. Raises BadAnswerError when an answer was due or under way."""
        self.reusable = False
        sink = self.sink
        if sink is None:
            return
        if self._left != UNTIL_CLOSE:
            raise BadAnswerError("the upstream closed before the end of its answer")
        self.sink = None
        sink.answer_end(b"")

    def _head(self, sink: AnswerSink) -> bool:
        """Reads a head, and the body too if it is there; False when more of the head must come first."""
        data, familiar = self._buffer, self._familiar
        end, head, length = familiar.end(data), familiar.head, familiar.length
        if not end or head is None:
            end = data.find(_END_OF_HEAD) + 4
            if end == 3 or end > MAX_HEAD:
                if len(data) > MAX_HEAD:
                    raise BadAnswerError(f"the upstream's head is longer than {MAX_HEAD} bytes")
                return False
            head, length = self._heads.read(data[:end])
            familiar.learn(data[:end], head)
        status = head.status
        if status < 200:
            self._buffer = data[end:]
            if status == 101:
                raise BadAnswerError("the upstream switches protocols unasked")
            sink.answer_interim(head)
            return True
        bodyless = self._bodyless or not head.has_body
        self.reusable = head.keep_alive and (bodyless or length != UNTIL_CLOSE)
        if 0 <= length <= len(data) - end and not bodyless:
            self._buffer = data[end + length :]
            self.sink = None
            sink.answer_whole(head, data[end : end + length])
            return True
        sink.answer_head(head, length)
        if bodyless:
            self._buffer = data[end:]
            self.sink = None
            sink.answer_end(b"")
            return True
        self._buffer = data[end:]
        self._left = length
        if length == CHUNKED:
            self._chunks = ChunkedReader()
        return True

    def _body(self, sink: AnswerSink) -> None:
        data = self._buffer
        if self._chunks is not None:
            body, self._buffer = self._chunks.feed(data)
            self.is_between_chunks = self._chunks.is_between_chunks
            if self._chunks.finished:
                self._left = 0
        elif self._left == UNTIL_CLOSE:
            body, self._buffer = data, b""
        else:
            body, self._buffer = data[: self._left], data[self._left :]
            self._left -= len(body)
        if not self._left:
            self.sink = self._chunks = None
            sink.answer_end(body)
        elif body:
            sink.answer_body(body)


def _unfinished_head(data: bytes) -> bytes:
    """The beginning of a head, for as long as it can become one. Raises BadRequestError as soon as it cannot."""
    if len(data) > MAX_HEAD:
        raise BadRequestError(f"the head is longer than {MAX_HEAD} bytes", 431)
    data = data.lstrip(b"\r\n")
    # A TLS greeting, say: whoever sends that waits for an answer, and would wait until a timeout.
    if data and not data[:1].isalpha():
        raise BadRequestError("not HTTP/1.1; for https, let the client use http:// here")
    if data.count(b"\n") != data.count(b"\r\n"):
        raise BadRequestError("not HTTP/1.1: a line ends in a bare LF")
    return data
