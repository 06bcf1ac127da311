"""Finds identifiers in text: one pass of the matcher, a confirmation for every trigger, overlaps settled.

Cost is linear in the text and in what fired; both are capped, and past a cap the text counts as not inspected.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from policies.airlock.config import Caps
from policies.airlock.labels import Label
from policies.airlock.matcher import DIGITS, NORMALISE, Matcher, matcher
from policies.airlock.normalise import normalise
from policies.airlock.recognizers.contact import is_fax
from policies.airlock.recognizers.dates import is_birth
from policies.airlock.recognizers.recognizer import Candidate, Rank
from policies.errors import CapExceededError


class Span(NamedTuple):
    """An identifier: `text[start:end]`, in code points."""

    start: int
    end: int
    label: Label


Events = list[tuple[int, int]]

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
        if any(trigger == DIGITS for _, trigger in events):
            events += self._matcher.digits(data)
        if len(events) > 256 + len(data) * caps.max_candidates_per_kib // 1024:
            raise CapExceededError("too much of the text looks like identifiers to inspect it all")
        events.sort()
        return [self._settled(text, *shared) for text, shared in zip(texts, _shares(encoded, events), strict=True)]

    def _settled(self, text: str, encoded: bytes, events: Events) -> list[Span]:
        if not events:
            return []
        damaged = any(trigger == NORMALISE for _, trigger in events)
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
        for end, trigger in events:
            confirm, word, trailing = entries[trigger]
            if not word:
                confirm(text, end, found)
            elif trailing:
                confirm(text, end - trailing, found)
            elif _is_whole_word(text, end - word, end):
                confirm(text, end, found)
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


def _in_characters(encoded: bytes, events: Events) -> Events:
    """Byte offsets as code points, in one pass: events come in order."""
    counted = []
    done = characters = 0
    for end, trigger in events:
        if end > done:
            # Triggers end behind whole characters; "ignore" only keeps a wrong one from raising.
            characters += len(encoded[done:end].decode("utf-8", "ignore"))
            done = end
        counted.append((characters, trigger))
    return counted


def _is_whole_word(text: str, start: int, end: int) -> bool:
    """Whether the keyword at `text[start:end]` is no part of a longer word. `patientName` has two words."""
    head, tail = text[start], text[end - 1]
    if start and head.isascii() and head.isalnum():
        before = text[start - 1]
        if before.isascii() and before.isalnum() and not (before.islower() and head.isupper()):
            return False
    if end < len(text) and tail.isascii() and tail.isalpha():
        after = text[end]
        if after.isascii() and after.isalpha() and not (tail.islower() and after.isupper()):
            return after in "sS" and not text[end + 1 : end + 2].isalpha()
    return True


def _in_context(text: str, found: list[Candidate]) -> list[Candidate]:
    """Dates of birth and fax numbers told from other dates and numbers; what only announced them is dropped."""
    announced = {label for start, end, _, label in found if start == end}
    if not announced:
        return found
    births, faxes = Label.DATE_OF_BIRTH in announced, Label.FAX in announced
    settled = []
    for candidate in found:
        start, end, rank, label = candidate
        if births and label is Label.DATE and is_birth(text, start, end):
            settled.append((start, end, Rank.KEYED, Label.DATE_OF_BIRTH))
        elif faxes and label is Label.PHONE and is_fax(text, start, end):
            settled.append((start, end, rank, Label.FAX))
        elif start < end:
            settled.append(candidate)
    return settled


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
