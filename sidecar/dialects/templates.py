"""Events that differ from an earlier one in a single string, read without parsing them again.

The deltas of a stream repeat all but their text. Once one was read strictly, an event with the same bytes before its
text and the same bytes after it has the same shape: no member can hide in it, only the string is decoded. Servers pad
events against traffic analysis with a string of letters and digits (OpenAI's `obfuscation`) or with spaces
(Anthropic); both are allowed for.
"""

import re
from collections.abc import Callable
from typing import Final

import msgspec

from sidecar.codecs.json_splice import written
from sidecar.codecs.json_strict import REFUSED
from sidecar.dialects.lanes import Lane

_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_PADDING: Final = re.compile(rb'"obfuscation":"[A-Za-z0-9]*+"')
_decode: Final[Callable[[bytes], str]] = msgspec.json.Decoder(str).decode


class Template:
    """The bytes around the text of an event, and the lane that the text belongs to."""

    __slots__ = ("_bare", "_head", "_padded", "_size", "_tail", "_tail_end", "lane")

    def __init__(self, event: bytes, start: int, end: int, lane: Lane) -> None:
        """`event[start:end]` is the JSON string, quotes included; it is the only text that policies read in `event`,
        which was read strictly and neither ends a channel nor carries usage or errors."""
        self.lane = lane
        self._head = event[:start]
        self._size = start
        self._tail = event[end:]
        padding = _PADDING.search(self._tail)
        self._padded, self._tail_end = b"", b""
        if padding is not None:
            border = self._tail.index(b'":"', padding.start()) + 3
            self._padded, self._tail_end = self._tail[:border], self._tail[padding.end() - 1 :]
        # Spaces are ignored only between closing braces.
        self._bare = self._tail.replace(b" ", b"") if not self._tail.strip(b"} \n") else b""

    def text_end(self, event: bytes) -> int:
        """Where the text ends if `event` is of this shape, else 0."""
        if not event.startswith(self._head):
            return 0
        string = _STRING.match(event, self._size)
        if string is None:
            return 0
        end = string.end()
        return end if self._is_tail(event[end:]) else 0

    def text(self, event: bytes, end: int) -> str | None:
        """The text of an event of this shape, None if it must be read another way (lone surrogates, bad bytes)."""
        try:
            return _decode(event[self._size : end])
        except REFUSED:
            return None

    def with_text(self, event: bytes, end: int, text: str) -> bytes:
        """The event with another text."""
        return self._head + written(text) + event[end:]

    def _is_tail(self, tail: bytes) -> bool:
        if tail == self._tail:
            return True
        if self._padded and tail.startswith(self._padded) and tail.endswith(self._tail_end):
            return tail[len(self._padded) : len(tail) - len(self._tail_end)].isalnum()  # of bytes: ASCII only
        return bool(self._bare) and tail.replace(b" ", b"") == self._bare
