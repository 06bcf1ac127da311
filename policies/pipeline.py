"""The order in which policies are asked, and how their verdicts add up.

Request: in order; each policy sees the text as the ones before it left it; the first that is not Forward decides.
Response: the same runs in reverse order, piece by piece.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from policies.model import (
    FORWARD_UNCHANGED,
    Channel,
    Deny,
    Effect,
    Exchange,
    Forward,
    Policy,
    PolicyRun,
    Segment,
    UnixNanos,
    Verdict,
)


class Respond(Protocol):
    """See `PolicyRun.response`."""

    def __call__(self, channel: Channel, piece: str, now: UnixNanos, *, last: bool) -> str | Deny: ...


class Pipeline:
    """Policies in their fixed order. Immutable; shared by every exchange of a snapshot."""

    __slots__ = ("policies",)

    def __init__(self, policies: Sequence[Policy]) -> None:
        self.policies = tuple(policies)

    def open(self, exchange: Exchange) -> "PipelineRun":
        """A fresh run for one exchange."""
        runs = []
        for policy in self.policies:  # no comprehension: before Python 3.12 each is a call
            runs.append(policy.open(exchange))  # noqa: PERF401
        return PipelineRun(runs)


class PipelineRun:
    """The runs of all policies during one exchange."""

    __slots__ = ("_answering", "runs")

    def __init__(self, runs: list[PolicyRun]) -> None:
        self.runs = runs
        self._answering: list[PolicyRun] = []

    def request(self, segments: Sequence[Segment], now: UnixNanos) -> Verdict:
        """The joint verdict. A Forward carries the last word on every changed path and all effects asked for so far."""
        joint = FORWARD_UNCHANGED
        last = self.runs[-1] if self.runs else None
        for run in self.runs:
            verdict = run.request(segments, now)
            if not isinstance(verdict, Forward):
                return _with_effects(verdict, joint.effects)
            if verdict is FORWARD_UNCHANGED:
                continue
            if verdict.edits and run is not last:
                segments = [
                    Segment(s.path, s.role, verdict.edits[s.path]) if s.path in verdict.edits else s for s in segments
                ]
            joint = verdict if joint is FORWARD_UNCHANGED else _joint(joint, verdict)
        for run in reversed(self.runs):
            if run.rewrites_answer:
                self._answering.append(run)
        if joint is FORWARD_UNCHANGED:
            return joint
        says = joint.edits or joint.effects or joint.task or joint.guards_answer or joint.system_prompt is not None
        return joint if says else FORWARD_UNCHANGED

    @property
    def rewrites_answer(self) -> bool:
        """Whether any policy wants to see the answer. Valid after `request`."""
        return bool(self._answering)

    def responder(self) -> Respond:
        """`response`, by the shortest way: most exchanges have one policy that reads the answer. Valid after `request`,
        for as long as the exchange lives."""
        return self._answering[0].response if len(self._answering) == 1 else self.response

    def response(self, channel: Channel, piece: str, now: UnixNanos, *, last: bool) -> str | Deny:
        """What may be released of `channel`; a Deny ends the answer."""
        for run in self._answering:
            released = run.response(channel, piece, now, last=last)
            if isinstance(released, Deny):
                return released
            piece = released
        return piece

    def restart(self) -> None:
        """Forget the answer so far, because the model is asked again (see `Deny.retry`)."""
        for run in self._answering:
            run.restart()

    def findings(self) -> dict[str, int]:
        """Label -> count over all policies. A copy: a thread may go on to read the answer."""
        if len(self.runs) == 1:
            return dict(self.runs[0].findings())
        total: dict[str, int] = {}
        for run in self.runs:
            for label, count in run.findings().items():
                total[label] = total.get(label, 0) + count
        return total


def _joint(earlier: Forward, later: Forward) -> Forward:
    return Forward(
        {**earlier.edits, **later.edits},
        later.system_prompt or earlier.system_prompt,
        earlier.effects + later.effects,
        later.task or earlier.task,
        earlier.guards_answer or later.guards_answer,
    )


def _with_effects(verdict: Verdict, earlier: tuple[Effect, ...]) -> Verdict:
    if not earlier:
        return verdict
    return replace(verdict, effects=earlier + verdict.effects)
