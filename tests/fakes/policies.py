"""Policies that do one thing, visibly."""

import threading
from collections.abc import Mapping, Sequence

from policies.model import (
    FORWARD_UNCHANGED,
    Alert,
    Channel,
    Decoy,
    Deny,
    Exchange,
    Forward,
    ResultCode,
    Segment,
    Severity,
    UnixNanos,
    Verdict,
)


class Swapping:
    """Takes a word out of the prompt and puts it back into the answer. Holds nothing back: tests send whole words."""

    name = "swapping"
    rewrites_answer = True

    def __init__(self, word: str = "Alice", token: str = "[NAME-000001]") -> None:  # noqa: S107 no password
        self.word, self.token = word, token
        self.exchanges: list[Exchange] = []
        self.found = 0

    def open(self, exchange: Exchange) -> "Swapping":
        self.exchanges.append(exchange)
        return self

    def request(self, segments: Sequence[Segment], now: UnixNanos) -> Verdict:
        edits = {s.path: s.text.replace(self.word, self.token) for s in segments if self.word in s.text}
        self.found = len(edits)
        return Forward(edits) if edits else FORWARD_UNCHANGED

    def response(self, channel: Channel, piece: str, now: UnixNanos, *, last: bool) -> str | Deny:
        return piece.replace(self.token, self.word)

    def restart(self) -> None:
        """Nothing is remembered."""

    def findings(self) -> Mapping[str, int]:
        return {"name": self.found} if self.found else {}


class Watching(Swapping):
    """Reads the prompt and wants nothing of the answer."""

    name = "watching"
    rewrites_answer = False

    def request(self, segments: Sequence[Segment], now: UnixNanos) -> Verdict:
        return FORWARD_UNCHANGED


class Refusing(Swapping):
    """Lets nothing out."""

    name = "refusing"

    def request(self, segments: Sequence[Segment], now: UnixNanos) -> Verdict:
        alert = Alert("test_alert", Severity.WARNING)
        return Deny(ResultCode.DENIED_FIREWALL, 403, "test_denied", "not allowed here", (alert,))


class Deceiving(Swapping):
    """Answers in place of the model."""

    name = "deceiving"

    def request(self, segments: Sequence[Segment], now: UnixNanos) -> Verdict:
        return Decoy("all is well")


class Judging(Swapping):
    """Refuses answers that hold a word; asks `retries` times for another one."""

    name = "judging"

    def __init__(self, word: str = "wrong", retries: int = 0) -> None:
        super().__init__(word)
        self.retries = retries
        self.restarts = 0

    def request(self, segments: Sequence[Segment], now: UnixNanos) -> Verdict:
        return FORWARD_UNCHANGED

    def response(self, channel: Channel, piece: str, now: UnixNanos, *, last: bool) -> str | Deny:
        if self.word not in piece:
            return piece
        alert = Alert("test_judged", Severity.WARNING)
        retry = self.restarts < self.retries
        return Deny(ResultCode.INVALID_ANSWER, 502, "test_invalid_answer", "not like this", (alert,), retry)

    def restart(self) -> None:
        self.restarts += 1


class Failing(Swapping):
    """Has a bug."""

    name = "failing"

    def request(self, segments: Sequence[Segment], now: UnixNanos) -> Verdict:
        raise ZeroDivisionError


class FailingOver(Swapping):
    """Has a bug that shows when a prompt holds its word."""

    name = "failing-over"

    def request(self, segments: Sequence[Segment], now: UnixNanos) -> Verdict:
        if any(self.word in segment.text for segment in segments):
            raise ZeroDivisionError
        return FORWARD_UNCHANGED


class Pondering(Swapping):
    """Takes its time; for prompts long enough to be inspected on a thread."""

    name = "pondering"

    def __init__(self) -> None:
        super().__init__()
        self.has_begun, self.may_end, self.has_ended = threading.Event(), threading.Event(), threading.Event()

    def request(self, segments: Sequence[Segment], now: UnixNanos) -> Verdict:
        self.has_begun.set()
        assert self.may_end.wait(10)
        self.has_ended.set()
        return FORWARD_UNCHANGED


class Dwelling(Swapping):
    """Takes its time over the answer; for answers long enough to be restored on a thread."""

    name = "dwelling"

    def __init__(self) -> None:
        super().__init__()
        self.has_begun, self.may_end, self.has_ended = threading.Event(), threading.Event(), threading.Event()
        self.on_thread = ""

    def response(self, channel: Channel, piece: str, now: UnixNanos, *, last: bool) -> str | Deny:
        self.on_thread = threading.current_thread().name
        self.has_begun.set()
        assert self.may_end.wait(10)
        self.has_ended.set()
        return super().response(channel, piece, now, last=last)
