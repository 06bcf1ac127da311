"""Answers of the form `RESPONSE-CONFIDENCE` or `RESPONSE-CONFIDENCE | PAYLOAD`, or an error code alone.

`parse_response` reads what it can, as existing clients expect; `is_valid_response` and `AnswerGate` decide what an
application may see, and are strict: no sign, no leading zero, no other digits than ASCII, at most ten blanks in a row.
"""

import re
from typing import Final, NamedTuple

from policies.mathprotocol.codes import CONFIDENCES, ERRORS, RESULTS, SUCCESS_BIT, Kind

_BLANKS: Final = r"[ \t\r\n]{0,10}"
_HEAD: Final = re.compile(rf"{_BLANKS}([1-9][0-9]{{0,4}})(?:-([1-9][0-9]{{0,2}}))?{_BLANKS}")
# Every prefix of a text that `_HEAD` matches, and little more: what fails here can never become an answer.
_BEGUN: Final = re.compile(rf"{_BLANKS}(?:[1-9][0-9]{{0,4}}(?:-(?:[1-9][0-9]{{0,2}})?)?{_BLANKS})?")


class Response(NamedTuple):
    """What could be read of an answer."""

    codes: tuple[int, ...]
    payload: str
    """Stripped; empty when there is none."""

    def __repr__(self) -> str:
        """Never the payload: a repr ends up in logs."""
        return f"Response(codes={self.codes}, payload=<{len(self.payload)} characters>)"


def parse_response(text: object) -> Response:
    """The codes before the first pipe and the stripped rest; both empty for anything empty or no string."""
    if not isinstance(text, str):
        return Response((), "")
    head, _, payload = text.partition("|")
    fields = (field.strip() for field in head.split("-"))
    codes = tuple(int(field) for field in fields if field.isascii() and field.isdigit() and len(field) <= 18)
    return Response(codes, payload.strip())


def is_valid_response(text: object, kind: Kind) -> bool:
    """Whether `text` is a whole answer to a task of this kind, or a bare error code."""
    if not isinstance(text, str):
        return False
    head, pipe, payload = text.partition("|")
    return _is_legal(head, bool(pipe), payload, kind)


class InvalidAnswer(NamedTuple):
    """Why an answer is none."""

    reason: str
    """A bounded name, for metrics."""


class AnswerGate:
    """Lets an answer through once nothing that may follow can make it invalid.

    Fed with pieces cut anywhere. A classification is held to its end (at most 30 characters and trailing blanks); of a
    generative answer only the head and the first character of its payload are held, then it streams. What is released
    in full is a valid answer: `is_valid_response` agrees, however the text was cut.
    """

    __slots__ = ("_blanks", "_held", "_kind", "_limit", "_open", "_seen")

    def __init__(self, kind: Kind, limit: int) -> None:
        self._kind = kind
        self._limit = limit
        self._held = ""
        self._blanks: list[str] | None = None
        """Pieces of blanks behind a legal head and its pipe; None: they have not come yet. Joined once, because a model
        may send a megabyte of them one by one."""
        self._open = False
        self._seen = 0

    def feed(self, piece: str, *, last: bool) -> str | InvalidAnswer:
        """What may be released by now, or why the answer is invalid. Nothing may be fed after that."""
        self._seen += len(piece)
        if self._seen > self._limit:
            return InvalidAnswer("too_long")
        if self._open:
            return piece
        if self._blanks is not None:
            self._blanks.append(piece)
            if not last and (not piece or piece.isspace()):
                return ""
            piece = "".join(self._blanks)
        self._held += piece
        head, pipe, payload = self._held.partition("|")
        if not last and not pipe:
            return "" if _BEGUN.fullmatch(head) else InvalidAnswer("head")
        if last or payload.strip():
            return self._decide(head, bool(pipe), payload)
        self._blanks = []
        return "" if _is_legal_head(head) else InvalidAnswer("head")

    def _decide(self, head: str, pipe: bool, payload: str) -> str | InvalidAnswer:
        if not _is_legal(head, pipe, payload, self._kind):
            return InvalidAnswer("payload" if _is_legal_head(head) else "head")
        self._open = True
        released, self._held = self._held, ""
        return released


def _is_legal(head: str, pipe: bool, payload: str, kind: Kind) -> bool:
    matched = _HEAD.fullmatch(head)
    if matched is None:
        return False
    blank = not (pipe and payload.strip())
    response, confidence = matched.groups()
    if confidence is None:
        return int(response) in ERRORS and blank
    return _is_legal_pair(int(response), int(confidence)) and blank == (kind is Kind.CLASSIFICATION)


def _is_legal_head(head: str) -> bool:
    matched = _HEAD.fullmatch(head)
    if matched is None:
        return False
    response, confidence = matched.groups()
    return int(response) in ERRORS if confidence is None else _is_legal_pair(int(response), int(confidence))


def _is_legal_pair(response: int, confidence: int) -> bool:
    return bool(response & SUCCESS_BIT) and response - SUCCESS_BIT in RESULTS and confidence in CONFIDENCES
