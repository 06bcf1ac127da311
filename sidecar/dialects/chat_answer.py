"""Where an OpenAI chat completion keeps its text, streamed or whole.

A channel is (choice index, field, tool call index). `logprobs` are left: they hold the model's own tokens. URLs of
citations are left: a client may fetch them, and a restored value would leave with the request.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from policies.model import Channel, ChannelKind, Path
from sidecar.codecs.json_splice import written
from sidecar.codecs.json_strict import Json
from sidecar.codecs.sse import new_event
from sidecar.dialects.lanes import MAX_LANES, Lane, Lanes
from sidecar.dialects.leaves import members
from sidecar.dialects.openai_notes import DONE
from sidecar.dialects.restoring import Texts

_FIELDS: Final = {
    "content": (ChannelKind.TEXT, 0),
    "refusal": (ChannelKind.REFUSAL, 0),
    "reasoning_content": (ChannelKind.REASONING, 0),
    "reasoning": (ChannelKind.REASONING, 1),
}
_FIELD_OF: Final = {channel: name for name, channel in _FIELDS.items()}
_FUNCTION_CALL: Final = -1
"""Stands for the legacy `function_call` where tool calls have their index."""
_COMMON: Final = ("id", "object", "created", "model", "service_tier", "system_fingerprint")
"""Members that every chunk of an answer repeats."""


class ChatStream:
    """The chunks of one streamed chat completion."""

    __slots__ = ("_cited", "_latest", "_tools")

    def __init__(self) -> None:
        self._latest: Mapping[str, Json] = {}
        self._cited = 0
        """Citations so far; numbers their titles."""
        self._tools: dict[tuple[int, int], str] = {}
        """Names of called tools by choice and call index: only the first fragment of a call has it."""

    def is_end(self, data: bytes) -> bool:
        """`[DONE]`."""
        return data.strip() == DONE

    def read(self, event: Mapping[str, Json], lanes: Lanes) -> Texts:
        """The text of one chunk."""
        texts = Texts(ends_all=bool(event.get("error")))
        if isinstance(event.get("choices"), list):
            self._latest = event
        for at, index, choice in choices_of(event):
            delta = members(choice.get("delta"))
            self._note_tools(delta, index)
            for path, channel, text in _texts(delta, ("choices", at, "delta"), index):
                tool = self._tools.get((index, channel.sub), channel.tool)
                named = channel if tool == channel.tool else channel._replace(tool=tool)
                texts.pieces.append((path, lanes.lane(named), text))
            if "annotations" in delta:
                self._cited += _citations(delta, ("choices", at, "delta"), index, self._cited, texts)
            if choice.get("finish_reason"):
                texts.ends.append(index)
        return texts

    def _note_tools(self, delta: Mapping[str, Json], choice: int) -> None:
        calls = delta.get("tool_calls")
        for at, call in enumerate(calls if isinstance(calls, list) else []):
            name = _name(members(members(call).get("function"))) or _name(members(members(call).get("custom")))
            if name and len(self._tools) < MAX_LANES:
                self._tools.setdefault((choice, choice_index(members(call), at)), name)

    def extra_event(self, lane: Lane, text: str, _number: int) -> bytes:
        """A chunk with one delta, in the name of the answer it belongs to."""
        choice = {"index": lane.channel.position, "delta": _delta(lane.channel, text), "finish_reason": None}
        return chunk_like(self._latest, choice)


class ChatBody:
    """One whole chat completion."""

    def read(self, body: Mapping[str, Json]) -> Texts:
        """Every text of every choice."""
        texts = Texts()
        cited = 0
        for at, index, choice in choices_of(body):
            message = members(choice.get("message"))
            path: Path = ("choices", at, "message")
            texts.wholes += _texts(message, path, index)
            if "annotations" in message:
                cited += _citations(message, path, index, cited, texts)
        return texts


def _citations(said: Mapping[str, Json], path: Path, choice: int, cited: int, texts: Texts) -> int:
    """Add titles and offsets of the citations in a message or delta; how many there are."""
    annotations = said.get("annotations")
    if not isinstance(annotations, list):
        return 0
    for at, annotation in enumerate(annotations):
        citation = members(members(annotation).get("url_citation"))
        where = (*path, "annotations", at, "url_citation")
        title = citation.get("title")
        if isinstance(title, str):
            channel = Channel(ChannelKind.TEXT, choice, 1 + cited + at)
            texts.wholes.append(((*where, "title"), channel, title))
        for name in ("start_index", "end_index"):
            offset = citation.get(name)
            if isinstance(offset, int) and not isinstance(offset, bool):
                content = Channel(ChannelKind.TEXT, choice)
                texts.offsets.append(((*where, name), content, offset, name == "end_index"))
    return len(annotations)


def _texts(said: Mapping[str, Json], path: Path, choice: int) -> list[tuple[Path, Channel, str]]:
    """The texts of a message or delta."""
    found: list[tuple[Path, Channel, str]] = []
    for name, value in said.items():
        if isinstance(value, str):
            field = _FIELDS.get(name)
            if field is not None:
                kind, sub = field
                found.append(((*path, name), Channel(kind, choice, sub), value))
        elif value:
            found += _within(name, value, (*path, name), choice)
    return found


def _within(name: str, value: Json, path: Path, choice: int) -> list[tuple[Path, Channel, str]]:
    """The texts of a member of a message that is no string itself."""
    found: list[tuple[Path, Channel, str]] = []
    match name:
        case "content" if isinstance(value, list):
            found += _parts(value, path, choice)
        case "tool_calls" if isinstance(value, list):
            for at, call in enumerate(value):
                found += _call(members(call), (*path, at), choice, choice_index(members(call), at))
        case "function_call":
            found += _function(members(value), path, choice, _FUNCTION_CALL)
        case "audio" if isinstance(transcript := members(value).get("transcript"), str):
            found.append(((*path, "transcript"), Channel(ChannelKind.TRANSCRIPT, choice), transcript))
        case _:
            pass
    return found


def _parts(parts: list[Json], path: Path, choice: int) -> list[tuple[Path, Channel, str]]:
    """Content in parts, which some servers of this dialect answer: the first is the answer, others count down."""
    found: list[tuple[Path, Channel, str]] = []
    for at, part in enumerate(parts):
        text = members(part).get("text")
        if isinstance(text, str):
            found.append(((*path, at, "text"), Channel(ChannelKind.TEXT, choice, -at), text))
    return found


def _call(call: Mapping[str, Json], path: Path, choice: int, index: int) -> list[tuple[Path, Channel, str]]:
    custom = members(call.get("custom"))
    given = custom.get("input")
    if isinstance(given, str):
        channel = Channel(ChannelKind.TOOL_INPUT, choice, index, _name(custom))
        return [((*path, "custom", "input"), channel, given)]
    return _function(members(call.get("function")), (*path, "function"), choice, index)


def _function(function: Mapping[str, Json], path: Path, choice: int, index: int) -> list[tuple[Path, Channel, str]]:
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        return []
    channel = Channel(ChannelKind.TOOL_ARGUMENTS, choice, index, _name(function))
    return [((*path, "arguments"), channel, arguments)]


def _delta(channel: Channel, text: str) -> dict[str, object]:
    """The delta that carries `text` on a channel."""
    match channel.kind:
        case ChannelKind.TOOL_ARGUMENTS if channel.sub == _FUNCTION_CALL:
            return {"function_call": {"arguments": text}}
        case ChannelKind.TOOL_ARGUMENTS:
            return {"tool_calls": [{"index": channel.sub, "function": {"arguments": text}}]}
        case ChannelKind.TOOL_INPUT:
            return {"tool_calls": [{"index": channel.sub, "custom": {"input": text}}]}
        case ChannelKind.TRANSCRIPT:
            return {"audio": {"transcript": text}}
        case _:
            return {_FIELD_OF.get((channel.kind, channel.sub), "content"): text}


def choices_of(answer: Mapping[str, Json]) -> Iterator[tuple[int, int, Mapping[str, Json]]]:
    """(place, index, choice) of every choice of an answer or chunk."""
    choices = answer.get("choices")
    for at, choice in enumerate(choices if isinstance(choices, list) else []):
        yield at, choice_index(members(choice), at), members(choice)


def chunk_like(latest: Mapping[str, Json], choice: Mapping[str, object]) -> bytes:
    """An event with this choice, in the name of the answer that `latest` belongs to."""
    common = {name: latest[name] for name in _COMMON if name in latest}
    return new_event(written({**common, "choices": [choice]}))


def choice_index(item: Mapping[str, Json], at: int) -> int:
    """The index that a choice or tool call names, or else has by its place."""
    index = item.get("index")
    return index if isinstance(index, int) else at


def _name(called: Mapping[str, Json]) -> str:
    name = called.get("name")
    return name if isinstance(name, str) else ""
