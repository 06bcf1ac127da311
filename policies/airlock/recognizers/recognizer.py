"""How one kind of identifier is found: triggers that the matcher runs over everything, a confirmation in Python."""

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final

from policies.airlock.labels import Label


class Rank:
    """How sure a finding is; of two that overlap, the higher one names the span.

    Plain integers: members of an enumeration cost four times as much to reach and to compare, for every candidate.
    """

    HINT: Final = 10
    """A shape that many harmless things have."""
    SHAPE: Final = 30
    """A shape that is rarely anything else."""
    LIKELY: Final = 40
    """A shape beside a word that often announces it."""
    CHECKED: Final = 50
    """A shape with a check digit that fits."""
    KEYED: Final = 70
    """A keyword stands beside it and says what it is."""
    ENCLOSING: Final = 90
    """Something larger that the others are part of: a web address, a key block, a postal address."""
    QUOTED: Final = 100
    """Looks like one of our own tokens."""


Candidate = tuple[int, int, int, Label]
"""Start and end (exclusive) in code points, rank, kind. A plain tuple: thousands are made per prompt."""

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
    """Whether `shapes` need a text with digits in a row (`matcher.DIGITS`): the rest is spared from looking for them."""
    near: bool = False
    """Whether `words`, and `shapes` unless they need digits in a row, say something only near a digit: text without one
    is spared from looking for them."""
    apart: bool = False
    """Whether `words` say something only where neither letter nor digit follows, after one space at most."""


def touching(expression: re.Pattern[str], text: str, end: int, before: int, after: int) -> re.Match[str] | None:
    """The first match that begins before `end` and does not end before it, looked for in at most `before` characters
    up to there and `after` behind."""
    stop = end + after
    floor = end - before if end > before else 0
    # Most begin behind the last space; unless a digit stands before that, nothing begins earlier.
    start = text.rfind(" ", floor, end) + 1
    if start > 1 and not text[start - 2].isdigit():
        match = expression.match(text, start, stop)
        if match is not None and match.end() >= end:
            return match
    match = expression.search(text, floor, stop)
    while match is not None and match.end() < end:
        match = expression.search(text, match.end(), stop)
    return match if match is not None and match.start() < end else None


_DIGIT: Final = re.compile("[0-9]")


def from_digit(expression: re.Pattern[str], text: str, end: int, before: int, after: int) -> re.Match[str] | None:
    """The first match that begins with a number in the `before` characters up to `end` and does not end before that,
    looked for in `after` characters behind. A digit is found ten times as fast as what may not stand before it."""
    stop = end + after
    floor = end - before if end > before else 0
    # Most begin behind the last space; unless a digit stands before that, nothing begins earlier.
    start = text.rfind(" ", floor, end) + 1
    if start > 1 and text[start].isdigit() and not text[start - 2].isdigit():
        match = expression.match(text, start, stop)
        if match is not None and match.end() >= end:
            return match
    digit = _DIGIT.search(text, floor, end)
    while digit is not None:
        start = digit.start()
        if not text[start - 1 : start].isdigit():
            match = expression.match(text, start, stop)
            if match is not None and match.end() >= end:
                return match
        digit = _DIGIT.search(text, digit.end(), end)
    return None


def word_start(text: str, end: int, reach: int) -> int:
    """Where the unspaced run begins that holds `text[end - 1]`, at most `reach` characters before `end`."""
    floor = max(0, end - reach)
    return max(text.rfind(" ", floor, end - 1), text.rfind("\n", floor, end - 1), floor - 1) + 1


def digit_count(fewest: int, most: int = 64) -> re.Pattern[str]:
    """An expression whose `fullmatch` asks for that many digits, with anything between them; cheaper than counting."""
    return re.compile(rf"(?:\D*+\d){{{fewest},{most}}}+\D*+")


_VERSION_WORDS: Final = (
    "v",
    "ver",
    "version",
    "versions",
    "release",
    "build",
    "firmware",
    "section",
    "chapter",
    "clause",
    "§",
)


_VERSION_ENDS: Final = frozenset(
    {char for word in _VERSION_WORDS for char in word[-1] + word[-1].upper()} | set(" :.#=")
)


def is_version(text: str, start: int) -> bool:
    """Whether the word before `start` makes numbers with points a version or a section, no address and no date."""
    if text[start - 2 : start - 1] not in _VERSION_ENDS:
        return False
    before = text[max(0, start - 14) : start].rstrip(" :.#=").lower().split()
    return bool(before) and before[-1] in _VERSION_WORDS


def phrases(text: str) -> tuple[str, ...]:
    """The phrases of `text`, which `|` divides; line breaks count as spaces."""
    return tuple(" ".join(phrase.split()) for phrase in text.split("|"))


def words(text: str) -> tuple[str, ...]:
    """The words of `text`."""
    return tuple(text.split())


def trie(choices: Collection[str]) -> str:
    """An expression for any of `choices`, taken literally and with their case, that tries each first character once.
    Longer choices come first. Python tries alternatives one by one, and ten times slower when it must fold case."""
    branches = []
    for head in sorted({choice[0] for choice in choices if choice}):
        rest = trie([choice[1:] for choice in choices if choice[:1] == head])
        branches.append(re.escape(head) + rest)
    if not branches:
        return ""
    end = "?" if "" in choices else ""
    return branches[0] if len(branches) == 1 and not end else f"(?:{'|'.join(branches)}){end}"


def cased(choices: Iterable[str]) -> list[str]:
    """Words as people write them: lower case, capitalised, capitals."""
    return sorted({form for word in choices for form in (word, word.capitalize(), word.upper())})


def either(*words: str) -> str:
    """A regular expression for any of `words`, longest first, with the separators that triggers allow for a space."""
    forms = sorted(words, key=len, reverse=True)
    return "(?:" + "|".join(r"[\s_.-]{0,2}".join(map(re.escape, word.split(" "))) for word in forms) + ")"
