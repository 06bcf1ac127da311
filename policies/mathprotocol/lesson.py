"""What is wrong with a request or an answer, in words that teach, and the nearest text that would be right.

For people at a terminal: messages quote the text they are about. Nothing here decides; `grammar` and `responses` do.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from policies.mathprotocol.codes import (
    CONFIDENCES,
    DEFAULT_TRAPS,
    ERRORS,
    FIBONACCI,
    PRIMES,
    RESULTS,
    SUCCESS_BIT,
    TASK_NAMES,
    V21_CANARIES,
    V21_TASKS,
    ErrorCode,
    Kind,
)
from policies.mathprotocol.grammar import Request, parse_request, request_fault
from policies.mathprotocol.responses import is_valid_response

ERROR_MEANINGS: Final[Mapping[int, str]] = MappingProxyType(
    {
        ErrorCode.INVALID_TASK: "invalid task",
        ErrorCode.INVALID_PARAM: "invalid param",
        ErrorCode.INVALID_FORMAT: "invalid format",
    }
)


@dataclass(frozen=True, slots=True)
class Lesson:
    """A judgement with its reasons."""

    valid: bool
    code: int = 0
    """1024, 2048 or 4096 for a request that is not valid."""
    faults: tuple[str, ...] = ()
    """What is wrong and what to do, one sentence each."""
    suggestion: str = ""
    """The nearest valid text that was found, or empty."""


def request_lesson(text: str) -> Lesson:
    """What to say about a request."""
    request = parse_request(text)
    fault = request_fault(request, V21_TASKS, FIBONACCI)
    if fault is None:
        return Lesson(valid=True)
    if request is None:
        return _format_lesson(text)
    if fault is ErrorCode.INVALID_TASK:
        return Lesson(False, fault, (_task_fault(request),))
    nearest = min(FIBONACCI - V21_CANARIES, key=lambda param: (abs(param - request.param), param))
    why = f"PARAM {_short(request.param)} is not one of the Fibonacci numbers {_listed(FIBONACCI)}"
    return Lesson(False, fault, (why,), _written(request._replace(param=nearest)))


def response_lesson(text: str, kind: Kind) -> Lesson:
    """What to say about an answer to a task of this kind."""
    if is_valid_response(text, kind):
        return Lesson(valid=True)
    head, pipe, payload = text.partition("|")
    payload = payload.strip()
    codes = re.fullmatch(r"\s*([0-9]{1,5})(?:\s*-\s*([0-9]{1,3}))?\s*", head, re.ASCII)
    if codes is None:
        begin = re.search(r"(?<![0-9])[1-9][0-9]{0,4}-[1-9][0-9]{0,2}(?![0-9])", text)
        tail = text[begin.start() :] if begin else ""
        why = "an answer is RESPONSE-CONFIDENCE or RESPONSE-CONFIDENCE | PAYLOAD, and nothing may stand before it"
        return _checked(why, tail, kind)
    response, confidence = int(codes[1]), int(codes[2] or 0)
    if not codes[2]:
        if response in ERRORS:
            return _checked("an error code is sent alone, without a payload", str(response), kind)
        return _checked("RESPONSE must be followed by -CONFIDENCE", f"{response}-128 {pipe} {payload}", kind)
    faults: list[str] = []
    if not response & SUCCESS_BIT:
        faults.append(f"RESPONSE {response} is even: the Success Bit (1) is missing, {response + 1} has it")
        response |= SUCCESS_BIT
    if response - SUCCESS_BIT not in RESULTS:
        faults.append(f"RESPONSE {response} is not 1 plus one of {_listed(RESULTS)}")
    if confidence not in CONFIDENCES:
        faults.append(f"CONFIDENCE {confidence} is not one of {_listed(CONFIDENCES)}")
        confidence = 128
    if kind is Kind.CLASSIFICATION and payload:
        faults.append("a classification is answered by its code alone: drop the payload")
        payload = ""
    if kind is Kind.GENERATIVE and not payload:
        faults.append("a generative task needs a payload behind the pipe")
    suggestion = f"{response}-{confidence}" + (f" | {payload}" if payload else "")
    fitting = suggestion if is_valid_response(suggestion, kind) else ""
    return Lesson(
        False, 0, tuple(faults or ["codes are plain digits without leading zeros or blanks between"]), fitting
    )


def _format_lesson(text: str) -> Lesson:
    if not text.strip():
        return Lesson(
            False, ErrorCode.INVALID_FORMAT, ("the request is empty: write TASK-PARAM | CONTEXT",), "2-1 | text"
        )
    repaired, faults = text, []
    for is_wrong, why, repair in _REPAIRS:
        if is_wrong(repaired):
            faults.append(why)
            repaired = repair(repaired)
    if request_fault(parse_request(repaired), V21_TASKS, FIBONACCI) is None:
        return Lesson(False, ErrorCode.INVALID_FORMAT, tuple(faults), repaired)
    faults.append("a request is TASK-PARAM or TASK-PARAM | CONTEXT, for example 2-1 | I like it")
    return Lesson(False, ErrorCode.INVALID_FORMAT, tuple(faults))


def _task_fault(request: Request) -> str:
    task = _short(request.task)
    if request.task in DEFAULT_TRAPS:
        return f"TASK {task} has no task and is a trap by default: whoever sends it is taken for a prober"
    if request.task in PRIMES:
        return f"TASK {task} is a prime but no task has it; named are {_named()}"
    return f"TASK {task} is not a prime from 2 to 97; named are {_named()}"


def _checked(why: str, suggestion: str, kind: Kind) -> Lesson:
    suggestion = suggestion.strip()
    return Lesson(False, 0, (why,), suggestion if is_valid_response(suggestion, kind) else "")


def _written(request: Request) -> str:
    return f"{request.task}-{request.param}" + (f" | {request.context}" if request.context else "")


def _named() -> str:
    return ", ".join(f"{task} {name}" for task, name in TASK_NAMES.items())


def _listed(codes: frozenset[int]) -> str:
    return ", ".join(map(str, sorted(codes)))


def _short(number: int) -> str:
    return str(number) if number < 1 << 63 else "of more than 18 digits"


def _ascii_digits(text: str) -> str:
    head, pipe, rest = text.partition("|")
    return "".join(str(unicodedata.digit(c)) if c.isdigit() else c for c in head) + pipe + rest


def _has_lines(text: str) -> bool:
    return not {"\n", "\r"}.isdisjoint(text.rstrip())


def _joined_lines(text: str) -> str:
    return " ".join(text.split())


_Repair = tuple[Callable[[str], object], str, Callable[[str], str]]
"""(whether a text has the fault, what to say of it, the text without it). All of them linear in the text."""
_DASHES: Final = re.compile(r"(?<=[0-9\])}])\s*[\u2010-\u2015\u2212\uff0d:/_]\s*(?=[\[({]?[0-9])")
_BARS: Final = re.compile(r"[\u00a6\uff5c\u2502\u2223]")
_WIDE_GAP: Final = re.compile(r"(?<!\s)\s{11,}\|")
_BRACKETS: Final = re.compile(r"^\s*[\[({](\d+)[\])}]?\s*-\s*[\[({]?(\d+)[\])}]")
_BLANKS: Final = re.compile(r"^(\s*)(\d+)(\s*)-(\s*)(\d+)(?=\s*(?:\||$))")

# In this order: each makes the text readable for the next.
_REPAIRS: Final[tuple[_Repair, ...]] = (
    (
        re.compile(r"^[^|]*(?![0-9])\d|^[^|]*[²³¹⁰-₉]").search,
        "codes are written with the digits 0 to 9; digits of other scripts are not digits of the grammar",
        _ascii_digits,
    ),
    (_BARS.search, "CONTEXT follows one ASCII pipe, |", lambda text: _BARS.sub("|", text, count=1)),
    (_DASHES.search, "TASK and PARAM are joined by an ASCII hyphen, -", lambda text: _DASHES.sub("-", text, count=1)),
    (_BRACKETS.search, "a single request has no brackets", lambda text: _BRACKETS.sub(r"\1-\2", text)),
    (
        re.compile(r"^\s*[+-]\d|^\s*\d+\s*-\s*[+-]\d|^\s*\d+\.\d|^\s*0[xX]|^\s*\d+[eE]\d").search,
        "codes are plain whole numbers: no sign, no point, no exponent, no hexadecimal",
        lambda text: text,
    ),
    (_has_lines, "CONTEXT is one line: replace line breaks by blanks", _joined_lines),
    (
        re.compile(r"^\s+\d|^\d+\s+-|^\d+-\s+\d|^\d+-\d+\s+$").search,
        "no blanks before TASK, around the hyphen or at the end",
        lambda text: _BLANKS.sub(r"\2-\5", text).strip(),
    ),
    (
        re.compile(r"^(\d+-\d+)\s*\|\s*$").search,
        "a pipe must be followed by CONTEXT; leave it out when there is none",
        lambda text: text.partition("|")[0].strip(),
    ),
    (
        _WIDE_GAP.search,
        "at most ten blanks may stand before the pipe",
        lambda text: _WIDE_GAP.sub(" |", text, count=1),
    ),
    (
        re.compile(r"^\d+\s*\|").search,
        "PARAM is missing: 1 Brief, 2 Medium, 3 Detailed and so on",
        lambda text: re.sub(r"^(\d+)\s*\|", r"\1-1 |", text),
    ),
)
