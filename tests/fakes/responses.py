"""A streamed answer of the Responses API, as the service words it: every text in deltas, at their end, and whole."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

Item = tuple[dict[str, Any], Sequence[str]]
"""An output item without its text, and the pieces of that."""


def said(*pieces: str, **more: Any) -> Item:
    """A message."""
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", **more}, pieces


def refused(*pieces: str) -> Item:
    """A message that says no."""
    return {"id": "msg_2", "type": "message", "role": "assistant", "status": "completed", "refuses": True}, pieces


def thought(*pieces: str) -> Item:
    """A summary of reasoning."""
    return {"id": "rs_1", "type": "reasoning", "encrypted_content": "gAAA[T1]"}, pieces


def called(name: str, *pieces: str) -> Item:
    """A call of a function."""
    return {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": name, "status": "completed"}, pieces


def custom(name: str, *pieces: str) -> Item:
    """A call of a tool that takes raw text."""
    return {"id": "ct_1", "type": "custom_tool_call", "call_id": "call_2", "name": name}, pieces


def whole_item(item: Item) -> dict[str, Any]:
    """The item with its text."""
    form, pieces = item
    text = "".join(pieces)
    match form["type"]:
        case "message" if form.get("refuses"):
            return {**form, "content": [{"type": "refusal", "refusal": text}]}
        case "message":
            part = {"type": "output_text", "text": text, "annotations": form.get("annotations", []), "logprobs": []}
            return {**{k: v for k, v in form.items() if k != "annotations"}, "content": [part]}
        case "reasoning":
            return {**form, "summary": [{"type": "summary_text", "text": text}]}
        case "function_call":
            return {**form, "arguments": text}
        case _:
            return {**form, "input": text}


def response(items: Iterable[Item], status: str = "completed") -> dict[str, Any]:
    """The whole answer."""
    usage = {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12, "input_tokens_details": {"cached_tokens": 0}}
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": "gpt-4o",
        "output": [whole_item(item) for item in items],
        "usage": {**usage, "output_tokens_details": {"reasoning_tokens": 0}} if status == "completed" else None,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "metadata": {},
    }


def response_events(items: Sequence[Item], last: str = "completed") -> Iterator[dict[str, Any]]:
    """Every event, unnumbered."""
    yield {"type": "response.created", "response": response([], "in_progress")}
    for output, item in enumerate(items):
        yield from _item_events(output, item)
    yield {"type": f"response.{last}", "response": response(items, last)}


def _item_events(output: int, item: Item) -> Iterator[dict[str, Any]]:
    form, pieces = item
    whole, text = whole_item(item), "".join(pieces)
    where = {"item_id": form["id"], "output_index": output}
    in_part = {**where, "content_index": 0}
    match form["type"]:
        case "message":
            (part,) = whole["content"]
            name = "refusal" if form.get("refuses") else "text"
            stem = "response.refusal" if form.get("refuses") else "response.output_text"
            yield {"type": "response.output_item.added", "output_index": output, "item": {**whole, "content": []}}
            yield {"type": "response.content_part.added", **in_part, "part": {**part, name: ""}}
            for piece in pieces:
                yield {"type": f"{stem}.delta", **in_part, "delta": piece, "obfuscation": "xY7"[: 1 + len(piece) % 3]}
            yield {"type": f"{stem}.done", **in_part, name: text}
            yield {"type": "response.content_part.done", **in_part, "part": part}
        case "reasoning":
            in_part = {**where, "summary_index": 0}
            part = {"type": "summary_text", "text": text}
            yield {"type": "response.output_item.added", "output_index": output, "item": {**form, "summary": []}}
            yield {"type": "response.reasoning_summary_part.added", **in_part, "part": {**part, "text": ""}}
            for piece in pieces:
                yield {"type": "response.reasoning_summary_text.delta", **in_part, "delta": piece}
            yield {"type": "response.reasoning_summary_text.done", **in_part, "text": text}
            yield {"type": "response.reasoning_summary_part.done", **in_part, "part": part}
        case kind:
            name, stem = (
                ("arguments", "function_call_arguments")
                if kind == "function_call"
                else ("input", "custom_tool_call_input")
            )
            yield {"type": "response.output_item.added", "output_index": output, "item": {**whole, name: ""}}
            for piece in pieces:
                yield {"type": f"response.{stem}.delta", **where, "delta": piece}
            yield {"type": f"response.{stem}.done", **where, name: text}
    yield {"type": "response.output_item.done", "output_index": output, "item": whole}


def response_stream(items: Sequence[Item], last: str = "completed", *, ascii_only: bool = False) -> bytes:
    """The bytes of a stream."""
    events = []
    for number, event in enumerate(response_events(items, last)):
        numbered = {"type": event["type"], "sequence_number": number, **event}  # as the service orders them
        data = json.dumps(numbered, ensure_ascii=ascii_only, separators=(",", ":"))
        events.append(f"event: {event['type']}\ndata: {data}\n\n".encode())
    return b"".join(events)
