"""Composite requests `[T1-P1]->[T2-P2]&[T3-P3]->[T4-P4] | CONTEXT`: read, checked, and made into a plan.

Steps run one after another, the stages of one step side by side over the same input. A generative stage gives the next
step its input. A classification in the last step is a result; anywhere else it is a guard: it hands its input on
unchanged, and the chain goes on only if its answer carries the Success Bit (and, for Moderate, is not Negative).
"""

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from policies.mathprotocol.codes import CLASSIFICATION_TASKS, FIBONACCI, TASK_NAMES, V21_TASKS, ErrorCode
from policies.mathprotocol.grammar import parse_request, request_fault

MIN_STAGES: Final = 2
MAX_STAGES: Final = 8

_STAGE: Final = r"\[[0-9]{1,6}-[0-9]{1,6}\]"
_CHAIN: Final = re.compile(rf"({_STAGE}(?:(?:->|&){_STAGE}){{1,63}})(\s{{0,10}}\|.*)?", re.DOTALL)
_LISTS: Final = frozenset({7, 23})
"""Tasks whose answer is a list of words: entities, keywords."""
_PROSE: Final = frozenset({3, 11, 29})
"""Tasks that mean nothing over a list of words: a summary, an answer, readability."""


class Stage(NamedTuple):
    """One task with its param."""

    task: int
    param: int

    @property
    def is_classification(self) -> bool:
        """Whether its answer is a code without a text."""
        return self.task in CLASSIFICATION_TASKS

    def __str__(self) -> str:
        return f"[{self.task}-{self.param}]"


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be run."""

    steps: tuple[tuple[Stage, ...], ...]
    """Each step's stages run side by side. No step is empty."""
    context: str
    dropped: tuple[Stage, ...] = ()
    """Exact repeats that were left out."""

    def __repr__(self) -> str:
        """Never the context."""
        return f"Plan({self}, context=<{len(self.context)} characters>)"

    def __str__(self) -> str:
        return "->".join("&".join(map(str, step)) for step in self.steps)


class CompositeError(ValueError):
    """A composite request cannot be run. The message teaches, and holds no CONTEXT."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def is_composite(text: str) -> bool:
    """Whether `text` means to be a composite request: it begins with a bracketed stage and an arrow or ampersand."""
    return _CHAIN.match(text) is not None


def plan(text: str, tasks: frozenset[int] = V21_TASKS, params: frozenset[int] = FIBONACCI) -> Plan:
    """The plan for a composite request. Raises CompositeError."""
    written, context = _read(text)
    stages = [stage for step in written for stage in step]
    if not MIN_STAGES <= len(stages) <= MAX_STAGES:
        raise _refused(f"a chain has {MIN_STAGES} to {MAX_STAGES} stages, this one has {len(stages)}")
    for number, stage in enumerate(stages, start=1):
        _check_codes(number, stage, tasks, params)
    steps, dropped = _without_repeats(written)
    _check_fit(steps)
    return Plan(tuple(steps), context, tuple(dropped))


def _read(text: str) -> tuple[list[tuple[Stage, ...]], str]:
    matched = _CHAIN.fullmatch(text)
    if matched is None:
        raise _refused("expected [TASK-PARAM]->[TASK-PARAM] | CONTEXT, stages joined by -> or & without blanks")
    chain, rest = matched.groups()
    # CONTEXT obeys the rules of a single request: one line, stripped, not empty behind its pipe.
    tail = parse_request("2-1" + (rest or ""))
    if tail is None:
        raise _refused("CONTEXT must be one line and not empty")
    steps = [tuple(map(_stage, step.split("&"))) for step in chain.split("->")]
    return steps, tail.context


def _stage(written: str) -> Stage:
    task, _, param = written.strip("[]").partition("-")
    return Stage(int(task), int(param))


def _check_codes(number: int, stage: Stage, tasks: frozenset[int], params: frozenset[int]) -> None:
    fault = request_fault(parse_request(f"{stage.task}-{stage.param}"), tasks, params)
    if fault is ErrorCode.INVALID_TASK:
        raise CompositeError(fault, f"stage {number}: task {stage.task} is not one of {sorted(tasks)}")
    if fault is ErrorCode.INVALID_PARAM:
        raise CompositeError(fault, f"stage {number}: param {stage.param} is not one of {sorted(params)}")


def _without_repeats(written: list[tuple[Stage, ...]]) -> tuple[list[tuple[Stage, ...]], list[Stage]]:
    """Steps without stages that would repeat exactly what was done to the same input.

    A stage seen since the input last changed gives the same again; a generative step equal to the one before it works
    on its own output, which is what "summarise" twice means to nobody.
    """
    steps: list[tuple[Stage, ...]] = []
    dropped: list[Stage] = []
    seen: set[Stage] = set()
    for step in written:
        kept: list[Stage] = []
        for stage in step:
            if stage in seen or stage in kept:
                dropped.append(stage)
            else:
                kept.append(stage)
        if not kept:
            continue
        steps.append(tuple(kept))
        changes = [stage for stage in kept if not stage.is_classification]
        seen = set(changes) if changes else seen | set(kept)
    return steps, dropped


def _check_fit(steps: list[tuple[Stage, ...]]) -> None:
    source: Stage | None = None
    for number, step in enumerate(steps, start=1):
        for stage in step:
            if source is not None and source.task in _LISTS and stage.task in _PROSE:
                names = TASK_NAMES.get(source.task, str(source.task)), TASK_NAMES.get(stage.task, str(stage.task))
                raise _refused(f"step {number}: {names[1]} needs prose, but {names[0]} before it gives a list of words")
        texts = [stage for stage in step if not stage.is_classification]
        if len(texts) > 1 and number < len(steps):
            both = " and ".join(map(str, texts))
            raise _refused(f"step {number}: {both} both give a text, and the next step takes one; put them last")
        source = texts[0] if texts else source


def _refused(message: str) -> CompositeError:
    return CompositeError(ErrorCode.INVALID_FORMAT, message)
