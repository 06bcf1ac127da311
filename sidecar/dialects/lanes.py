"""The channels of one answer: each piece goes through the policies, what they hold back is flushed before its end.

A lane is a channel with its state. Pieces of a lane may end in half a surrogate pair, which is kept until the other
half comes: policies see characters, whatever the model server's tokeniser did.
"""

import re
from collections.abc import Iterator
from typing import Final

from policies.model import Channel, ChannelKind, Deny
from sidecar.dialects.dialect import AnswerRefusedError, MalformedAnswerError, Restore
from sidecar.dialects.offsets import OffsetMap

MAX_LANES: Final = 4096
"""Channels of one answer. The field's upper bound for `n` is 128; each lane costs the policies memory."""

_WORD: Final = re.compile(r"\s*\S+|\s+")


class Lane:
    """One channel of an answer."""

    __slots__ = ("_half", "_restore", "channel", "ended", "offsets")

    def __init__(self, channel: Channel, restore: Restore) -> None:
        self.channel = channel
        self.ended = False
        self.offsets: OffsetMap | None = None
        """Where characters moved to, if anyone may ask."""
        self._restore = restore
        self._half = ""

    def release(self, piece: str, *, last: bool = False) -> str:
        """What the client may have now that `piece` came. Raises `AnswerRefusedError`.

        Raises `MalformedAnswerError` for text that comes after the end of the channel.
        """
        if self.ended:
            if not piece:
                return ""
            raise MalformedAnswerError("text after the end of its channel")
        if self._half or (not piece.isascii() and _is_high(piece[-1])):
            piece = self._whole(piece, last=last)
        released = self._restore(self.channel, piece, last)
        self.ended = last
        if released is not piece and isinstance(released, Deny):
            raise AnswerRefusedError(released)
        if self.offsets is not None:
            self.offsets.note(piece, released)
        return released

    def _whole(self, piece: str, *, last: bool) -> str:
        """The piece with the half that was kept before it, without one that ends it."""
        piece = self._half + piece
        self._half = ""
        if not last and _is_high(piece[-1]):
            self._half = piece[-1]
            piece = piece[:-1]
        return _joined(piece)


class Lanes:
    """All channels of one answer."""

    __slots__ = ("_lanes", "_restore")

    def __init__(self, restore: Restore) -> None:
        self._restore = restore
        self._lanes: dict[Channel, Lane] = {}

    def lane(self, channel: Channel) -> Lane:
        """The lane of a channel, opened on first use. `channel.tool` does not distinguish lanes: only the first
        fragment of a call names its tool. Raises `MalformedAnswerError` beyond a bound."""
        key = Channel(channel.kind, channel.position, channel.sub)
        lane = self._lanes.get(key)
        if lane is None:
            if len(self._lanes) >= MAX_LANES:
                raise MalformedAnswerError(f"more than {MAX_LANES} channels in one answer")
            lane = self._lanes[key] = Lane(channel, self._restore)
            if channel.kind is ChannelKind.TEXT:
                lane.offsets = OffsetMap()  # text is what citations count
        return lane

    def whole(self, channel: Channel, text: str, *, counted: bool = False) -> str:
        """What the client may have of a channel that is one text. Only if `counted`, the lane and its `offsets` are
        kept, and the text goes through word by word to make them as fine as can be."""
        if not counted:
            return whole(self._restore, channel, text)
        lane = self.lane(channel)
        return "".join([lane.release(word) for word in _WORD.findall(text)]) + lane.release("", last=True)

    def open(self) -> Iterator[Lane]:
        """The lanes that have begun and not ended, in order of their beginning."""
        return (lane for lane in self._lanes.values() if not lane.ended)


def whole(restore: Restore, channel: Channel, text: str) -> str:
    """What the client may have of a channel that is one text. Raises `AnswerRefusedError`."""
    released = restore(channel, _joined(text) if text and _is_high(text[-1]) else text, True)
    if isinstance(released, Deny):
        raise AnswerRefusedError(released)
    return released


def _joined(text: str) -> str:
    """`text` with each two halves of a surrogate pair as the character that they are."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _is_high(char: str) -> bool:
    """Whether it is the first half of a surrogate pair."""
    return 0xD800 <= ord(char) <= 0xDBFF
