"""The official `anthropic` SDK, unchanged, through a running data path (T31): real sockets, a scripted model server."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import pytest

from policies.model import ResultCode
from tests.fakes.datapath import DataPath, running_datapath, scripted_upstream, snapshot_of
from tests.fakes.tokens import TokenPolicy
from tests.sdk.model_server import JO, ZOE, ModelServer, event, message, message_stream, text_block

ASK: Any = {
    "model": "claude",
    "max_tokens": 99,
    "messages": [{"role": "user", "content": f"I am {JO}, she is {ZOE}."}],
}
TOOL: Any = {"name": "mail", "description": f"of {JO}", "input_schema": {"type": "object", "properties": {}}}


@asynccontextmanager
async def client_of(
    server: ModelServer, *, policy: TokenPolicy | None = None, max_retries: int = 0
) -> AsyncIterator[tuple[anthropic.AsyncAnthropic, DataPath]]:
    """An SDK whose base URL is the data path."""
    async with (
        scripted_upstream(server.script) as upstream,
        running_datapath(snapshot_of(upstream.url, policy or TokenPolicy(JO, ZOE))) as datapath,
        anthropic.AsyncAnthropic(
            api_key="sk-ant-test", base_url=f"http://127.0.0.1:{datapath.port}", max_retries=max_retries, timeout=10
        ) as client,
    ):
        yield client, datapath


async def final(client: anthropic.AsyncAnthropic, **more: Any) -> anthropic.types.Message:
    """The message that the SDK accumulates from a stream."""
    async with client.messages.stream(**ASK, **more) as stream:
        return await stream.get_final_message()


async def test_model_sees_tokens_and_the_application_its_values() -> None:
    content = {"type": "tool_use", "id": "toolu_1", "name": "mail", "input": {"to": ["[T2]"], "n": 1.0}}
    server = ModelServer(json.dumps(message({"type": "text", "text": "Dear [T1]"}, content)).encode())
    async with client_of(server) as (client, _):
        answer = await client.messages.create(**ASK, system=f"serve {JO}", tools=[TOOL])

    sent = server.prompt
    assert sent["messages"][0]["content"] == "I am [T1], she is [T2]."
    assert sent["system"] == "serve [T1]"
    assert sent["tools"][0]["description"] == "of [T1]"
    text, use = answer.content
    assert text.type == "text"
    assert text.text == f"Dear {JO}"
    assert use.type == "tool_use"
    assert use.input == {"to": [ZOE], "n": 1.0}


@pytest.mark.parametrize("step", [0, 1, 7, 100])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
async def test_stream_is_restored_however_it_is_cut_and_framed(step: int, line_end: bytes) -> None:
    answer = message_stream(text_block(*"Dear [T1]", ", and [", "T2", "] 😀", " [T", "3] [T"))
    async with client_of(ModelServer(answer.replace(b"\n", line_end), step=step)) as (client, datapath):
        told = await final(client)
        (entry,) = await datapath.settled()

    (block,) = told.content
    assert block.type == "text"
    assert block.text == f"Dear {JO}, and {ZOE} 😀 [T3] [T"
    assert (told.stop_reason, told.usage.output_tokens) == ("end_turn", 9)
    assert entry.result is ResultCode.FORWARDED


async def test_t7_t13_tools_are_restored_and_thoughts_are_not_touched() -> None:
    thought = {"type": "thinking", "thinking": "", "signature": ""}
    thinking: list[dict[str, Any]] = [
        {"type": "thinking_delta", "thinking": "it is [T1]"},
        {"type": "signature_delta", "signature": "c2ln[T1]"},
    ]
    fragments = [*'{"to": "[T1]", "note": "of \\"[T2]\\" \\u00e9 ', "\\ud83d", '\\ude00", "n": 1.0}']
    use = {"type": "tool_use", "id": "toolu_1", "name": "mail", "input": {}}
    deltas = [{"type": "input_json_delta", "partial_json": text} for text in ["", *fragments]]
    answer = message_stream((thought, thinking), text_block("So [T", "1]:"), (use, deltas))
    async with client_of(ModelServer(answer, step=11)) as (client, _):
        told = await final(client, tools=[TOOL])

    first, second, third = told.content
    assert first.type == "thinking"
    assert (first.thinking, first.signature) == ("it is [T1]", "c2ln[T1]")
    assert second.type == "text"
    assert second.text == f"So {JO}:"
    assert third.type == "tool_use"
    assert third.input == {"to": JO, "note": f'of "{ZOE}" é 😀', "n": 1.0}


async def test_t8_t13_history_leaves_as_tokens_and_signed_blocks_byte_for_byte() -> None:
    server = ModelServer(json.dumps(message({"type": "text", "text": "ok"})).encode())
    thinking = {"type": "thinking", "thinking": "it is [T1]", "signature": "c2ln"}
    history: Any = [
        {"role": "user", "content": [{"type": "text", "text": JO, "cache_control": {"type": "ephemeral"}}]},
        {
            "role": "assistant",
            "content": [thinking, {"type": "tool_use", "id": "t", "name": "mail", "input": {"a": ZOE}}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": f"sent to {JO}"}]},
    ]
    async with client_of(server) as (client, _):
        await client.messages.create(model="claude", max_tokens=9, messages=history, metadata={"user_id": JO})

    sent = server.prompt
    assert sent["messages"][0]["content"][0] == {
        "type": "text",
        "text": "[T1]",
        "cache_control": {"type": "ephemeral"},
    }
    assert sent["messages"][1]["content"][0] == thinking
    assert sent["messages"][1]["content"][1]["input"] == {"a": "[T2]"}
    assert sent["messages"][2]["content"][0]["content"] == "sent to [T1]"
    assert sent["metadata"] == {"user_id": "[T1]"}


async def test_t18_error_within_a_stream_is_raised() -> None:
    error = event("error", error={"type": "overloaded_error", "message": "busy"})
    answer = message_stream(text_block("Dear [T1]"), whole=False) + error
    async with client_of(ModelServer(answer)) as (client, _):
        with pytest.raises(anthropic.APIStatusError, match="busy"):
            await final(client)


async def test_t18_upstream_that_dies_in_midstream_is_an_error_and_no_end() -> None:
    answer = message_stream(text_block("Dear [T", "1]", " more"), whole=False)[:-20]
    async with client_of(ModelServer(answer, dies=True)) as (client, datapath):
        with pytest.raises(anthropic.APIStatusError, match="aegis_"):
            await final(client)
        (entry,) = await datapath.settled()

    assert entry.result is ResultCode.UPSTREAM_FAILED


@pytest.mark.parametrize(
    ("status", "fields", "hits", "error"),
    [
        ("429 Too Many Requests", "retry-after-ms: 1\r\n", 3, anthropic.RateLimitError),
        ("529 Overloaded", "x-should-retry: false\r\n", 1, anthropic.APIStatusError),
        ("413 Payload Too Large", "", 1, anthropic.APIStatusError),
    ],
)
async def test_t22_upstream_errors_are_retried_as_often_as_the_upstream_allows(
    status: str, fields: str, hits: int, error: type[anthropic.APIStatusError]
) -> None:
    body = b'{"type":"error","error":{"type":"x","message":"key sk-ant-api03-abcdefgh1234"},"request_id":"req_1"}'
    server = ModelServer(body, status=status, fields=fields + "request-id: req_1\r\n")
    async with client_of(server, max_retries=2) as (client, _):
        with pytest.raises(error) as caught:
            await client.messages.create(**ASK)

    assert len(server.requests) == hits
    assert caught.value.request_id == "req_1"
    assert "abcdefgh" not in str(caught.value)


async def test_refused_prompt_never_reaches_the_model_and_is_not_asked_again() -> None:
    server = ModelServer(b"{}")
    async with client_of(server, policy=TokenPolicy(JO, forbidden="bomb"), max_retries=2) as (client, datapath):
        with pytest.raises(anthropic.PermissionDeniedError) as caught:
            await client.messages.create(model="claude", max_tokens=9, messages=[{"role": "user", "content": "a bomb"}])
        (entry,) = await datapath.settled()

    assert server.requests == []
    assert "aegis_blocked" in str(caught.value)
    assert entry.result is ResultCode.DENIED_AIRLOCK


async def test_tokens_are_counted_over_the_prompt_that_would_leave() -> None:
    server = ModelServer(b'{"input_tokens": 42}')
    async with client_of(server) as (client, _):
        count = await client.messages.count_tokens(model="claude", messages=ASK["messages"])

    assert count.input_tokens == 42
    assert server.prompt["messages"][0]["content"] == "I am [T1], she is [T2]."
