"""Reads JSON so that whoever reads the same bytes after us reads the same text, or refuses.

A scanner that sees another value than the model server does is no scanner: of two members with one name one parser
keeps the first, another the last; one accepts a lone surrogate, another replaces it. Such documents are refused.

jiter reads and refuses in one pass. What it refuses the standard library reads again, to say why in words of our own:
jiter's quote the document. A number beyond a double's range passes: it is nobody's text, and a parser that cannot hold
it refuses all of it.
"""

import json
from typing import Any, Final, NoReturn

import msgspec
from jiter import from_json

MAX_DEPTH: Final = 201
"""Levels of arrays and objects: jiter's bound. Real prompts with tool schemas stay below 20."""

REFUSED: Final = (ValueError, msgspec.MsgspecError)
"""What msgspec raises for bytes that it does not read; before 0.20 its own errors were no ValueError."""

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]


class JsonError(Exception):
    """The bytes are not one JSON document that every parser reads alike. Says where or why, never what."""


class AmbiguousJsonError(JsonError):
    """Well-formed, yet parsers would read it differently or give up: repeated names, too many levels."""


def read_json(document: bytes) -> Json:
    """The value of `document`, which must be one JSON text (RFC 8259) in UTF-8 and nothing else.

    Raises `JsonError` for: bad syntax or UTF-8, a byte order mark, NaN or Infinity, a lone surrogate, two members of
    one name in an object, bytes after the end, an integer of more than 4,300 digits, more than `MAX_DEPTH` levels.
    """
    try:
        # No cache: it would keep short strings of prompts beyond their request.
        value: Json = from_json(document, catch_duplicate_keys=True, allow_inf_nan=False, cache_mode="none")
    except ValueError:
        pass
    else:
        return value
    _read_slowly(document)
    raise JsonError("a lone surrogate")


def read_json_with_lone_surrogates(document: bytes) -> Json:
    """As `read_json`, but `\\ud83d` may stand alone: a streamed answer may cut an escaped pair in two."""
    try:
        return read_json(document)
    except JsonError:
        if b"\\u" not in document:
            raise
    return _read_slowly(document)


def _read_slowly(document: bytes) -> Json:
    value: Json = None
    reason = ""
    try:
        value = json.loads(document.decode(), object_pairs_hook=_distinct, parse_constant=_no_constant)
    except RecursionError:
        raise AmbiguousJsonError(f"more than {MAX_DEPTH} levels deep") from None
    except ValueError as error:
        reason = _reason(error)
    if reason:  # raised here, because the other error carries the document
        raise JsonError(reason)
    _refuse_depth(value)
    return value


def _refuse_depth(root: Json) -> None:
    """Level by level, so that depth costs no stack."""
    depth = 0
    level: list[Any] = [root]
    while level := [child for child in level if isinstance(child, dict | list)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise AmbiguousJsonError(f"more than {MAX_DEPTH} levels deep")
        level = [child for each in level for child in (each.values() if isinstance(each, dict) else each)]


def _distinct(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise AmbiguousJsonError("two members of one object have the same name")
    return members


def _no_constant(_name: str) -> NoReturn:
    raise JsonError("NaN and Infinity are not JSON")


def _reason(error: Exception) -> str:
    """Why, without the document: a UnicodeDecodeError carries all of it."""
    match error:
        case UnicodeDecodeError():
            return f"not UTF-8 (byte {error.start})"
        case json.JSONDecodeError():
            return f"{error.msg} (character {error.pos})"
        case _:
            return "an integer is too long"
