"""Reads JSON so that whoever reads the same bytes after us reads the same text, or refuses.

A scanner that sees another value than the model server does is no scanner: of two members with one name one parser
keeps the first, another the last; one accepts a lone surrogate, another replaces it. Such documents are refused.

The quick way is msgspec, which refuses everything but repeated names and depth. That no name can hide is then proven:
- Written anew, the tree gives the very bytes that came (SDKs write compactly): a repeated name would be missing.
- Or, in a document of few and long strings, there are no quotes but those around the strings of the tree.
- Else by counting: every member's name ends in a quote that is not escaped, followed by optional white space and a
  colon, so a document holds at most as many members as it holds that sequence of bytes. If the parsed tree holds as
  many names as that, none was dropped. If it holds fewer, a name was repeated or the sequence stands within a string;
  the slow way, json.loads with a hook that sees every pair, tells which.
"""

import json
import re
from typing import Any, Final, NoReturn

import msgspec

MAX_DEPTH: Final = 64
"""Levels of arrays and objects. Real prompts with tool schemas stay below 20."""

REFUSED: Final = (ValueError, msgspec.MsgspecError)
"""What msgspec raises for bytes that it does not read; before 0.20 its own errors were no ValueError."""

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]

# Both may count too much, never too little. The second leaves out a quote behind exactly one backslash, which is
# escaped for certain: it is for documents within strings, where the first counts every name of those, too.
_NAME_END: Final = re.compile(rb'"[ \t\r\n]*:')
_NAME_END_UNESCAPED: Final = re.compile(rb'"(?:(?<!\\")|(?<=\\\\"))[ \t\r\n]*:')
_LONG: Final = 16 * 1024
"""Bytes of a document that is worth a look at its quotes alone."""
_PER_STRING: Final = 512
"""Bytes for each string of a document with few strings."""
_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode


class JsonError(Exception):
    """The bytes are not one JSON document that every parser reads alike. Says where or why, never what."""


class AmbiguousJsonError(JsonError):
    """Well-formed, yet parsers would read it differently or give up: repeated names, too many levels."""


def read_json(document: bytes, *, max_depth: int = MAX_DEPTH) -> Json:
    """The value of `document`, which must be one JSON text (RFC 8259) in UTF-8 and nothing else.

    Raises `JsonError` for: bad syntax or UTF-8, a byte order mark, NaN or Infinity, a lone surrogate, two members of
    one name in an object, bytes after the end, a number beyond a double's range, more than `max_depth` levels.
    """
    try:
        value: Json = _decode(document)
    except RecursionError:
        raise AmbiguousJsonError(f"more than {max_depth} levels deep") from None
    except REFUSED as error:
        raise JsonError(_reason(error)) from None
    names = _census(value, max_depth)
    if not _has_no_more_than(names, value, document):
        _read_slowly(document)
    return value


def read_json_with_lone_surrogates(document: bytes, *, max_depth: int = MAX_DEPTH) -> Json:
    """As `read_json`, but `\\ud83d` may stand alone: a streamed answer may cut an escaped pair in two."""
    try:
        return read_json(document, max_depth=max_depth)
    except JsonError:
        if b"\\u" not in document:
            raise
    value = _read_slowly(document)
    _census(value, max_depth)
    return value


def _has_no_more_than(names: int, value: Json, document: bytes) -> bool:
    if not names:
        return True
    if len(document) >= _LONG and _has_no_other_quote(value, document):
        return True
    is_spaced = document.find(b'": ', 0, 64) >= 0  # then writing it compactly is in vain
    return (
        (not is_spaced and _encode(value) == document)
        or names == len(_NAME_END.findall(document))
        or names == len(_NAME_END_UNESCAPED.findall(document))
    )


def _has_no_other_quote(root: Json, document: bytes) -> bool:
    """Whether there are few strings, and no quote in `document` but those around them: then it holds no other string,
    so no other name. Looks for quotes one by one, which passes over long texts ten times as fast as counting."""
    strings, most = 0, len(document) // _PER_STRING
    rest: list[Any] = [root]
    while rest:
        value = rest.pop()
        if type(value) is dict:
            strings += len(value)
            rest += value.values()
        elif type(value) is list:
            rest += value
        else:
            strings += type(value) is str
        if strings + len(rest) > most:
            return False
    at = -1
    for _ in range(2 * strings):
        at = document.find(b'"', at + 1)
    return document.find(b'"', at + 1) < 0


def _census(root: Json, max_depth: int) -> int:
    """How many members all objects of the tree hold. Level by level, so depth costs no stack."""
    names = depth = 0
    level: list[Any] = [root] if type(root) is dict or type(root) is list else []
    while level:
        depth += 1
        if depth > max_depth:
            raise AmbiguousJsonError(f"more than {max_depth} levels deep")
        below: list[Any] = []
        for container in level:
            if type(container) is dict:
                names += len(container)
                container = container.values()  # noqa: PLW2901  # its members from here on
            for child in container:
                if type(child) is dict or type(child) is list:
                    below.append(child)  # noqa: PERF401  # a comprehension per container costs 0.5 us a document
        level = below
    return names


def _read_slowly(document: bytes) -> Json:
    try:
        value: Json = json.loads(document.decode(), object_pairs_hook=_distinct, parse_constant=_no_constant)
    except RecursionError:
        raise AmbiguousJsonError("nested too deeply") from None
    except ValueError as error:
        raise JsonError(_reason(error)) from None
    return value


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
        case msgspec.MsgspecError():
            return str(error)
        case json.JSONDecodeError():
            return f"{error.msg} (character {error.pos})"
        case _:
            return "a number is out of range"
