"""Replaces chosen strings of a JSON document and keeps every other byte: key order, number text, white space.

The document must have been accepted by `json_strict`; this module only finds where in the bytes a value stands. One
linear walk that enters only the objects and arrays on the way to a wanted path and steps over everything else.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final, cast

import msgspec

from policies.model import Nested, Path, Step

# Possessive: a string that does not end costs one pass, not one per backslash.
_STRING_SOURCE: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_SPACE_SOURCE: Final = rb"[ \t\r\n]*+"
_SCALAR_SOURCE: Final = rb'[^\[\]{},:" \t\r\n]++'
_SCALAR: Final = re.compile(_SCALAR_SOURCE)
_TO_QUOTE_OR_BRACKET: Final = re.compile(rb'[^"\[\]{}]*+')
_SPACE: Final = re.compile(_SPACE_SOURCE)
_NAME: Final = re.compile(
    _SPACE_SOURCE + b"(" + _STRING_SOURCE + b")" + _SPACE_SOURCE + b":" + _SPACE_SOURCE, re.DOTALL
)
"""A member's name, up to where its value begins."""

_COMMA: Final = re.compile(_SPACE_SOURCE + b",?")
_CLOSING: Final = re.compile(_SPACE_SOURCE + rb"[\]}]")
_QUOTE: Final = 0x22
_BACKSLASH: Final = 0x5C
_OPENING: Final = b"{["

_decode: Final = msgspec.json.Decoder(str).decode

Replacement = tuple[int, int, bytes]
"""Start and end of the bytes to be replaced, and what stands there instead."""

_Tree = dict[Step | None, "_Tree | Path"]
"""The wanted paths as a tree of steps; under None the path that ends here."""


def splice(document: bytes, replacements: Iterable[Replacement]) -> bytes:
    """`document` with the replacements made. They must not overlap; several at one place keep their order."""
    pieces: list[bytes] = []
    position = 0
    for start, end, instead in sorted(replacements, key=_span):
        if start < position:
            raise ValueError("replacements overlap")
        pieces += (document[position:start], instead)
        position = end
    pieces.append(document[position:])
    return b"".join(pieces)


def replacements(document: bytes, edits: Mapping[Path, str | int]) -> list[Replacement]:
    """The replacements that put each text or integer at its path, whatever scalar stands there.

    Paths may lead through `Nested.DOCUMENT` into a document held by a string; that string is then written anew, its
    content again changed only at the edits. Raises `KeyError` for a path that is not in the document.
    """
    here: dict[Path, str | int] = {}
    inside: dict[Path, dict[Path, str | int]] = {}
    for path, value in edits.items():
        if Nested.DOCUMENT in path:
            border = path.index(Nested.DOCUMENT)
            inside.setdefault(path[:border], {})[path[border + 1 :]] = value
        else:
            here[path] = value
    starts = locate(document, [*here, *inside])
    made: list[Replacement] = []
    for path, value in here.items():
        new = written(value) if isinstance(value, str) else b"%d" % value
        made.append((starts[path], value_end(document, starts[path]), new))
    for path, inner_edits in inside.items():
        start = starts[path]
        end = value_end(document, start)
        inner = text_of(document[start:end]).encode()
        made.append((start, end, written(splice(inner, replacements(inner, inner_edits)).decode())))
    return made


def locate(document: bytes, paths: Iterable[Path]) -> dict[Path, int]:
    """Where the value (or, after `Nested.KEY`, the name) at each path begins. Raises `KeyError` if one is missing."""
    wanted: _Tree = {}
    count = 0
    for path in paths:
        node = wanted
        for step in path:
            node = cast(_Tree, node.setdefault(step, {}))
        count += None not in node
        node[None] = path
    found: dict[Path, int] = {}
    if count:
        _Walk(document, found, count).value(_after_space(document, 0), wanted)
    if len(found) != count:
        raise KeyError("a path is not in the document")
    return found


def value_end(document: bytes, start: int) -> int:
    """Where the value that begins at `start` ends."""
    first = document[start]
    if first == _QUOTE:
        return _string_end(document, start)
    if first not in _OPENING:
        return _end(_SCALAR, document, start)
    at, depth = start + 1, 1
    while depth:
        found = _end(_TO_QUOTE_OR_BRACKET, document, at)
        byte = document[found]
        at = found + 1
        if byte == _QUOTE:
            at = _string_end(document, found)
        elif byte in _OPENING:
            depth += 1
        else:
            depth -= 1
    return at


def _string_end(document: bytes, start: int) -> int:
    """Behind the closing quote. Searches for quotes, an order of magnitude faster than an expression per character."""
    end = document.index(b'"', start + 1)
    while document[end - 1] == _BACKSLASH and _is_escaped(document, end):
        end = document.index(b'"', end + 1)
    return end + 1


def _is_escaped(document: bytes, at: int) -> bool:
    """Whether an odd number of backslashes stands before `at`, where a string has begun."""
    width = 8
    while True:
        before = document[max(0, at - width) : at]
        run = len(before) - len(before.rstrip(b"\\"))
        if run < len(before):
            return run % 2 == 1
        width *= 8  # megabytes of backslashes cost a few copies, not a step each


def text_of(string: bytes) -> str:
    """The text of a JSON string, quotes included. Lone surrogates stay what they are."""
    if b"\\" not in string:
        return string[1:-1].decode()
    try:
        return _decode(string)
    except msgspec.DecodeError:
        return str(json.loads(string))


def written(value: object) -> bytes:
    """`value` as compact JSON in UTF-8, escaped only where it must be, lone surrogates as `\\udXXX`."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def _span(replacement: Replacement) -> tuple[int, int]:
    return replacement[0], replacement[1]


def _after_space(document: bytes, at: int) -> int:
    return _end(_SPACE, document, at)


def _after(document: bytes, at: int) -> int:
    """Behind the value that begins at `at` and its comma."""
    return _end(_COMMA, document, value_end(document, at))


def _end(pattern: re.Pattern[bytes], document: bytes, at: int) -> int:
    match = pattern.match(document, at)
    if match is None:
        raise ValueError("not a document that was accepted before")
    return match.end()


class _Walk:
    """One pass over a document that notes where wanted values begin and stops at the last of them."""

    __slots__ = ("document", "found", "missing")

    DONE: Final = -1

    def __init__(self, document: bytes, found: dict[Path, int], missing: int) -> None:
        self.document = document
        self.found = found
        self.missing = missing

    def value(self, at: int, node: _Tree) -> int:
        """Where the value that begins at `at` ends, or DONE."""
        if None in node:
            if self._note(node, at):
                return self.DONE
            if len(node) == 1:
                return value_end(self.document, at)
        match self.document[at]:
            case 0x7B:
                return self._object(at, node)
            case 0x5B:
                return self._array(at, node)
            case _:
                return value_end(self.document, at)

    def _object(self, at: int, node: _Tree) -> int:
        document = self.document
        at += 1
        name = _NAME.match(document, at)
        while name is not None:
            value = name.end()
            child = cast(_Tree | None, node.get(text_of(name[1])))
            if child is None:
                at = _after(document, value)
            else:
                if Nested.KEY in child and self._note(cast(_Tree, child[Nested.KEY]), name.start(1)):
                    return self.DONE
                at = self.value(value, child)
                if at == self.DONE:
                    return self.DONE
                at = _end(_COMMA, document, at)
            name = _NAME.match(document, at)
        return _end(_CLOSING, document, at)

    def _array(self, at: int, node: _Tree) -> int:
        document = self.document
        at = _after_space(document, at + 1)
        index = 0
        while document[at] != 0x5D:
            child = cast(_Tree | None, node.get(index))
            if child is None:
                at = _after(document, at)
            else:
                at = self.value(at, child)
                if at == self.DONE:
                    return self.DONE
                at = _end(_COMMA, document, at)
            at = _after_space(document, at)
            index += 1
        return at + 1

    def _note(self, node: _Tree, at: int) -> bool:
        """Record the path that ends at this node; True when it was the last one."""
        self.found[cast(Path, node[None])] = at
        self.missing -= 1
        return not self.missing
