"""One answer on its way back: who reads it, what of it may be shown, and when.

Unread, it passes as it comes. Read by policies, it may change: a stream is shown piece by piece, anything else once it
is whole, so that it can still become an error with a status. Read only for metrics, it keeps its length.
"""

from collections.abc import Callable, Mapping
from typing import Final

from policies.model import Channel, ChannelKind, Deny, ResultCode, UnixNanos
from policies.pipeline import PipelineRun, Respond
from sidecar.account import Account, ended_as
from sidecar.answer_guard import AnswerGuard
from sidecar.codecs.http1_delivery import NO_BODY, UNKNOWN, Delivery
from sidecar.codecs.http1_head import UNTIL_CLOSE, AnswerHead
from sidecar.dialects.dialect import AnswerRefusedError, Dialect, MalformedAnswerError, Observed
from sidecar.inspection import Inspected
from sidecar.plan import Plan
from sidecar.reading import Reading

_NO_BODY_STATUSES: Final = frozenset({204, 304})


class Answering:
    """Puts one answer into its delivery. One use: a model that is asked again gives another answer."""

    __slots__ = (
        "_delivery",
        "_guard",
        "_head",
        "_holds_head",
        "_now",
        "_plan",
        "_policies",
        "_reading",
        "_respond",
        "is_away",
    )

    def __init__(self, plan: Plan, delivery: Delivery, now: Callable[[], UnixNanos]) -> None:
        self._plan = plan
        self._delivery = delivery
        self._now = now
        self._head: AnswerHead
        self._reading: Reading | None = None
        """None: it passes unread."""
        self._policies: PipelineRun | None = None
        """They read it, if they want to."""
        self._respond: Respond
        """What they make of a piece."""
        self._guard: AnswerGuard | None = None
        """Stands before an answer that must prove itself."""
        self.is_away = False
        """Whether a thread reads it: nothing of it may be looked at."""
        self._holds_head = False
        """Whether the head waits for what the answer turns out to be."""

    def begin(self, head: AnswerHead, length: int, own_fields: bytes, inspected: Inspected | None) -> None:
        """The head came. `inspected`: what became of the prompt; None: no policy read it, nor does one read this.

        Raises MalformedAnswerError when it must be read and cannot.
        """
        self._head = head
        rendered = head.rendered
        size = length if length >= 0 else UNKNOWN
        if head.status in _NO_BODY_STATUSES:
            size = NO_BODY
        elif inspected is not None and inspected.policies is not None and not self._delivery.to_head:
            size = self._read_for(inspected, inspected.policies, length, size)
            if self._reading is not None:
                rendered = self._reading.rendered
        self._delivery.head(rendered + own_fields, size)

    def _read_for(self, inspected: Inspected, policies: PipelineRun, length: int, size: int) -> int:
        head, restores = self._head, policies.rewrites_answer
        if not restores and head.content_encoding:
            return size  # for metrics alone it is not unpacked
        self._policies = policies
        self._guard = AnswerGuard() if inspected.guards_answer and head.status < 400 else None
        self._respond = policies.responder() if restores else policies.response
        restore = None
        if restores:
            restore = self._restore if self._guard is None else self._restore_guarded
        by_close = length == UNTIL_CLOSE
        self._reading = Reading(self._plan.dialect, head, restore, inspected.cited, ends_by_close=by_close)
        if not restores and head.status < 400:
            return size
        self._holds_head = not head.is_stream  # an error is read, too: it loses the keys it quotes
        return UNKNOWN

    def feed(self, data: bytes) -> None:
        """Some of the body came. Raises AnswerRefusedError or MalformedAnswerError."""
        if self._reading is None:
            self._delivery.body(data)
        else:
            self._show(self._reading.feed(data))

    @property
    def follow(self) -> Callable[[bytes], bytes | None] | None:
        """The short way for what comes of the body (see `Answer.follow`), if it may be taken from here on."""
        if not self._delivery.passes_chunks or (self._guard is not None and self._guard.is_shut):
            return None
        return _as_it_came if self._reading is None else self._reading.follow

    def waits_for_its_end(self, longest: int) -> bool:
        """Whether all of it is read at its end and is longer than `longest` bytes. If so, `rest_or_reason` belongs into
        a thread, and the answer `is_away` until that has returned."""
        reading = self._reading
        self.is_away = reading is not None and self._holds_head and reading.size > longest
        return self.is_away

    def rest(self) -> bytes:
        """What is still to be shown now that the answer is whole. Raises like `feed`."""
        if self._reading is None:
            return b""
        rest = self._reading.close()
        if self._guard is not None and not self._guard.saw_text:
            # An answer without text (a tool call, a filtered choice) is judged as one whose text is empty.
            judged = self._restore(Channel(ChannelKind.TEXT, 0), "", last=True)
            if isinstance(judged, Deny):
                raise AnswerRefusedError(judged)
        return rest

    def rest_or_reason(self) -> bytes | AnswerRefusedError | MalformedAnswerError:
        """The same, with the reason there is none as a value: errors that are raised in a thread are faults."""
        try:
            return self.rest()
        except (AnswerRefusedError, MalformedAnswerError) as error:
            return error

    def end(self, rest: bytes) -> None:
        """Nothing follows `rest`."""
        self._show(rest)
        self._delivery.end()

    @property
    def may_leave(self) -> bool:
        """Whether there is something to deliver, and nothing that it must wait for."""
        delivery = self._delivery
        if delivery.ended:
            return True
        if self._guard is not None and self._guard.is_shut:
            return False
        return delivery.has_news or not (self._holds_head or delivery.begun)

    @property
    def observed(self) -> Observed | None:
        """What was seen in it; None if it passed unread."""
        return self._reading.observed if self._reading is not None and not self.is_away else None

    @property
    def findings(self) -> Mapping[str, int] | None:
        """What policies found in the prompt and in this answer; None: they did not read it."""
        if self._policies is None or self.is_away or not self._policies.rewrites_answer:
            return None
        return self._policies.findings()

    @property
    def result(self) -> ResultCode:
        """How the exchange ended, if the answer came to its end."""
        return ended_as(self._head.status, self._reading.observed if self._reading is not None else None)

    def error_event(self, code: str, message: str) -> bytes:
        """What ends a stream whose beginning was shown; empty where nothing can be said any more."""
        if not self._head.is_stream or not self._delivery.is_open_ended:
            return b""
        if self._reading is not None:
            return self._reading.break_off(code, message)
        # It passed unread, perhaps up to the middle of an event.
        return b"\n\n" + self._plan.dialect.answer(self._head.content_type, None).break_off(code, message)

    def _show(self, released: bytes) -> None:
        if released:
            self._delivery.body(released)
            if self._guard is not None:
                self._guard.waits(len(released))

    def _restore(self, channel: Channel, piece: str, last: bool) -> str | Deny:
        return self._respond(channel, piece, self._now(), last=last)

    def _restore_guarded(self, channel: Channel, piece: str, last: bool) -> str | Deny:
        released = self._restore(channel, piece, last)
        if self._guard is not None:
            self._guard.note(channel, released)
        return released


def _as_it_came(data: bytes) -> bytes:
    return data


def is_restored_at_once(head: AnswerHead, body: bytes, inspected: Inspected | None, longest: int) -> bool:
    """Whether all there is to do with a whole answer is to put values back, and not for long."""
    is_plain = head.status < 300 and not head.is_stream and not head.content_encoding
    return is_plain and 0 < len(body) <= longest and inspected is not None and not inspected.guards_answer


def restored_at_once(
    head: AnswerHead, body: bytes, dialect: Dialect, inspected: Inspected, account: Account, now: UnixNanos
) -> bytes:
    """Such an answer as policies let it go. Raises AnswerRefusedError or MalformedAnswerError."""
    policies = inspected.policies
    assert policies is not None  # noqa: S101 they want to see it
    respond = policies.responder()
    answer = dialect.answer(
        head.content_type, lambda channel, piece, last: respond(channel, piece, now, last=last), inspected.cited
    )
    account.observed = answer.observed
    try:
        return answer.feed(body) + answer.close()
    finally:
        account.findings = policies.findings()
