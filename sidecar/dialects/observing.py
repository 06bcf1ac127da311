"""Answers that no policy wants to change: every byte passes as it came; usage and end are noted at little cost.

A stream is still handed on event by event, never half an event, so that it can be ended at an event border.
"""

import re
from typing import Final, Protocol

from sidecar.codecs.sse import EventTooLargeError, Splitter
from sidecar.dialects.dialect import MalformedAnswerError, Observed
from sidecar.dialects.provider_errors import without_credentials
from sidecar.dialects.templates import Template, string_end

_MAX_OBSERVED = 1024 * 1024
"""Bytes of a JSON answer that are kept to read its usage (longer ones pass unobserved), and of an error."""


_TEXT: Final = re.compile(rb'"(?:content|text|delta|partial_json|thinking|arguments|reasoning_content)": ?(?=")')
"""What stands before the text of most events. Another string would do as well, if it is the one that changes."""
_TRIAL_TEMPLATES: Final = 16
"""Shapes of events that are learnt before it must pay."""


class Notes(Protocol):
    """Fills in what was observed. Must not raise on any bytes."""

    def event(self, event: bytes, observed: Observed) -> None:
        """One unit of a stream."""

    def body(self, body: bytes, observed: Observed) -> None:
        """A whole JSON answer."""

    def error_event(self, code: str, message: str) -> bytes:
        """The event that tells a client that its stream ends in an error."""


def noted(body: bytes, notes: Notes) -> Observed:
    """What is to be seen in a whole answer that is no stream and passes as it came."""
    observed = Observed(finished=True)
    if len(body) <= _MAX_OBSERVED:
        notes.body(body, observed)
    return observed


class PassingStream:
    """A stream on its way through."""

    __slots__ = (
        "_hits",
        "_is_between",
        "_learnt",
        "_like",
        "_note",
        "_notes",
        "_split",
        "_splitter",
        "_torn",
        "observed",
    )

    def __init__(self, notes: Notes) -> None:
        self.observed = Observed()
        self._notes = notes
        self._note = notes.event
        self._splitter = Splitter()
        self._split = self._splitter.feed
        self._torn = False
        """An event was too long to wait for: the stream passes as it comes from here on."""
        self._is_between = False
        """Whether what comes next begins an event, whatever it is."""
        self._like: Template | None = None
        """The shape of the latest event. Another event of that shape has nothing to note that this one had not."""
        self._learnt = 0
        self._hits = 0

    def follow(self, event: bytes) -> bytes | None:
        """`event`, if it comes at a border of events and is one like that before it; None: `feed` it."""
        like = self._like
        if like is None or not self._is_between or like.text(event) is None:
            return None
        self._hits += 1
        return event

    def feed(self, data: bytes) -> bytes:
        """All events that are complete by now."""
        if self._torn:
            return data
        if self.follow(data) is not None:
            return data
        try:
            units = self._split(data)
        except EventTooLargeError as error:
            self._torn = True
            return b"".join(error.before) + error.rest
        note, observed = self._note, self.observed
        for unit in units:
            note(unit, observed)
        released = units[0] if len(units) == 1 else b"".join(units)
        if observed.upstream_error:
            self._like = None  # from here on everything is looked at
            return without_credentials(released)
        self._is_between = self._splitter.is_between_events
        if units and self._is_between:
            self._learn(units[-1])
        return released

    def _learn(self, event: bytes) -> None:
        """Events like this one follow, perhaps."""
        found = _TEXT.search(event) if self._learnt <= _TRIAL_TEMPLATES + self._hits // 4 else None
        if found is None:
            return
        end = string_end(event, found.end())
        if end:
            self._learnt += 1
            template = Template(event, found.end(), end)
            self._like = template if template.ends_in_lf else None

    def close(self) -> bytes:
        """What came after the last empty line."""
        rest = self._splitter.close()
        if rest:
            self._notes.event(rest, self.observed)
        return without_credentials(rest) if self.observed.upstream_error else rest

    def break_off(self, code: str, message: str) -> bytes:
        """The error event, after a line end that closes an event which was too long to be held."""
        return (b"\n\n" if self._torn else b"") + self._notes.error_event(code, message)


class FailedBody:
    """What an upstream says with an error status, in whatever form: whole, with credentials cut short, tokens kept."""

    __slots__ = ("_kept", "_size", "observed")

    def __init__(self) -> None:
        self.observed = Observed(upstream_error=True)
        self._kept: list[bytes] = []
        self._size = 0

    def follow(self, event: bytes) -> None:
        """Nothing: it is no stream."""

    def feed(self, data: bytes) -> bytes:
        """Nothing yet: a credential may be cut in two. Raises `MalformedAnswerError` for more than any error says."""
        self._size += len(data)
        if self._size > _MAX_OBSERVED:
            raise MalformedAnswerError(f"an error of more than {_MAX_OBSERVED} bytes")
        self._kept.append(data)
        return b""

    def close(self) -> bytes:
        """All of it."""
        self.observed.finished = True
        return without_credentials(b"".join(self._kept))

    def break_off(self, _code: str, _message: str) -> bytes:
        """Nothing can be said inside a body."""
        return b""


class PassingBody:
    """A JSON (or any other) answer on its way through."""

    __slots__ = ("_kept", "_notes", "_size", "observed")

    def __init__(self, notes: Notes) -> None:
        self.observed = Observed()
        self._notes = notes
        self._kept: list[bytes] = []
        self._size = 0

    def follow(self, event: bytes) -> None:
        """Nothing: it is no stream."""

    def feed(self, data: bytes) -> bytes:
        """The same bytes."""
        self._size += len(data)
        if self._size <= _MAX_OBSERVED:
            self._kept.append(data)
        else:
            self._kept.clear()
        return data

    def close(self) -> bytes:
        """Nothing is held."""
        if self._kept:
            self._notes.body(b"".join(self._kept), self.observed)
        self.observed.finished = True
        return b""

    def break_off(self, _code: str, _message: str) -> bytes:
        """Nothing can be said inside a JSON body."""
        return b""
