"""Where an Anthropic Messages request keeps its text, and how a system prompt is put before the others.

Byte-identical, because the API verifies them and answers 400 otherwise: `thinking` and `redacted_thinking` blocks,
`encrypted_*` members, `cache_control`. The model wrote those thoughts about a prompt that held tokens only.
"""

from collections.abc import Mapping
from typing import Final

from policies.model import Forward, Path, Role, UnreadablePart
from sidecar.codecs.json_splice import Replacement, locate, replacements, written
from sidecar.codecs.json_strict import Json
from sidecar.dialects.chat_request import prepend
from sidecar.dialects.leaves import Leaves, members

_TOP_OPAQUE: Final = frozenset({"model", "service_tier", "speed"})
_MESSAGE_OPAQUE: Final = frozenset({"role", "id", "type"})
_BLOCK_OPAQUE: Final = frozenset({"type", "id", "tool_use_id", "media_type", "file_id"})
_TOOL_OPAQUE: Final = frozenset({"type", "name"})
_TOOL_USE_OPAQUE: Final = frozenset({"type", "id", "name", "toolset_name", "server_name"})
_TOOL_USES: Final = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
_BYTES_OPAQUE: Final = _BLOCK_OPAQUE | {"data"}
_SIGNED: Final = frozenset({"thinking", "redacted_thinking"})
_ROLES: Final = {"user": Role.USER, "assistant": Role.ASSISTANT, "system": Role.SYSTEM}
_MEDIA: Final = {
    "image": UnreadablePart.IMAGE,
    "document": UnreadablePart.FILE,
    "container_upload": UnreadablePart.FILE,
}


def collect_messages(body: Mapping[str, Json], leaves: Leaves) -> None:
    """Every text of a `/v1/messages` body."""
    for name, value in body.items():
        if name == "messages" and isinstance(value, list):
            for index, message in enumerate(value):
                _message(message, ("messages", index), leaves)
        elif name == "system":
            _content(value, ("system",), Role.SYSTEM, leaves)
        elif isinstance(value, str):
            if name not in _TOP_OPAQUE:
                leaves.text((name,), Role.OTHER, value)
        elif isinstance(value, dict | list):
            _around(name, value, leaves)


def _around(name: str, value: Json, leaves: Leaves) -> None:
    """What stands beside the messages."""
    match name:
        case "tools":
            leaves.walk(value, (name,), Role.OTHER, _TOOL_OPAQUE)
        case "metadata":
            leaves.tool_input(value, (name,), Role.OTHER)  # user-chosen names and values
        case "container" | "thinking" | "tool_choice":
            pass  # names, ids, options
        case _:
            leaves.walk(value, (name,), Role.OTHER, _BLOCK_OPAQUE)


def text_documents(body: Mapping[str, Json]) -> dict[int, Path]:
    """Path of each plain text document by its index, which counts the documents of all messages."""
    found: dict[int, Path] = {}
    index = 0
    messages = body.get("messages")
    for at, message in enumerate(messages if isinstance(messages, list) else []):
        content = members(message).get("content")
        for place, block in enumerate(content if isinstance(content, list) else []):
            if members(block).get("type") == "document":
                source = members(members(block).get("source"))
                if source.get("type") == "text":
                    found[index] = ("messages", at, "content", place, "source", "data")
                index += 1
    return found


def place_system_prompt(body: bytes, tree: Mapping[str, Json], verdict: Forward) -> list[Replacement]:
    """The edits, and the system prompt before every other instruction."""
    prompt = verdict.system_prompt or ""
    system = tree.get("system")
    path: Path = ("system",)
    match system:
        case str():
            return replacements(body, {**verdict.edits, path: prompt + "\n\n" + verdict.edits.get(path, system)})
        case list():
            block = b'{"type":"text","text":' + written(prompt) + b"}"
            return [*replacements(body, verdict.edits), prepend(body, path, block, follow=bool(system))]
        case None if "system" in tree:
            return replacements(body, {**verdict.edits, path: prompt})
        case _:
            at = locate(body, [()])[()] + 1
            member = b'"system":' + written(prompt) + (b"," if tree else b"")
            return [*replacements(body, verdict.edits), (at, at, member)]


def _message(message: Json, path: Path, leaves: Leaves) -> None:
    if not isinstance(message, dict):
        leaves.walk(message, path, Role.USER)
        return
    said_by = message.get("role")
    # A role nobody knows is treated like the one that is trusted least.
    role = _ROLES.get(said_by, Role.USER) if isinstance(said_by, str) else Role.USER
    for name, value in message.items():
        if name == "content":
            _content(value, (*path, "content"), role, leaves)
        else:
            leaves.member(name, value, path, role, _MESSAGE_OPAQUE)


def _content(content: Json, path: Path, role: Role, leaves: Leaves) -> None:
    """A string or a list of blocks."""
    if isinstance(content, list):
        for index, block in enumerate(content):
            _block(block, (*path, index), role, leaves)
    else:
        leaves.walk(content, path, role, _BLOCK_OPAQUE)


def _block(block: Json, path: Path, role: Role, leaves: Leaves) -> None:
    kind = members(block).get("type")
    if not isinstance(block, dict) or not isinstance(kind, str):
        leaves.walk(block, path, role)
        return
    if kind == "text":
        text = block.get("text")
        if isinstance(text, str) and len(block) == 2:
            leaves.text((*path, "text"), role, text)
            return
    if kind in _SIGNED:
        leaves.walk(block, path, role, _BLOCK_OPAQUE)  # leaves out what is signed, not what stands beside it
        return
    if kind in _TOOL_USES:
        _tool_use(block, path, role, leaves)
        return
    if kind.endswith("tool_result"):
        role = Role.TOOL
    # A kind of media that nobody knew when this was written is still not text.
    _members(block, path, role, leaves, _MEDIA.get(kind, UnreadablePart.FILE))


def _members(block: Mapping[str, Json], path: Path, role: Role, leaves: Leaves, media: UnreadablePart) -> None:
    for name, value in block.items():
        if name == "content":
            _content(value, (*path, name), role, leaves)
        elif name == "source" and isinstance(value, dict):
            _source(value, (*path, name), role, leaves, media)
        else:
            leaves.member(name, value, path, role, _BLOCK_OPAQUE)


def _tool_use(block: Mapping[str, Json], path: Path, role: Role, leaves: Leaves) -> None:
    for name, value in block.items():
        if name == "input":
            leaves.tool_input(value, (*path, name), role)
        else:
            leaves.member(name, value, path, role, _TOOL_USE_OPAQUE)


def _source(source: Mapping[str, Json], path: Path, role: Role, leaves: Leaves, media: UnreadablePart) -> None:
    """Text documents are text; bytes, files and what a URL points to are not, though the URL itself is."""
    kind = source.get("type")
    if kind not in ("text", "content"):
        leaves.cannot_read(media)
    for name, value in source.items():
        if name == "content":
            _content(value, (*path, name), role, leaves)
        else:
            leaves.member(name, value, path, role, _BYTES_OPAQUE if kind == "base64" else _BLOCK_OPAQUE)
