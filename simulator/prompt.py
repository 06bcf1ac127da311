"""What a simulated model is told: the text of a prompt, in either provider's shape."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from simulator.errors import RefusedError


@dataclass(frozen=True, slots=True)
class Prompt:
    """The parts of a request that an answer depends on."""

    model: str
    stream: bool
    texts: tuple[str, ...]
    """Every text in order: system first, then the messages, tool arguments and results included."""
    last: str
    """All text of the last message."""
    system: str
    """All text of the system prompt."""
    tools: tuple[str, ...]
    """Names of the tools that the model may call."""
    choices: int = 1
    usage: bool = False
    """OpenAI: whether a usage chunk was asked for."""


def openai_prompt(body: Any) -> Prompt:
    """A chat completions request. Raises RefusedError."""
    messages = _messages(body)
    system = [m for m in messages if m.get("role") in ("system", "developer")]
    choices = 1 if body.get("n") is None else body["n"]
    if not isinstance(choices, int) or not 1 <= choices <= 128:
        raise RefusedError("n: expected 1 to 128")
    return Prompt(
        model=str(body.get("model", "")),
        stream=body.get("stream") is True,
        texts=tuple(text for message in messages for text in _openai_texts(message)),
        last="\n".join(_openai_texts(messages[-1])),
        system="\n".join(text for message in system for text in _openai_texts(message)),
        tools=tuple(str(_object(t["function"]).get("name")) for t in _objects(body.get("tools")) if "function" in t),
        choices=choices,
        usage=bool(_object(body.get("stream_options")).get("include_usage")),
    )


def anthropic_prompt(body: Any) -> Prompt:
    """A messages request. Raises RefusedError."""
    messages = _messages(body)
    if not isinstance(body.get("max_tokens"), int):
        raise RefusedError("max_tokens: field required")
    system = list(_anthropic_texts(body.get("system")))
    return Prompt(
        model=str(body.get("model", "")),
        stream=body.get("stream") is True,
        texts=(*system, *(text for message in messages for text in _anthropic_texts(message.get("content")))),
        last="\n".join(_anthropic_texts(messages[-1].get("content"))),
        system="\n".join(system),
        tools=tuple(str(tool.get("name")) for tool in _objects(body.get("tools"))),
    )


def _messages(body: Any) -> list[dict[str, Any]]:
    if not isinstance(body, dict):
        raise RefusedError("expected a JSON object")
    messages = _objects(body.get("messages"))
    if not messages:
        raise RefusedError("messages: expected a list of at least one message")
    return messages


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _openai_texts(message: dict[str, Any]) -> Iterator[str]:
    content = message.get("content")
    if isinstance(content, str):
        yield content
    for part in _objects(content):
        if isinstance(part.get("text"), str):
            yield part["text"]
    for call in _objects(message.get("tool_calls")):
        function = call.get("function")
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            yield function["arguments"]


def _anthropic_texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    for block in _objects(content):
        match block.get("type"):
            case "text":
                yield str(block.get("text", ""))
            case "tool_use":
                yield from _leaves(block.get("input"))
            case "tool_result":
                yield from _anthropic_texts(block.get("content"))
            case _:
                pass


def _leaves(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from _leaves(item)
        case dict():
            for item in value.values():
                yield from _leaves(item)
        case _:
            pass
