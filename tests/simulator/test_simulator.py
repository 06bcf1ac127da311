"""The simulated model speaks both providers' shapes, however its streams are cut, and fails as it is told to."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settings import SettingsError
from simulator import anthropic, openai
from simulator.config import Framing, for_request
from simulator.prompt import anthropic_prompt, openai_prompt
from simulator.speech import signature, speech
from simulator.wire import Event, Stamp, event_bytes, interleaved, writes
from tests.fakes.simulated_model import CONFIG, Model, running_model

STAMP = Stamp(1, 0)


@pytest.fixture
async def model() -> AsyncIterator[Model]:
    async with running_model() as model:
        yield model


def chat(text: str = "hello", **more: Any) -> dict[str, Any]:
    return {
        "model": "m",
        "messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": text}],
        **more,
    }


def message(text: str = "hello", **more: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": text}], **more}


def openai_text(body: bytes, index: int = 0) -> str:
    payloads = [line.removeprefix("data: ") for line in body.decode().splitlines() if line.startswith("data: {")]
    choices = [choice for data in payloads for choice in json.loads(data)["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


async def test_an_openai_prompt_is_echoed(model: Model) -> None:
    reply = await model.ask("/v1/chat/completions", chat("Zoë"))

    answer = json.loads(reply.body)
    assert reply.status == 200
    assert answer["choices"][0]["message"]["content"] == "You said: Zoë"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert reply.headers["x-request-id"] == "req_sim00000001"


async def test_a_streamed_openai_answer_ends_with_usage_and_done(model: Model) -> None:
    body = chat("hello", stream=True, stream_options={"include_usage": True}, n=2)

    reply = await model.ask("/v1/chat/completions", body, delta_characters=1)

    assert [openai_text(reply.body, 0), openai_text(reply.body, 1)] == ["You said: hello"] * 2
    events = reply.body.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    usage = json.loads(events[-3].removeprefix("data: "))
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 3
    assert reply.ended


async def test_an_anthropic_prompt_is_echoed(model: Model) -> None:
    answer = json.loads((await model.ask("/v1/messages", message("Zoë"))).body)

    assert answer["content"] == [{"type": "text", "text": "You said: Zoë"}]
    assert answer["stop_reason"] == "end_turn"


async def test_a_streamed_anthropic_answer_names_its_events(model: Model) -> None:
    reply = await model.ask("/v1/messages", message(stream=True), delta_characters=100, thinking=True, tool_calls=1)

    lines = reply.body.decode().splitlines()
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert names == [event["type"] for event in events]
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    signed = [block[0], block[1], *block[1:]]
    assert names == ["message_start", "ping", *signed, *block, *block, "message_delta", "message_stop"]
    assert events[4]["delta"]["signature"] == signature(events[3]["delta"]["thinking"])
    assert json.loads(events[-4]["delta"]["partial_json"])["text"] == "hello"
    assert [event["index"] for event in events if event["type"] == "content_block_stop"] == [0, 1, 2]


async def test_echo_all_repeats_system_history_and_tool_results(model: Model) -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "a"}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"x": ["b"]}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "c"}]},
    ]

    reply = await model.ask("/v1/messages", {**message(), "system": "s", "messages": messages}, reply="echo-all")

    assert json.loads(reply.body)["content"][0]["text"] == "You said: s\na\nb\nc"


@pytest.mark.parametrize(
    ("request_text", "answer"),
    [
        ("2-1 | <USER_DATA_SEGMENT_ID_0a>\nI love it\n</USER_DATA_SEGMENT_ID_0a>", "3-128"),
        ("11-1 | What is the capital of France?", "17-128 | Paris"),
        ("3-1 | one two [EMAIL-7K2Q9F] four five six", "17-128 | one two [EMAIL-7K2Q9F] four five..."),
        ("4-1", "1024"),
        ("hello", "4096"),
    ],
)
async def test_told_to_answer_in_mathprotocol_it_does(model: Model, request_text: str, answer: str) -> None:
    body = {**message(request_text), "system": "You answer in MathProtocol and in nothing else."}

    reply = await model.ask("/v1/messages", body)

    assert json.loads(reply.body)["content"][0]["text"] == answer
    said = openai_prompt(chat(request_text))
    assert speech(said, CONFIG).text == "You said: " + request_text


@pytest.mark.parametrize(("framing", "end"), [("lf", b"\n"), ("crlf", b"\r\n"), ("cr", b"\r")])
async def test_the_stream_is_framed_as_told(model: Model, framing: str, end: bytes) -> None:
    reply = await model.ask("/v1/chat/completions", chat(stream=True), framing=framing)

    assert reply.body.endswith(b"data: [DONE]" + end + end)
    assert set(reply.body) & set(b"\r\n") == set(end)


async def test_writes_cut_events_anywhere_without_changing_a_byte(model: Model) -> None:
    whole = await model.ask("/v1/messages", message(stream=True))
    cut = await model.ask("/v1/messages", message(stream=True), write_bytes=7)

    assert whole.body.replace(b"sim00000001", b"sim00000002") == cut.body
    assert cut.chunks == -(-len(cut.body) // 7)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_a_dying_model_gives_no_end_mark(model: Model, path: str) -> None:
    body = {**message(), "stream": True}

    reply = await model.ask(path, body, die_after=3)

    assert not reply.ended
    assert reply.body.count(b"data: ") == 3
    assert (await model.seen())[0]["outcome"] == "broken off"


async def test_a_dying_model_sends_half_an_unstreamed_answer(model: Model) -> None:
    reply = await model.ask("/v1/messages", message(), die_after=0)

    assert len(reply.raw) == int(reply.headers["content-length"]) // 2


@pytest.mark.parametrize(
    ("path", "last"),
    [("/v1/chat/completions", b'data: {"error":{"message"'), ("/v1/messages", b'event: error\ndata: {"type":"error"')],
)
async def test_an_error_within_a_stream_has_the_providers_shape(model: Model, path: str, last: bytes) -> None:
    reply = await model.ask(path, {**message(), "stream": True}, error_after=2)

    events = reply.body.rstrip(b"\n").split(b"\n\n")
    assert len(events) == 3
    assert events[-1].startswith(last)
    assert reply.ended


@pytest.mark.parametrize(
    ("path", "kind"), [("/v1/chat/completions", "rate_limit_exceeded"), ("/v1/messages", "rate_limit_error")]
)
async def test_a_429_carries_retry_after_and_the_providers_shape(model: Model, path: str, kind: str) -> None:
    reply = await model.ask(path, message(), status=429, retry_after="1.5")

    assert reply.status == 429
    assert reply.headers["retry-after"] == "1.5"
    assert json.loads(reply.body)["error"]["type"] == kind


async def test_the_models_name_can_carry_the_behaviour(model: Model) -> None:
    reply = await model.ask("/v1/chat/completions", {**chat(), "model": "any?status=503"})

    assert reply.status == 503


async def test_every_wrong_override_is_named(model: Model) -> None:
    reply = await model.ask("/v1/messages", message(), status="x", ttft="soon")

    text = json.loads(reply.body)["error"]["message"]
    assert reply.status == 400
    assert "status" in text
    assert "ttft" in text


def test_what_belongs_to_the_process_cannot_be_set_by_a_request() -> None:
    with pytest.raises(SettingsError, match="listen"):
        for_request(CONFIG, {"x-simulate-listen": "0.0.0.0:1"}, "m")


@pytest.mark.parametrize(
    "odd",
    [
        {"stream_options": ["include_usage"]},
        {"tools": [{"function": "f"}, {"function": {}}, 1]},
        {"messages": [{"role": {}, "content": "x"}]},
    ],
)
async def test_odd_shapes_beside_the_text_are_no_fault_of_the_server(model: Model, odd: dict[str, object]) -> None:
    reply = await model.ask("/v1/chat/completions", chat("x") | odd)

    assert reply.status == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", b"{"),
        ("/v1/chat/completions", b"[" * 100_000),
        ("/v1/chat/completions", {"messages": []}),
        ("/v1/chat/completions", {"messages": "x"}),
        ("/v1/chat/completions", chat(n=0)),
        ("/v1/messages", []),
        ("/v1/messages", {"messages": [{}]}),
        ("/v1/embeddings", {}),
        ("/v1/embeddings", {"input": "x", "dimensions": -1}),
    ],
)
async def test_what_is_no_request_is_refused_with_400(model: Model, path: str, body: object) -> None:
    reply = await model.ask(path, body)

    assert reply.status == 400
    assert json.loads(reply.body)["error"]["message"]


async def test_a_body_over_the_limit_is_refused_with_413() -> None:
    async with running_model(replace(CONFIG, max_body=1024)) as model:
        reply = await model.ask("/v1/messages", message("x" * 2000))

    assert reply.status == 413
    assert json.loads(reply.body)["error"]["type"] == "request_too_large"


async def test_seen_shows_bodies_but_no_credentials(model: Model) -> None:
    await model.ask("/v1/messages", message("what I was told"))

    (sighting,) = await model.seen()

    assert "what I was told" in sighting["body"]
    assert sighting["outcome"] == "complete"
    assert "sk-secret" not in json.dumps(sighting)


async def test_seen_remembers_no_more_than_it_was_told() -> None:
    async with running_model(replace(CONFIG, remember=2)) as model:
        for text in "abc":
            await model.ask("/v1/messages", message(text))
        seen = await model.seen()
        await model.ask("/_seen", b"", "DELETE")
        forgotten = await model.seen()

    assert [sighting["serial"] for sighting in seen] == [2, 3]
    assert forgotten == []


async def test_a_client_that_goes_away_is_noticed_at_once(model: Model) -> None:
    reader, writer = await model.connect("/v1/messages", message(stream=True), {"x-simulate-stall-after": "2"})
    await reader.readuntil(b"message_start")

    writer.transport.abort()

    async with asyncio.timeout(5):
        while (await model.seen())[0]["outcome"] == "answering":
            await asyncio.sleep(0)
    assert (await model.seen())[0]["outcome"] == "client gone"


async def test_embeddings_depend_on_the_input_alone(model: Model) -> None:
    async def embed(value: object) -> list[Any]:
        data: list[Any] = json.loads((await model.ask("/v1/embeddings", {"input": value, "model": "e"})).body)["data"]
        return [item["embedding"] for item in data]

    assert await embed(["a", "b"]) == await embed("a") + await embed("b")
    assert await embed("a") != await embed("b")
    assert len(await embed([1, 2, 3])) == 1
    assert len(await embed([[1], [2]])) == 2


async def test_an_unknown_endpoint_gives_back_what_it_was_told(model: Model) -> None:
    reply = await model.ask("/v2/rerank", {"query": "q"})

    assert json.loads(reply.body)["told"] == {"query": "q"}


@given(st.text(), st.integers(1, 9), st.integers(1, 3), st.booleans())
def test_deltas_join_to_the_unstreamed_answer_in_both_shapes(
    text: str, size: int, calls: int, ascii_only: bool
) -> None:
    behaviour = replace(CONFIG, delta_characters=size, tool_calls=calls, ascii=ascii_only)
    prompt = openai_prompt(chat(text))
    said = speech(prompt, behaviour)

    chunks = [json.loads(e.data) for e in openai.chunks(said, prompt, behaviour, STAMP) if e.data != "[DONE]"]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    whole = openai.completion(said, prompt, behaviour, STAMP)["choices"][0]["message"]
    fragments = [call for delta in deltas for call in delta.get("tool_calls", [])]

    assert whole["content"] == "".join(delta.get("content", "") for delta in deltas)
    for number, call in enumerate(whole["tool_calls"]):
        joined = "".join(f["function"]["arguments"] for f in fragments if f["index"] == number)
        assert call["function"]["arguments"] == joined
        assert json.loads(joined)["text"] == text

    prompt = anthropic_prompt(message(text))
    events = [json.loads(event.data) for event in anthropic.events(said, prompt, behaviour, STAMP)]
    content = anthropic.message(said, prompt, STAMP)["content"]
    for index, block in enumerate(content):
        joined = "".join(
            event["delta"].get("text", "") + event["delta"].get("partial_json", "")
            for event in events
            if event["type"] == "content_block_delta" and event["index"] == index
        )
        assert (json.loads(joined) == block["input"]) if block["type"] == "tool_use" else (joined == block["text"])


@given(st.lists(st.text(alphabet="ab\U0001f600é", max_size=20)), st.integers(1, 5), st.sampled_from(Framing))
def test_cutting_into_writes_loses_and_moves_no_byte(payloads: list[str], size: int, framing: Framing) -> None:
    encoded = [event_bytes(Event(data, "e"), framing) for data in payloads]
    sent, held = [], b""

    for one in encoded:
        cuts, held = writes(one, held, size)
        sent += cuts

    assert b"".join(encoded) == b"".join(sent) + held
    assert all(len(cut) == size for cut in sent)


def test_choices_take_turns() -> None:
    streams = [[Event("a1"), Event("a2"), Event("a3")], [Event("b1")]]

    assert [event.data for event in interleaved(streams)] == ["a1", "b1", "a2", "a3"]
