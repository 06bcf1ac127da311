"""Microseconds of CPU that a dialect takes for a request and for an event of an answer.

    python benchmarks/bench_dialects.py

Baselines in the same run: `json.loads` of the same bytes. Each figure is the best of several rounds of process time, so
that other work on the machine disturbs it little. The restore function of the stream rows costs nothing (`same`) or is
the smallest that restores (`tokens`, tests/fakes/tokens.py would cost more than the dialect): what is measured is the
dialect, not the policy.
"""

import json
import time
from collections.abc import Callable, Iterator

from policies.model import Channel, Forward
from sidecar.dialects.dialect import Dialect
from sidecar.dialects.registry import Dialects

ROUNDS = 7
KIB = 1024
PARAGRAPH = "The patient was seen on the ward: no acute distress, plan unchanged. "


def cost(act: Callable[[], object], budget: float = 0.05) -> float:
    """Microseconds of one call."""
    act()
    calls, spent = 1, 0.0
    while spent < budget / 4:
        calls *= 2
        spent = _spent(act, calls)
    return min(_spent(act, calls) for _ in range(ROUNDS)) / calls * 1e6


def _spent(act: Callable[[], object], calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        act()
    return time.process_time() - start


def as_the_sdk(body: object) -> bytes:
    """Bytes as httpx writes them for the official SDKs."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def chat_request(size: int) -> bytes:
    """A conversation of about `size` bytes, as the SDK writes it."""
    turns = max(1, size // 2048)
    share = (size - 120 - 90 * turns) // (2 * turns)
    text = PARAGRAPH * (share // len(PARAGRAPH) + 1)
    messages = [{"role": "system", "content": "You are a careful assistant."}]
    for _ in range(turns):
        messages += [{"role": "user", "content": text[:share]}, {"role": "assistant", "content": text[:share]}]
    return as_the_sdk({"model": "gpt-4o", "messages": messages, "temperature": 0.7, "stream": True})


def messages_request(size: int) -> bytes:
    """The same as an Anthropic request with blocks."""
    body = json.loads(chat_request(size))
    system, *turns = body["messages"]
    blocks = [{"role": turn["role"], "content": [{"type": "text", "text": turn["content"]}]} for turn in turns]
    return as_the_sdk({"model": "c", "max_tokens": 9, "system": system["content"], "messages": blocks})


def agent_request() -> bytes:
    """Tools with schemas and a history of calls: many small strings, documents within strings."""
    schema = {
        "type": "object",
        "properties": {f"field_{n}": {"type": "string", "description": "x" * 40} for n in range(9)},
    }
    tools = [
        {"type": "function", "function": {"name": f"tool_{n}", "description": "d" * 80, "parameters": schema}}
        for n in range(8)
    ]
    arguments = json.dumps({"path": "src/main.py", "old": 'print("x")\n', "new": 'print("y")\n'})
    call = {"id": "call_1", "type": "function", "function": {"name": "edit", "arguments": arguments}}
    turn = [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "call_1", "content": "ok"}]
    return as_the_sdk({"model": "gpt-4o", "messages": turn * 20, "tools": tools})


def chat_events(texts: list[str]) -> list[bytes]:
    """Events of a streamed chat completion with padding of changing length, as the API sends them."""
    head = '{"id":"chatcmpl-B9MBs8CjcvOU2jLn","object":"chat.completion.chunk","created":1741569952,'
    head += '"model":"gpt-4o-2024-08-06","service_tier":"default","system_fingerprint":"fp_44709d6fcb",'
    return [
        f'data: {head}"choices":[{{"index":0,"delta":{{"content":{json.dumps(text)}}},"logprobs":null,'
        f'"finish_reason":null}}],"obfuscation":"{"aB3xY"[: 1 + number % 5]}"}}\n\n'.encode()
        for number, text in enumerate(texts)
    ]


def message_events(texts: list[str]) -> list[bytes]:
    """Events of a streamed message."""
    return [
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta",'
        b'"text":%s}%s}\n\n' % (json.dumps(text).encode(), b" " * (number % 5))
        for number, text in enumerate(texts)
    ]


def same(_channel: Channel, piece: str, _last: bool) -> str:
    """A policy that looks and changes nothing."""
    return piece


def changing(_channel: Channel, piece: str, _last: bool) -> str:
    """A policy that changes every piece."""
    return piece + "!"


def request_rows() -> Iterator[tuple[str, float, float]]:
    """(what, microseconds, times json.loads)."""
    dialects = Dialects()
    chat = dialects.choose("POST", "/v1/chat/completions", {})
    messages = dialects.choose("POST", "/v1/messages", {})
    generic = dialects.choose("POST", "/v1/other", {})
    cases: list[tuple[str, Dialect, bytes]] = []
    for kib in (1, 8, 64):
        cases += [
            (f"chat {kib} KB", chat, chat_request(kib * KIB)),
            (f"messages {kib} KB", messages, messages_request(kib * KIB)),
            (f"generic {kib} KB", generic, chat_request(kib * KIB)),
        ]
    cases.append(("chat 8 KB with spaces", chat, json.dumps(json.loads(chat_request(8 * KIB))).encode()))
    cases.append(("chat, agent with tools", chat, agent_request()))
    for name, dialect, body in cases:
        prompt = dialect.read(body)
        edits = Forward({segment.path: segment.text + "[T1]" for segment in prompt.segments[:2]})
        baseline = cost(lambda body=body: json.loads(body))  # type: ignore[misc]
        read = cost(lambda dialect=dialect, body=body: dialect.read(body))  # type: ignore[misc]
        rewrite = cost(lambda prompt=prompt, edits=edits: prompt.rewrite(edits))  # type: ignore[misc]
        yield f"{name} ({len(body)} B, {len(prompt.segments)} strings): read", read, read / baseline
        yield f"{name}: rewrite two strings", rewrite, rewrite / baseline


def stream_rows() -> Iterator[tuple[str, float, float]]:
    """(what, microseconds per event, times json.loads of the event)."""
    dialects = Dialects()
    words = PARAGRAPH.split(" ") * 20
    for name, path, events in (
        ("chat", "/v1/chat/completions", chat_events(words)),
        ("messages", "/v1/messages", message_events(words)),
    ):
        dialect = dialects.choose("POST", path, {})
        data = events[0].partition(b"data: ")[2]
        baseline = cost(lambda data=data: json.loads(data))  # type: ignore[misc]
        for what, restore in (("pass", None), ("read", same), ("change every event", changing)):

            def run(dialect: Dialect = dialect, restore=restore, events: list[bytes] = events) -> None:  # type: ignore[no-untyped-def]
                answer = dialect.answer("text/event-stream", restore)
                for event in events:
                    answer.feed(event)
                answer.close()

            each = cost(run, 0.2) / len(events)
            yield f"{name} event ({len(events[0])} B): {what}", each, each / baseline


def main() -> None:
    """Print the table."""
    print(f"{'what':62} {'µs':>8} {'× json.loads':>13}")
    for rows in (request_rows(), stream_rows()):
        for what, microseconds, ratio in rows:
            print(f"{what:62} {microseconds:8.2f} {ratio:13.2f}")


if __name__ == "__main__":
    main()
