"""Replaces strings of a JSON document that was parsed already, at a fifth of the cost of walking it.

A string is looked for as JSON writers write it. In a document without escapes that is the only way to write it, and
where it stands once, it stands there. Else the literal may stand at a wrong place, or seem to (the end of one string, a
comma and the beginning of another); so what comes out is parsed, and must be the former tree with the edited strings
and nothing else changed. Whatever is doubtful is left to the walk of `json_splice`.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from policies.model import Path
from sidecar.codecs.json_splice import Replacement, replacements, splice, written
from sidecar.codecs.json_strict import Json, JsonError, read_json

LONGEST: Final = 64 * 1024
"""Bytes of a document: a longer one costs more to parse again than to walk."""
_BEGINNING: Final = 40
"""Bytes of a string that are looked for."""
_ATTEMPTS: Final = 16
"""Strings that may begin alike."""


def rewritten(document: bytes, tree: Json | Mapping[str, Json], edits: Mapping[Path, str | int]) -> bytes:
    """`document`, which parses to `tree`, with each text or integer at its path and all other bytes as they were.
    Raises `KeyError` for a path that is not in the document."""
    spliced = with_strings(document, tree, edits)
    return splice(document, replacements(document, edits)) if spliced is None else spliced


def with_strings(document: bytes, tree: Json | Mapping[str, Json], edits: Mapping[Path, str | int]) -> bytes | None:
    """The same if only strings are to be replaced and each of them is easily found; None: walk."""
    if len(document) > LONGEST:
        return None
    found: list[Replacement] = []
    for path, text in edits.items():
        old = _at(tree, path)
        if type(old) is not str:
            return None
        literal = written(old)
        start = _only_place(document, literal)
        if start < 0 and not old.isascii():
            literal = json.dumps(old).encode()
            start = _only_place(document, literal)
        if start < 0:
            return None
        found.append((start, start + len(literal), written(text)))
    try:
        if len(found) == 1:
            start, end, instead = found[0]
            result = b"%b%b%b" % (document[:start], instead, document[end:])
        else:
            result = splice(document, found)
        if b"\\" not in document:
            return result
        after = read_json(result)
    except (ValueError, JsonError):  # they overlap, or it is no document any more
        return None
    return result if _is_edited(after, tree, edits) else None


def _only_place(document: bytes, literal: bytes) -> int:
    """Where `literal` stands in the document; -1: nowhere, in several places, or in too much that looks like it."""
    # By its beginning: to look for a long text takes longer than to read the document, because the text is prepared.
    beginning = literal[:_BEGINNING]
    place = -1
    start = document.find(beginning)
    attempts = _ATTEMPTS
    while start >= 0:
        if document.startswith(literal, start):
            if place >= 0:
                return -1
            place = start
        attempts -= 1
        if not attempts:
            return -1
        start = document.find(beginning, start + 1)  # not behind it: what overlaps counts
    return place


def _is_edited(after: Json, tree: Json | Mapping[str, Json], edits: Mapping[Path, str | int]) -> bool:
    """Whether `after` is `tree` with the edits. Turns `after` back into `tree` on the way."""
    for path, text in edits.items():
        holder: Any = _at(after, path[:-1])
        if not path or type(holder) not in (dict, list) or _at(holder, path[-1:]) != text:
            return False
        holder[path[-1]] = _at(tree, path)
    return after == tree


def _at(tree: Json | Mapping[str, Json], path: Path) -> Any:
    """The value at a path; None where there is none, and for paths into documents held by strings."""
    value: Any = tree
    try:
        for step in path:
            if value.__class__ is str:
                return None
            value = value[step]
    except (KeyError, IndexError, TypeError):
        return None
    return value
