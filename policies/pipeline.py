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
    Path,
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
        return PipelineRun([policy.open(exchange) for policy in self.policies])


class PipelineRun:
    """The runs of all policies during one exchange."""

    __slots__ = ("_answering", "runs")

    def __init__(self, runs: list[PolicyRun]) -> None:
        self.runs = runs
        self._answering: list[PolicyRun] = []

    def request(self, segments: Sequence[Segment], now: UnixNanos) -> Verdict:
        """The joint verdict. A Forward carries the last word on every changed path and all effects asked for so far."""
        edits: dict[Path, str] = {}
        effects: tuple[Effect, ...] = ()
        system_prompt: str | None = None
        task = 0
        guards_answer = False
        for run in self.runs:
            verdict = run.request(segments, now)
            if not isinstance(verdict, Forward):
                return _with_effects(verdict, effects)
            if verdict is FORWARD_UNCHANGED:
                continue
            effects += verdict.effects
            system_prompt = verdict.system_prompt or system_prompt
            task = verdict.task or task
            guards_answer = guards_answer or verdict.guards_answer
            if verdict.edits:
                edits.update(verdict.edits)
                segments = [
                    Segment(s.path, s.role, verdict.edits[s.path]) if s.path in verdict.edits else s for s in segments
                ]
        self._answering = [run for run in reversed(self.runs) if run.rewrites_answer]
        if not edits and not effects and system_prompt is None and not task and not guards_answer:
            return FORWARD_UNCHANGED
        return Forward(edits, system_prompt, effects, task, guards_answer)

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
        """Label -> count over all policies."""
        total: dict[str, int] = {}
        for run in self.runs:
            for label, count in run.findings().items():
                total[label] = total.get(label, 0) + count
        return total


def _with_effects(verdict: Verdict, earlier: tuple[Effect, ...]) -> Verdict:
    if not earlier:
        return verdict
    return replace(verdict, effects=earlier + verdict.effects)
