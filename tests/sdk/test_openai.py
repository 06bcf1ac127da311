"""The official `openai` SDK, unchanged, through a running data path (T31): real sockets, a scripted model server."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from policies.model import ResultCode
from tests.fakes.datapath import DataPath, running_datapath, scripted_upstream, snapshot_of
from tests.fakes.tokens import TokenPolicy
from tests.sdk.model_server import JO, ZOE, ModelServer, chat_body, chat_stream, chunk_event

ASK: Any = {"model": "gpt-4o", "messages": [{"role": "user", "content": f"I am {JO}, she is {ZOE}."}]}
DONE = b"data: [DONE]\n\n"


@asynccontextmanager
async def client_of(
    server: ModelServer, *, policy: TokenPolicy | None = None, max_retries: int = 0
) -> AsyncIterator[tuple[openai.AsyncOpenAI, DataPath]]:
    """An SDK whose base URL is the data path."""
    async with (
        scripted_upstream(server.script) as upstream,
        running_datapath(snapshot_of(upstream.url, policy or TokenPolicy(JO, ZOE))) as datapath,
        openai.AsyncOpenAI(
            api_key="sk-test", base_url=f"http://127.0.0.1:{datapath.port}/v1", max_retries=max_retries, timeout=10
        ) as client,
    ):
        yield client, datapath


async def streamed(client: openai.AsyncOpenAI, **more: Any) -> str:
    """The text of a streamed answer to ASK."""
    stream = await client.chat.completions.create(**ASK, **more, stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])


async def test_model_sees_tokens_and_the_application_its_values() -> None:
    server = ModelServer(chat_body(content="Dear [T1], greet [T2]. No [T3]."))
    async with client_of(server) as (client, _):
        answer = await client.chat.completions.create(**ASK)

    assert server.prompt["messages"][0]["content"] == "I am [T1], she is [T2]."
    assert answer.choices[0].message.content == f"Dear {JO}, greet {ZOE}. No [T3]."
    assert answer.usage is not None
    assert answer.usage.total_tokens == 12


@pytest.mark.parametrize("step", [0, 1, 7, 100])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
async def test_stream_is_restored_however_it_is_cut_and_framed(step: int, line_end: bytes) -> None:
    answer = chat_stream([*"Dear [T1]", ", and [", "T2", "] 😀", " [T", "3] [T"]).replace(b"\n", line_end)
    async with client_of(ModelServer(answer, step=step)) as (client, datapath):
        text = await streamed(client)
        (entry,) = await datapath.settled()

    assert text == f"Dear {JO}, and {ZOE} 😀 [T3] [T"
    assert entry.result is ResultCode.FORWARDED


async def test_accumulating_helper_ends_with_the_same_completion() -> None:
    usage = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o", "choices": []}
    counted = {**usage, "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}
    end = (chunk_event({}, "stop"), b"data: " + json.dumps(counted).encode() + b"\n\n", DONE)
    async with (
        client_of(ModelServer(chat_stream(["Dear [T", "1]", " [T"], end), step=9)) as (client, _),
        client.chat.completions.stream(**ASK, stream_options={"include_usage": True}) as stream,
    ):
        completion = await stream.get_final_completion()

    assert completion.choices[0].message.content == f"Dear {JO} [T"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.total_tokens == 3


FIRST_CALL = [*'{"to": "[T1]", "note": "of \\"[T2]\\" \\u00e9", "n": 1.0}']
SECOND_CALL = ['{"who', '":"[T', '2]"', "}"]
CALLED = [{"to": JO, "note": f'of "{ZOE}" é', "n": 1.0}, {"who": ZOE}]


def call_event(index: int, arguments: str, name: str = "") -> bytes:
    """A fragment of a tool call; only the first one has its name."""
    call: dict[str, Any] = {"index": index, "function": {"arguments": arguments}}
    if name:
        call |= {"id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": arguments}}
    return chunk_event({"tool_calls": [call]})


async def test_t7_streamed_tool_arguments_parse_to_the_values() -> None:
    deltas = [call_event(0, "", "mail"), *(call_event(0, text) for text in FIRST_CALL)]
    deltas += [call_event(1, "", "find"), *(call_event(1, text) for text in SECOND_CALL)]
    function = {"name": "mail", "strict": True, "parameters": {"type": "object"}}
    tool: Any = {"type": "function", "function": function}
    async with (
        client_of(ModelServer(b"".join([*deltas, chunk_event({}, "tool_calls"), DONE]), step=13)) as (client, _),
        client.chat.completions.stream(**ASK, tools=[tool]) as stream,
    ):
        completion = await stream.get_final_completion()

    calls = completion.choices[0].message.tool_calls
    assert calls is not None
    assert [(call.id, call.function.name) for call in calls] == [("call_mail", "mail"), ("call_find", "find")]
    assert [json.loads(call.function.arguments) for call in calls] == CALLED


async def test_t5_tool_calls_whose_fragments_alternate_are_restored_each_for_itself() -> None:
    deltas = [call_event(0, "", "mail"), call_event(1, "", "find")]
    for number, text in enumerate(FIRST_CALL):
        deltas.append(call_event(0, text))
        deltas += [call_event(1, SECOND_CALL[number])] if number < len(SECOND_CALL) else []
    told = ["", ""]
    async with client_of(ModelServer(b"".join([*deltas, chunk_event({}, "tool_calls"), DONE]))) as (client, _):
        async for chunk in await client.chat.completions.create(**ASK, stream=True):
            for call in chunk.choices[0].delta.tool_calls or []:
                assert call.function is not None
                told[call.index] += call.function.arguments or ""

    assert [json.loads(arguments) for arguments in told] == CALLED


async def test_t8_tool_calls_and_results_of_the_history_leave_as_tokens() -> None:
    server = ModelServer(chat_body(content="ok"))
    arguments = json.dumps({"name": ZOE, "n": 1.50})
    call = {"id": "call_1", "type": "function", "function": {"name": "find", "arguments": arguments}}
    history: Any = [
        {"role": "system", "content": f"You serve {JO}."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": f"found {JO}"}]},
    ]
    async with client_of(server) as (client, _):
        await client.chat.completions.create(model="gpt-4o", messages=history, user=JO)

    sent = server.prompt
    assert sent["messages"][0]["content"] == "You serve [T1]."
    assert json.loads(sent["messages"][1]["tool_calls"][0]["function"]["arguments"]) == {"name": "[T2]", "n": 1.5}
    assert sent["messages"][2]["content"][0]["text"] == "found [T1]"
    assert sent["user"] == "[T1]"


async def test_t15_two_choices_are_two_answers() -> None:
    answer = b"".join(
        [
            *(
                chunk_event({"content": text}, index=index)
                for index, text in [(0, "[T"), (1, "a [T"), (0, "1]"), (1, "2]")]
            ),
            chunk_event({}, "stop", index=1),
            chunk_event({}, "stop", index=0),
            DONE,
        ]
    )
    async with (
        client_of(ModelServer(answer, step=5)) as (client, _),
        client.chat.completions.stream(**ASK, n=2) as stream,
    ):
        completion = await stream.get_final_completion()

    assert [choice.message.content for choice in completion.choices] == [JO, f"a {ZOE}"]


async def test_t18_error_within_a_stream_is_raised_after_the_text_before_it() -> None:
    error = b'data: {"error":{"message":"overloaded, key sk-proj-abcdefgh1234","type":"server_error","code":"x"}}\n\n'
    async with client_of(ModelServer(chat_stream(["Dear [T1]", " [T"], (error,)))) as (client, _):
        stream = await client.chat.completions.create(**ASK, stream=True)
        told = ""
        with pytest.raises(openai.APIError) as caught:  # noqa: PT012  # the text before the error matters, too
            async for chunk in stream:
                told += chunk.choices[0].delta.content or ""

    assert told == f"Dear {JO} [T"
    assert caught.value.code == "x"
    assert "abcdefgh" not in str(caught.value)


async def test_t18_upstream_that_dies_in_midstream_is_an_error_and_no_end() -> None:
    async with client_of(ModelServer(chat_stream(["Dear [T", "1]", " more"])[:-100], dies=True)) as (client, datapath):
        stream = await client.chat.completions.create(**ASK, stream=True)
        told = ""
        with pytest.raises(openai.APIError) as caught:  # noqa: PT012
            async for chunk in stream:
                told += chunk.choices[0].delta.content or ""
        (entry,) = await datapath.settled()

    assert told.startswith(f"Dear {JO}")
    assert caught.value.code is not None
    assert caught.value.code.startswith("aegis_")
    assert entry.result is ResultCode.UPSTREAM_FAILED


@pytest.mark.parametrize(
    ("status", "fields", "hits", "error"),
    [
        ("429 Too Many Requests", "retry-after-ms: 1\r\n", 3, openai.RateLimitError),
        ("429 Too Many Requests", "retry-after: 0.01\r\n", 3, openai.RateLimitError),
        ("500 Internal Server Error", "x-should-retry: false\r\n", 1, openai.InternalServerError),
        ("400 Bad Request", "", 1, openai.BadRequestError),
        ("409 Conflict", "retry-after-ms: 1\r\nx-should-retry: true\r\n", 3, openai.ConflictError),
    ],
)
async def test_t22_upstream_errors_are_retried_as_often_as_the_upstream_allows(
    status: str, fields: str, hits: int, error: type[openai.APIStatusError]
) -> None:
    body = b'{"error":{"message":"slow down [T1]","type":"x","param":null,"code":"y"}}'
    server = ModelServer(body, status=status, fields=fields + "x-request-id: req_1\r\n")
    async with client_of(server, max_retries=2) as (client, _):
        with pytest.raises(error) as caught:
            await client.chat.completions.create(**ASK)

    assert len(server.requests) == hits
    assert caught.value.request_id == "req_1"
    assert caught.value.code == "y"


async def test_t22_error_that_is_no_json_keeps_its_status() -> None:
    server = ModelServer(b"<html>busy</html>", status="429 Too Many Requests", fields="retry-after: 7\r\n")
    async with client_of(server) as (client, _):
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(**ASK)

    assert caught.value.response.headers["retry-after"] == "7"


async def test_refused_prompt_never_reaches_the_model_and_is_not_asked_again() -> None:
    server = ModelServer(chat_body(content="never"))
    policy = TokenPolicy(JO, forbidden="bomb")
    async with client_of(server, policy=policy, max_retries=2) as (client, datapath):
        for stream in (False, True):
            with pytest.raises(openai.PermissionDeniedError) as caught:
                await client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": "a bomb"}], stream=stream
                )
            assert caught.value.code == "aegis_blocked"
        entries = await datapath.settled(2)

    assert server.requests == []
    assert [entry.result for entry in entries] == [ResultCode.DENIED_AIRLOCK] * 2


async def test_t19_stream_that_the_application_closes_is_closed_upstream() -> None:
    async with client_of(ModelServer(chat_stream(["x" * 40] * 20_000), step=4096)) as (client, datapath):
        stream = await client.chat.completions.create(**ASK, stream=True)
        async for _ in stream:
            break
        await stream.close()
        (entry,) = await datapath.settled()

    assert entry.result is ResultCode.CLIENT_GONE


@pytest.mark.slow
async def test_t20_application_that_reads_slowly_slows_the_model_server_and_loses_nothing() -> None:
    answer = chat_stream([f"{number} [T1] " + "x" * 100_000 for number in range(400)])
    server = ModelServer(answer, step=65_536)
    numbers = []
    async with client_of(server) as (client, _):
        stream = await client.chat.completions.create(**ASK, stream=True)
        sent = -1
        while sent < server.sent:
            sent = server.sent
            await asyncio.sleep(0.1)
        paused_at = server.sent
        async for chunk in stream:
            number, _, rest = (chunk.choices[0].delta.content or "").partition(" ")
            if rest.startswith(JO):
                numbers.append(int(number))

    assert paused_at < len(answer) / 2
    assert numbers == list(range(400))


async def test_embeddings_leave_as_tokens_and_token_numbers_are_refused() -> None:
    vectors = {"object": "list", "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}}
    server = ModelServer(
        json.dumps({**vectors, "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 1.0]}]}).encode()
    )
    async with client_of(server) as (client, _):
        answer = await client.embeddings.create(model="m", input=[f"of {JO}"])
        with pytest.raises(openai.PermissionDeniedError):
            await client.embeddings.create(model="m", input=[[1, 2, 3]])

    assert server.prompt["input"] == ["of [T1]"]
    assert answer.data[0].embedding == [0.5, 1.0]


async def test_image_is_refused_where_it_is_not_allowed() -> None:
    server = ModelServer(chat_body(content="never"))
    part: Any = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    async with client_of(server) as (client, _):
        with pytest.raises(openai.PermissionDeniedError):
            await client.chat.completions.create(model="m", messages=[{"role": "user", "content": [part]}])

    assert server.requests == []
