"""Replaces strings of a short JSON document that was parsed already, at a fifth of the cost of walking it.

A string is looked for as JSON writers write it. That finds the wrong place when the same literal stands elsewhere, or
seems to (the end of one string, a comma and the beginning of another); so what comes out is parsed, and must be the
former tree with the edited strings and nothing else changed. Whatever is doubtful is left to the walk of `json_splice`.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from policies.model import Path
from sidecar.codecs.json_splice import Replacement, splice, written
from sidecar.codecs.json_strict import Json, JsonError, read_json

LONGEST: Final = 64 * 1024
"""Bytes of a document: a longer one costs more to parse again than to walk."""


def with_strings(document: bytes, tree: Json | Mapping[str, Json], edits: Mapping[Path, str]) -> bytes | None:
    """`document`, which parses to `tree`, with each text at its path and all other bytes as they were; None: walk."""
    if len(document) > LONGEST:
        return None
    found: list[Replacement] = []
    before: dict[Path, str] = {}
    for path, text in edits.items():
        old = _at(tree, path)
        literal = _literal(document, old) if type(old) is str else None
        if literal is None:
            return None
        start = document.find(literal)
        found.append((start, start + len(literal), written(text)))
        before[path] = old
    try:
        result = splice(document, found)
        after = read_json(result)
    except (ValueError, JsonError):  # they overlap, or it is no document any more
        return None
    return result if _is_edited(after, tree, edits, before) else None


def _literal(document: bytes, text: str) -> bytes | None:
    """How the document writes this string, if it stands there once in one of the two usual ways."""
    literal = written(text)
    count = document.count(literal)
    if not count and not text.isascii():
        literal = json.dumps(text).encode()
        count = document.count(literal)
    return literal if count == 1 else None


def _is_edited(
    after: Json, tree: Json | Mapping[str, Json], edits: Mapping[Path, str], before: Mapping[Path, str]
) -> bool:
    """Whether `after` is `tree` with the edits. Turns `after` back into `tree` on the way."""
    for path, text in edits.items():
        holder: Any = _at(after, path[:-1])
        if not path or type(holder) not in (dict, list) or _at(holder, path[-1:]) != text:
            return False
        holder[path[-1]] = before[path]
    return after == tree


def _at(tree: Json | Mapping[str, Json], path: Path) -> Any:
    """The value at a path; None where there is none, and for paths into documents held by strings."""
    value: Any = tree
    for step in path:
        is_there = (type(value) is dict and type(step) is str and step in value) or (
            type(value) is list and type(step) is int and 0 <= step < len(value)
        )
        if not is_there:
            return None
        value = value[step]
    return value
