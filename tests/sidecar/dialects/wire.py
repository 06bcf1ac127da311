"""What a client makes of an answer, and ways to cut one into reads."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from sidecar.dialects.dialect import Answer


def events(stream: bytes) -> Iterator[tuple[str, str]]:
    """(event name, data) of each event, by the letter of the standard."""
    name, lines = "", []
    for line in stream.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if lines:
                yield name, "\n".join(lines)
            name, lines = "", []
        elif field == "data":
            lines.append(value)
        elif field == "event":
            name = value


def read(answer: Answer, pieces: Iterable[bytes]) -> bytes:
    """All that the client gets."""
    return b"".join([*map(answer.feed, pieces), answer.close()])


def bytewise(stream: bytes) -> list[bytes]:
    return [stream[at : at + 1] for at in range(len(stream))]


def chat_texts(stream: bytes) -> dict[str, str]:
    """Every text of a streamed chat completion, joined as a client joins it."""
    joined: dict[str, str] = defaultdict(str)
    for _, data in events(stream):
        if data.strip() == "[DONE]":
            continue
        for choice in json.loads(data).get("choices", []):
            for name, value in choice["delta"].items():
                at = f"{choice['index']}.{name}"
                if name == "tool_calls":
                    for call in value:
                        called = call.get("function") or call.get("custom") or {}
                        joined[f"{at}.{call['index']}"] += called.get("arguments") or called.get("input") or ""
                elif name == "function_call":
                    joined[at] += value.get("arguments", "")
                elif name == "audio":
                    joined[at] += value.get("transcript", "")
                elif name != "role":
                    joined[at] += value or ""
    return dict(joined)


def message_texts(stream: bytes) -> dict[int, str]:
    """Every block of a streamed message, joined as a client joins it. Checks that no block goes on after its end."""
    blocks: dict[int, str] = {}
    stopped: set[int] = set()
    for name, data in events(stream):
        event: dict[str, Any] = json.loads(data)
        assert name == event["type"]
        match event["type"]:
            case "content_block_start":
                blocks[event["index"]] = event["content_block"].get("text", "")
            case "content_block_delta":
                assert event["index"] not in stopped
                delta = event["delta"]
                blocks[event["index"]] += delta.get("text") or delta.get("partial_json") or ""
            case "content_block_stop":
                stopped.add(event["index"])
    return blocks
