"""Specification section 5 on the Responses API: the official SDK before a route that enforces MathProtocol."""

import functools
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from policies.mathprotocol.config import ProtocolConfig, ProtocolMode
from policies.mathprotocol.policy import ProtocolPolicy
from policies.model import DeadLetter, Policy, ResultCode
from tests.fakes.datapath import DataPath, running_datapath, scripted_upstream, snapshot_of
from tests.fakes.responses import Item, called, refused, response, response_stream, said, thought
from tests.sdk.model_server import ModelServer
from tests.sdk.test_airlock import ANNE, TOKEN, airlock

SPLITS = [0, 1, 7, 64]
"""Bytes of a read; 0: all at once."""
ECHO = {
    "instructions": "You answer in codes. Never say `Sure!`.",
    "metadata": {"team": "cardiology"},
    "reasoning": {"effort": "medium", "summary": "auto"},
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "prompt_cache_key": "ward 7",
    "safety_identifier": "u-77",
}
"""What the service repeats of a request, in every event that holds the response."""


@functools.cache
def protocol(mode: ProtocolMode = ProtocolMode.ENFORCE) -> ProtocolPolicy:
    return ProtocolPolicy(ProtocolConfig(mode=mode), b"key")


def streamed(items: Sequence[Item], last: str = "completed") -> bytes:
    """The events, with what the service repeats in those that hold the response."""
    events = []
    for event in response_stream(items, last).split(b"\n\n")[:-1]:
        name, _, data = event.partition(b"\ndata: ")
        told = json.loads(data)
        if "response" in told:
            told["response"] |= ECHO
        events.append(b"%b\ndata: %b\n\n" % (name, json.dumps(told, separators=(",", ":")).encode()))
    return b"".join(events)


def whole(items: Sequence[Item]) -> bytes:
    return json.dumps(response(items) | ECHO).encode()


@asynccontextmanager
async def route(server: ModelServer, *policies: Policy) -> AsyncIterator[tuple[DataPath, openai.AsyncOpenAI]]:
    """A client of a sidecar before `server`."""
    async with (
        scripted_upstream(server.script) as upstream,
        running_datapath(snapshot_of(upstream.url, *(policies or (protocol(), airlock())))) as sidecar,
        openai.AsyncOpenAI(api_key="sk-x", base_url=f"http://127.0.0.1:{sidecar.port}/v1", max_retries=0) as client,
    ):
        yield sidecar, client


async def answered(client: openai.AsyncOpenAI, text: str, render: Callable[[Sequence[Item]], bytes]) -> Any:
    """The response to a request of the kind that `render` answers."""
    if render is whole:
        return await client.responses.create(model="m", input=text)
    return (await deltas_and_final(client, text))[2]


async def deltas_and_final(client: openai.AsyncOpenAI, text: str) -> tuple[str, str, Any]:
    """The deltas joined, the text of the event that ends them, and the response as the SDK has it at the end."""
    deltas = done = ""
    async with client.responses.stream(model="m", input=text) as stream:
        async for event in stream:
            if event.type == "response.output_text.delta":
                deltas += event.delta
            elif event.type == "response.output_text.done":
                done = event.text
        return deltas, done, await stream.get_final_response()


@pytest.mark.parametrize("step", SPLITS)
@pytest.mark.parametrize(
    ("asked", "pieces", "expected"),
    [
        ("2-1 | I like it", ["3", "-12", "8"], "3-128"),
        ("3-1 | a long text", ["17-", "128 | ", "Short", " and sweet."], "17-128 | Short and sweet."),
    ],
    ids=["classification", "generative"],
)
async def test_valid_answer_streams_to_the_sdk_in_deltas_and_in_every_repetition(
    asked: str, pieces: list[str], expected: str, step: int
) -> None:
    server = ModelServer(streamed([thought("The user wants", " codes"), said(*pieces)]), step=step)
    async with route(server) as (sidecar, client):
        deltas, done, final = await deltas_and_final(client, asked)

        assert deltas == done == final.output_text == expected
        assert (final.instructions, final.metadata) == (ECHO["instructions"], ECHO["metadata"])
        assert "The user wants" not in final.model_dump_json()
        assert "MathProtocol" in server.prompt["instructions"]
        (entry,) = await sidecar.settled()
        assert entry.result is ResultCode.FORWARDED
        assert entry.task == int(asked[0])


async def test_valid_whole_answer_reaches_the_sdk() -> None:
    async with route(ModelServer(whole([thought("hm"), said("17-128 | short")]))) as (_, client):
        answer = await client.responses.create(model="m", input=[{"role": "user", "content": "3-1 | a long text"}])

        assert answer.output_text == "17-128 | short"
        assert answer.metadata == ECHO["metadata"]


@pytest.mark.parametrize("step", SPLITS)
async def test_identifiers_leave_as_tokens_and_come_back_in_deltas_and_repetitions(step: int) -> None:
    def answer(prompt: Any) -> bytes:
        (token,) = set(TOKEN.findall(prompt["input"]))
        return streamed([said(*f"17-128 | Write to {token}, then call.")])

    server = ModelServer(answer, step=step)
    async with route(server) as (_, client):
        deltas, done, final = await deltas_and_final(client, f"3-1 | Reach {ANNE} today")

        assert deltas == done == final.output_text == f"17-128 | Write to {ANNE}, then call."
        assert ANNE not in json.dumps(server.prompts)


WITHOUT_A_VALID_TEXT: list[list[Item]] = [
    [said("Sure! Here it is.")],
    [said("2-128")],
    [said("17-128")],
    [said("")],
    [],
    [thought("17-128 | x")],
    [refused("I cannot do that.")],
    [said("17-128 | x"), refused("I cannot do that.")],
    [called("post", '{"a":1}')],
    [said("17-128 | x"), called("post", '{"a":1}')],
    [said("17-128 | x"), said("and more")],
    [said("17-128 | x"), said("17-128 | x")],
]


@pytest.mark.parametrize("render", [streamed, whole], ids=["streamed", "whole"])
@pytest.mark.parametrize("items", WITHOUT_A_VALID_TEXT, ids=lambda items: ",".join(map(str, items))[:60])
async def test_anything_but_one_valid_text_is_an_error_and_never_its_answer(
    items: list[Item], render: Callable[[Sequence[Item]], bytes]
) -> None:
    server = ModelServer(render(items), step=0)
    async with route(server) as (sidecar, client):
        with pytest.raises(openai.APIError) as raised:
            await answered(client, "3-1 | x", render)

        assert raised.value.code == "invalid_protocol_answer"
        (entry,) = await sidecar.settled()
        assert entry.result is ResultCode.INVALID_ANSWER
        assert DeadLetter("INVALID_ANSWER") in sidecar.effects.carried_out


@pytest.mark.parametrize("render", [streamed, whole], ids=["streamed", "whole"])
async def test_invalid_answer_is_asked_for_again_and_nothing_of_it_is_seen(
    render: Callable[[Sequence[Item]], bytes],
) -> None:
    answers = [render([said("Sure! Here it is")]), render([said("17-128 | short")])]
    server = ModelServer(lambda _: answers.pop(0), step=0)
    async with route(server) as (sidecar, client):
        final = await answered(client, "3-1 | x", render)

        assert final.output_text == "17-128 | short"
        assert len(server.prompts) == 2
        (entry,) = await sidecar.settled()
        assert entry.findings["protocol.invalid_answer"] == 1


async def test_repetition_that_says_something_else_is_no_answer() -> None:
    """The SDK gives what stands in the last event, whatever the deltas were."""
    deltas, other = streamed([said("17-128 | fine")]), streamed([said("Sure!")])
    lines = deltas.split(b"\n\n")[:-2] + other.split(b"\n\n")[-2:]
    async with route(ModelServer(b"\n\n".join(lines), step=0)) as (sidecar, client):
        with pytest.raises(openai.APIError):
            await deltas_and_final(client, "3-1 | x")

        (entry,) = await sidecar.settled()
        assert entry.result is ResultCode.INVALID_ANSWER


async def test_answer_that_stands_only_in_the_last_event_is_judged_there() -> None:
    for text, code in (("17-128 | fine", None), ("Sure!", "invalid_protocol_answer"), ("", "invalid_protocol_answer")):
        events = streamed([said(text)]).split(b"\n\n")
        server = ModelServer(b"\n\n".join([events[0], *events[-2:]]), step=0)
        async with route(server) as (_, client):
            if code is not None:
                with pytest.raises(openai.APIError) as raised:
                    await client.responses.create(model="m", input="3-1 | x", stream=True)
                assert raised.value.code == code
                continue
            stream = await client.responses.create(model="m", input="3-1 | x", stream=True)
            *_, last = [event async for event in stream]
            assert last.type == "response.completed"
            assert last.response.output_text == text


@pytest.mark.parametrize(
    ("text", "error", "code"),
    [("hello", openai.BadRequestError, "4096"), ("43-1 | x", openai.PermissionDeniedError, "forbidden")],
)
async def test_request_out_of_protocol_never_reaches_the_model(
    text: str, error: type[openai.APIStatusError], code: str
) -> None:
    server = ModelServer(whole([said("3-128")]))
    async with route(server) as (_, client):
        with pytest.raises(error) as raised:
            await client.responses.create(model="m", input=text)

        assert raised.value.code == code
        assert server.prompts == []


async def test_failure_of_the_service_is_no_answer() -> None:
    stream = streamed([], "failed").replace(
        b'"status":"failed"', b'"status":"failed","error":{"code":"server_error","message":"busy"}'
    )
    async with route(ModelServer(stream, step=0)) as (sidecar, client):
        with pytest.raises(openai.APIError):
            await deltas_and_final(client, "3-1 | x")

        (entry,) = await sidecar.settled()
        assert entry.result is not ResultCode.FORWARDED


async def test_monitor_passes_everything_and_the_leaf_records_it() -> None:
    stream = streamed([said("Sure! ", "Here it is")])
    async with route(ModelServer(stream, step=0), protocol(ProtocolMode.MONITOR)) as (sidecar, client):
        deltas, _, final = await deltas_and_final(client, "3-1 | x")

        assert deltas == final.output_text == "Sure! Here it is"
        (entry,) = await sidecar.settled()
        assert entry.findings["protocol.invalid_answer"] == 1
