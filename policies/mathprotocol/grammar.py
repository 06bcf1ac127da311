"""Requests of the form `TASK-PARAM` or `TASK-PARAM | CONTEXT`.

The language is that of `^([0-9]+)-([0-9]+)(?:\\s{0,10}\\|\\s{0,10}(.+))?$` under `re.match`, decided in linear time
without backtracking. Only the ten ASCII digits count: full-width, Arabic or superscript digits pass `str.isdigit` and
`int`, and would let one text mean two things to two readers. A CONTEXT is one line, so that a second request cannot
hide behind the first.
"""

import re
from typing import Final, NamedTuple

from policies.mathprotocol.codes import ErrorCode

_HEAD: Final = re.compile(r"([0-9]+)-([0-9]+)(\s{0,10}\|)?")
_MAX_GAP: Final = 10
_BEYOND_ALL_CODES: Final = 1 << 63


class Request(NamedTuple):
    """One request, well formed but not yet checked against any registry."""

    task: int
    param: int
    context: str
    """Stripped; empty when there is none."""

    def __repr__(self) -> str:
        """Never the context: a repr ends up in logs."""
        return f"Request(task={self.task}, param={self.param}, context=<{len(self.context)} characters>)"


def parse_request(text: object) -> Request | None:
    """The request that `text` spells, or None when it is not of the grammar. Never raises; O(len(text))."""
    if not isinstance(text, str):
        return None
    head = _HEAD.match(text)
    if head is None:
        return None
    task, param, pipe = head.groups()
    rest = text[head.end() :]
    if pipe is None:
        return Request(_number(task), _number(param), "") if rest in ("", "\n") else None
    # `$` forgives one final newline; any other must stand among the first ten blanks after the pipe.
    line = rest.removesuffix("\n")
    start = line.rfind("\n") + 1
    if start == len(line) or start > _MAX_GAP or (start and not line[:start].isspace()):
        return None
    return Request(_number(task), _number(param), line.strip())


def request_fault(
    request: Request | None, tasks: frozenset[int] | set[int], params: frozenset[int] | set[int]
) -> ErrorCode | None:
    """What is wrong with a request, by the task first, or None when it may be served."""
    if request is None:
        return ErrorCode.INVALID_FORMAT
    if request.task not in tasks:
        return ErrorCode.INVALID_TASK
    if request.param not in params:
        return ErrorCode.INVALID_PARAM
    return None


def _number(digits: str) -> int:
    # `int` is quadratic and refuses more than 4300 digits; nothing above 18 digits is any code.
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= 18 else _BEYOND_ALL_CODES
