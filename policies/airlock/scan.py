"""Finds identifiers in text: one pass of the matcher, a confirmation for every trigger, overlaps settled.

Cost is linear in the text and in what fired; both are capped, and past a cap the text counts as not inspected.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final, NamedTuple

from policies.airlock.config import Caps
from policies.airlock.labels import Label
from policies.airlock.matcher import DIGITS, NORMALISE, Matcher, matcher
from policies.airlock.normalise import normalise
from policies.airlock.recognizers.contact import FAX_REACH, is_fax
from policies.airlock.recognizers.dates import BIRTH_REACH, is_birth
from policies.airlock.recognizers.recognizer import Candidate, Rank
from policies.airlock.recognizers.tables import DELIMITERS, table
from policies.errors import CapExceededError


class Span(NamedTuple):
    """An identifier: `text[start:end]`, in code points."""

    start: int
    end: int
    label: Label


Events = list[tuple[int, int]]

_BEHIND_A_HEADER: Final = frozenset(DELIMITERS + ")\n")
"""What may stand behind a keyword that heads a column."""
_GAP: Final = b"\0"
"""Between texts that are scanned together, and at both ends: no trigger and no word reaches over it."""


class Scanner:
    """Finds identifiers. Immutable; may be used by several threads at once."""

    __slots__ = ("_caps", "_matcher")

    def __init__(self, caps: Caps | None = None, triggers: Matcher | None = None) -> None:
        self._caps = caps or Caps()
        self._matcher = triggers or matcher()

    def scan(self, text: str) -> list[Span]:
        """Every identifier of `text`, in order, none overlapping. Raises CapExceededError."""
        return self.scan_all([text])[0]

    def scan_all(self, texts: Sequence[str]) -> list[list[Span]]:
        """The same for several texts, in one pass of the matcher: they do not see each other."""
        caps = self._caps
        if sum(map(len, texts)) > caps.max_text:
            raise CapExceededError(f"the texts have more than {caps.max_text} characters")
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        data = _GAP + _GAP.join(encoded) + _GAP
        events = self._matcher.words(data)
        if not events:
            return [[] for _ in texts]
        if DIGITS in {trigger for _, trigger in events}:
            events += self._matcher.digits(data)
        if len(events) > 256 + len(data) * caps.max_candidates_per_kib // 1024:
            raise CapExceededError("too much of the text looks like identifiers to inspect it all")
        events.sort()
        if len(texts) == 1:
            return [self._settled(texts[0], encoded[0], [(end - 1, trigger) for end, trigger in events])]
        return [self._settled(text, *shared) for text, shared in zip(texts, _shares(encoded, events), strict=True)]

    def _settled(self, text: str, encoded: bytes, events: Events) -> list[Span]:
        if not events:
            return []
        damaged = NORMALISE in {trigger for _, trigger in events}
        found = (self._of_damaged if damaged else self._confirmed)(text, encoded, events)
        caps = self._caps
        if len(found) > caps.min_spans + len(text) * caps.max_spans_per_kib // 1024:
            raise CapExceededError("too many identifiers in one text")
        return merge(found)

    def _of_damaged(self, text: str, encoded: bytes, events: Events) -> list[Candidate]:
        """What is found in the normalised text, at the places of the original; and in the original, where undoing
        damage changed lengths: a wrong repair must never hide anything."""
        plain = normalise(text)
        found = [] if not plain.starts else self._confirmed(text, encoded, events)
        encoded = plain.text.encode("utf-8", "surrogatepass")
        data = _GAP + encoded + _GAP
        again = self._matcher.words(data) + self._matcher.digits(data)
        again.sort()
        for start, end, rank, label in self._confirmed(
            plain.text, encoded, [(end - 1, trigger) for end, trigger in again]
        ):
            found.append((*plain.original(start, end), rank, label))
        return found

    def _confirmed(self, text: str, encoded: bytes, events: Events) -> list[Candidate]:
        if len(encoded) != len(text):
            events = _in_characters(encoded, events)
        entries = self._matcher.entries
        found: list[Candidate] = []
        covered = tabled = 0
        for end, trigger in events:
            confirm, word, trailing = entries[trigger]
            before = len(found)
            if not word:
                if end <= covered:
                    continue  # inside what is settled: nothing it could be called would matter
                confirm(text, end, found)
            elif _is_whole_word(text, end - trailing - word, end - trailing):
                confirm(text, end - trailing, found)
                if end > tabled and text[end - trailing : end - trailing + 3].lstrip(" \"'`*")[:1] in _BEHIND_A_HEADER:
                    tabled = table(text, end - trailing, found)
            if len(found) > before and found[-1][2] >= Rank.CHECKED:
                covered = found[-1][1]
        return _in_context(text, found)


def _shares(encoded: Sequence[bytes], events: Events) -> list[tuple[bytes, Events]]:
    """Each text with its own events, at offsets of its own."""
    shares = []
    position = 0
    start = 1
    for part in encoded:
        own = []
        stop = start + len(part)
        while position < len(events) and events[position][0] <= stop + 1:
            own.append((min(events[position][0] - start, len(part)), events[position][1]))
            position += 1
        shares.append((part, own))
        start = stop + 1
    return shares


_CONTINUATION: Final = bytes(range(0x80, 0xC0))
"""Bytes of UTF-8 that begin no character."""


def _in_characters(encoded: bytes, events: Events) -> Events:
    """Byte offsets as code points, in one pass: events come in order."""
    counted = []
    done = characters = 0
    for end, trigger in events:
        if end > done:
            characters += len(encoded[done:end].translate(None, _CONTINUATION))
            done = end
        counted.append((characters, trigger))
    return counted


def _is_whole_word(text: str, start: int, end: int) -> bool:
    """Whether the keyword at `text[start:end]` is no part of a longer word. `patientName` has two words."""
    head, tail = text[start], text[end - 1]
    if start and head.isascii() and head.isalnum():
        before = text[start - 1]
        if before == "/" and text[start - 2 : start - 1] == "<":
            return False  # a closing tag announces nothing
        if before == "-" and text[end : end + 1].isdigit() and text[start - 2 : start - 1].isalnum():
            return False  # a group of a number: 4dea-dea9-92bc
        if before.isascii() and before.isalnum() and not (before.islower() and head.isupper()):
            return False
    if end < len(text) and tail.isascii() and tail.isalpha():
        after = text[end]
        if after.isascii() and after.isalpha() and not (tail.islower() and after.isupper()):
            return after in "sS" and not text[end + 1 : end + 2].isalpha()
    return True


def _in_context(text: str, found: list[Candidate]) -> list[Candidate]:
    """Dates of birth and fax numbers told from other dates and numbers by the words before them, which come as empty
    spans and are dropped; addresses end where something else begins."""
    if any(label is Label.ADDRESS for _, _, _, label in found):
        found = clipped_addresses(text, found)
    words = sorted(candidate for candidate in found if candidate[0] == candidate[1])
    if not words:
        return found
    births = [start for start, _, _, label in words if label is Label.DATE_OF_BIRTH]
    lines = [(start, label) for start, _, _, label in words if label is not Label.DATE_OF_BIRTH]
    faxed = any(label is Label.FAX for _, label in lines)
    settled = []
    for candidate in found:
        start, end, rank, label = candidate
        if start == end:
            continue
        if label is Label.DATE and births:
            word = bisect_right(births, start) - 1
            if is_birth(text, births[word] if word >= 0 else -BIRTH_REACH - 1, start, end):
                settled.append((start, end, Rank.KEYED, Label.DATE_OF_BIRTH))
                continue
        elif label is Label.PHONE and faxed:
            before = bisect_left(lines, (start, ""))
            word_end, kind = lines[before - 1] if before else (-1, Label.PHONE)
            if is_fax(text, kind is Label.FAX and start - word_end <= FAX_REACH, end):
                settled.append((start, end, rank, Label.FAX))
                continue
        settled.append(candidate)
    return settled


_ANNOUNCEMENT: Final = re.compile(r"[,;.]?\s*(?:[^\W\d_]+\W{1,3}){0,3}\Z")
_OF_AN_ADDRESS: Final = frozenset({Label.ADDRESS, Label.ZIP_CODE})


def clipped_addresses(text: str, found: list[Candidate]) -> list[Candidate]:
    """Addresses without what is surer and something else: a greedy `12 Rose Lane, Leeds, IBAN GB33...` ends before it
    and goes on behind it if there is a number left."""
    found = sorted(found, key=_position)
    clipped = []
    for i, (start, end, rank, label) in enumerate(found):
        if label is not Label.ADDRESS:
            clipped.append(found[i])
            continue
        first = start
        following = i + 1
        # An address is at most some 200 characters, which bounds what can begin in it.
        while following < len(found) and found[following][0] < end:
            inner_start, inner_end, inner_rank, inner = found[following]
            following += 1
            surer = inner_rank >= min(Rank.CHECKED, rank) and inner_start < inner_end
            if inner in _OF_AN_ADDRESS or not surer or inner_start < first:
                continue
            head = text[first:inner_start]
            head = head[: _last_part(head)]
            if any(char.isdigit() for char in head):
                clipped.append((first, first + len(head), rank, label))
            first = inner_end
        if first == start or any(char.isdigit() for char in text[first:end]):
            clipped.append((first, end, rank, label))
    return clipped


def _last_part(head: str) -> int:
    """Where the words end that belong to the address and not to what follows it."""
    announcement = _ANNOUNCEMENT.search(head)
    return announcement.start() if announcement else len(head)


def merge(found: list[Candidate]) -> list[Span]:
    """Spans that do not overlap and cover all that the candidates cover. The surer one names what overlaps; among
    equals, the longer one. O(n log n): no pair is compared that does not touch."""
    found.sort(key=_position)
    spans: list[Span] = []
    first, last, surest = 0, -1, (0, 0)
    name = Label.LITERAL
    for start, end, rank, label in found:
        sure = (rank, end - start)
        if start >= last:
            if last >= 0:
                spans.append(Span(first, last, name))
            first, last, surest, name = start, end, sure, label
            continue
        if end > last:
            last = end
        if sure > surest:
            surest, name = sure, label
    if last >= 0:
        spans.append(Span(first, last, name))
    return spans


def _position(candidate: Candidate) -> tuple[int, int]:
    return candidate[0], -candidate[1]
