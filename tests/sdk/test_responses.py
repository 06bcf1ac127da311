"""The official OpenAI SDK against the Responses API through a data path with the real airlock."""

import json
import re
from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.fakes.datapath import running_datapath, snapshot_of
from tests.fakes.policies import Deceiving
from tests.fakes.responses import Item, called, response, response_stream, said, thought
from tests.sdk.model_server import ModelServer
from tests.sdk.test_airlock import ANNE, BERT, TOKEN, base_url

SPLITS = [1, 2, 7, 64, 1 << 20]


def told(prompt: Any) -> str:
    """The text of a prompt's one message."""
    text: str = prompt["input"] if isinstance(prompt["input"], str) else prompt["input"][-1]["content"][0]["text"]
    return text


def streaming(answer: Callable[[Any], list[Item]], step: int) -> ModelServer:
    return ModelServer(lambda prompt: response_stream(answer(prompt)), step=step)


@pytest.mark.parametrize("step", SPLITS)
async def test_t5_t31_streamed_text_comes_back_in_deltas_snapshots_and_the_whole(step: int) -> None:
    server = streaming(lambda prompt: [thought("hm"), said(*f"You said: {told(prompt)}")], step)
    async with base_url(server) as url, openai.AsyncOpenAI(api_key="sk-x", base_url=url + "/v1") as client:
        deltas, snapshots, done = "", [], ""
        async with client.responses.stream(model="m", input=f"I am {ANNE}, he is {BERT}.") as stream:
            async for event in stream:
                if event.type == "response.output_text.delta":
                    deltas += event.delta
                    snapshots.append(event.snapshot)
                elif event.type == "response.output_text.done":
                    done = event.text
            final = await stream.get_final_response()

    expected = f"You said: I am {ANNE}, he is {BERT}."
    assert deltas == snapshots[-1] == done == final.output_text == expected
    assert "example.org" not in json.dumps(server.prompts)
    assert len(set(TOKEN.findall(told(server.prompt)))) == 2


@pytest.mark.parametrize("step", SPLITS)
async def test_t7_streamed_arguments_parse_and_hold_values(step: int) -> None:
    def answer(prompt: Any) -> list[Item]:
        (token,) = set(TOKEN.findall(told(prompt)))
        return [called("mail", *json.dumps({"to": token, "note": f'"{token}"\n'}))]

    server = streaming(answer, step)
    tool: Any = {"type": "function", "name": "mail", "parameters": {"type": "object"}, "strict": False}
    async with base_url(server) as url, openai.AsyncOpenAI(api_key="sk-x", base_url=url + "/v1") as client:
        arguments, done = "", ""
        async for event in await client.responses.create(model="m", input=f"Mail {ANNE}.", tools=[tool], stream=True):
            if event.type == "response.function_call_arguments.delta":
                arguments += event.delta
            elif event.type == "response.function_call_arguments.done":
                done = event.arguments

    assert json.loads(arguments) == {"to": ANNE, "note": f'"{ANNE}"\n'}
    assert done == arguments


async def test_events_stay_numbered_without_gaps_when_the_text_ends_in_half_a_token() -> None:
    server = streaming(lambda prompt: [said(*TOKEN.findall(told(prompt))[0][:-2]), said("and")], 0)
    async with base_url(server) as url, openai.AsyncOpenAI(api_key="sk-x", base_url=url + "/v1") as client:
        numbers, deltas = [], ""
        async for event in await client.responses.create(model="m", input=f"I am {ANNE}.", stream=True):
            numbers.append(getattr(event, "sequence_number", None))
            if event.type == "response.output_text.delta":
                deltas += event.delta

    assert numbers == list(range(len(numbers)))
    assert re.fullmatch(r"\[EMAIL-\w{5}and", deltas)


async def test_whole_answer_and_history_with_tools() -> None:
    def answer(prompt: Any) -> bytes:
        (token,) = set(TOKEN.findall(json.dumps(prompt)))
        return json.dumps(response([said(f"To {token}"), called("mail", json.dumps({"to": token}))])).encode()

    server = ModelServer(answer)
    async with base_url(server) as url, openai.AsyncOpenAI(api_key="sk-x", base_url=url + "/v1") as client:
        asked: Any = [{"role": "user", "content": f"Mail {ANNE}."}]
        first = await client.responses.create(model="m", input=asked, instructions=f"You work for {ANNE}.")
        outputs: Any = [item.model_dump(exclude_none=True) for item in first.output]
        result: Any = {"type": "function_call_output", "call_id": "call_1", "output": f"sent to {ANNE}"}
        second = await client.responses.create(model="m", input=[*asked, *outputs, result])

    assert first.output_text == second.output_text == f"To {ANNE}"
    assert json.loads(first.output[1].arguments) == {"to": ANNE}  # type: ignore[union-attr]  # it is a call
    left = json.dumps(server.prompts)
    assert "example.org" not in left
    assert "[EMAIL-" in server.prompts[0]["instructions"]


async def test_t18_upstream_that_dies_in_the_middle_is_an_error_to_the_sdk() -> None:
    whole = response_stream([said("a", "b")])
    server = ModelServer(whole[: len(whole) // 2], dies=True)
    async with (
        base_url(server) as url,
        openai.AsyncOpenAI(api_key="sk-x", base_url=url + "/v1", max_retries=0) as client,
    ):
        with pytest.raises(openai.APIError):
            async for _ in await client.responses.create(model="m", input=f"I am {ANNE}.", stream=True):
                pass


async def test_decoy_reads_like_an_answer_streamed_and_whole() -> None:
    async with (
        running_datapath(snapshot_of("http://127.0.0.1:9", Deceiving())) as datapath,
        openai.AsyncOpenAI(api_key="sk-x", base_url=f"http://127.0.0.1:{datapath.port}/v1") as client,
    ):
        whole = await client.responses.create(model="m", input="Hello")
        async with client.responses.stream(model="m", input="Hello") as stream:
            streamed = await stream.get_final_response()

    assert whole.output_text == streamed.output_text == "all is well"
    assert whole.status == streamed.status == "completed"
