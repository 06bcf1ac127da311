"""Tells which texts of a prompt may hold tokens, in any spelling, without reading them one by one.

A chat history of 30 KB with 90 values would be searched for 90 tags, most of all for nothing. One pass of the matcher
reports every name of a label with something like a tag behind it; only where that is the tag of a value that is on its
way out has the text to be read (`surface.surfaces`).
"""

import re
from bisect import bisect_right
from collections.abc import Container, Sequence
from functools import cache
from itertools import accumulate
from typing import Final

from policies.airlock.labels import Label
from policies.airlock.matcher import CASELESS, Database
from policies.airlock.tokens import SHORTEST_TAG

_SEPARATOR: Final = r"(?:\\?[-_ ]|\xe2\x80[\x90-\x95]|\xe2\x88\x92)"
"""As in `surface`, in bytes of UTF-8."""
_TAG: Final = re.compile(rb"[0-9A-Za-z]+")
_NAMED, _FOLDED = 0, 1
_LETTERS: Final = r"\xc4[\xb0\xb1]|\xc5\xbf|\xe2\x84\xaa"
"""Letters that are I, S and K to an expression that ignores case, but not to the matcher."""


def holding(texts: Sequence[str], tags: Container[str]) -> set[int]:
    """The places in `texts` of those that may hold a surface whose tag is in `tags`: all of them, and few others."""
    data = "\0".join(texts).encode("utf-8", "surrogatepass")
    starts: list[int] = []
    places = set()
    for end, kind in _database().scan(data):
        if kind == _NAMED:
            word = _TAG.match(data, end - SHORTEST_TAG)
            if word is None or word.group().upper().decode() not in tags:
                continue
        if not starts:  # most prompts hold none
            starts = [0, *accumulate(len(text.encode("utf-8", "surrogatepass")) + 1 for text in texts)]
        places.add(bisect_right(starts, end - 1) - 1)
    return places


@cache
def _database() -> Database:
    names = [label.replace("_", _SEPARATOR) for label in Label]
    surfaces = [(f"{name}{_SEPARATOR}[0-9A-Z]{{{SHORTEST_TAG}}}".encode(), _NAMED, CASELESS) for name in names]
    return Database([*surfaces, (_LETTERS.encode(), _FOLDED, 0)])
