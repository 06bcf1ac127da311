"""Runs a plan, sans-I/O: says which stages to ask now, takes their answers, and ends in a result or a failure.

The shell asks models; this machine knows what may be asked when, what an earlier run already answered, and which stage
is failing too often to be asked at all. `now` is an argument, in seconds of any monotonic clock.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from policies.mathprotocol.codes import SUCCESS_BIT, Kind
from policies.mathprotocol.composite import Plan, Stage
from policies.mathprotocol.responses import is_valid_response, parse_response

_MODERATE: Final = 19
_NEGATIVE: Final = 4
_ENTRY_OVERHEAD: Final = 256
"""Bytes that a cache entry costs beside its answer."""

CacheKey = tuple[int, int, bytes]


class StageCache:
    """Answers by (task, param, SHA-256 of context), least recently used first to go, bounded in bytes.

    In memory only: answers may hold what a prompt held. Not thread-safe.
    """

    __slots__ = ("_entries", "_held", "_limit")

    def __init__(self, max_bytes: int) -> None:
        self._limit = max_bytes
        self._held = 0
        self._entries: OrderedDict[CacheKey, str] = OrderedDict()

    @property
    def held_bytes(self) -> int:
        """What is held now, overhead included; never above the bound."""
        return self._held

    def get(self, stage: Stage, context: str) -> str | None:
        """The answer that was kept for this stage over this text."""
        key = _key(stage, context)
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key]

    def put(self, stage: Stage, context: str, answer: str) -> None:
        """Keep a valid answer. One larger than the bound is not kept."""
        key = _key(stage, context)
        if key in self._entries:
            self._held -= _size(self._entries.pop(key))
        if _size(answer) > self._limit:
            return
        self._entries[key] = answer
        self._held += _size(answer)
        while self._held > self._limit:
            self._held -= _size(self._entries.popitem(last=False)[1])


class StageBreaker:
    """Stops asking a stage that failed `threshold` times in a row; then lets one call try every `cooldown` seconds.

    One breaker serves one stage (task and param) of all runs.
    """

    __slots__ = ("_closed_until", "_cooldown", "_failures", "_threshold")

    def __init__(self, threshold: int = 5, cooldown: float = 30.0) -> None:
        self._threshold = threshold
        self._cooldown = cooldown
        self._failures = 0
        self._closed_until = 0.0

    def admits(self, now: float) -> bool:
        """Whether the stage may be asked."""
        return self._failures < self._threshold or now >= self._closed_until

    def asked(self, now: float) -> None:
        """A call is made. If the breaker is open it is the one try, and the next waits whatever becomes of this one:
        a call that was cancelled and never reported must not close a stage for ever."""
        self._closed_until = now + self._cooldown

    def succeeded(self) -> None:
        """A call gave a valid answer."""
        self._failures = 0

    def failed(self, now: float) -> None:
        """A call gave none."""
        self._failures += 1
        self._closed_until = now + self._cooldown


class Breakers:
    """One breaker per stage, made when it is first needed. At most one for every pair of codes."""

    __slots__ = ("_by_stage", "_cooldown", "_threshold")

    def __init__(self, threshold: int = 5, cooldown: float = 30.0) -> None:
        self._threshold = threshold
        self._cooldown = cooldown
        self._by_stage: dict[Stage, StageBreaker] = {}

    def of(self, stage: Stage) -> StageBreaker:
        """The breaker of a stage."""
        if stage not in self._by_stage:
            self._by_stage[stage] = StageBreaker(self._threshold, self._cooldown)
        return self._by_stage[stage]


class Call(NamedTuple):
    """One request to send. `text` is in the grammar of single requests."""

    stage: Stage
    text: str

    def __repr__(self) -> str:
        """Never the text."""
        return f"Call({self.stage})"


class Given(NamedTuple):
    """What one stage answered."""

    stage: Stage
    answer: str
    cached: bool

    def __repr__(self) -> str:
        """Never the answer."""
        return f"Given({self.stage}, cached={self.cached})"


class Failure(StrEnum):
    """Why a chain ended early. Bounded names."""

    REFUSED = "stage_refused"
    """The model answered with an error code."""
    INVALID = "stage_invalid_answer"
    UNREACHABLE = "stage_unreachable"
    OPEN = "stage_breaker_open"


@dataclass(frozen=True, slots=True)
class Finished:
    """The chain came to its end."""

    results: tuple[Given, ...]
    """Answers of the last step, in the plan's order."""
    given: tuple[Given, ...]
    """Every answer, in the order of the plan."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """A guard said no: not a failure, but nothing after it was asked."""

    guard: Given
    given: tuple[Given, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """A stage failed: for the dead-letter vault, with what the earlier ones gave."""

    stage: Stage
    failure: Failure
    given: tuple[Given, ...]


Outcome = Finished | Stopped | Failed


class ChainRun:
    """One run of one plan."""

    __slots__ = ("_breakers", "_cache", "_context", "_given", "_pending", "_plan", "_step", "outcome")

    def __init__(self, plan: Plan, cache: StageCache, breakers: Breakers) -> None:
        self._plan = plan
        self._cache = cache
        self._breakers = breakers
        self._context = plan.context
        self._step = -1
        self._pending: dict[Stage, str | None] = {}
        self._given: list[Given] = []
        self.outcome: Outcome | None = None
        """How it ended; None while calls are due."""

    def start(self, now: float) -> list[Call]:
        """The first calls, to be made side by side. Called once."""
        return self._advance(now)

    def answer(self, stage: Stage, text: str | None, now: float) -> list[Call]:
        """Take the answer of one due call, None if none came. The calls that are due now because of it."""
        if stage not in self._pending:
            return []
        breaker = self._breakers.of(stage)
        failure = _failure(stage, text)
        # An error code is the model's judgement of the request, not a defect of the stage.
        if failure in (Failure.INVALID, Failure.UNREACHABLE):
            breaker.failed(now)
        else:
            breaker.succeeded()
        if self.outcome is not None:
            del self._pending[stage]
            return []
        if failure is not None or text is None:
            self.outcome = Failed(stage, failure or Failure.UNREACHABLE, tuple(self._given))
            del self._pending[stage]
            return []
        self._cache.put(stage, self._context, text)
        self._take(Given(stage, text, cached=False))
        return self._advance(now) if not self._pending else []

    def _advance(self, now: float) -> list[Call]:
        """Go on to the next step that needs a call; steps that the cache answers need none."""
        while self.outcome is None and not self._pending:
            if self._step >= 0 and not self._close_step():
                break
            self._step += 1
            calls = self._open_step(now)
            if calls or self.outcome is not None:
                return calls
        return []

    def _open_step(self, now: float) -> list[Call]:
        self._pending = dict.fromkeys(self._plan.steps[self._step])
        for stage in tuple(self._pending):
            known = self._cache.get(stage, self._context)
            if known is not None:
                self._take(Given(stage, known, cached=True))
        for stage in self._pending:
            if not self._breakers.of(stage).admits(now):
                self.outcome = Failed(stage, Failure.OPEN, tuple(self._given))
                return []
        for stage in self._pending:
            self._breakers.of(stage).asked(now)
        return [Call(stage, _request(stage, self._context)) for stage in self._pending]

    def _close_step(self) -> bool:
        """Judge the guards of the step that is complete and pass its text on. False: the chain has ended."""
        step = self._plan.steps[self._step]
        answers = {given.stage: given for given in self._given[-len(step) :]}
        self._given[-len(step) :] = [answers[stage] for stage in step]
        if self._step == len(self._plan.steps) - 1:
            self.outcome = Finished(tuple(self._given[-len(step) :]), tuple(self._given))
            return False
        for stage in step:
            if stage.is_classification and not _lets_pass(answers[stage]):
                self.outcome = Stopped(answers[stage], tuple(self._given))
                return False
        for stage in step:
            if not stage.is_classification:
                # One line, or it would not be a CONTEXT.
                self._context = " ".join(parse_response(answers[stage].answer).payload.split())
        return True

    def _take(self, given: Given) -> None:
        self._given.append(given)
        del self._pending[given.stage]


def _failure(stage: Stage, text: str | None) -> Failure | None:
    if text is None:
        return Failure.UNREACHABLE
    if not is_valid_response(text, Kind.CLASSIFICATION if stage.is_classification else Kind.GENERATIVE):
        return Failure.INVALID
    return None if parse_response(text).codes[0] & SUCCESS_BIT else Failure.REFUSED


def _lets_pass(guard: Given) -> bool:
    response = parse_response(guard.answer).codes[0]
    return not (guard.stage.task == _MODERATE and response & _NEGATIVE)


def _request(stage: Stage, context: str) -> str:
    return f"{stage.task}-{stage.param} | {context}" if context else f"{stage.task}-{stage.param}"


def _key(stage: Stage, context: str) -> CacheKey:
    return stage.task, stage.param, hashlib.sha256(context.encode("utf-8", "surrogatepass")).digest()


def _size(answer: str) -> int:
    return len(answer.encode("utf-8", "surrogatepass")) + _ENTRY_OVERHEAD
