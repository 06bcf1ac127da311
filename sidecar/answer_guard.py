"""What stands before an answer that must prove itself before anything of it is shown (`Forward.guards_answer`)."""

from typing import Final

from policies.model import Channel, ChannelKind, Deny

MAX_WAITING: Final = 256 * 1024
"""Bytes of a stream that wait for its first text; more is shown, and can then no longer be voided."""


class AnswerGuard:
    """Shut until some text was released. One per answer."""

    __slots__ = ("_waiting", "is_shut", "saw_text")

    def __init__(self) -> None:
        self._waiting = 0
        self.is_shut = True
        """Whether nothing of the answer may be shown yet."""
        self.saw_text = False
        """Whether the answer had any text, released or held."""

    def note(self, channel: Channel, released: str | Deny) -> None:
        """What the policies made of a piece."""
        if channel.kind is ChannelKind.TEXT:
            self.saw_text = True
        elif channel.kind is not ChannelKind.REPETITION:
            return
        if released and not isinstance(released, Deny):
            self.saw_text = True
            self.is_shut = False

    def waits(self, size: int) -> None:
        """So many bytes wait to be shown."""
        self._waiting += size
        if self._waiting > MAX_WAITING:
            self.is_shut = False
