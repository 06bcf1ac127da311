"""Finds identifiers in text: one pass of the matcher, a confirmation for every trigger, overlaps settled.

Cost is linear in the text and in what fired; both are capped, and past a cap the text counts as not inspected.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from policies.airlock.config import Caps
from policies.airlock.labels import Label
from policies.airlock.matcher import Event, matcher
from policies.airlock.memory import SHORTEST, Span, SpanMemory
from policies.airlock.normalise import normalise
from policies.airlock.recognizers.contact import FAX_REACH, is_fax
from policies.airlock.recognizers.dates import BIRTH_REACH, is_birth
from policies.airlock.recognizers.recognizer import Candidate, Confirm, Rank
from policies.airlock.recognizers.tables import DELIMITERS, table
from policies.errors import CapExceededError

# Looked up once: reaching a member of an enumeration costs more than a comparison, and these are compared for every
# candidate.
_ADDRESS, _BIRTH, _DATE, _FAX, _PHONE = Label.ADDRESS, Label.DATE_OF_BIRTH, Label.DATE, Label.FAX, Label.PHONE
_SETTLED: Final = Rank.CHECKED
"""From this rank on, shapes within a finding are not looked at any more."""

_BEFORE: Final = frozenset(" \n\t\0\"'([{,;|>=")
_BEHIND: Final = frozenset(" \n\t\0\"')]},:;.#=|<")
"""Characters before and behind a keyword that need no second look: it is a word of its own."""
_DRESSING: Final = " \"'`*_.[]"
_DELIMITING: Final = frozenset(DELIMITERS + ")\n\"'`*_.]")
"""Characters that stand behind the keyword if it heads a column; or behind one more."""
_NOTHING: Final[list[Span]] = []
"""Found in a text that fires no trigger. Nobody changes what a scan returns."""


class Scanner:
    """Finds identifiers. Immutable; may be used by several threads at once."""

    __slots__ = ("_caps", "_matcher", "_memory")

    def __init__(self, caps: Caps | None = None, memory: SpanMemory | None = None) -> None:
        self._caps = caps or Caps()
        self._matcher = matcher()
        self._memory = memory

    def scan(self, text: str) -> list[Span]:
        """Every identifier of `text`, in order, none overlapping. Raises CapExceededError."""
        return self.scan_all([text])[0]

    def scan_all(self, texts: Sequence[str]) -> list[list[Span]]:
        """The same for several texts, which do not see each other. What was seen before is remembered."""
        if sum(map(len, texts)) > self._caps.max_text:
            raise CapExceededError(f"the texts have more than {self._caps.max_text} characters")
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        if self._memory is None or len(texts) < 2:
            return self._scanned(texts, encoded)
        return self._recalled(self._memory, texts, encoded)

    def _recalled(self, memory: SpanMemory, texts: Sequence[str], encoded: Sequence[bytes]) -> list[list[Span]]:
        results: list[list[Span]] = []
        new: list[int] = []
        names: list[bytes | None] = []
        for place, part in enumerate(encoded):
            name = memory.digest(part) if len(part) >= SHORTEST else None
            spans = memory.recall(name) if name else None
            if spans is None:
                new.append(place)
                names.append(name)
                spans = _NOTHING
            results.append(spans)
        if new:
            scanned = self._scanned([texts[i] for i in new], [encoded[i] for i in new])
            for place, name, spans in zip(new, names, scanned, strict=True):
                results[place] = spans
                if name:
                    memory.remember(name, spans)
        return self._bounded(results)

    def _scanned(self, texts: Sequence[str], encoded: Sequence[bytes]) -> list[list[Span]]:
        # Zero bytes between the texts and at both ends: no word and no number reaches over them, and triggers find the
        # one before and the two behind that some of them ask for.
        data = b"\0\0".join((b"", *encoded, b""))
        events = self._matcher.events(data)
        if not events:
            return [_NOTHING] * len(texts)
        if len(events) > 256 + len(data) * self._caps.max_candidates_per_kib // 1024:
            raise CapExceededError("too much of the text looks like identifiers to inspect it all")
        damaged = self._matcher.is_damaged(events)
        if len(texts) == 1:
            found = (self._of_damaged if damaged else self._confirmed)(texts[0], encoded[0], events, 2)
            return self._bounded([merge(found)])
        if damaged:
            # Damage is told once a scan, not once a text.
            return self._bounded(self._scanned([text], [part])[0] for text, part in zip(texts, encoded, strict=True))
        return self._bounded(self._settled(texts, encoded, events))

    def _settled(self, texts: Sequence[str], encoded: Sequence[bytes], events: Sequence[Event]) -> Iterator[list[Span]]:
        start, first = 2, 0
        for text, part in zip(texts, encoded, strict=True):
            last = bisect_left(events, (start + len(part) + 3, 0), first)
            found = self._confirmed(text, part, events[first:last], start) if last > first else None
            yield merge(found) if found else _NOTHING
            start, first = start + len(part) + 2, last

    def _bounded(self, results: Iterable[list[Span]]) -> list[list[Span]]:
        """All of them. Raises CapExceededError as soon as they are too many together."""
        bounded = []
        total = 0
        for spans in results:
            total += len(spans)
            if total > self._caps.max_spans:
                raise CapExceededError(f"more than {self._caps.max_spans} identifiers in one prompt")
            bounded.append(spans)
        return bounded

    def _of_damaged(self, text: str, encoded: bytes, events: Sequence[Event], origin: int) -> list[Candidate]:
        """What is found in the normalised text, at the places of the original; and in the original, where undoing
        damage changed lengths: a wrong repair must never hide anything."""
        plain = normalise(text)
        found = self._confirmed(text, encoded, events, origin) if plain.starts else []
        encoded = plain.text.encode("utf-8", "surrogatepass")
        again = self._matcher.events(b"\0%b\0\0" % encoded)
        for start, end, rank, label in self._confirmed(plain.text, encoded, again, 1):
            found.append((*plain.original(start, end), rank, label))
        return found

    def _confirmed(self, text: str, encoded: bytes, events: Sequence[Event], origin: int) -> list[Candidate]:
        """What confirmations find. Offsets of `events` count from `origin` bytes before the text."""
        if len(encoded) != len(text):
            events, origin = _in_characters(encoded, events, origin), 0
        entries = self._matcher.entries
        found: list[Candidate] = []
        count = covered = tabled = value_end = 0
        latest: Confirm | None = None
        asked: Confirm | None = None
        asked_at = -1
        size, caps = len(text), self._caps
        edged = f"\0{text}\0\0"
        # Attempts to read a table: each may look at a line of some thousand characters.
        tables = 16 + size // 1024 if "\n" in text or ")" in text else 0
        # Several candidates may turn out to be one identifier.
        most = min(caps.min_spans + size * caps.max_spans_per_kib // 1024, 4 * caps.max_spans)
        for position, trigger in events:
            confirm, word, trailing = entries[trigger]
            # A trigger may take characters behind its keyword, and zero bytes behind the text.
            end = position - origin - trailing
            if end > size:
                end = size
            if end <= value_end and confirm is latest:
                continue  # just found by this recogniser: "account" in "account number" led to the value already
            if not word:
                if end <= covered:
                    continue  # inside what is settled: nothing it could be called would matter
                confirm(text, end, found)
            else:
                behind = edged[end + 1]
                if (behind not in _BEHIND or edged[end - word] not in _BEFORE) and not _is_whole_word(
                    text, end - word, end
                ):
                    continue
                if end != asked_at or confirm is not asked:  # "policy" in "insurance policy" asks the same
                    asked, asked_at = confirm, end
                    confirm(text, end, found)
                may_head = tables and end > tabled and (behind in _DELIMITING or edged[end + 2] in _DELIMITING)
                if may_head and _heads_a_column(text, end - word, end):
                    tabled = table(text, end, found)
                    tables -= 1
            if len(found) > count:
                count = len(found)
                if count > most:
                    raise CapExceededError("too many identifiers in one text")
                _, value_end, rank, _ = found[-1]
                latest = confirm
                if rank >= _SETTLED:
                    covered = value_end
        return _in_context(text, found)


_CONTINUATION: Final = bytes(range(0x80, 0xC0))
"""Bytes of UTF-8 that begin no character."""


def _in_characters(encoded: bytes, events: Sequence[Event], origin: int) -> list[Event]:
    """Byte offsets as code points of the text itself, in one pass: events come in order."""
    counted = []
    done = characters = 0
    for position, trigger in events:
        end = position - origin
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


def _heads_a_column(text: str, start: int, end: int) -> bool:
    """Whether a delimiter or the line's edge stands on both sides of the keyword: it may be a header cell."""
    behind = text[end : end + 3].lstrip(_DRESSING)
    if not behind or (behind[0] not in DELIMITERS and behind[0] not in ")\n"):
        return False
    before = text[max(0, start - 3) : start].rstrip(_DRESSING)
    return not before or before[-1] in DELIMITERS or before[-1] in "(\n"


def _in_context(text: str, found: list[Candidate]) -> list[Candidate]:
    """Dates of birth and fax numbers told from other dates and numbers by the words before them, which come as empty
    spans and are dropped; addresses end where something else begins."""
    births: list[int] = []
    lines: list[tuple[int, Label]] = []
    settled: list[Candidate] = []
    dates: list[int] = []
    numbers: list[int] = []
    faxed = addressed = False
    for candidate in found:
        start, end, _, label = candidate
        if start < end:
            if label is _DATE:
                dates.append(len(settled))
            elif label is _PHONE:
                numbers.append(len(settled))
            elif label is _ADDRESS:
                addressed = True
            settled.append(candidate)
        elif label is _BIRTH:
            births.append(start)
        else:
            lines.append((start, label))
            faxed = faxed or label is _FAX
    # Announcements came in the order of the text.
    if births:
        for i in dates:
            start, end, _, _ = settled[i]
            before = bisect_right(births, start) - 1
            if is_birth(text, births[before] if before >= 0 else -BIRTH_REACH - 1, start, end):
                settled[i] = (start, end, Rank.KEYED, _BIRTH)
    if faxed:
        for i in numbers:
            start, end, rank, _ = settled[i]
            before = bisect_left(lines, (start, "")) - 1
            word_end, kind = lines[before] if before >= 0 else (start, _PHONE)
            if is_fax(text, kind is _FAX and start - word_end <= FAX_REACH, end):
                settled[i] = (start, end, rank, _FAX)
    return clipped_addresses(text, settled) if addressed else settled


_ANNOUNCEMENT: Final = re.compile(r"[,;.]?\s*(?:[^\W\d_]+\W{1,3}){0,3}\Z")
_OF_AN_ADDRESS: Final = frozenset({Label.ADDRESS, Label.ZIP_CODE})


def clipped_addresses(text: str, found: list[Candidate]) -> list[Candidate]:
    """Addresses without what is surer and something else: a greedy `12 Rose Lane, Leeds, IBAN GB33...` ends before it
    and goes on behind it if there is a number left."""
    found = sorted(found)
    clipped = []
    for i, (start, end, rank, label) in enumerate(found):
        if label is not _ADDRESS:
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
    found.sort()
    spans: list[Span] = []
    last = surest = length = -1
    first, name = 0, Label.LITERAL
    for start, end, rank, label in found:
        if start >= last:
            if last >= 0:
                spans.append(_span(Span, (first, last, name)))
            first, last, surest, length, name = start, end, rank, end - start, label
            continue
        if end > last:
            last = end
        if rank > surest or (rank == surest and end - start > length):
            surest, length, name = rank, end - start, label
    if last >= 0:
        spans.append(_span(Span, (first, last, name)))
    return spans


_span: Final = tuple.__new__  # what the constructor of a named tuple calls, from Python
