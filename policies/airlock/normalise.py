"""Undoes what PDFs, chat windows, OCR and simple evasions do to identifiers, and remembers where everything stood.

`4111‑1111…` with no-break hyphens, digits of another script, zero-width characters, `&#64;`, `%40`, ` [at] `, `5 5 5`:
all become what a recogniser expects. Clean text never comes here: the markers that call for it are patterns of the
scan itself (`MARKERS`).

Limits: look-alike letters of other scripts (Cyrillic a for Latin a) stay, so do pictures of digits and spelled-out
numbers.
"""

import html
import re
import sys
import unicodedata
from bisect import bisect_right
from typing import Final, NamedTuple

ZERO_WIDTH: Final = "\u200b"
"""What every invisible character becomes before it is removed."""

_HYPHENS: Final = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"
_SPACES: Final = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
INVISIBLE: Final = (
    "\u00ad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e"
    "\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\ufeff"
)
_OTHER: Final = {"\u2024": ".", "\ufe52": ".", "\u2044": "/", "\u2215": "/", "\ufe6b": "@"}


def _same_length_table() -> dict[int, str]:
    table = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}  # full-width ASCII
    for code in range(0x80, sys.maxunicode + 1):
        digit = unicodedata.decimal(chr(code), None)
        if digit is not None:
            table[code] = str(digit)
    table.update(dict.fromkeys(map(ord, _HYPHENS), "-"))
    table.update(dict.fromkeys(map(ord, _SPACES), " "))
    table.update(dict.fromkeys(map(ord, INVISIBLE), ZERO_WIDTH))
    table.update({ord(char): plain for char, plain in _OTHER.items()})
    return table


_TABLE: Final = _same_length_table()

_SPACED_OUT: Final = r"(?=\s|[,;.!?)\]\"'](?:\s|$)|$)"
"""Behind one character of many that stand apart: white space, or the punctuation that ends the sentence."""
_REWRITES: Final = re.compile(
    r"(?P<gone>\u200b+)"
    r"|(?P<entity>&(?:#\d{2,6}|#[xX][0-9A-Fa-f]{2,5}|[A-Za-z]{2,8});)"
    r"|(?P<percent>%(?:2[0-9A-Fa-f]|3[0-9AaFf]|40|[cC]2%[aA]0))"
    r"|(?P<at>\s{0,3}[\[({<]\s?(?:at|AT|At|arroba|ät|chez)\s?[\])}>]\s{0,3}|(?<=\w)\s(?:at|AT)\s(?=[\w.-]+(?:\s(?:dot|DOT)\s|\.)\w))"
    r"|(?P<dot>\s{0,3}[\[({<]\s?(?:dot|DOT|Dot|punto|punkt|point|ponto)\s?[\])}>]\s{0,3}|(?<=\w)\s(?:dot|DOT)\s(?=\w))"
    r"|(?P<hyphen>(?<=[^\W_])-[ \t]{0,4}\r?\n[ \t]{0,4}(?=[^\W_]))"
    rf"|(?P<spaced>(?<![^\s=:(\"'\[])\S(?:(?: |   )\S{_SPACED_OUT}){{4,}}(?: |   )[^\W_]{_SPACED_OUT})"
)


class Normalised(NamedTuple):
    """A text as recognisers like it, and the way back to the offsets of the original."""

    text: str
    starts: list[int]
    """Offsets in `text` where a run begins; empty when every character stands where it stood."""
    origins: list[int]
    """Offset in the original of each run's first character."""
    copied: list[bool]
    """Whether a run was copied character by character; else it stands for the original up to the next run."""

    def original(self, start: int, end: int) -> tuple[int, int]:
        """The smallest span of the original that stands for `text[start:end]`, which is not empty."""
        if not self.starts:
            return start, end
        first = bisect_right(self.starts, start) - 1
        last = bisect_right(self.starts, end - 1) - 1
        begin = self.origins[first] + (start - self.starts[first] if self.copied[first] else 0)
        if self.copied[last]:
            return begin, self.origins[last] + end - self.starts[last]
        return begin, self.origins[last + 1]


def normalise(text: str) -> Normalised:
    """`text` with its damage undone. Linear in its length."""
    plain = text.translate(_TABLE)
    parts: list[str] = []
    starts: list[int] = []
    origins: list[int] = []
    copied: list[bool] = []
    length = done = 0
    for match in _REWRITES.finditer(plain):
        replacement = _replacement(match)
        if replacement is None:
            continue
        start, end = match.span()
        if start > done:
            starts.append(length)
            origins.append(done)
            copied.append(True)
            parts.append(plain[done:start])
            length += start - done
        if replacement:
            starts.append(length)
            origins.append(start)
            copied.append(False)
            parts.append(replacement)
            length += len(replacement)
        done = end
    if not done:
        return Normalised(plain, starts, origins, copied)
    parts.append(plain[done:])
    starts.append(length)
    origins.append(done)
    copied.append(True)
    return Normalised("".join(parts), starts, origins, copied)


def _replacement(match: re.Match[str]) -> str | None:
    """What stands in for a match, or None: it stays."""
    damaged = match.group()
    if damaged[0] == ZERO_WIDTH:
        return ""
    match match.lastgroup:
        case "entity":
            char = html.unescape(damaged)
            return None if char == damaged else char.translate(_TABLE).replace(ZERO_WIDTH, "")
        case "percent":
            return " " if len(damaged) > 3 else chr(int(damaged[1:], 16))
        case "at":
            return "@"
        case "dot":
            return "."
        case "hyphen":
            return "-"
        case _:
            return damaged.replace("   ", "\0").replace(" ", "").replace("\0", " ")
