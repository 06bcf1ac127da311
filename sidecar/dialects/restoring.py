"""Answers that policies read and change: streams event by event, JSON bodies as a whole.

A stream keeps its cadence: one event in, one event out, with the text that may be released so far, perhaps none. What
was held back to the end of a channel goes out in an extra event of the dialect's own before the event that ends it.
Only the changed strings are rewritten. A piece that arrived cannot be taken back: a refusal ends the stream.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from policies.model import Channel, Path
from sidecar.codecs.json_replace import rewritten
from sidecar.codecs.json_splice import locate, replacements, splice, value_end, written
from sidecar.codecs.json_strict import Json, JsonError, read_json_with_lone_surrogates
from sidecar.codecs.sse import Data, EventTooLargeError, Splitter, event_data, with_data
from sidecar.dialects.cited import CitedDocuments, Quote
from sidecar.dialects.dialect import MalformedAnswerError, Observed, Restore
from sidecar.dialects.lanes import Lane, Lanes, whole
from sidecar.dialects.observing import Notes
from sidecar.dialects.provider_errors import without_credentials
from sidecar.dialects.templates import NumberedTemplate, Template

MAX_ANSWER: Final = 64 * 1024 * 1024
"""Bytes of a JSON answer that is read as a whole."""

_MAX_TEMPLATES: Final = 8
"""Shapes of events remembered at a time: choices and parallel tool calls interleave."""

_TRIAL_TEMPLATES: Final = 16
"""Shapes that are learnt before it must pay: a server that puts a counter into every event would cost us dearly."""


class Texts:
    """What one event (or body) holds for the policies."""

    # No dataclass: one with lists of its own for each costs three times as much, and there is one for every event.
    __slots__ = ("ended", "ends", "ends_all", "number", "offsets", "pieces", "quotes", "wholes")

    def __init__(self, *, number: int | None = None, ends_all: bool = False) -> None:
        self.pieces: list[tuple[Path, Lane, str]] = []
        """Text that continues a channel."""
        self.wholes: list[tuple[Path, Channel, str]] = []
        """Text that comes in one piece and is a channel of its own."""
        self.ends: list[int] = []
        """Positions whose channels all end with this event."""
        self.ends_all = ends_all
        """Every channel ends with this event."""
        self.ended: list[Lane] = []
        """Channels that end with this event while others of their position may go on."""
        self.number = number
        """The `sequence_number` of this event, if its dialect counts events: extra ones push it up."""
        self.offsets: list[tuple[Path, Channel, int, bool]] = []
        """Numbers that count characters of a channel's text, and whether they are the end of a range."""
        self.quotes: list[Quote] = []
        """Citations that count characters of a document of the prompt; their text is one of the `wholes`."""

    @property
    def is_one_delta(self) -> bool:
        """Whether there is one piece of one channel and nothing else."""
        return len(self.pieces) == 1 and not (self.wholes or self.offsets or self.ends or self.ends_all or self.ended)


class StreamShape(Protocol):
    """Where a dialect's events keep their text. One per answer; it may remember what came before."""

    def is_end(self, data: bytes) -> bool:
        """Whether this is the end of the answer and no JSON (`[DONE]`)."""

    def read(self, event: Mapping[str, Json], lanes: Lanes) -> Texts:
        """The text of one event."""

    def extra_event(self, lane: Lane, text: str, number: int) -> bytes:
        """An event that carries `text` on a lane and nothing else. `number`: its `sequence_number`, if events of this
        dialect have one."""


class BodyShape(Protocol):
    """Where a dialect's JSON answer keeps its text."""

    def read(self, body: Mapping[str, Json]) -> Texts:
        """Every text of a whole answer; all of it as `wholes`."""


class RestoringStream:
    """A stream that policies change on its way."""

    __slots__ = (
        "_cited",
        "_extras",
        "_hits",
        "_is_between",
        "_lanes",
        "_learnt",
        "_notes",
        "_number",
        "_released",
        "_shape",
        "_splitter",
        "_templates",
        "observed",
    )

    def __init__(self, notes: Notes, shape: StreamShape, restore: Restore, cited: CitedDocuments | None) -> None:
        self.observed = Observed()
        self._cited = cited
        self._notes = notes
        self._shape = shape
        self._lanes = Lanes(restore)
        self._splitter = Splitter()
        self._released: list[bytes] = []
        """What may go out but has not been returned yet; survives an exception, for `break_off`."""
        self._templates: list[tuple[Template | NumberedTemplate, Lane]] = []
        """Shapes of events with one text, and the lane that the text belongs to. The latest first."""
        self._is_between = False
        """Whether what comes next begins an event, whatever it is."""
        self._number: int | None = None
        """Of the latest event that was read strictly, if events are numbered."""
        self._extras = 0
        """Events of ours so far."""
        self._learnt = 0
        self._hits = 0

    def feed(self, data: bytes) -> bytes:
        """What the client may have by now. Raises `AnswerRefusedError` or `MalformedAnswerError`."""
        released = self.follow(data)
        if released is not None:
            return released
        try:
            units = self._splitter.feed(data)
        except EventTooLargeError as error:
            for unit in error.before:
                self._unit(unit)
            raise MalformedAnswerError("an event is larger than the bound") from None
        for unit in units:
            self._unit(unit)
        self._is_between = self._splitter.is_between_events
        return self._take()

    def follow(self, event: bytes) -> bytes | None:
        """What may be released for `event` if it comes at a border of events and is one of a shape that is known. None:
        it was not looked at, `feed` it. Raises like `feed`."""
        if self._is_between:
            for at, (template, lane) in enumerate(self._templates):
                text = template.text(event)
                if text is None:
                    continue
                if not template.ends_in_lf:
                    break
                self._hits += 1
                if at:
                    self._templates.insert(0, self._templates.pop(at))
                released = lane.release(text)
                return event if released == text else template.with_text(event, released)
        return None

    def close(self) -> bytes:
        """The rest, when the upstream ended without its dialect's end of answer, too."""
        rest = self._splitter.close()
        if rest:
            self._unit(rest)
        extras = self._flushed(self._lanes.open())
        if extras and rest:
            self._released.append(b"\n\n")  # the last event came without its empty line
        self._released += extras
        return self._take()

    def break_off(self, code: str, message: str) -> bytes:
        """What was released, and the error event. What was held back is dropped."""
        return self._take() + self._notes.error_event(code, message)

    def _take(self) -> bytes:
        pieces = self._released
        released = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        return released

    def _unit(self, unit: bytes) -> None:
        for at, (template, lane) in enumerate(self._templates):
            text = template.text(unit)
            if text is not None:
                self._hits += 1
                if at:
                    self._templates.insert(0, self._templates.pop(at))
                released = lane.release(text)
                self._released.append(unit if released == text else template.with_text(unit, released))
                return
        self._read(unit)

    def _read(self, unit: bytes) -> None:
        data = event_data(unit)
        if data is None or not data.value.strip():
            _refuse_bare_json(unit)
            self._released.append(unit)
            return
        self._notes.event(unit, self.observed)
        if self.observed.upstream_error:
            unit = without_credentials(unit)
            data = event_data(unit) or data
        if self._shape.is_end(data.value):
            self._released += [*self._flushed(self._lanes.open()), unit]
            return
        texts = self._shape.read(_event(data), self._lanes)
        edits = self._edits(texts)
        self._released.append(with_data(unit, data, _edited(data.value, edits)) if edits else unit)
        if len(data.spans) == 1 and texts.is_one_delta:
            self._learn(unit, data, texts)

    def _edits(self, texts: Texts) -> dict[Path, str | int]:
        """The strings that change; what the lanes that end here still held goes out first."""
        edits: dict[Path, str | int] = {}
        last_piece: dict[Lane, int] = {}
        if texts.ends or texts.ends_all or texts.ended:
            ending = [
                lane
                for lane in self._lanes.open()
                if texts.ends_all or lane.channel.position in texts.ends or lane in texts.ended
            ]
            last_piece = {lane: at for at, (_, lane, _) in enumerate(texts.pieces) if lane in ending}
            self._released += self._flushed((lane for lane in ending if lane not in last_piece), texts.number)
        for at, (path, lane, text) in enumerate(texts.pieces):
            released = lane.release(text, last=last_piece.get(lane) == at)
            if released != text:
                edits[path] = released
        for path, channel, text in texts.wholes:
            released = self._lanes.whole(channel, text)
            if released != text:
                edits[path] = released
        if texts.number is not None:
            self._number = texts.number
            if self._extras:
                edits["sequence_number",] = texts.number + self._extras
        _shift(texts, self._lanes, edits)
        if self._cited is not None:
            _place(texts, self._cited, edits)
        return edits

    def _flushed(self, lanes: Iterable[Lane], number: int | None = None) -> list[bytes]:
        """Extra events with what the lanes still held, before the event that has this number: the next one, if it has
        none."""
        events = []
        for lane in lanes:
            text = lane.release("", last=True)
            if text:
                number = self._next_number() if number is None else number
                events.append(self._shape.extra_event(lane, text, number + self._extras))
                self._extras += 1
                if self._number is not None:
                    self._templates.clear()  # every number changes from here on
        return events

    def _next_number(self) -> int:
        latest = [template.number for template, _ in self._templates if isinstance(template, NumberedTemplate)]
        return max([self._number or 0, *latest]) + 1

    def _learn(self, unit: bytes, data: Data, texts: Texts) -> None:
        is_renumbered = texts.number is not None and self._extras
        if is_renumbered or self._learnt > _TRIAL_TEMPLATES + self._hits // 4:
            return
        self._learnt += 1
        path, lane, text = texts.pieces[0]
        string = written(text)
        if b"\\" not in data.value and data.value.count(string) == 1:
            start = data.value.index(string)  # without escapes a text is spelled in one way only
            end = start + len(string)
        else:
            start = locate(data.value, [path])[path]
            end = value_end(data.value, start)
        first = data.spans[0][0]
        template: Template | NumberedTemplate
        if texts.number is None:
            template = Template(unit, first + start, first + end)
        else:
            try:
                template = NumberedTemplate(unit, first + start, first + end, texts.number)
            except ValueError:
                return
        self._templates.insert(0, (template, lane))
        del self._templates[_MAX_TEMPLATES:]


class RestoringBody:
    """A JSON answer that policies change: held until it is whole, since its text may stand anywhere in it."""

    __slots__ = ("_cited", "_kept", "_notes", "_restore", "_shape", "_size", "observed")

    def __init__(self, notes: Notes, shape: BodyShape, restore: Restore, cited: CitedDocuments | None) -> None:
        self.observed = Observed()
        self._cited = cited
        self._notes = notes
        self._shape = shape
        self._restore = restore
        self._kept: list[bytes] = []
        self._size = 0

    def follow(self, event: bytes) -> None:
        """Nothing: it is no stream."""

    def feed(self, data: bytes) -> bytes:
        """Nothing yet. Raises `MalformedAnswerError` beyond `MAX_ANSWER` bytes."""
        self._size += len(data)
        if self._size > MAX_ANSWER:
            raise MalformedAnswerError(f"an answer of more than {MAX_ANSWER} bytes")
        self._kept.append(data)
        return b""

    def close(self) -> bytes:
        """The whole answer. Raises `AnswerRefusedError` or `MalformedAnswerError`."""
        body = b"".join(self._kept)
        self._kept.clear()
        self._notes.body(body, self.observed)
        if self.observed.upstream_error:
            body = without_credentials(body)
        try:
            tree = read_json_with_lone_surrogates(body)
        except JsonError as error:
            raise MalformedAnswerError(f"answer is not acceptable JSON: {error}") from None
        if not isinstance(tree, dict):
            raise MalformedAnswerError("expected a JSON object as answer")
        edits: dict[Path, str | int] = {}
        texts = self._shape.read(tree)
        wholes = texts.wholes
        if len(wholes) > 1 and len({channel for _, channel, _ in wholes}) != len(wholes):
            raise MalformedAnswerError("two texts claim to be the same one")
        restore = self._restore
        if texts.offsets:
            lanes = Lanes(restore)
            counted = {channel for _, channel, _, _ in texts.offsets}
            for path, channel, text in wholes:
                released = lanes.whole(channel, text, counted=channel in counted)
                if released != text:
                    edits[path] = released
            _shift(texts, lanes, edits)
        else:
            for path, channel, text in wholes:
                released = whole(restore, channel, text)
                if released != text:
                    edits[path] = released
        if self._cited is not None:
            _place(texts, self._cited, edits)
        self.observed.finished = True
        return rewritten(body, tree, edits) if edits else body

    def break_off(self, _code: str, _message: str) -> bytes:
        """Nothing was released and nothing can be said inside a JSON body."""
        return b""


def _event(data: Data) -> Mapping[str, Json]:
    try:
        event = read_json_with_lone_surrogates(data.value)
    except JsonError as error:
        raise MalformedAnswerError(f"data of an event is not acceptable JSON: {error}") from None
    if not isinstance(event, dict):
        raise MalformedAnswerError("expected a JSON object as data of an event")
    return event


def _shift(texts: Texts, lanes: Lanes, edits: dict[Path, str | int]) -> None:
    """Let the numbers that count characters follow the characters."""
    for path, channel, offset, is_end in texts.offsets:
        offsets = lanes.lane(channel).offsets
        moved = offset if offsets is None else offsets.at(offset, end=is_end)
        if moved != offset:
            edits[path] = moved


def _place(texts: Texts, cited: CitedDocuments, edits: dict[Path, str | int]) -> None:
    """Let citations count characters of the documents that the application knows."""
    for quote in texts.quotes:
        placed = cited.place(quote, str(edits.get(quote.text_path, quote.text)))
        if placed is not None:
            edits[quote.start_path], edits[quote.end_path] = placed


def _edited(document: bytes, edits: Mapping[Path, str | int]) -> bytes:
    return splice(document, replacements(document, edits))


def _refuse_bare_json(unit: bytes) -> None:
    """A reader of events ignores such lines, a client that expected JSON does not: they would pass unread."""
    if unit.lstrip()[:1] in (b"{", b"["):
        raise MalformedAnswerError("JSON where events were announced")
