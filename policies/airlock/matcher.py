"""Runs every trigger of every recogniser over a text in one linear pass, with Hyperscan.

Two databases: words and cheap shapes for everything, digit shapes only for texts in which digits stand in a row. No
start-of-match: it doubles the cost, and a confirmation looks back on its own.
"""

import re
import sys
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import hyperscan

from policies.airlock.normalise import INVISIBLE
from policies.airlock.recognizers import RECOGNIZERS
from policies.airlock.recognizers.recognizer import Confirm, Recognizer, phrases

NORMALISE: Final = 0
"""Event id: this text is damaged, see `normalise`."""
DIGITS: Final = 1
"""Event id: this text has digits in a row."""


Entry = tuple[Confirm, int, int]
"""What a trigger calls for: its confirmation, the characters of its keyword (0: it is a shape), and the characters that
it consumed behind the keyword. A plain tuple: it is taken apart for every event."""

# A keyword of up to four letters stands within many words ("tel" in "hotel"): the matcher must see its edges.
_SHORT: Final = 4
_LEFT: Final = r"[^A-Za-z0-9]"
_RIGHTS: Final = (r"""[\x00 :#="'._*\t\n,)(/0-9<>;|\]\[-]""", "：")

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


class Matcher:
    """Compiled triggers. Shared; may be used by several threads at once."""

    __slots__ = ("_digit_scratch", "_digits", "_word_scratch", "_words", "entries")

    def __init__(self, recognizers: Sequence[Recognizer] = RECOGNIZERS) -> None:
        self.entries: list[Entry] = [(_nothing, 0, 0), (_nothing, 0, 0)]
        words: list[tuple[bytes, int, int]] = []
        digits: list[tuple[bytes, int, int]] = []
        words += [(_bytes(shape), NORMALISE, 0) for shape in (*DAMAGE, *_digits_of_other_scripts())]
        words += [(_bytes(shape), DIGITS, hyperscan.HS_FLAG_SINGLEMATCH) for shape in _IN_A_ROW]
        digits += [(_bytes(shape), NORMALISE, 0) for shape in SPACED]
        for recognizer in recognizers:
            flags = hyperscan.HS_FLAG_CASELESS if recognizer.caseless else 0
            into = digits if recognizer.digits else words
            self.entries.append((recognizer.confirm, 0, 0))
            into += [(_bytes(shape), len(self.entries) - 1, flags) for shape in recognizer.shapes]
            for word in recognizer.words:
                words += self._word_triggers(recognizer, word)
        self._words, self._digits = _database(words), _database(digits)
        self._word_scratch: list[Any] = []
        self._digit_scratch: list[Any] = []

    def _word_triggers(self, recognizer: Recognizer, word: str) -> list[tuple[bytes, int, int]]:
        forms = {word} if word.isascii() else {word, word.capitalize(), word.upper(), word.title(), _unaccented(word)}
        spaced = {form.replace(" ", space) for form in forms for space in (" ", "_", "")}
        triggers = []
        for form in sorted(spaced):
            short = len(form) <= _SHORT and form.isascii()
            self.entries.append((recognizer.confirm, len(form), int(short)))
            rights = _RIGHTS if short else ("",)
            triggers += [
                (
                    f"{_LEFT if short else ''}{re.escape(form)}{right}".encode(),
                    len(self.entries) - 1,
                    hyperscan.HS_FLAG_CASELESS,
                )
                for right in rights
            ]
        return triggers

    def words(self, data: bytes) -> list[tuple[int, int]]:
        """(end, id) of every trigger for which no digits in a row are needed, unordered."""
        return _scan(self._words, self._word_scratch, data)

    def digits(self, data: bytes) -> list[tuple[int, int]]:
        """(end, id) of every digit shape, unordered."""
        return _scan(self._digits, self._digit_scratch, data)


def _unaccented(word: str) -> str:
    """As it is typed on a keyboard without accents; short words would become others."""
    plain = unicodedata.normalize("NFD", word).encode("ascii", "ignore").decode()
    return plain if len(plain) >= max(5, len(word)) else word


def _scan(database: Any, scratches: list[Any], data: bytes) -> list[tuple[int, int]]:
    # One scratch per scan in flight. `pop` and `append` of a list are atomic, so threads need no lock.
    scratch = scratches.pop() if scratches else hyperscan.Scratch(database)
    events: list[tuple[int, int]] = []
    try:
        database.scan(data, _on_match, 0, events, scratch)
    finally:
        scratches.append(scratch)
    return events


def _on_match(trigger: int, _start: int, end: int, _flags: int, events: list[tuple[int, int]]) -> None:
    events.append((end, trigger))


def _nothing(_text: str, _end: int, _found: list[Any]) -> None:
    """Markers of the scan itself confirm nothing."""


def _bytes(expression: str) -> bytes:
    return expression.encode()


def _database(triggers: list[tuple[bytes, int, int]]) -> Any:
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    expressions, ids, flags = zip(*triggers, strict=True)
    database.compile(expressions=list(expressions), ids=list(ids), flags=list(flags), elements=len(triggers))
    return database


@cache
def matcher() -> Matcher:
    """The one matcher of this process: it depends on nothing but the recognisers, and takes a while to compile."""
    return Matcher()
