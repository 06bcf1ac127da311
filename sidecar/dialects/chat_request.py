"""Where an OpenAI chat completion request keeps its text, and how a system prompt is put before the others.

Not read: what the API compares (model, ids, roles, tool names) and the bytes of images, audio and files, which are
counted as unreadable parts instead. References to them that are URLs are text: they may name a patient.
"""

from collections.abc import Mapping
from typing import Final

from policies.model import Forward, Path, Role, Segment, UnreadablePart
from sidecar.codecs.json_splice import Replacement, locate, replacements, written
from sidecar.codecs.json_strict import Json
from sidecar.dialects.leaves import Leaves, members

_TOP_OPAQUE: Final = frozenset({"model", "reasoning_effort", "service_tier", "verbosity"})
_MESSAGE_OPAQUE: Final = frozenset({"role", "tool_call_id", "id", "type"})
_CALL_OPAQUE: Final = frozenset({"id", "type", "index"})
_TOOL_OPAQUE: Final = frozenset({"type", "name"})

_HOLD_MORE: Final[frozenset[type]] = frozenset({dict, list})
_ROLES: Final = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
}
# part type -> (member that holds it, members of that which are no text, what it is)
_UNREADABLE_PARTS: Final = {
    "image_url": ("image_url", frozenset({"detail"}), UnreadablePart.IMAGE),
    "input_audio": ("input_audio", frozenset({"data", "format"}), UnreadablePart.AUDIO),
    "file": ("file", frozenset({"file_data", "file_id"}), UnreadablePart.FILE),
    "video_url": ("video_url", frozenset({"detail"}), UnreadablePart.FILE),
}


def collect_chat(body: Mapping[str, Json], leaves: Leaves) -> None:
    """Every text of a `/v1/chat/completions` body."""
    for name, value in body.items():
        if name == "messages" and isinstance(value, list):
            _messages(value, leaves)
        elif isinstance(value, str):
            if name not in _TOP_OPAQUE:
                leaves.text((name,), Role.OTHER, value)
        elif value.__class__ in _HOLD_MORE:
            _around(name, value, leaves)


def place_system_prompt(body: bytes, tree: Mapping[str, Json], verdict: Forward) -> list[Replacement]:
    """The edits, and the system prompt before every other instruction.

    Joins a leading system message rather than adding a second one, which many chat templates refuse.
    """
    prompt = verdict.system_prompt or ""
    messages = tree.get("messages")
    if not isinstance(messages, list):
        return replacements(body, verdict.edits)
    first = members(messages[0]) if messages else {}
    content = first.get("content")
    path: Path = ("messages", 0, "content")
    if first.get("role") in ("system", "developer"):
        if isinstance(content, str):
            joined = prompt + "\n\n" + verdict.edits.get(path, content)
            return replacements(body, {**verdict.edits, path: joined})
        if isinstance(content, list):
            part = b'{"type":"text","text":' + written(prompt) + b"}"
            return [*replacements(body, verdict.edits), prepend(body, path, part, follow=bool(content))]
    message = b'{"role":"system","content":' + written(prompt) + b"}"
    return [*replacements(body, verdict.edits), prepend(body, ("messages",), message, follow=bool(messages))]


def _around(name: str, value: Json, leaves: Leaves) -> None:
    """What stands beside the messages."""
    match name:
        case "tools" | "functions":
            leaves.walk(value, (name,), Role.OTHER, _TOOL_OPAQUE)
        case "tool_choice" | "function_call" | "logit_bias" | "modalities" | "stream_options":
            pass  # names of tools, token numbers, options
        case "metadata":
            leaves.tool_input(value, (name,), Role.OTHER)  # user-chosen names and values
        case "prediction":
            leaves.walk(value, (name,), Role.ASSISTANT, _MESSAGE_OPAQUE)
        case _:
            leaves.walk(value, (name,), Role.OTHER, _MESSAGE_OPAQUE)


def prepend(body: bytes, array: Path, item: bytes, *, follow: bool) -> Replacement:
    """The replacement that puts `item` first in the array at that path; `follow`: whether others come after it."""
    at = locate(body, [array])[array] + 1
    return at, at, item + b"," if follow else item


def _messages(messages: list[Json], leaves: Leaves) -> None:
    texts = leaves.segments
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            leaves.walk(message, ("messages", index), Role.USER)
            continue
        said_by, content = message.get("role"), message.get("content")
        role = _ROLES.get(said_by) if isinstance(said_by, str) else None
        if role is not None and isinstance(content, str) and len(message) == 2:
            texts.append(Segment(("messages", index, "content"), role, content))  # nearly all
        else:
            # A role nobody knows is treated like the one that is trusted least.
            _message(message, ("messages", index), role or Role.USER, leaves)


def _message(message: Mapping[str, Json], path: Path, role: Role, leaves: Leaves) -> None:
    for name, value in message.items():
        match name:
            case "content" | "refusal" | "reasoning_content" | "reasoning" if isinstance(value, str):
                leaves.text((*path, name), role, value)
            case "content" if isinstance(value, list):
                for index, part in enumerate(value):
                    _part(part, (*path, "content", index), role, leaves)
            case "tool_calls" if isinstance(value, list):
                for index, call in enumerate(value):
                    _tool_call(call, (*path, "tool_calls", index), role, leaves)
            case "function_call" if value is not None:
                _called(value, (*path, name), role, leaves)
            case "audio" if value is not None:
                leaves.cannot_read(UnreadablePart.AUDIO)  # a reference to an earlier spoken answer
                leaves.walk(value, (*path, name), role, _MESSAGE_OPAQUE)
            case _ if value is not None:
                leaves.member(name, value, path, role, _MESSAGE_OPAQUE)
            case _:
                pass


def _part(part: Json, path: Path, role: Role, leaves: Leaves) -> None:
    kind = members(part).get("type")
    known = _UNREADABLE_PARTS.get(kind) if isinstance(kind, str) else None
    if known is None:
        leaves.walk(part, path, role, _CALL_OPAQUE)
        return
    holder, opaque, unreadable = known
    leaves.cannot_read(unreadable)
    for name, value in members(part).items():
        if name == holder and isinstance(value, dict):
            url = value.get("url")
            inline = isinstance(url, str) and url.startswith("data:")
            leaves.walk(value, (*path, name), role, opaque | {"url"} if inline else opaque)
        else:
            leaves.member(name, value, path, role, _CALL_OPAQUE)


def _tool_call(call: Json, path: Path, role: Role, leaves: Leaves) -> None:
    if not isinstance(call, dict):
        leaves.tool_input(call, path, role)
        return
    for name, value in call.items():
        if name in ("function", "custom"):
            _called(value, (*path, name), role, leaves)
        else:
            leaves.member(name, value, path, role, _CALL_OPAQUE)


def _called(function: Json, path: Path, role: Role, leaves: Leaves) -> None:
    """`{name, arguments}` of a function or `{name, input}` of a custom tool, whose input is raw text."""
    if not isinstance(function, dict):
        leaves.tool_input(function, path, role)
        return
    for name, value in function.items():
        if name == "arguments" and isinstance(value, str):
            leaves.tool_arguments(value, (*path, name), role)
        elif name != "name" or not isinstance(value, str):
            leaves.tool_input(value, (*path, name), role)
