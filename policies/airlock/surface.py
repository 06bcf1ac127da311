"""How models write tokens: as they were, and bent in the ways that were seen.

    [SSN-7K2Q9F]  [ssn_7k2q9f]  [DATE\\_OF\\_BIRTH\\-7K2Q9F]  <SSN-7K2Q9F>  &lt;SSN-7K2Q9F&gt;  [[SSN-7K2Q9F]]
    SSN 7K2Q9F

A surface is at most `LONGEST` characters: that bounds what a stream holds back. It ends where its letters and digits
end, so the character behind it must be seen first, and as many closing brackets as it has opening ones belong to it.
"""

import re
import string
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import Final

from policies.airlock.labels import Label
from policies.airlock.tokens import LONGEST_TAG, SHORTEST_TAG

LONGEST: Final = 40

_SEPARATOR: Final = r"(?:\\?[-_ ]|[\u2010-\u2015\u2212])"
_OPENERS: Final = {
    "square": (r"\\?\[", r"\\?\]"),
    "angle": (r"(?:<|&lt;|\\u003[cC])", r"(?:>|&gt;|\\u003[eE])"),
    "round": (r"\(", r"\)"),
    "curly": (r"\{", r"\}"),
    "white": ("⟦", "⟧"),
    "lenticular": ("【", "】"),
    "wide": ("［", "］"),
}
_NAMES: Final = sorted((label.replace("_", "-") for label in Label), key=len, reverse=True)
NAMES: Final = frozenset(_NAMES)
_NAME: Final = "|".join(name.replace("-", _SEPARATOR) for name in _NAMES)
_TAG: Final = rf"[0-9A-Za-z]{{{SHORTEST_TAG},{LONGEST_TAG}}}"

_OPEN: Final = "|".join(f"(?P<{family}>(?:{opener}){{1,2}})" for family, (opener, _) in _OPENERS.items())
_OPENER: Final = {family: re.compile(opener) for family, (opener, _) in _OPENERS.items()}
_CLOSER: Final = {family: re.compile(closer) for family, (_, closer) in _OPENERS.items()}
_CLOSER_BEGUN: Final = re.compile(r"(?:\\(?:u(?:0(?:0(?:3)?)?)?)?|&(?:g(?:t)?)?)\Z")
"""What may become a closing bracket of several characters."""
_ALNUM: Final = string.ascii_letters + string.digits
_ALNUMS: Final = frozenset(_ALNUM)
_WORD: Final = re.compile(rf"(?<![0-9A-Za-z]){_TAG}(?![0-9A-Za-z])")
_SEPARATORS: Final = re.compile(_SEPARATOR)


@cache
def _head(name: str) -> re.Pattern[str]:
    """Everything before the tag of a token with this name."""
    written = name.replace("-", _SEPARATOR)
    return re.compile(rf"(?:{_OPEN}|(?<![0-9A-Za-z]))(?P<name>{written}){_SEPARATOR}\Z", re.IGNORECASE)


_STRICT: Final = re.compile(
    rf"(?:\\?\[|<|&lt;|\\u003[cC]|\{{|⟦|【|［)(?:{_NAME})\\?[-_ ](?=[A-Za-z]{{0,12}}[0-9]|[0-9A-HJKMNP-TV-Z]{{6}})"
    rf"{_TAG}(?:\\?\]|>|&gt;|\\u003[eE]|\}}|⟧|】|］)",
    re.IGNORECASE,
)
"""Text that looks like one of our tokens, bracket and all."""


WRITTEN: Final = re.compile(rf"\[(([A-Z0-9-]{{3,{LONGEST}}})-([0-9A-Z]{{{SHORTEST_TAG},{LONGEST_TAG}}}))\]")
"""A token as we write it, if the second of its groups is one of `NAMES`: core, name, tag."""


Surface = tuple[int, int, str]
"""One token as a model wrote it: its span in the text, and its core. A plain tuple, as many are made per answer."""


def canonical(written: str) -> str:
    """Name and tag as a vault has them."""
    return _SEPARATORS.sub("-", written).upper()


_FEW: Final = 16
"""Tags that are sooner looked for one by one than in every word of the text."""
_UPPER: Final = {code: code - 32 for code in range(ord("a"), ord("z") + 1)}
_DOUBLED: Final = frozenset("[\\")
"""Characters that belong to a token if they stand before its bracket."""


def surfaces(text: str, start: int, cores: Mapping[str, Sequence[str]], *, whole: bool) -> tuple[list[Surface], int]:
    """The tokens of `text[start:]`, in order, that `cores` has by their tags; and where a surface begins that only the
    next characters can decide: `len(text)` if there is none, which is sure when the text is `whole`."""
    found: list[Surface] = []
    done = start
    for tag_start, tag in _tags(text, start, cores):
        for core in cores[tag]:
            begin = tag_start + len(tag) - len(core) - 1
            if begin >= done and text.startswith(f"[{core}]", begin) and text[begin - 1 : begin] not in _DOUBLED:
                done = begin + len(core) + 2
                found.append((begin, done, core))  # as it was sent, nine times in ten
                break
            surface = _bent(text, done, core, tag_start, tag_start + len(tag), whole)
            if surface is None:
                continue
            begin, end, decided = surface
            if not decided:
                return found, begin
            if end - begin <= LONGEST:
                found.append((begin, end, core))
                done = end
                break
    return found, len(text)


def _tags(text: str, start: int, tags: Collection[str]) -> list[tuple[int, str]]:
    """Where the words of `text[start:]` begin that are among `tags` in any case, in order."""
    if len(tags) > _FEW:
        words = [(word.start(), word.group().upper()) for word in _WORD.finditer(text, start)]
        return [(begin, tag) for begin, tag in words if tag in tags]
    found = []
    folded = text.upper()
    plain = text.isascii()
    if not plain and len(folded) != len(text):
        folded = text.translate(_UPPER)  # it has a letter whose capital is two, as in German
    for tag in tags:
        begin = folded.find(tag, start)
        while begin >= 0:
            end = begin + len(tag)
            whole = text[begin - 1 : begin] not in _ALNUMS and text[end : end + 1] not in _ALNUMS
            if whole and (plain or text[begin:end].isascii()):
                found.append((begin, tag))
            begin = folded.find(tag, end)
    found.sort()
    return found


def _bent(text: str, floor: int, core: str, tag: int, end: int, whole: bool) -> tuple[int, int, bool] | None:
    """Start and end of the token with this core whose tag is `text[tag:end]`, however it is written, from `floor` on,
    and whether the text decides that. None: it is no token."""
    name = core[: tag - end - 1]
    head = _head(name).search(text, max(floor, tag - LONGEST), tag)
    if head is None:
        return None
    start = head.start()
    family = next((family for family in _OPENERS if head[family]), None)
    if family is None:
        # Nothing to close, but the tag may go on.
        return start, end, whole or end < len(text)
    opened = list(_OPENER[family].finditer(text, start, head.start("name")))
    closed = 0
    while closed < len(opened):
        closer = _CLOSER[family].match(text, end)
        if closer is None:
            if not whole and (end == len(text) or _CLOSER_BEGUN.match(text, end)):
                return start, end, False
            break
        end = closer.end()
        closed += 1
    # Unmatched round or curly brackets are the text's own; a lone square one is what is left of a token's.
    stripped = max(closed, 1) if family == "square" else closed
    if stripped < len(opened):
        start = opened[len(opened) - stripped].start() if stripped else head.start("name")
    return start, end, True


def _beginnings(names: list[str]) -> str:
    """An expression for every beginning of a name, a separator and a tag, up to the end of the text: a tree, so that
    it is tried once however many names there are."""
    choices = [r"\Z"]
    for head in sorted({name[0] for name in names if name}):
        rest = _beginnings([name[1:] for name in names if name[:1] == head])
        choices.append(rf"(?:{_SEPARATOR}{rest}|\\\Z)" if head == "-" else head + rest)
    if "" in names:
        choices.append(rf"(?:{_SEPARATOR}[0-9A-Za-z]{{0,{LONGEST_TAG}}}\Z|\\\Z)")
    return f"(?:{'|'.join(choices)})"


_ANY_OPENER: Final = "(?:" + "|".join(opener for opener, _ in _OPENERS.values()) + ")"
_BEGUN: Final = re.compile(
    rf"(?:{_ANY_OPENER}{{1,2}}|(?<![0-9A-Za-z])(?=[A-Za-z]))(?P<name>{_beginnings(_NAMES)})"
    r"|(?:\\(?:u(?:0(?:0(?:3)?)?)?)?|&(?:l(?:t)?)?)\Z",
    re.IGNORECASE,
)
_ENDS: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 -_\\[<&;({⟦【［"
    "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
)
"""Characters that a surface can break off behind."""


def begun(text: str, start: int, known: Callable[[str], bool]) -> int:
    """Where the longest end of `text[start:]` begins that may still become a surface; `len(text)`: nowhere. `known`
    tells whether a token begins with these characters."""
    end = len(text)
    if end == start or text[-1] not in _ENDS:
        return end
    position = max(start, end - LONGEST + 1)
    while (match := _BEGUN.search(text, position)) is not None:
        name = match["name"]
        if not name or known(canonical(name.rstrip("\\"))):
            return match.start()
        position = match.start() + 1
    return end


_PARTS: Final = frozenset(part for name in _NAMES for part in name.split("-"))
_PART_BEGINNINGS: Final = frozenset(part[:size] for part in _PARTS for size in range(1, len(part) + 1))
_FOLDED: Final = frozenset("\u0130\u0131\u017f\u212a")
"""Characters that are not ASCII and yet the letters I, S and K to an expression that ignores case."""
_UNCLEAR: Final = _ENDS - frozenset(_ALNUM + " -_")
"""Characters at the end of a piece behind which a surface may have begun, whatever stands before them."""
_SHORTEST: Final = min(map(len, _NAMES)) + 1 + SHORTEST_TAG
"""Characters of the shortest surface: a name, a separator and a tag."""


def is_inert(piece: str, tags: Collection[str]) -> bool:
    """Whether `piece` certainly neither holds a surface whose tag is in `tags` nor ends in the beginning of one, if
    none had begun before it. In doubt it is not: a few look-ups settle most of an answer, in place of `surfaces` and
    `begun`."""
    if not piece.isascii() and not _FOLDED.isdisjoint(piece):
        return False
    if len(piece) >= _SHORTEST:
        if holds_a_tag(piece, tags):
            return False
        if len(piece) > LONGEST:
            piece = piece[-LONGEST:]
    before = piece.rstrip(_ALNUM)
    size = len(before)
    closing = before[-1:]  # nothing, if all of the piece is a word: then that word must be the beginning of a name
    if size < len(piece):
        if piece[size:].upper() in _PART_BEGINNINGS:
            return False
        if closing in _ESCAPING:
            return False  # an escaped bracket may be in the making
        # Else the word can only be the beginning of a tag, which stands behind a part of a name and a separator.
        return size < 2 or closing not in _SEPARATING or not _ends_in_a_part(before)
    return closing not in _UNCLEAR and (closing not in "-_ " or not _ends_in_a_part(before))


_ESCAPING: Final = frozenset("\\&")
_SEPARATING: Final = frozenset(" -_\u2010\u2011\u2012\u2013\u2014\u2015\u2212")


def sent(piece: str, before: str, cores: Mapping[str, Sequence[str]]) -> Surface | None:
    """The one surface of `piece`, if it stands there as it was sent and everything around it is inert; None: look
    closer. `before` is the character before the piece."""
    found = WRITTEN.search(piece)
    if found is None or cores.get(found[3]) != (found[1],):
        return None
    start, end = found.span()
    if (piece[start - 1] if start else before) in _DOUBLED:
        return None
    if (start and not is_inert(piece[:start], cores)) or (end < len(piece) and not is_inert(piece[end:], cores)):
        return None
    return start, end, found[1]


def _ends_in_a_part(text: str) -> bool:
    """Whether a part of a name may stand before the separator that ends `text`."""
    text = text[:-1].rstrip("\\")
    before = text.rstrip(_ALNUM)
    return text[len(before) :].upper() in _PARTS or before[-1:] == "\\"  # \u003cSSN: letters stand before the name


def holds_a_tag(text: str, tags: Collection[str]) -> bool:
    """Whether any of `tags` may stand in `text`, in any case: all surfaces are found, and few other words."""
    if len(tags) > _FEW:
        return any(word.upper() in tags for word in _WORD.findall(text))
    folded = text.upper()
    for tag in tags:  # noqa: SIM110 a generator would cost as much again
        if tag in folded:
            return True
    return False


def lookalike(text: str, start: int, within: int) -> tuple[int, int] | None:
    """The span of `text[start:]` that holds `within` and looks like a token, brackets included, whether or not anybody
    issued it."""
    for match in _STRICT.finditer(text, start, within + LONGEST):
        if match.start() < within <= match.end():
            return match.span()
    return None
