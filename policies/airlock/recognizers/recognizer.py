"""How one kind of identifier is found: triggers that the matcher runs over everything, a confirmation in Python."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from policies.airlock.labels import Label


class Rank(IntEnum):
    """How sure a finding is; of two that overlap, the higher one names the span."""

    HINT = 10
    """A shape that many harmless things have."""
    SHAPE = 30
    """A shape that is rarely anything else."""
    CHECKED = 50
    """A shape with a check digit that fits."""
    KEYED = 70
    """A keyword stands beside it and says what it is."""
    ENCLOSING = 90
    """Something larger that the others are part of: a web address, a key block, a postal address."""
    QUOTED = 100
    """Looks like one of our own tokens."""


Candidate = tuple[int, int, Rank, Label]
"""Start and end (exclusive) in code points, certainty, kind. A plain tuple: thousands are made per prompt."""

Confirm = Callable[[str, int, list[Candidate]], None]
"""`confirm(text, end, found)`: look around `end`, where a trigger ended, and append what is there. Must be linear in a
bounded window: its text is chosen by an attacker."""


@dataclass(frozen=True, slots=True)
class Recognizer:
    """What calls for a confirmation, and the confirmation. At least one trigger."""

    name: str
    confirm: Confirm
    shapes: tuple[str, ...] = ()
    """Expressions of the matcher: no look-around; they must end behind a whole character; every end offset fires, so
    a tail of variable length needs a word boundary."""
    words: tuple[str, ...] = ()
    """Keywords, in any ASCII case, with `_`, `-` or nothing for a space. They cost next to nothing however many."""
    caseless: bool = False
    """Whether `shapes` match in any ASCII case."""
    digits: bool = False
    """Whether `shapes` need a text with digits in a row (`scan.DIGITS`): the rest is spared from looking for them."""


def phrases(text: str) -> tuple[str, ...]:
    """The phrases of `text`, which `|` divides; line breaks count as spaces."""
    return tuple(" ".join(phrase.split()) for phrase in text.split("|"))


def either(*words: str) -> str:
    """A regular expression for any of `words`, longest first, with the separators that triggers allow for a space."""
    forms = sorted(words, key=len, reverse=True)
    return "(?:" + "|".join(r"[\s_.-]{0,2}".join(map(re.escape, word.split(" "))) for word in forms) + ")"
