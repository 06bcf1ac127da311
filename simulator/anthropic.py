"""Anthropic's wire shapes: messages, token counts, errors."""

from collections.abc import Iterator
from typing import Any

from simulator.config import SimulatorConfig
from simulator.prompt import Prompt
from simulator.speech import Speech, signature
from simulator.wire import Event, Stamp, json_text, pieces


def message(speech: Speech, prompt: Prompt, stamp: Stamp) -> dict[str, Any]:
    """The unstreamed answer."""
    content: list[dict[str, Any]] = []
    if speech.thinking:
        content.append({"type": "thinking", "thinking": speech.thinking, "signature": signature(speech.thinking)})
    content.append({"type": "text", "text": speech.text})
    content += [{"type": "tool_use", "id": c.id, "name": c.name, "input": c.arguments} for c in speech.calls]
    return {**_head(speech, prompt, stamp), "content": content, "stop_reason": _stop(speech)}


def events(speech: Speech, prompt: Prompt, behaviour: SimulatorConfig, stamp: Stamp) -> Iterator[Event]:
    """The streamed answer, block after block."""

    def event(kind: str, **fields: object) -> Event:
        return Event(json_text({"type": kind, **fields}, ascii_only=behaviour.ascii), kind)

    def block(index: int, start: dict[str, Any], deltas: list[dict[str, Any]]) -> Iterator[Event]:
        yield event("content_block_start", index=index, content_block=start)
        for delta in deltas:
            yield event("content_block_delta", index=index, delta=delta)
        yield event("content_block_stop", index=index)

    def cut(text: str, kind: str, field: str) -> list[dict[str, Any]]:
        return [{"type": kind, field: piece} for piece in pieces(text, behaviour.delta_characters)]

    yield event("message_start", message={**_head(speech, prompt, stamp), "content": [], "stop_reason": None})
    yield event("ping")
    if speech.thinking:
        signed = [{"type": "signature_delta", "signature": signature(speech.thinking)}]
        start: dict[str, Any] = {"type": "thinking", "thinking": "", "signature": ""}
        yield from block(0, start, cut(speech.thinking, "thinking_delta", "thinking") + signed)
    first = 1 if speech.thinking else 0
    yield from block(first, {"type": "text", "text": ""}, cut(speech.text, "text_delta", "text"))
    for index, call in enumerate(speech.calls, first + 1):
        start = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
        arguments = call.arguments_json(ascii_only=behaviour.ascii)
        yield from block(index, start, cut(arguments, "input_json_delta", "partial_json"))
    delta = {"stop_reason": _stop(speech), "stop_sequence": None}
    yield event("message_delta", delta=delta, usage={"output_tokens": speech.output_tokens})
    yield event("message_stop")


def error(status: int, text: str, *, request_id: str) -> dict[str, Any]:
    """The error body, also the data of an `error` event within a stream."""
    kind = {
        400: "invalid_request_error",
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        504: "timeout_error",
        529: "overloaded_error",
    }.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": text}, "request_id": request_id}


def _head(speech: Speech, prompt: Prompt, stamp: Stamp) -> dict[str, Any]:
    return {
        "id": f"msg_sim{stamp.serial:08d}",
        "type": "message",
        "role": "assistant",
        "model": prompt.model,
        "stop_sequence": None,
        "usage": {"input_tokens": speech.input_tokens, "output_tokens": speech.output_tokens},
    }


def _stop(speech: Speech) -> str:
    return "tool_use" if speech.calls else "end_turn"
