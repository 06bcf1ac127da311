"""Runs every trigger of every recogniser over a text in one linear pass, with Hyperscan.

Three databases: what needs no digit, for everything; what says something only near a digit, around digits; shapes of
digits only in texts in which digits stand in a row. No start-of-match: it doubles the cost, and a confirmation looks
back on its own. A fourth one tells tables.
"""

import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, Final

import hyperscan

from policies.airlock.normalise import INVISIBLE
from policies.airlock.recognizers import RECOGNIZERS
from policies.airlock.recognizers.recognizer import Confirm, Recognizer, phrases
from policies.compiled import compiled

NORMALISE: Final = 0
"""Event id: this text is damaged, see `normalise`."""
DIGITS: Final = 1
"""Event id: this text has digits in a row."""

Event = tuple[int, int]
"""Where a trigger ended, in bytes, and its id."""


Trigger = tuple[bytes, int, int]
"""Expression, id, flags."""
_ONCE: Final = hyperscan.HS_FLAG_SINGLEMATCH
CASELESS: Final = hyperscan.HS_FLAG_CASELESS

Entry = tuple[Confirm, int, int]
"""What a trigger calls for: its confirmation, the characters of its keyword (0: it is a shape), and the characters that
it consumed behind the keyword. A plain tuple: it is taken apart for every event."""

# A keyword of up to four letters stands within many words ("tel" in "hotel"): the matcher must see its edges.
_SHORT: Final = 4
_LEFT: Final = r"[^A-Za-z0-9]"
_SHORT_RIGHTS: Final = ((r"""[\x00 :#="'._*\t\n,)(/0-9<>;|\]\[-]""", 1), ("：", 1))
_ANY_RIGHT: Final = (("", 0),)
_APART: Final = (("[^A-Za-z0-9 ]", 1), (" [^A-Za-z0-9]", 2))
"""What may stand behind a keyword, and how many characters that is."""

# What calls for `normalise.normalise`. Bytes of UTF-8: the matcher knows no characters.
_ODD: Final = (
    r"\xe2\x80[\x80-\x8a\x90-\x95\xa4\xaf]|\xe2\x81[\x84\x9f]|\xe2\x88\x92|\xef\xb9[\x98\xa3]|\xef\xbc[\x8d\x8e]|"
    r"\xc2\xa0|\xe3\x80\x80"
)
_ENTITIES: Final = phrases(
    "nbsp | commat | shy | hyphen | dash | ndash | minus | period | sol | lpar | rpar | plus | lowbar | colon | zwnj |"
    "zwj | thinsp | ensp | emsp | numsp"
)
DAMAGE: Final = (
    rf"[0-9](?:{_ODD})+[0-9A-Za-z(+]",
    rf"[A-Za-z+):.,/](?:{_ODD})+[0-9]",
    rf"@[0-9A-Za-z.-]*(?:{_ODD})[0-9A-Za-z]",
    rf"[A-Za-z0-9](?:{_ODD})[A-Za-z0-9.]*@",
    *INVISIBLE,  # as they are: a class around them makes the whole database a quarter slower
    r"\xef\xbc[\x90-\x99\xa0-\xba]|\xef\xbd[\x81-\x9a]",  # full-width digits, letters and @
    r"&#(?:[0-9]{2,6}|[xX][0-9A-Fa-f]{2,5});",
    *(rf"&{name};" for name in _ENTITIES),
    r"[0-9A-Za-z),.]%(?:2[0BbDdEeFf89]|40|3[0-9Aa])[0-9A-Za-z%(+-]|%2[Bb][0-9]",
    *(
        rf"\{opener}{space}{word}{space}\{closer}"
        for word in ("at", "AT", "At", "arroba", "dot", "DOT", "Dot", "punto", "punkt", "point", "ponto")
        for opener, closer in ("[]", "()", "{}", "<>")
        for space in ("", " ")
    ),
    r"[A-Za-z0-9] (?:dot|DOT) (?:com|org|net|edu|gov|io|co|de|fr|uk|us|es|it|ru|in)\b",
    r"[0-9A-Za-z]-[ \t]{0,4}\r?\n[ \t]{0,4}[0-9A-Za-z]",
    r"\S @ \S \S",
    r": : [0-9A-Fa-f]",
    r"[A-Za-z]   [0-9] |[0-9]   [A-Za-z] ",
)


def _digits_of_other_scripts() -> list[str]:
    """Triggers for every decimal digit outside ASCII."""
    heads: dict[bytes, list[int]] = {}
    for code in range(0x80, sys.maxunicode + 1):
        if unicodedata.decimal(chr(code), None) is not None and not 0xFF00 <= code <= 0xFFFF:
            encoded = chr(code).encode()
            heads.setdefault(encoded[:-1], []).append(encoded[-1])
    return [_hex(head) + "[" + _hex(bytes(tails)) + "]" for head, tails in heads.items()]


def _hex(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)


SPACED: Final = (r"\S \S \S \S \S \S", r"[0-9](?:(?: |   )[0-9]){3}")
"""Damage that only counts beside digits: `1 2 3 - 4 5`."""

# Superset of all shapes marked `digits`: six digits with thin separators, a numeric date, capitals beside digits.
_IN_A_ROW: Final = (
    r"(?:[0-9][ .\n()/-]{0,3}){5}[0-9]",
    r"[0-9][-/.] ?[0-9]{1,2}[-/.] ?[0-9]{2}",
    r"[A-Z][0-9]{2}",
    r"[0-9]\.[0-9]{1,3}\.[0-9]",
)


_CELLS: Final = (r"""[A-Za-z0-9_"'][,;][A-Za-z_"']""", r"[|\t] ?[A-Za-z\"*_`]", r"\)\s{1,3}VALUES")
"""Delimiters of header cells: prose has a space behind its commas. Tables written with spaces are small enough."""

_IN_TABLES: Final = 3
"""Digits of a text from which on it may be a table whose header announces numbers: shorter ones are none."""
_BLOCK: Final = 32 * 1024
"""Bytes of a long text that are asked at once whether they hold a digit."""
_FLAT: Final = bytes(ord("0") if ord("0") <= byte <= ord("9") else byte for byte in range(256))
_AHEAD: Final = 80
"""Bytes of a keyword, of filler and of a value up to its first digit; what is farther apart is not one thing."""
_BACK: Final = 64
"""The same for a value that stands before its keyword."""
_SPARSE: Final = 24
"""Bytes of text for every digit from which on it is worth looking around digits only."""
_SHAPE: Final = 64
"""Bytes of a digit shape without any digit, at its edges."""


class Matcher:
    """Compiled triggers. Shared; may be used by several threads at once."""

    __slots__ = ("_any_digit", "_digits", "_near", "_tables", "_words", "entries")

    def __init__(self, recognizers: Sequence[Recognizer] = RECOGNIZERS) -> None:
        self.entries: list[Entry] = [(_nothing, 0, 0)] * 2
        words: list[Trigger] = []
        near: list[Trigger] = []
        digits: list[Trigger] = []
        words += [(_bytes(shape), NORMALISE, _ONCE) for shape in (*DAMAGE, *_digits_of_other_scripts())]
        near += [(_bytes(shape), DIGITS, _ONCE) for shape in _IN_A_ROW]
        digits += [(_bytes(shape), NORMALISE, _ONCE) for shape in SPACED]
        for recognizer in recognizers:
            flags = CASELESS if recognizer.caseless else 0
            into = near if recognizer.near else words
            self.entries.append((recognizer.confirm, 0, 0))
            shapes = [(_bytes(shape), len(self.entries) - 1, flags) for shape in recognizer.shapes]
            (digits if recognizer.digits else into).extend(shapes)
            for word in recognizer.words:
                into += self._word_triggers(recognizer, word)
        self._words, self._near, self._digits = Database(words), Database(near), Database(digits)
        self._any_digit = Database([(b"[0-9]", 0, _ONCE)])
        self._tables = Database([(_bytes(shape), 0, _ONCE) for shape in _CELLS])

    def _word_triggers(self, recognizer: Recognizer, word: str) -> list[Trigger]:
        forms = {word} if word.isascii() else {word, word.capitalize(), word.upper(), word.title(), _unaccented(word)}
        spaced = {form.replace(" ", space) for form in forms for space in (" ", "_", "")}
        triggers = []
        for form in sorted(spaced):
            short = len(form) <= _SHORT and form.isascii()
            left = _LEFT if short else ""
            for right, characters in _APART if recognizer.apart else _SHORT_RIGHTS if short else _ANY_RIGHT:
                self.entries.append((recognizer.confirm, len(form), characters))
                expression = f"{left}{re.escape(form)}{right}".encode()
                triggers.append((expression, len(self.entries) - 1, CASELESS))
        return triggers

    @staticmethod
    def is_damaged(events: Sequence[Event]) -> bool:
        """Whether some of these call for `normalise`."""
        return NORMALISE in map(_id, events)

    def events(self, data: bytes) -> list[Event]:
        """Every trigger that fired, in order. `data` begins with a zero byte and ends with two."""
        events = self._words.scan(data)
        if len(data) <= _BLOCK:
            flat = data.translate(_FLAT)
            count = flat.count(b"0")
        else:
            flat, count = self._flattened(data)
        if count:
            first = flat.find(b"0")
            near = self._near_digits(data, flat, first, count)
            if DIGITS in map(_id, near):
                near += self._digits.scan_part(data, max(0, first - _SHAPE), flat.rfind(b"0") + _SHAPE)
            events += near
        events.sort()
        return events

    def _flattened(self, data: bytes) -> tuple[bytes, int]:
        """A long text with `0` for every digit, and how many these are."""
        # To ask a block whether it holds any takes an eighth of what it takes to translate and to count it.
        view = memoryview(data)
        blocks: list[bytes | memoryview] = []
        count = 0
        for start in range(0, len(data), _BLOCK):
            block = view[start : start + _BLOCK]
            if self._any_digit.scan(block):
                flat = bytes(block).translate(_FLAT)
                count += flat.count(b"0")
                blocks.append(flat)
            else:
                blocks.append(block)
        return b"".join(blocks) if count else data, count

    def _near_digits(self, data: bytes, flat: bytes, first: int, count: int) -> list[Event]:
        if count * _SPARSE > len(data) or (count >= _IN_TABLES and self._is_tabular(data)):
            return self._near.scan(data)
        events: list[Event] = []
        for start, end in _around_digits(flat, first):
            events += self._near.scan_part(data, start, end)
        return events

    def _is_tabular(self, data: bytes) -> bool:
        """Whether this text may hold a table, whose header may stand far from the digits below it."""
        return (b"\n" in data or b")" in data) and bool(self._tables.scan(data))


_id: Final = itemgetter(1)


def _around_digits(flat: bytes, first: int) -> Iterator[tuple[int, int]]:
    """Start and end of every part of a text that is near enough to a digit, in order and apart."""
    end = 0
    while first >= 0:
        start = max(end, first - _AHEAD)
        end = first + _BACK
        # Far enough that the next part, which begins before its digit, begins behind this one.
        while (last := flat.rfind(b"0", end - _BACK + 1, end + _AHEAD)) >= 0:
            end = last + _BACK
        yield start, end
        first = flat.find(b"0", end)


def _unaccented(word: str) -> str:
    """As it is typed on a keyboard without accents; short words would become others."""
    plain = unicodedata.normalize("NFD", word).encode("ascii", "ignore").decode()
    return plain if len(plain) >= max(5, len(word)) else word


class Database:
    """One compiled set of triggers."""

    __slots__ = ("_database", "_scratches")

    def __init__(self, triggers: Sequence[Trigger]) -> None:
        self._database: Any = compiled(triggers)
        self._scratches: list[Any] = []

    def scan(self, data: bytes | memoryview) -> list[Event]:
        """Every trigger that fires, unordered."""
        # One scratch per scan in flight. `pop` and `append` of a list are atomic, so threads need no lock.
        scratch = self._scratches.pop() if self._scratches else hyperscan.Scratch(self._database)
        events: list[Event] = []
        try:
            self._database.scan(data, _on_match, 0, events.append, scratch)
        finally:
            self._scratches.append(scratch)
        return events

    def scan_part(self, data: bytes, start: int, end: int) -> list[Event]:
        """The same for `data[start:end]`; offsets are those of `data`."""
        if start == 0 and end >= len(data):
            return self.scan(data)
        return [(position + start, trigger) for position, trigger in self.scan(data[start:end])]


def _on_match(trigger: int, _start: int, end: int, _flags: int, append: Callable[[Event], None]) -> None:
    append((end, trigger))


def _nothing(_text: str, _end: int, _found: list[Any]) -> None:
    """Markers of the scan itself confirm nothing."""


def _bytes(expression: str) -> bytes:
    return expression.encode()


@cache
def matcher() -> Matcher:
    """The one matcher of this process: it depends on nothing but the recognisers, and takes a while to compile."""
    return Matcher()
