"""Where an Anthropic message keeps its text, streamed or whole.

A channel is a content block. `thinking`, `redacted_thinking`, signatures and `encrypted_*` pass untouched: the API
refuses a later request that brings them back changed.
"""

from collections.abc import Mapping
from typing import Final

from policies.model import Channel, ChannelKind, Path, Role
from sidecar.codecs.json_splice import written
from sidecar.codecs.json_strict import Json
from sidecar.codecs.sse import new_event
from sidecar.dialects.cited import Quote
from sidecar.dialects.lanes import MAX_LANES, Lane, Lanes
from sidecar.dialects.leaves import Leaves, members
from sidecar.dialects.restoring import Texts

_TOOL_USES: Final = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
_SIGNED: Final = frozenset({"thinking", "redacted_thinking"})
# A restored value in a URL would leave with the request of whoever fetches it.
_OPAQUE: Final = frozenset({"type", "id", "tool_use_id", "name", "url", "source", "media_type", "data", "file_id"})
_DELTAS: Final = {
    "text_delta": ("text", ChannelKind.TEXT),
    "input_json_delta": ("partial_json", ChannelKind.TOOL_ARGUMENTS),
}

Found = tuple[Path, Channel, str]


class MessageStream:
    """The events of one streamed message."""

    __slots__ = ("_strings", "_tools")

    def __init__(self) -> None:
        self._strings = 0
        """Strings so far that were channels of their own; numbers them."""
        self._tools: dict[int, str] = {}
        """Names of called tools by block: only `content_block_start` has it."""

    def is_end(self, _data: bytes) -> bool:
        """Never: the end is a JSON event."""
        return False

    def read(self, event: Mapping[str, Json], lanes: Lanes) -> Texts:
        """The text of one event."""
        texts = Texts()
        position = event.get("index")
        index = position if isinstance(position, int) else 0
        match event.get("type"):
            case "content_block_start":
                self._start(members(event.get("content_block")), index, lanes, texts)
            case "content_block_delta":
                self._delta(members(event.get("delta")), index, lanes, texts)
            case "content_block_stop":
                texts.ends.append(index)
            case "message_delta":
                texts.wholes += _stopped(members(event.get("delta")), ("delta",))
            case "message_stop" | "error":
                texts.ends_all = True
            case _:
                pass
        texts.wholes = [(path, self._numbered(channel), text) for path, channel, text in texts.wholes]
        return texts

    def extra_event(self, lane: Lane, text: str, _number: int) -> bytes:
        """One more delta of the same block."""
        if lane.channel.kind is ChannelKind.TOOL_ARGUMENTS:
            delta = {"type": "input_json_delta", "partial_json": text}
        else:
            delta = {"type": "text_delta", "text": text}
        event = {"type": "content_block_delta", "index": lane.channel.position, "delta": delta}
        return new_event(written(event), "content_block_delta")

    def _numbered(self, channel: Channel) -> Channel:
        self._strings += 1
        return channel._replace(sub=self._strings)

    def _start(self, block: Mapping[str, Json], index: int, lanes: Lanes, texts: Texts) -> None:
        path: Path = ("content_block",)
        kind = block.get("type")
        if isinstance(kind, str) and kind in _TOOL_USES and len(self._tools) < MAX_LANES:
            name = block.get("name")
            self._tools[index] = name if isinstance(name, str) else ""
        text = block.get("text")
        if kind == "text" and isinstance(text, str):
            texts.pieces.append(((*path, "text"), lanes.lane(Channel(ChannelKind.TEXT, index)), text))
            return
        texts.wholes += _block(block, path, index)

    def _delta(self, delta: Mapping[str, Json], index: int, lanes: Lanes, texts: Texts) -> None:
        kind = delta.get("type")
        if isinstance(kind, str) and kind in _DELTAS:
            name, channel = _DELTAS[kind]
            text = delta.get(name)
            if isinstance(text, str):
                lane = lanes.lane(Channel(channel, index, 0, self._tools.get(index, "")))
                texts.pieces.append((("delta", name), lane, text))
        elif kind == "citations_delta":
            path: Path = ("delta", "citation")
            texts.wholes += _leaves(delta.get("citation"), path, index)
            quote = _quote(delta.get("citation"), path)
            texts.quotes += [quote] if quote is not None else []


class MessageBody:
    """One whole message."""

    def read(self, body: Mapping[str, Json]) -> Texts:
        """Every text of every block."""
        content = body.get("content")
        texts = Texts()
        for index, block in enumerate(content if isinstance(content, list) else []):
            texts.wholes += _block(members(block), ("content", index), index)
            citations = members(block).get("citations")
            if isinstance(citations, list):
                texts.quotes += _quotes(citations, ("content", index, "citations"))
        texts.wholes += _stopped(body, ())
        return texts


def _block(block: Mapping[str, Json], path: Path, index: int) -> list[Found]:
    kind = block.get("type")
    if not isinstance(kind, str):
        return _leaves(dict(block), path, index)
    if kind in _SIGNED:
        return []
    if kind in _TOOL_USES:
        return _tool_input(block, path, index)
    text = block.get("text")
    if kind == "text" and isinstance(text, str):
        rest: Json = {name: value for name, value in block.items() if name != "text"}
        return [((*path, "text"), Channel(ChannelKind.TEXT, index), text), *_leaves(rest, path, index)]
    return _leaves(dict(block), path, index)


def _tool_input(block: Mapping[str, Json], path: Path, index: int) -> list[Found]:
    leaves = Leaves()
    leaves.tool_input(block.get("input"), (*path, "input"), Role.ASSISTANT)
    name = block.get("name")
    tool = name if isinstance(name, str) else ""
    return [
        (segment.path, Channel(ChannelKind.TOOL_VALUE, index, sub, tool), segment.text)
        for sub, segment in enumerate(leaves.segments)
    ]


def _leaves(value: Json, path: Path, index: int) -> list[Found]:
    """Every string of a citation or of a tool's result, each a channel of its own."""
    leaves = Leaves()
    leaves.walk(value, path, Role.ASSISTANT, _OPAQUE)
    return [(s.path, Channel(ChannelKind.TEXT, index, sub), s.text) for sub, s in enumerate(leaves.segments, 1)]


def _quotes(citations: list[Json], path: Path) -> list[Quote]:
    """The citations among those in the list at `path` that count characters."""
    found = [_quote(citation, (*path, at)) for at, citation in enumerate(citations)]
    return [quote for quote in found if quote is not None]


def _quote(citation: Json, path: Path) -> Quote | None:
    match citation:
        case {
            "type": "char_location",
            "cited_text": str(text),
            "document_index": int(document),
            "start_char_index": int(start),
            "end_char_index": int(end),
        }:
            start_path, end_path = (*path, "start_char_index"), (*path, "end_char_index")
            return Quote(document, start, end, start_path, end_path, (*path, "cited_text"), text)
        case _:
            return None


def _stopped(message: Mapping[str, Json], path: Path) -> list[Found]:
    """Why the model stopped may quote the request: a stop sequence, an explanation."""
    told = {name: message[name] for name in ("stop_sequence", "stop_details") if message.get(name)}
    return _leaves(told, path, -1)
