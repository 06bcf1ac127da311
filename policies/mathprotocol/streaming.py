"""Streamed answers: numbered chunks `RESPONSE-CONFIDENCE-INDEX | PARTIAL`, then `RESPONSE-CONFIDENCE-END`.

A chunk is one line; within PARTIAL, line feed, carriage return and backslash are `\\n`, `\\r` and `\\\\`. PARTIAL
begins after the one blank behind the pipe and is taken as it stands: blanks at chunk borders count. Over SSE a line is
one event, over WebSocket one text message; both may also be joined with line feeds, and cut anywhere.

A stream that broke off is never taken for a finished one: only the end mark finishes it, and nothing may follow.
"""

import re
from enum import StrEnum
from typing import Final, NamedTuple

from policies.mathprotocol.codes import CONFIDENCES, RESULTS, SUCCESS_BIT

MAX_STREAM_BYTES: Final = 1 << 20
"""Default bound of all PARTIALs together, UTF-8 bytes."""

_CHUNK: Final = re.compile(r"([1-9][0-9]{0,4})-([1-9][0-9]{0,2})-(0|[1-9][0-9]{0,8}) ?\| ?(.*)", re.DOTALL)
_END: Final = re.compile(r"([1-9][0-9]{0,4})-([1-9][0-9]{0,2})-END")
_HEAD_BYTES: Final = 32
"""A chunk's codes, index and pipe take less."""
_ESCAPED: Final = re.compile(r"\\(.?)", re.DOTALL)
_PLAIN: Final = {"n": "\n", "r": "\r", "\\": "\\"}


class StreamFault(StrEnum):
    """Why a stream was ended. Bounded names, for the client's error event and metrics."""

    MALFORMED = "malformed_chunk"
    NO_SUCCESS_BIT = "no_success_bit"
    RESPONSE = "illegal_response"
    CONFIDENCE = "illegal_confidence"
    CHANGED = "response_changed"
    ORDER = "out_of_order"
    TOO_LARGE = "too_large"
    AFTER_END = "after_end"
    BROKEN_OFF = "broken_off"


class StreamError(Exception):
    """The stream is no answer. Nothing more may be fed. Never holds text."""

    def __init__(self, fault: StreamFault, index: int) -> None:
        super().__init__(f"stream ended at chunk {index}: {fault.value}")
        self.fault = fault
        self.index = index


class Head(NamedTuple):
    """What all chunks of a stream agree on, with the last confidence."""

    response: int
    confidence: int


class ChunkReader:
    """Reads a stream of chunks cut anywhere; gives the text as it becomes certain.

    Holds at most one unfinished line, and refuses one longer than what may still come.
    """

    __slots__ = ("_bytes", "_index", "_limit", "_line", "finished", "head")

    def __init__(self, max_stream_bytes: int = MAX_STREAM_BYTES) -> None:
        self._limit = max_stream_bytes
        self._line = ""
        self._index = 0
        self._bytes = 0
        self.head: Head | None = None
        self.finished = False

    def feed(self, data: str) -> str:
        """The text of the chunks that `data` completes. Raises StreamError."""
        lines = (self._line + data).split("\n")
        self._line = lines.pop()
        text = "".join(map(self._chunk, lines))
        # Escapes double a byte at most, UTF-8 has at most four for a code point.
        if len(self._line) > _HEAD_BYTES + 2 * (self._limit - self._bytes):
            raise StreamError(StreamFault.TOO_LARGE, self._index)
        return text

    def message(self, chunk: str) -> str:
        """The text of one whole chunk, as an SSE event or a WebSocket message carries it. Raises StreamError."""
        return self.feed(chunk + "\n")

    def close(self) -> str:
        """The text of a last line without a line feed. Raises StreamError when the end mark did not come."""
        text = self.feed("\n") if self._line else ""
        if not self.finished:
            raise StreamError(StreamFault.BROKEN_OFF, self._index)
        return text

    def _chunk(self, line: str) -> str:
        if not line:
            return ""
        if self.finished:
            raise StreamError(StreamFault.AFTER_END, self._index)
        if end := _END.fullmatch(line):
            self._agree(int(end[1]), int(end[2]))
            self.finished = True
            return ""
        chunk = _CHUNK.fullmatch(line)
        if chunk is None:
            raise StreamError(StreamFault.MALFORMED, self._index)
        self._agree(int(chunk[1]), int(chunk[2]))
        if int(chunk[3]) != self._index:
            raise StreamError(StreamFault.ORDER, self._index)
        text = self._unescape(chunk[4])
        self._bytes += len(text.encode("utf-8", "surrogatepass"))
        if self._bytes > self._limit:
            raise StreamError(StreamFault.TOO_LARGE, self._index)
        self._index += 1
        return text

    def _agree(self, response: int, confidence: int) -> None:
        if not response & SUCCESS_BIT:
            raise StreamError(StreamFault.NO_SUCCESS_BIT, self._index)
        if response - SUCCESS_BIT not in RESULTS:
            raise StreamError(StreamFault.RESPONSE, self._index)
        if confidence not in CONFIDENCES:
            raise StreamError(StreamFault.CONFIDENCE, self._index)
        if self.head is not None and self.head.response != response:
            raise StreamError(StreamFault.CHANGED, self._index)
        self.head = Head(response, confidence)

    def _unescape(self, partial: str) -> str:
        if "\\" not in partial:
            return partial
        return _ESCAPED.sub(self._plain, partial)

    def _plain(self, escape: re.Match[str]) -> str:
        if escape[1] not in _PLAIN:
            raise StreamError(StreamFault.MALFORMED, self._index)
        return _PLAIN[escape[1]]


class ChunkWriter:
    """Writes a stream of chunks for one response code."""

    __slots__ = ("_bytes", "_head", "_index", "_limit")

    def __init__(self, head: Head, max_stream_bytes: int = MAX_STREAM_BYTES) -> None:
        legal = bool(head.response & SUCCESS_BIT) and head.response - SUCCESS_BIT in RESULTS
        if not legal or head.confidence not in CONFIDENCES:
            raise ValueError(f"{head.response}-{head.confidence} is no answer that can be streamed")
        self._head = head
        self._limit = max_stream_bytes
        self._bytes = 0
        self._index = 0

    def chunk(self, text: str) -> str:
        """The next chunk, without a line feed. Raises StreamError when the stream would become too large."""
        self._bytes += len(text.encode("utf-8", "surrogatepass"))
        if self._bytes > self._limit:
            raise StreamError(StreamFault.TOO_LARGE, self._index)
        escaped = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
        line = f"{self._head.response}-{self._head.confidence}-{self._index} | {escaped}"
        self._index += 1
        return line

    def end(self) -> str:
        """The end mark, without a line feed."""
        return f"{self._head.response}-{self._head.confidence}-END"
