"""Where an answer of OpenAI's Responses API keeps its text, streamed or whole.

Every text comes up to five times: in deltas, in the event that ends them, with its part, with its item and with the
whole response. Deltas are a channel each; a repetition is a text of its own, restored from its beginning, and so comes
out as the deltas joined. What a message says is told apart from what the service repeats of the request or says of the
answer: only the first is the model's. Events are numbered without gaps: one more of ours pushes the later ones up.

A channel is (output index, content, summary or command index, kind). URLs and ids are left.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from policies.model import Channel, ChannelKind, Path, Role
from sidecar.codecs.json_splice import written
from sidecar.codecs.json_strict import Json
from sidecar.codecs.sse import new_event
from sidecar.dialects.lanes import MAX_LANES, Lane, Lanes
from sidecar.dialects.leaves import Leaves, members
from sidecar.dialects.openai_notes import DONE
from sidecar.dialects.restoring import Texts


class _Stem(NamedTuple):
    """Deltas of one kind: `<stem>.delta`, ended by `<stem>.done`."""

    kind: ChannelKind
    counter: str = ""
    """The member that tells several of one item apart."""
    first: int = 0
    """Added to that: reasoning has texts and summaries, a shell call has commands and outputs."""


_STEMS: Final = {
    "response.output_text": _Stem(ChannelKind.TEXT, "content_index"),
    "response.refusal": _Stem(ChannelKind.REFUSAL, "content_index"),
    "response.reasoning_text": _Stem(ChannelKind.REASONING, "content_index"),
    "response.reasoning_summary_text": _Stem(ChannelKind.REASONING, "summary_index", 1 << 20),
    "response.function_call_arguments": _Stem(ChannelKind.TOOL_ARGUMENTS),
    "response.mcp_call_arguments": _Stem(ChannelKind.TOOL_ARGUMENTS),
    "response.custom_tool_call_input": _Stem(ChannelKind.TOOL_INPUT),
    "response.code_interpreter_call_code": _Stem(ChannelKind.TOOL_INPUT),
    "response.shell_call_command": _Stem(ChannelKind.TOOL_INPUT, "command_index"),
    "response.shell_call_output_content": _Stem(ChannelKind.TEXT, "command_index", 1 << 20),
    "response.audio.transcript": _Stem(ChannelKind.TRANSCRIPT),
}
# type of an item or a part -> (member whose text its deltas continue, stem of those)
_BEGINNINGS: Final = {
    "output_text": ("text", "response.output_text"),
    "refusal": ("refusal", "response.refusal"),
    "reasoning_text": ("text", "response.reasoning_text"),
    "summary_text": ("text", "response.reasoning_summary_text"),
    "function_call": ("arguments", "response.function_call_arguments"),
    "mcp_call": ("arguments", "response.mcp_call_arguments"),
    "custom_tool_call": ("input", "response.custom_tool_call_input"),
    "code_interpreter_call": ("code", "response.code_interpreter_call_code"),
}
_ENDS_ALL: Final = frozenset({"response.completed", "response.failed", "response.incomplete", "error"})
_OPAQUE: Final = frozenset(
    {
        "type",
        "id",
        "item_id",
        "phase",
        "call_id",
        "response_id",
        "previous_response_id",
        "file_id",
        "container_id",
        "role",
    }
    | {"status", "model", "object", "name", "namespace", "server_label", "url", "image_url", "obfuscation", "logprobs"}
    | {"result", "partial_image_b64", "service_tier", "truncation", "approval_request_id"}
)
"""Members that are no text of the model, or that a client would fetch."""
_ECHOED: Final = frozenset(
    {"instructions", "metadata", "error", "incomplete_details", "user", "safety_identifier", "prompt", "text"}
    | {"prompt_cache_key", "prompt_cache_retention", "tools", "tool_choice", "reasoning", "conversation", "background"}
    | {"moderation", "context_management", "billing", "usage"}
)
"""Members of a response that its request or the service wrote."""
_WHERE: Final = ("type", "item_id", "output_index", "content_index", "summary_index", "command_index", "logprobs")
"""What a delta of ours repeats of those before it."""

Found = tuple[Path, Channel, str]


class ResponseStream:
    """The events of one streamed response."""

    __slots__ = ("_deltas", "_strings", "_tools")

    def __init__(self) -> None:
        self._deltas: dict[Lane, tuple[dict[str, Json], str]] = {}
        """What a further delta looks like, and the member of its `delta` that holds the text; empty: all of it."""
        self._strings = 0
        """Strings so far that were channels of their own; numbers them downwards."""
        self._tools: dict[int, str] = {}
        """Names of called tools by output index: only the event that adds a call has it."""

    def is_end(self, data: bytes) -> bool:
        """Not of this API, but some servers of it send `[DONE]`."""
        return data.strip() == DONE

    def read(self, event: Mapping[str, Json], lanes: Lanes) -> Texts:
        """The text of one event."""
        number = event.get("sequence_number")
        texts = Texts(number=number if isinstance(number, int) else None)
        kind = _text(event, "type")
        stem, _, phase = kind.rpartition(".")
        found = _STEMS.get(stem)
        rest = dict(event)
        if found is not None and phase == "delta":
            self._delta(stem, rest, lanes, texts)
        elif found is not None and phase == "done":
            texts.ended += self._lanes_of(found, event, lanes)
        elif kind in {
            "response.output_item.added",
            "response.content_part.added",
            "response.reasoning_summary_part.added",
        }:
            self._beginning(rest, lanes, texts)
        elif kind == "response.output_item.done":
            texts.ends.append(_number(event, "output_index"))
        texts.ends_all = kind in _ENDS_ALL
        default = found.kind if found is not None else ChannelKind.TEXT
        for path, channel, text in _walk(rest, self._tools.get(_number(event, "output_index"), ""), default):
            if channel.kind is ChannelKind.REPETITION:
                texts.wholes.append((path, channel, text))
            else:
                self._strings -= 1
                texts.wholes.append((path, channel._replace(sub=self._strings), text))
        for path, output, content, offset, is_end in _offsets(event):
            texts.offsets.append((path, Channel(ChannelKind.TEXT, output, content), offset, is_end))
        return texts

    def extra_event(self, lane: Lane, text: str, number: int) -> bytes:
        """One more delta of the same channel."""
        delta, member = self._deltas[lane]
        more: dict[str, Json] = {**delta, "delta": {member: text} if member else text, "sequence_number": number}
        return new_event(written(more), str(delta["type"]))

    def _delta(self, stem: str, event: dict[str, Json], lanes: Lanes, texts: Texts) -> None:
        """Take the text out of `event` and add it to its channel."""
        delta = event.pop("delta", None)
        pieces = {"": delta} if isinstance(delta, str) else members(delta)
        for place, (name, text) in enumerate(pieces.items()):
            if isinstance(text, str):
                lane = self._lane(stem, event, place, lanes)
                self._deltas[lane] = ({key: event[key] for key in _WHERE if key in event}, name)
                texts.pieces.append((("delta", name) if name else ("delta",), lane, text))

    def _beginning(self, event: dict[str, Json], lanes: Lanes, texts: Texts) -> None:
        """Note the tool that is called, and take the beginning of a text, most often nothing, out of `event`."""
        holder = "item" if "item" in event else "part"
        added = members(event.get(holder))
        name = _text(added, "name")
        if name and len(self._tools) < MAX_LANES:
            self._tools[_number(event, "output_index")] = name
        member, stem = _BEGINNINGS.get(_text(added, "type"), ("", ""))
        text = added.get(member)
        if isinstance(text, str):
            where: dict[str, Json] = {"type": f"{stem}.delta", "item_id": added.get("id", ""), **event}
            where["type"] = f"{stem}.delta"
            lane = self._lane(stem, where, 0, lanes)
            self._deltas[lane] = ({key: where[key] for key in _WHERE if key in where}, "")
            texts.pieces.append(((holder, member), lane, text))
            event[holder] = {key: value for key, value in added.items() if key != member}

    def _lanes_of(self, stem: _Stem, event: Mapping[str, Json], lanes: Lanes) -> list[Lane]:
        """The channels of a stem that an event speaks of."""
        channel = _channel(stem, event)
        both = (
            (channel, channel._replace(sub=channel.sub + 1))
            if stem.first and stem.kind is ChannelKind.TEXT
            else (channel,)
        )
        return [lane for lane in lanes.open() if any(lane.channel[:3] == each[:3] for each in both)]

    def _lane(self, stem: str, event: Mapping[str, Json], place: int, lanes: Lanes) -> Lane:
        channel = _channel(_STEMS[stem], event)
        tool = self._tools.get(channel.position, "")
        return lanes.lane(channel._replace(sub=channel.sub + place, tool=tool))


class ResponseBody:
    """One whole response."""

    def read(self, body: Mapping[str, Json]) -> Texts:
        """Every text of every item, and of what it repeats of the request."""
        texts = Texts()
        counted = set()
        for path, output, content, offset, is_end in _offsets({"response": dict(body)}):
            channel = Channel(ChannelKind.TEXT, output, content)
            counted.add(channel)
            texts.offsets.append((path[1:], channel, offset, is_end))
        number = 0
        for path, channel, text in _walk({"response": dict(body)}, "", ChannelKind.TEXT):
            number -= 1
            if channel.kind is ChannelKind.REPETITION:
                said = channel._replace(kind=ChannelKind.TEXT)  # it says everything once
            else:
                said = channel._replace(sub=number)
            texts.wholes.append((path[1:], said, text))
        # The texts that citations count come first: where they moved is known when the numbers are looked at.
        texts.wholes.sort(key=lambda found: found[1] not in counted)
        return texts


def _channel(stem: _Stem, event: Mapping[str, Json]) -> Channel:
    index = _number(event, stem.counter) if stem.counter else 0
    if stem.first and stem.kind is ChannelKind.TEXT:
        index *= 2  # stdout and stderr
    return Channel(stem.kind, _number(event, "output_index"), stem.first + index)


def _number(event: Mapping[str, Json], name: str) -> int:
    number = event.get(name)
    return number if isinstance(number, int) else 0


def _text(holder: Mapping[str, Json], name: str) -> str:
    value = holder.get(name)
    return value if isinstance(value, str) else ""


def _walk(event: Mapping[str, Json], tool: str, default: ChannelKind) -> Iterator[Found]:
    """Every string of an event, with the kind of channel that it belongs to."""
    output, kind = _number(event, "output_index"), _text(event, "type")
    if kind == "error":
        yield from _strings(dict(event), (), output, ChannelKind.ECHO)
        return
    for name, value in event.items():
        match name:
            case "response":
                items = members(value).get("output")
                for index, item in enumerate(items if isinstance(items, list) else []):
                    yield from _item(item, ("response", "output", index), index)
                yield from _envelope(value)
            case "item":
                yield from _item(value, ("item",), output)
            case "part":
                said = ChannelKind.REASONING if _text(members(value), "type") in _REASONING else ChannelKind.TEXT
                for path, channel, text in _strings(value, ("part",), output, said):
                    is_all = path == ("part", "text") and said is ChannelKind.TEXT
                    yield path, _repetition(event, output) if is_all else channel, text
            case "text" if kind == "response.output_text.done" and isinstance(value, str):
                yield ("text",), _repetition(event, output), value
            case _ if name not in _OPAQUE:
                for path, channel, text in _strings(value, (name,), output, default):
                    yield path, channel._replace(tool=tool), text
            case _:
                pass


def _repetition(event: Mapping[str, Json], output: int) -> Channel:
    return Channel(ChannelKind.REPETITION, output, _number(event, "content_index"))


def _envelope(response: Json) -> Iterator[Found]:
    """Every string of a response but those of its output."""
    for name, value in members(response).items():
        if name != "output" or not isinstance(value, list):
            said = ChannelKind.ECHO if name in _ECHOED else ChannelKind.TEXT
            yield from _strings({name: value}, ("response",), 0, said)


_REASONING: Final = frozenset({"reasoning", "reasoning_text", "summary_text"})
_SHELLS: Final = frozenset({"shell_call", "local_shell_call"})


def _item(item: Json, path: Path, output: int) -> Iterator[Found]:
    """Every string of an output item."""
    kind, tool = _text(members(item), "type"), _text(members(item), "name")
    if kind in _REASONING:
        yield from _strings(item, path, output, ChannelKind.REASONING)
        return
    for member, value in members(item).items():
        match member:
            case "arguments":
                said = ChannelKind.TOOL_ARGUMENTS if isinstance(value, str) else ChannelKind.TOOL_VALUE
            case "input" | "code":
                said = ChannelKind.TOOL_INPUT
            case "action" if kind in _SHELLS:
                said = ChannelKind.TOOL_INPUT
            case _:
                said = ChannelKind.TEXT
        if member not in _OPAQUE:
            for where, channel, text in _strings(value, (*path, member), output, said):
                match where[len(path) :]:
                    case ("content", int(content), "text") if kind == "message" and said is ChannelKind.TEXT:
                        yield where, Channel(ChannelKind.REPETITION, output, content), text
                    case _:
                        yield where, channel._replace(tool=tool), text


def _strings(value: Json, path: Path, output: int, kind: ChannelKind = ChannelKind.TEXT) -> Iterator[Found]:
    """Every string at or below `value` that is text."""
    leaves = Leaves()
    leaves.walk(value, path, Role.ASSISTANT, _OPAQUE)
    for segment in leaves.segments:
        refused = kind is ChannelKind.TEXT and segment.path[-1] == "refusal"
        yield segment.path, Channel(ChannelKind.REFUSAL if refused else kind, output), segment.text


def _offsets(event: Mapping[str, Json]) -> Iterator[tuple[Path, int, int, int, bool]]:
    """(path, output index, content index, offset, whether it is an end) of every number that counts characters."""
    output, content = _number(event, "output_index"), _number(event, "content_index")
    yield from _cited(event.get("annotation"), ("annotation",), output, content)
    part = members(event.get("part"))
    yield from _all_cited(part.get("annotations"), ("part", "annotations"), output, content)
    yield from _of_item(event.get("item"), ("item",), output)
    items = members(event.get("response")).get("output")
    for index, item in enumerate(items if isinstance(items, list) else []):
        yield from _of_item(item, ("response", "output", index), index)


def _of_item(item: Json, path: Path, output: int) -> Iterator[tuple[Path, int, int, int, bool]]:
    parts = members(item).get("content")
    for content, part in enumerate(parts if isinstance(parts, list) else []):
        where = (*path, "content", content, "annotations")
        yield from _all_cited(members(part).get("annotations"), where, output, content)


def _all_cited(annotations: Json, path: Path, output: int, content: int) -> Iterator[tuple[Path, int, int, int, bool]]:
    for at, annotation in enumerate(annotations if isinstance(annotations, list) else []):
        yield from _cited(annotation, (*path, at), output, content)


def _cited(annotation: Json, path: Path, output: int, content: int) -> Iterator[tuple[Path, int, int, int, bool]]:
    for name in ("start_index", "end_index"):
        offset = members(annotation).get(name)
        if isinstance(offset, int) and not isinstance(offset, bool):
            yield (*path, name), output, content, offset, name == "end_index"
