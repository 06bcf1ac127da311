"""OpenAI's wire shapes: chat completions, embeddings, models, errors."""

import base64
import hashlib
import struct
from collections.abc import Iterator
from typing import Any

from simulator.config import SimulatorConfig
from simulator.errors import RefusedError
from simulator.prompt import Prompt
from simulator.speech import Call, Speech
from simulator.wire import Event, Stamp, interleaved, json_text, pieces

DIMENSIONS = 16


def completion(speech: Speech, prompt: Prompt, behaviour: SimulatorConfig, stamp: Stamp) -> dict[str, Any]:
    """The unstreamed answer."""
    message: dict[str, Any] = {"role": "assistant", "content": speech.text, "refusal": None, "annotations": []}
    if speech.calls:
        message["tool_calls"] = [
            _call(call.id, call.name, call.arguments_json(ascii_only=behaviour.ascii)) for call in speech.calls
        ]
    choices = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": _finish(speech)}
        for index in range(prompt.choices)
    ]
    return {**_head("chat.completion", prompt, stamp), "choices": choices, "usage": _usage(speech)}


def chunks(speech: Speech, prompt: Prompt, behaviour: SimulatorConfig, stamp: Stamp) -> Iterator[Event]:
    """The streamed answer; choices and tool calls take turns."""
    head = _head("chat.completion.chunk", prompt, stamp)

    def event(choices: list[Any], **more: object) -> Event:
        if prompt.usage:
            more = {"usage": None, **more}
        return Event(json_text({**head, "choices": choices, **more}, ascii_only=behaviour.ascii))

    def choice(index: int) -> Iterator[Event]:
        def delta(fields: dict[str, Any], finish: str | None = None) -> Event:
            return event([{"index": index, "delta": fields, "logprobs": None, "finish_reason": finish}])

        yield delta({"role": "assistant", "content": "", "refusal": None})
        for piece in pieces(speech.text, behaviour.delta_characters):
            yield delta({"content": piece})
        yield from interleaved(
            map(delta, _fragments(number, call, behaviour)) for number, call in enumerate(speech.calls)
        )
        yield delta({}, _finish(speech))

    yield from interleaved(choice(index) for index in range(prompt.choices))
    if prompt.usage:
        yield event([], usage=_usage(speech))
    yield Event("[DONE]")


def embeddings(body: Any) -> dict[str, Any]:
    """Vectors that depend on every byte of the input and on nothing else. Raises RefusedError."""
    if not isinstance(body, dict) or "input" not in body:
        raise RefusedError("input: field required")
    given = body["input"]
    inputs = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    size = body.get("dimensions") or DIMENSIONS
    if not isinstance(size, int) or not 1 <= size <= 4096:
        raise RefusedError("dimensions: expected 1 to 4096")
    vectors = [_vector(json_text(item, ascii_only=True), size) for item in inputs]
    if body.get("encoding_format") == "base64":
        encoded: list[Any] = [base64.b64encode(struct.pack(f"<{size}f", *vector)).decode() for vector in vectors]
    else:
        encoded = vectors
    tokens = sum(len(str(item).split()) for item in inputs)
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(encoded)],
        "model": str(body.get("model", "")),
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def models(created: int) -> dict[str, Any]:
    """The list of models."""
    return {
        "object": "list",
        "data": [{"id": "simulated", "object": "model", "created": created, "owned_by": "aegis"}],
    }


def error(status: int, message: str) -> dict[str, Any]:
    """The error body, also the data of an error within a stream."""
    kind = {401: "authentication_error", 429: "rate_limit_exceeded"}.get(status)
    kind = kind or ("invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def _head(kind: str, prompt: Prompt, stamp: Stamp) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-sim{stamp.serial:08d}",
        "object": kind,
        "created": stamp.created,
        "model": prompt.model,
        "service_tier": "default",
        "system_fingerprint": "fp_simulated",
    }


def _finish(speech: Speech) -> str:
    return "tool_calls" if speech.calls else "stop"


def _usage(speech: Speech) -> dict[str, int]:
    return {
        "prompt_tokens": speech.input_tokens,
        "completion_tokens": speech.output_tokens,
        "total_tokens": speech.input_tokens + speech.output_tokens,
    }


def _call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _fragments(number: int, call: Call, behaviour: SimulatorConfig) -> Iterator[dict[str, Any]]:
    """The deltas of one tool call: id and name stand in the first only."""
    yield {"tool_calls": [{"index": number, **_call(call.id, call.name, "")}]}
    for piece in pieces(call.arguments_json(ascii_only=behaviour.ascii), behaviour.delta_characters):
        yield {"tool_calls": [{"index": number, "function": {"arguments": piece}}]}


def _vector(text: str, size: int) -> list[float]:
    stream = hashlib.shake_256(text.encode()).digest(size * 2)
    return [value / 32768 for value in struct.unpack(f"<{size}h", stream)]
