"""Collects the text of a request body: every string leaf, except where a name says that it is not text.

A dialect names what is *not* text. What nobody named is walked, so a field that a provider adds tomorrow, or one that
is spelled in another case for a lenient parser, is read by the policies all the same.
"""

import re
from collections.abc import Mapping
from enum import Enum
from typing import Final

from policies.model import Nested, Path, Role, Segment, UnreadablePart
from sidecar.codecs.json_strict import AmbiguousJsonError, Json, JsonError, read_json

NOTHING: Final[frozenset[str]] = frozenset()

_OPAQUE_ANYWHERE: Final = frozenset({"signature", "thoughtSignature", "thought_signature", "cache_control"})
"""Never read, never changed, wherever they stand: the provider verifies or keys on their bytes."""

# Names that programmers choose are no text; names with spaces, `@`, non-ASCII or four digits in a row may be.
_TELLING_NAME: Final = re.compile(r"[^A-Za-z0-9_$./\-]|[0-9]{4}")

_TELLING_NUMBER: Final = 10_000
"""Integers in tool arguments from here on are shown to the policies: account, record and phone numbers."""


class _Name(Enum):
    """What a member's name says."""

    PLAIN = "plain"
    TELLING = "telling"
    """It is text itself."""
    OPAQUE = "opaque"
    """The member is not text."""


class Leaves:
    """The segments and unreadable parts of one body, in document order."""

    __slots__ = ("_names", "segments", "unreadable")

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.unreadable: dict[UnreadablePart, int] = {}
        self._names: dict[str, _Name] = {}
        """Names met in this body: those of tool schemas repeat by the hundred."""

    def text(self, path: Path, role: Role, text: str) -> None:
        """One string."""
        self.segments.append(Segment(path, role, text))

    def cannot_read(self, kind: UnreadablePart) -> None:
        """One part that is no text."""
        self.unreadable[kind] = self.unreadable.get(kind, 0) + 1

    def walk(self, value: Json, path: Path, role: Role, opaque: frozenset[str] = NOTHING) -> None:
        """Every string at or below `value`, except those directly under an `opaque` name, and telling names."""
        if isinstance(value, str):
            self.segments.append(Segment(path, role, value))
        elif isinstance(value, dict):
            self._walk_object(value, path, role, opaque)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if item.__class__ in _MAY_HOLD_TEXT:
                    self.walk(item, (*path, index), role, opaque)

    def member(self, name: str, value: Json, path: Path, role: Role, opaque: frozenset[str] = NOTHING) -> None:
        """As `walk`, for one member of the object at `path` that its dialect reads member by member."""
        if not (isinstance(value, str) and name in opaque):
            self._walk_object({name: value}, path, role, opaque)

    def tool_input(self, value: Json, path: Path, role: Role) -> None:
        """Everything at or below the input of a tool: no name is opaque here, long integers are text, too."""
        if isinstance(value, str):
            self.segments.append(Segment(path, role, value))
        elif isinstance(value, dict):
            for name, member in value.items():
                if (self._names.get(name) or self._read_name(name)) is not _Name.PLAIN and _TELLING_NAME.search(name):
                    self.segments.append(Segment((*path, name, Nested.KEY), role, name))
                self.tool_input(member, (*path, name), role)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self.tool_input(item, (*path, index), role)
        elif isinstance(value, int) and value >= _TELLING_NUMBER:
            self.segments.append(Segment(path, role, str(value)))

    def tool_arguments(self, text: str, path: Path, role: Role) -> None:
        """The arguments of a tool call: a document within a string, or plain text if it is none.

        Raises `AmbiguousJsonError` for a document with repeated names: two parsers would read two calls.
        """
        if text.lstrip(" \t\r\n")[:1] in ("{", "["):
            document = _document(text)
            if document is not None:
                self.tool_input(document, (*path, Nested.DOCUMENT), role)
                return
        self.segments.append(Segment(path, role, text))

    def _walk_object(self, value: dict[str, Json], path: Path, role: Role, opaque: frozenset[str]) -> None:
        sealed = _sealed(value) if "signature" in value or "data" in value else NOTHING
        names = self._names
        for name, member in value.items():
            kind = names.get(name) or self._read_name(name)
            if kind is not _Name.PLAIN:
                if kind is _Name.OPAQUE:
                    continue
                self.segments.append(Segment((*path, name, Nested.KEY), role, name))
            if isinstance(member, str):
                if name not in opaque and name not in sealed:
                    self.segments.append(Segment((*path, name), role, member))
            elif isinstance(member, dict):
                self._walk_object(member, (*path, name), role, opaque)
            elif isinstance(member, list):
                self.walk(member, (*path, name), role, opaque)

    def _read_name(self, name: str) -> _Name:
        if name in _OPAQUE_ANYWHERE or name.startswith("encrypted_"):
            kind = _Name.OPAQUE
        else:
            kind = _Name.TELLING if _TELLING_NAME.search(name) else _Name.PLAIN
        self._names[name] = kind
        return kind


# Signed by the provider, which refuses to take them back changed; written by a model that saw tokens only.
_SIGNED: Final = {
    "thinking": ("signature", frozenset({"thinking"})),
    "redacted_thinking": ("data", frozenset({"data"})),
}
_MAY_HOLD_TEXT: Final[frozenset[type]] = frozenset({str, dict, list})


def members(value: Json) -> Mapping[str, Json]:
    """`value` if it is an object, else an empty one: a body of an unexpected shape is walked, not refused."""
    return value if isinstance(value, dict) else {}


def _sealed(block: Mapping[str, Json]) -> frozenset[str]:
    """The members of a block that must come back as they went out."""
    kind = block.get("type")
    signature, sealed = _SIGNED.get(kind, ("", NOTHING)) if isinstance(kind, str) else ("", NOTHING)
    return sealed if signature in block else NOTHING


def _document(text: str) -> Json:
    """The value, or None for text that is cut off or no JSON at all (a model's output was stored as it came)."""
    try:
        return read_json(text.encode())
    except AmbiguousJsonError:
        raise
    except JsonError:
        return None
