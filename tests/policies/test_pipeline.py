"""How verdicts add up."""

from collections.abc import Mapping, Sequence

import pytest

from policies.model import (
    Alert,
    Channel,
    ChannelKind,
    Deny,
    DialectName,
    Exchange,
    ExchangeId,
    Forward,
    ResultCode,
    Role,
    Segment,
    Severity,
    UnixNanos,
    Verdict,
    identifiers,
)
from policies.pipeline import Pipeline

EXCHANGE = Exchange(ExchangeId("x"), "local", DialectName.OPENAI_CHAT, "m", "r", False, UnixNanos(0))
NOW = UnixNanos(0)
TEXT = Channel(ChannelKind.TEXT, 0)


class Replacing:
    """A policy that swaps one word for another and back."""

    def __init__(self, old: str, new: str) -> None:
        self.name, self.old, self.new = f"{old}->{new}", old, new

    def open(self, exchange: Exchange) -> "Replacing":
        return self

    rewrites_answer = True

    def request(self, segments: Sequence[Segment], now: UnixNanos) -> Verdict:
        alert = Alert(self.name, Severity.INFO)
        return Forward(
            {s.path: s.text.replace(self.old, self.new) for s in segments if self.old in s.text}, None, (alert,)
        )

    def response(self, channel: Channel, piece: str, now: UnixNanos, *, last: bool) -> str | Deny:
        return piece.replace(self.new, self.old)

    def restart(self) -> None:
        pass

    def findings(self) -> Mapping[str, int]:
        return {self.name: 1}


class Refusing(Replacing):
    def request(self, segments: Sequence[Segment], now: UnixNanos) -> Verdict:
        return Deny(ResultCode.DENIED_BAN, 403, "banned", "no")


def test_later_policy_sees_what_earlier_one_wrote_and_answers_unwind_in_reverse() -> None:
    run = Pipeline([Replacing("a", "b"), Replacing("b", "c")]).open(EXCHANGE)

    verdict = run.request([Segment(("p",), Role.USER, "a")], NOW)

    assert isinstance(verdict, Forward)
    assert verdict.edits == {("p",): "c"}
    assert run.response(TEXT, "c", NOW, last=True) == "a"


def test_refusal_carries_the_effects_asked_for_before_it() -> None:
    run = Pipeline([Replacing("a", "b"), Refusing("x", "y")]).open(EXCHANGE)

    verdict = run.request([Segment(("p",), Role.USER, "a")], NOW)

    assert isinstance(verdict, Deny)
    assert [e.code for e in verdict.effects if isinstance(e, Alert)] == ["a->b"]


def test_segment_repr_never_holds_its_text() -> None:
    assert "secret" not in repr(Segment(("p",), Role.USER, "secret"))


class Retrying(Replacing):
    """Refuses its first answer, accepts the second."""

    def __init__(self) -> None:
        super().__init__("a", "b")
        self.answers = 1

    def response(self, channel: Channel, piece: str, now: UnixNanos, *, last: bool) -> str | Deny:
        return piece if self.answers > 1 else Deny(ResultCode.INVALID_ANSWER, 502, "invalid", "no", retry=True)

    def restart(self) -> None:
        self.answers += 1


@pytest.mark.parametrize("policies", [[Replacing("a", "b")], [Replacing("a", "b"), Replacing("b", "c")]])
def test_shortest_way_to_an_answer_gives_the_same(policies: list[Replacing]) -> None:
    run = Pipeline(policies).open(EXCHANGE)
    run.request([Segment(("p",), Role.USER, "a")], NOW)

    assert run.responder()(TEXT, "abc", NOW, last=False) == run.response(TEXT, "abc", NOW, last=False)


def test_restart_reaches_every_policy_that_reads_the_answer() -> None:
    run = Pipeline([Retrying()]).open(EXCHANGE)
    run.request([], NOW)

    first = run.response(TEXT, "a", NOW, last=True)
    run.restart()

    assert isinstance(first, Deny)
    assert first.retry
    assert run.response(TEXT, "a", NOW, last=True) == "a"


def test_task_of_a_policy_reaches_the_joint_verdict_even_when_nothing_else_changes() -> None:
    class Tasking(Replacing):
        def request(self, segments: Sequence[Segment], now: UnixNanos) -> Verdict:
            return Forward(task=17)

    verdict = Pipeline([Tasking("a", "b"), Replacing("x", "y")]).open(EXCHANGE).request([], NOW)

    assert isinstance(verdict, Forward)
    assert verdict.task == 17


def test_identifiers_are_told_from_what_else_policies_noticed() -> None:
    assert identifiers({"SSN": 2, "EMAIL": 1, "protocol.honeypot": 1, "firewall.injection": 1}) == 3
