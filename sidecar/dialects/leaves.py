"""Collects the text of a request body: every string leaf, except where a name says that it is not text.

A dialect names what is *not* text. What nobody named is walked, so a field that a provider adds tomorrow, or one that
is spelled in another case for a lenient parser, is read by the policies all the same.
"""

import re
from collections.abc import Mapping
from typing import Final

from policies.model import Nested, Path, Role, Segment, UnreadablePart
from sidecar.codecs.json_strict import AmbiguousJsonError, Json, JsonError, read_json

NOTHING: Final[frozenset[str]] = frozenset()

OPAQUE_ANYWHERE: Final = frozenset({"signature", "thoughtSignature", "thought_signature", "cache_control"})
"""Never read, never changed, wherever they stand: the provider verifies or keys on their bytes."""

# Names that programmers choose are no text; names with spaces, `@`, non-ASCII or four digits in a row may be.
_TELLING_NAME: Final = re.compile(r"[^A-Za-z0-9_$./\-]|[0-9]{4}")

_TELLING_NUMBER: Final = 10_000
"""Integers in tool arguments from here on are shown to the policies: account, record and phone numbers."""


class Leaves:
    """The segments and unreadable parts of one body, in document order."""

    __slots__ = ("segments", "unreadable")

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.unreadable: dict[UnreadablePart, int] = {}

    def text(self, path: Path, role: Role, text: str) -> None:
        """One string."""
        self.segments.append(Segment(path, role, text))

    def cannot_read(self, kind: UnreadablePart) -> None:
        """One part that is no text."""
        self.unreadable[kind] = self.unreadable.get(kind, 0) + 1

    def walk(self, value: Json, path: Path, role: Role, opaque: frozenset[str] = NOTHING) -> None:
        """Every string at or below `value`, except those directly under an `opaque` name, and telling names."""
        match value:
            case str():
                self.segments.append(Segment(path, role, value))
            case dict():
                sealed = _sealed(value)
                for name, member in value.items():
                    if name in sealed or is_opaque(name) or (name in opaque and isinstance(member, str)):
                        continue
                    self._name(name, path, role)
                    if member.__class__ in _MAY_HOLD_TEXT:
                        self.walk(member, (*path, name), role, opaque)
            case list():
                for index, item in enumerate(value):
                    if item.__class__ in _MAY_HOLD_TEXT:
                        self.walk(item, (*path, index), role, opaque)
            case _:
                pass

    def tool_input(self, value: Json, path: Path, role: Role) -> None:
        """Everything at or below the input of a tool: no name is opaque here, long integers are text, too."""
        match value:
            case str():
                self.segments.append(Segment(path, role, value))
            case dict():
                for name, member in value.items():
                    self._name(name, path, role)
                    self.tool_input(member, (*path, name), role)
            case list():
                for index, item in enumerate(value):
                    self.tool_input(item, (*path, index), role)
            case bool():
                pass
            case int() if value >= _TELLING_NUMBER:
                self.segments.append(Segment(path, role, str(value)))
            case _:
                pass

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

    def _name(self, name: str, path: Path, role: Role) -> None:
        if _TELLING_NAME.search(name):
            self.segments.append(Segment((*path, name, Nested.KEY), role, name))


# Signed by the provider, which refuses to take them back changed; written by a model that saw tokens only.
_SIGNED: Final = {
    "thinking": ("signature", frozenset({"thinking"})),
    "redacted_thinking": ("data", frozenset({"data"})),
}
_MAY_HOLD_TEXT: Final[frozenset[type]] = frozenset({str, dict, list})


def is_opaque(name: str) -> bool:
    """Whether a member of this name is never text, wherever it stands."""
    return name in OPAQUE_ANYWHERE or name.startswith("encrypted_")


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
