"""Text -> nodes that know their line and column, or findings; and back. The only place that touches YAML.

Scalars mean what YAML 1.2's core schema says: `off`, `no` and `12:30` are texts, not False, False and 750. Tags are
refused. Every bound below is on what a file may make us do; an alias costs what it stands for each time it is used
("billion laughs").
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from policies.errors import Finding

MAX_TEXT: Final = 1 << 20
"""Characters of one file."""
MAX_NODES: Final = 50_000
"""Of one file, aliases expanded."""
MAX_DEPTH: Final = 32

Scalar = str | int | float | bool | None

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BOOL: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NULL: Final = {"", "~", "null", "Null", "NULL"}
_INT: Final = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]{1,40}|[0-9]{1,18}(\.[0-9]{0,40})?)([eE][-+]?[0-9]{1,3})?")
_MERGE: Final = "<<"


@dataclass(frozen=True, slots=True)
class Node:
    """One value of a document and where it stands."""

    value: "Scalar | list[Node] | dict[str, Node]"
    line: int
    column: int
    """Both from 1."""
    size: int = 1
    """Nodes in it, itself included."""
    key_places: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Key -> line and column of the key itself."""

    def plain(self) -> Any:
        """The value without places."""
        match self.value:
            case dict():
                return {key: node.plain() for key, node in self.value.items()}
            case list():
                return [node.plain() for node in self.value]
            case _:
                return self.value


class _TextError(Exception):
    def __init__(self, line: int, column: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.line, self.column, self.message, self.hint = line, column, message, hint


def documents(file: str, text: str) -> tuple[list[Node], list[Finding]]:
    """The documents of one file and what is wrong with its YAML. Empty documents are left out.

    A syntax error hides what comes after it; a duplicate key does not.
    """
    findings: list[Finding] = []
    found: list[Node] = []
    if len(text) > MAX_TEXT:
        return [], [Finding(file, 0, 0, "", f"the file has {len(text)} characters", f"split it: at most {MAX_TEXT}")]
    try:
        found.extend(_Reader(file, text, findings).read())
    except _TextError as wrong:
        findings.append(Finding(file, wrong.line, wrong.column, "", wrong.message, wrong.hint))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        findings.append(Finding(file, line, column, "", f"not YAML: {error.problem or error.context}"))
    except (yaml.YAMLError, UnicodeError):
        findings.append(Finding(file, 1, 1, "", "not YAML: a character that YAML does not allow"))
    return found, findings


def dump(value: Any) -> str:
    """`value` as YAML that `documents` reads back as the same, and that a person can read."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class _Dumper(yaml.SafeDumper):
    """Quotes what the core schema, not PyYAML's YAML 1.1, would take for something else than a text: 008."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None
    if not text.replace("\n", "").isprintable():
        style = '"'  # every other style lets YAML fold or lose line separators and control characters
    elif "\n" in text:
        style = "|"  # a line of its own in a diff
    elif not isinstance(_scalar(text), str):
        style = "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


class _Reader:
    """Builds nodes from parser events. One use."""

    def __init__(self, file: str, text: str, findings: list[Finding]) -> None:
        self._file = file
        self._findings = findings
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=_LOADER))
        self._anchors: dict[str, Node] = {}
        self._nodes = 0

    def read(self) -> Iterator[Node]:
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors = {}
                root = self._node(next(self._events), 1)
                if root.value is not None:
                    yield root

    def _node(self, event: Any, depth: int) -> Node:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if depth > MAX_DEPTH:
            raise _TextError(line, column, f"nested deeper than {MAX_DEPTH}")
        if isinstance(event, yaml.AliasEvent):
            name = event.anchor or ""
            node = self._anchors.get(name)
            if node is None:
                raise _TextError(line, column, f"no anchor &{name[:40]} before this alias")
            self._count(node.size, line, column)
            return node
        if event.tag is not None and event.tag != "!":
            raise _TextError(line, column, f"tag {event.tag[:40]!r} is not allowed", "remove the tag")
        self._count(1, line, column)
        match event:
            case yaml.ScalarEvent():
                plain = event.implicit[0]
                node = Node(_scalar(event.value) if plain else event.value, line, column)
            case yaml.SequenceStartEvent():
                node = self._sequence(line, column, depth)
            case _:
                node = self._mapping(line, column, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _sequence(self, line: int, column: int, depth: int) -> Node:
        items: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return Node(items, line, column, 1 + sum(item.size for item in items))

    def _mapping(self, line: int, column: int, depth: int) -> Node:
        entries: dict[str, Node] = {}
        places: dict[str, tuple[int, int]] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event)
            place = event.start_mark.line + 1, event.start_mark.column + 1
            node = self._node(next(self._events), depth + 1)
            if key in entries:
                first = places[key][0]
                message = f"the key {key[:60]!r} stands twice, first on line {first}"
                self._findings.append(Finding(self._file, *place, "", message, "remove one of them"))
                continue
            entries[key], places[key] = node, place
        return Node(entries, line, column, 1 + sum(node.size for node in entries.values()), places)

    def _key(self, event: Any) -> str:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if not isinstance(event, yaml.ScalarEvent):
            raise _TextError(line, column, "a key must be a text")
        if event.value == _MERGE and event.implicit[0]:
            raise _TextError(line, column, "merge keys (<<) are not allowed", "write the entries out")
        self._count(1, line, column)
        key: str = event.value
        return key

    def _count(self, nodes: int, line: int, column: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise _TextError(line, column, f"more than {MAX_NODES} values, aliases counted each time", "split the file")


def _scalar(text: str) -> Scalar:
    if text in _BOOL:
        return _BOOL[text]
    if text in _NULL:
        return None
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
