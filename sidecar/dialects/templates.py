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

_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_PADDING: Final = re.compile(rb'"obfuscation":"[A-Za-z0-9]*+"')
_decode: Final[Callable[[bytes], str]] = msgspec.json.Decoder(str).decode


def string_end(document: bytes, start: int) -> int:
    """Where the JSON string ends that begins at `start`, behind its quote; 0: none does."""
    string = _STRING.match(document, start)
    return string.end() if string is not None else 0


class Template:
    """The bytes around the text of an event."""

    __slots__ = ("_bare", "_end", "_head", "_padded", "_size", "_tail", "_tail_end", "ends_in_lf")

    def __init__(self, event: bytes, start: int, end: int) -> None:
        """`event[start:end]` is a JSON string, quotes included, of an event that was read strictly."""
        self._head = event[:start]
        self._size = start
        self._tail = event[end:]
        self._end = end - len(event)
        self.ends_in_lf = event.endswith(b"\n")
        """Whether an event of this shape is over at its last byte; a CR may be half of a line end."""
        padding = _PADDING.search(self._tail)
        self._padded, self._tail_end = b"", b""
        if padding is not None:
            border = self._tail.index(b'":"', padding.start()) + 3
            self._padded, self._tail_end = self._tail[:border], self._tail[padding.end() - 1 :]
        # Spaces are ignored only between closing braces.
        self._bare = self._tail.replace(b" ", b"") if not self._tail.strip(b"} \n") else b""

    def text(self, event: bytes) -> str | None:
        """The text of an event of this shape; None for any other, and for one that must be read strictly (lone
        surrogates, bad bytes)."""
        if not event.startswith(self._head):
            return None
        end = self._end
        if not event.endswith(self._tail):
            end = self._other_tail(event)
            if not end:
                return None
        try:
            # Strict: one string and nothing else, so no member hides between what was the same.
            return _decode(event[self._size : end])
        except REFUSED:
            return None

    def with_text(self, event: bytes, text: str) -> bytes:
        """The event, which is of this shape, with another text."""
        end = self._end if event.endswith(self._tail) else self._other_tail(event)
        return self._head + written(text) + event[end:]

    def _other_tail(self, event: bytes) -> int:
        """Minus the length of a tail that differs in its padding only; 0: it differs in more."""
        string = _STRING.match(event, self._size)
        if string is None:
            return 0
        tail = event[string.end() :]
        if self._padded and tail.startswith(self._padded) and tail.endswith(self._tail_end):
            padding = tail[len(self._padded) : len(tail) - len(self._tail_end)]
            return -len(tail) if padding.isalnum() else 0  # of bytes: ASCII only
        return -len(tail) if self._bare and tail.replace(b" ", b"") == self._bare else 0


_MEMBER: Final = b'"sequence_number":'
_NUMBER: Final = re.compile(rb"(?:0|[1-9][0-9]{0,15}+)(?![0-9.eE])")
"""As `b"%d"` would write it."""


class NumberedTemplate:
    """A template of events that count themselves (`sequence_number`), which are of one shape but for that number."""

    __slots__ = ("_before", "_template", "ends_in_lf", "number")

    def __init__(self, event: bytes, start: int, end: int, number: int) -> None:
        """As `Template`. Raises ValueError unless the number stands before the text."""
        self._before = event[: event.rindex(_MEMBER, 0, start) + len(_MEMBER)]
        digits = _NUMBER.match(event, len(self._before))
        if digits is None or digits.group() != b"%d" % number:
            raise ValueError("the number is written in another way")
        shift = len(digits.group())
        self._template = Template(self._before + event[digits.end() :], start - shift, end - shift)
        self.ends_in_lf = self._template.ends_in_lf
        self.number = number
        """Of the event read last."""

    def text(self, event: bytes) -> str | None:
        """See `Template.text`."""
        digits = _NUMBER.match(event, len(self._before)) if event.startswith(self._before) else None
        if digits is None:
            return None
        text = self._template.text(self._before + event[digits.end() :])
        if text is not None:
            self.number = int(digits.group())
        return text

    def with_text(self, event: bytes, text: str) -> bytes:
        """See `Template.with_text`; of the event read last."""
        before, digits = self._before, b"%d" % self.number
        changed = self._template.with_text(before + event[len(before) + len(digits) :], text)
        return before + digits + changed[len(before) :]
