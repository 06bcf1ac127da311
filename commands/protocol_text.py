"""MathProtocol texts taken apart for people and programs: what `aegis protocol` prints and `aegis mcp` answers."""

import sys
from pathlib import Path
from typing import Any, Final

import click

from policies.mathprotocol.codes import (
    CLASSIFICATION_TASKS,
    CONFIDENCES,
    EXTENDED_PARAM_NAMES,
    LANGUAGE_NAMES,
    PARAM_NAMES,
    RESPONSE_NAMES,
    SUCCESS_BIT,
    TASK_NAMES,
    Kind,
)
from policies.mathprotocol.composite import CompositeError, is_composite, plan
from policies.mathprotocol.grammar import parse_request
from policies.mathprotocol.lesson import ERROR_MEANINGS, Lesson, request_lesson, response_lesson
from policies.mathprotocol.responses import parse_response

_MAX_INPUT: Final = 16 << 20
"""Bytes of a file or of standard input."""


def text_of(value: str) -> str:
    """The text that an argument means: itself, the contents of `@file`, or standard input for `-`."""
    if value != "-" and not value.startswith("@"):
        return value
    try:
        source = sys.stdin.buffer if value == "-" else Path(value[1:]).open("rb")  # noqa: SIM115 closed below
        with source:
            raw = source.read(_MAX_INPUT + 1)
    except OSError as error:
        raise click.BadParameter(f"{value[1:]}: {error.strerror}") from error
    if len(raw) > _MAX_INPUT:
        raise click.BadParameter(f"{value}: more than {_MAX_INPUT >> 20} MiB")
    try:
        # The newline that an editor puts at the end of a file is not part of the text.
        return raw.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise click.BadParameter(f"{value}: not UTF-8") from None


def code_lists() -> dict[str, list[dict[str, Any]]]:
    """Every code with its name, by what it is."""
    return {
        "tasks": [
            {"code": code, "name": name, "kind": kind_of(code).value, "answer": _shape(code)}
            for code, name in TASK_NAMES.items()
        ],
        "params": [{"code": code, "name": name} for code, name in {**PARAM_NAMES, **EXTENDED_PARAM_NAMES}.items()],
        "responses": [{"code": SUCCESS_BIT, "name": "Success Bit", "sent_as": "1"}]
        + [
            {"code": code, "name": name, "sent_as": "second, as confidence" if code in CONFIDENCES else str(code + 1)}
            for code, name in RESPONSE_NAMES.items()
        ]
        + [{"code": code, "name": name, "sent_as": str(code + 1)} for code, name in LANGUAGE_NAMES.items()],
        "errors": [{"code": int(code), "name": name} for code, name in ERROR_MEANINGS.items()],
    }


def lesson_on(text: str, task: int | None) -> Lesson:
    """The judgement of a request or chain, or with a task of an answer to it."""
    if task is not None:
        return response_lesson(text, kind_of(task))
    if not is_composite(text):
        return request_lesson(text)
    try:
        plan(text)
    except CompositeError as error:
        # Brackets around a single request are a habit; say so rather than speak of chains.
        single = request_lesson(text)
        return single if single.suggestion else Lesson(False, int(error.code), (str(error),))
    return Lesson(valid=True)


def parts_of(text: str, task: int | None) -> list[dict[str, str]]:
    """`what`, `code` and `meaning` of every part; empty when the text cannot be taken apart."""
    if task is not None:
        return answer_parts(text)
    if is_composite(text):
        try:
            steps = plan(text).steps
        except CompositeError:
            return []
        return [
            _part(f"step {number}", str(stage), f"{TASK_NAMES[stage.task]}, {_param_name(stage.param)}")
            for number, step in enumerate(steps, start=1)
            for stage in step
        ]
    request = parse_request(text)
    if request is None:
        return []
    named = TASK_NAMES.get(request.task)
    meaning = f"{named}, answered by {_shape(request.task)}" if named else "no task has this code"
    return [
        _part("TASK", str(request.task), meaning),
        _part("PARAM", str(request.param), _param_name(request.param)),
        _part(
            "CONTEXT", f"{len(request.context)} characters", "data, never instructions" if request.context else "none"
        ),
    ]


def answer_parts(text: str) -> list[dict[str, str]]:
    """The same for an answer, as far as it can be read."""
    parsed = parse_response(text)
    if len(parsed.codes) == 1 and parsed.codes[0] in ERROR_MEANINGS:
        return [_part("ERROR", str(parsed.codes[0]), ERROR_MEANINGS[parsed.codes[0]])]
    parts: list[dict[str, str]] = []
    for what, code in zip(("RESPONSE", "CONFIDENCE"), parsed.codes, strict=False):
        if what == "CONFIDENCE":
            parts.append(_part(what, str(code), RESPONSE_NAMES[code] if code in CONFIDENCES else "not a confidence"))
            continue
        result = code & ~SUCCESS_BIT
        names = {**RESPONSE_NAMES, **LANGUAGE_NAMES, 0: "done"}
        bit = "Success Bit" if code & SUCCESS_BIT else "no Success Bit"
        parts.append(_part(what, str(code), f"{names.get(result, 'no result has this code')}, {bit}"))
    if parsed.payload:
        parts.append(_part("PAYLOAD", f"{len(parsed.payload)} characters", parsed.payload[:60]))
    return parts


def _part(what: str, code: str, meaning: str) -> dict[str, str]:
    return {"what": what, "code": code, "meaning": meaning}


def _param_name(param: int) -> str:
    return {**PARAM_NAMES, **EXTENDED_PARAM_NAMES}.get(param, "no param has this code")


def kind_of(task: int) -> Kind:
    """How a named task is answered."""
    return Kind.CLASSIFICATION if task in CLASSIFICATION_TASKS else Kind.GENERATIVE


def _shape(task: int) -> str:
    return "RESPONSE-CONFIDENCE" if task in CLASSIFICATION_TASKS else "RESPONSE-CONFIDENCE | PAYLOAD"


def lesson_fields(lesson: Lesson) -> dict[str, Any]:
    """A judgement as JSON."""
    return {
        "valid": lesson.valid,
        "code": lesson.code or None,
        "faults": lesson.faults,
        "suggestion": lesson.suggestion or None,
    }
