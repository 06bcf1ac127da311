"""Where a request of OpenAI's Responses API keeps its text, and how a system prompt is put before the others.

Not read: ids, roles, types, tool names, encrypted reasoning, and the bytes of images, audio and files, which count
as unreadable parts instead. What an earlier response holds (`previous_response_id`, `conversation`) stays with the
provider, who saw tokens only.
"""

from collections.abc import Mapping
from typing import Final

from policies.model import Forward, Path, Role, UnreadablePart
from sidecar.codecs.json_splice import Replacement, locate, replacements, written
from sidecar.codecs.json_strict import Json
from sidecar.dialects.leaves import Leaves

_TOP_OPAQUE: Final = frozenset(
    {"model", "service_tier", "truncation", "previous_response_id", "conversation", "prompt_cache_retention"}
)
_OPTIONS: Final = frozenset({"include", "reasoning", "stream_options", "tool_choice", "context_management"})
_ITEM_OPAQUE: Final = frozenset(
    {"type", "id", "call_id", "status", "role", "name", "namespace", "server_label", "file_id", "container_id"}
    | {"detail", "approval_request_id", "format"}
)
_TOOL_OPAQUE: Final = frozenset({"type", "name", "server_label"})
_ROLES: Final = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
}
# part type -> (what it is, members that hold its bytes)
_UNREADABLE_PARTS: Final = {
    "input_image": (UnreadablePart.IMAGE, frozenset({"image_url"})),
    "computer_screenshot": (UnreadablePart.IMAGE, frozenset({"image_url"})),
    "image_generation_call": (UnreadablePart.IMAGE, frozenset({"result"})),
    "input_file": (UnreadablePart.FILE, frozenset({"file_data"})),
    "input_audio": (UnreadablePart.AUDIO, frozenset({"data"})),
}


def collect_response(body: Mapping[str, Json], leaves: Leaves) -> None:
    """Every text of a `/v1/responses` body."""
    for name, value in body.items():
        match name:
            case "input" if isinstance(value, list):
                for index, item in enumerate(value):
                    _item(item, ("input", index), leaves)
            case "input":
                leaves.walk(value, (name,), Role.USER)
            case "instructions":
                leaves.walk(value, (name,), Role.SYSTEM)
            case "metadata":
                leaves.tool_input(value, (name,), Role.OTHER)  # user-chosen names and values
            case "tools":
                leaves.walk(value, (name,), Role.OTHER, _TOOL_OPAQUE)
            case "prompt" if isinstance(value, dict):
                _template(value, (name,), leaves)
            case _ if name in _OPTIONS and isinstance(value, dict | list):
                pass  # names of tools, options
            case _ if name in _TOP_OPAQUE and isinstance(value, str):
                pass
            case _:
                leaves.member(name, value, (), Role.OTHER)


def place_instructions(body: bytes, tree: Mapping[str, Json], verdict: Forward) -> list[Replacement]:
    """The edits, and the system prompt before every other instruction."""
    prompt = verdict.system_prompt or ""
    instructions = tree.get("instructions")
    path: Path = ("instructions",)
    if isinstance(instructions, str):
        return replacements(body, {**verdict.edits, path: prompt + "\n\n" + verdict.edits.get(path, instructions)})
    if "instructions" in tree and instructions is None:
        return replacements(body, {**verdict.edits, path: prompt})
    if "instructions" in tree:
        return replacements(body, verdict.edits)  # no shape that the API knows: it will say so
    at = locate(body, [()])[()] + 1
    member = b'"instructions":' + written(prompt) + (b"," if tree else b"")
    return [*replacements(body, verdict.edits), (at, at, member)]


def _template(prompt: Mapping[str, Json], path: Path, leaves: Leaves) -> None:
    """A prompt kept by the provider: its variables are texts or parts of the user's."""
    for name, value in prompt.items():
        if name == "variables" and isinstance(value, dict):
            for variable, given in value.items():
                _part(given, (*path, name, variable), Role.USER, leaves)
        elif name not in ("id", "version"):
            leaves.member(name, value, path, Role.OTHER)


def _item(item: Json, path: Path, leaves: Leaves) -> None:
    if not isinstance(item, dict):
        leaves.walk(item, path, Role.USER)
        return
    role = _role(item)
    for name, value in item.items():
        match name:
            case "content" | "output" if isinstance(value, list):
                for index, part in enumerate(value):
                    _part(part, (*path, name, index), role, leaves)
            case "output" if isinstance(value, dict):
                _part(value, (*path, name), role, leaves)
            case "arguments" if isinstance(value, str):
                leaves.tool_arguments(value, (*path, name), role)
            case "arguments" | "action" | "input" | "queries" if isinstance(value, dict | list):
                leaves.tool_input(value, (*path, name), role)
            case _:
                _member(item, name, path, role, leaves)


def _role(item: Mapping[str, Json]) -> Role:
    """Who wrote an item. What nobody knows is treated like the one that is trusted least."""
    said_by, kind = item.get("role"), item.get("type")
    if isinstance(said_by, str):
        return _ROLES.get(said_by, Role.USER)
    if not isinstance(kind, str):
        return Role.USER
    if kind.endswith("_output"):
        return Role.TOOL
    return Role.ASSISTANT if kind == "reasoning" or kind.endswith("_call") else Role.USER


def _part(part: Json, path: Path, role: Role, leaves: Leaves) -> None:
    if not isinstance(part, dict):
        leaves.walk(part, path, role)
        return
    kind, text = part.get("type"), part.get("text")
    if isinstance(text, str) and len(part) == 2 and isinstance(kind, str):
        leaves.text((*path, "text"), role, text)  # nearly all
        return
    for name in part:
        _member(part, name, path, role, leaves)
    if isinstance(kind, str) and kind in _UNREADABLE_PARTS:
        leaves.cannot_read(_UNREADABLE_PARTS[kind][0])


def _member(holder: Mapping[str, Json], name: str, path: Path, role: Role, leaves: Leaves) -> None:
    """One member of an item or part. The bytes of media are not read; a URL that points to some is."""
    kind, value = holder.get("type"), holder[name]
    _, inline = _UNREADABLE_PARTS.get(kind, (None, frozenset())) if isinstance(kind, str) else (None, frozenset())
    if name in inline and isinstance(value, str) and not value.startswith(("http:", "https:")):
        return
    leaves.member(name, value, path, role, _ITEM_OPAQUE)
