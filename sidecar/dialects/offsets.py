"""Where a character of the model's text stands in the text that the client gets.

Citations count characters of an answer. Restoration makes the answer longer or shorter, so the counts must follow. What
was replaced is learnt by watching: a stretch that went in and what came out for it. Within a stretch, the characters
that are the same at both its ends kept their place; in between one token became one value.

Limits: a stretch that holds several tokens is mapped to its ends; feed word by word for the finest stretches. Of an
endless answer only the latest stretches are remembered.
"""

from typing import Final

_LONGEST_STRETCH: Final = 4096
"""Characters after which a stretch is closed even if more may be held back."""

_MOST_STRETCHES: Final = 4096
"""Stretches that are remembered at least."""


class OffsetMap:
    """The stretches of one channel that changed, in order."""

    __slots__ = ("_came", "_given", "_stretches", "_taken", "_went")

    def __init__(self) -> None:
        self._taken = 0
        """Characters that went in, without the open stretch."""
        self._given = 0
        """Characters that came out for them."""
        self._went = ""
        self._came = ""
        self._stretches: list[tuple[int, int, str, str]] = []
        """(start in the model's text, start in the client's text, what went in, what came out)."""

    def note(self, piece: str, released: str) -> None:
        """One more piece went in, and this came out."""
        if released == piece:
            if self._went:
                self._close()
            self._taken += len(piece)
            self._given += len(released)
            return
        self._went += piece
        self._came += released
        if self._went == self._came or len(self._went) > _LONGEST_STRETCH:
            self._close()

    def at(self, offset: int, *, end: bool) -> int:
        """Where `offset` stands now. One within a token moves to the start of its value, or to its `end`."""
        shift = 0
        for taken, given, went, came in [*self._stretches, (self._taken, self._given, self._went, self._came)]:
            if offset <= taken:
                break
            if offset < taken + len(went):
                return given + _within(offset - taken, went, came, end=end)
            shift = given + len(came) - taken - len(went)
        return offset + shift

    def _close(self) -> None:
        if self._went != self._came:
            self._stretches.append((self._taken, self._given, self._went, self._came))
            if len(self._stretches) > 2 * _MOST_STRETCHES:
                del self._stretches[:_MOST_STRETCHES]
        self._taken += len(self._went)
        self._given += len(self._came)
        self._went = self._came = ""


def _within(offset: int, went: str, came: str, *, end: bool) -> int:
    head = _common(went, came)
    if offset <= head:
        return offset
    tail = min(_common(went[::-1], came[::-1]), len(went) - head, len(came) - head)
    if offset >= len(went) - tail:
        return len(came) - (len(went) - offset)
    return len(came) - tail if end else head


def _common(one: str, other: str) -> int:
    """Length of the common prefix."""
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    return length
