"""Turns a model's answer, as it comes in, into numbered chunks; or finds that it is none.

The chunks' texts joined are the answer's payload, however the answer was cut. A classification has no payload: its
stream is the end mark alone.
"""

from policies.mathprotocol.codes import ERRORS, Kind
from policies.mathprotocol.responses import AnswerGate, InvalidAnswer, parse_response
from policies.mathprotocol.streaming import MAX_STREAM_BYTES, ChunkWriter, Head


class AnswerRefusedError(Exception):
    """The answer cannot be streamed: it is not in protocol, or it is an error code. Holds no text."""

    def __init__(self, reason: str, code: int = 0) -> None:
        super().__init__(f"no answer to stream: {reason}")
        self.reason = reason
        """A bounded name."""
        self.code = code
        """1024, 2048 or 4096 if the model said so; else 0."""


class ChunkedAnswer:
    """One answer on its way. Fed with pieces cut anywhere."""

    __slots__ = ("_begun", "_blanks", "_gate", "_limit", "_writer")

    def __init__(self, kind: Kind, max_stream_bytes: int = MAX_STREAM_BYTES) -> None:
        # A character takes a byte at least, so what the gate refuses as too long is too large, too.
        self._gate = AnswerGate(kind, max_stream_bytes + 64)
        self._limit = max_stream_bytes
        self._writer: ChunkWriter | None = None
        self._begun = False
        self._blanks = ""
        """Blanks at the end of what came: part of the payload only if more follows."""

    def feed(self, piece: str, *, last: bool = False) -> list[str]:
        """The chunks (lines without line feed) that are certain by now; with `last` the end mark, too.

        Raises AnswerRefusedError, or StreamError when the payload is too large.
        """
        released = self._gate.feed(piece, last=last)
        if isinstance(released, InvalidAnswer):
            raise AnswerRefusedError(released.reason)
        if released and self._writer is None:
            self._writer, released = self._open(released)
        lines = self._chunk(released) if released else []
        if last:
            assert self._writer is not None  # noqa: S101 the gate has released a whole answer
            lines.append(self._writer.end())
        return lines

    def _open(self, answer: str) -> tuple[ChunkWriter, str]:
        head, _, payload = answer.partition("|")
        codes = parse_response(head).codes
        if codes[0] in ERRORS and len(codes) == 1:
            raise AnswerRefusedError("error_code", codes[0])
        return ChunkWriter(Head(codes[0], codes[1]), self._limit), payload

    def _chunk(self, text: str) -> list[str]:
        text = self._blanks + text
        if not self._begun:
            text = text.lstrip()
        shown = text.rstrip()
        self._blanks = text[len(shown) :]
        self._begun = self._begun or bool(shown)
        assert self._writer is not None  # noqa: S101 only asked after the head
        return [self._writer.chunk(shown)] if shown else []
