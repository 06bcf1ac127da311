"""The official SDKs through a data path with the real airlock: what issues of other gateways report as broken.

The model server here repeats what it was told, one character an event, so that what left the pod and what came back can
both be seen.
"""

import functools
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import openai

from policies.airlock.config import AirlockConfig
from policies.airlock.redact import AirlockPolicy
from tests.fakes.datapath import running_datapath, scripted_upstream, snapshot_of
from tests.sdk.model_server import ModelServer, chat_stream, chunk_event, message_stream, text_block

TENANT_KEY = bytes(range(32))
TOKEN = re.compile(r"\[[A-Z-]+-[0-9A-HJKMNP-TV-Z]{6,13}\]")
ANNE, BERT = "anne.smith@example.org", "bert@example.org"


@functools.cache
def airlock() -> AirlockPolicy:
    """Compiling its patterns takes longer than any of these tests."""
    return AirlockPolicy(AirlockConfig(), TENANT_KEY)


@asynccontextmanager
async def base_url(server: ModelServer) -> AsyncIterator[str]:
    """A data path before `server`."""
    async with (
        scripted_upstream(server.script) as upstream,
        running_datapath(snapshot_of(upstream.url, airlock())) as datapath,
    ):
        yield f"http://127.0.0.1:{datapath.port}"


def told(messages: list[Any]) -> str:
    """Every text of a prompt, joined."""
    texts = [message["content"] for message in messages]
    return " | ".join(text if isinstance(text, str) else "".join(part["text"] for part in text) for text in texts)


async def ask_openai(server: ModelServer, *contents: str) -> str:
    """The streamed answer to a conversation."""
    messages: Any = [{"role": "user", "content": content} for content in contents]
    async with base_url(server) as url, openai.AsyncOpenAI(api_key="sk-x", base_url=url + "/v1") as client:
        stream = await client.chat.completions.create(model="m", messages=messages, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


async def ask_anthropic(server: ModelServer, *contents: str) -> str:
    """The streamed answer to a conversation."""
    messages: Any = [{"role": "user", "content": [{"type": "text", "text": content}]} for content in contents]
    async with (
        base_url(server) as url,
        anthropic.AsyncAnthropic(api_key="sk-x", base_url=url) as client,
        client.messages.stream(model="m", max_tokens=9, messages=messages) as stream,
    ):
        return await stream.get_final_text()


async def test_two_people_in_two_messages_are_two_tokens_and_come_back_as_themselves() -> None:
    contents = (f"Write to {ANNE}.", f"Copy {BERT}, then {ANNE} again.")
    chat = ModelServer(lambda prompt: chat_stream(told(prompt["messages"])))
    messages = ModelServer(lambda prompt: message_stream(text_block(*told(prompt["messages"]))), step=3)

    answers = [await ask_openai(chat, *contents), await ask_anthropic(messages, *contents)]

    assert answers == [" | ".join(contents)] * 2
    for server in (chat, messages):
        left = told(server.prompt["messages"])
        anne, bert, again = TOKEN.findall(left)
        assert anne == again != bert
        assert "example.org" not in left


async def test_token_look_alikes_stay_what_their_writer_typed() -> None:
    first = ModelServer(lambda prompt: chat_stream(told(prompt["messages"])))
    await ask_openai(first, f"I am {ANNE}.")
    (stolen,) = TOKEN.findall(told(first.prompt["messages"]))
    contents = (f"I am {ANNE}.", f"Print {stolen}, {stolen.lower()} and [EMAIL-000000] and [NAME-7K2Q9F].")
    second = ModelServer(lambda prompt: chat_stream(told(prompt["messages"])))

    answer = await ask_openai(second, *contents)

    assert answer == " | ".join(contents)
    assert stolen not in told(second.prompt["messages"]).split(" | ")[1]


async def test_token_that_the_model_invents_restores_nothing() -> None:
    invented = "[EMAIL-000000] [SSN-7K2Q9F] [T"
    server = ModelServer(lambda _prompt: chat_stream(invented))

    assert await ask_openai(server, f"I am {ANNE}.") == invented


async def test_t9_history_leaves_with_the_same_tokens_on_every_turn() -> None:
    server = ModelServer(lambda prompt: chat_stream("To " + TOKEN.findall(told(prompt["messages"]))[0]))
    async with base_url(server) as url, openai.AsyncOpenAI(api_key="sk-x", base_url=url + "/v1") as client:
        history: Any = [{"role": "user", "content": f"I am {ANNE}."}]
        for turn in ("and?", f"and {BERT}?", "thanks"):
            stream = await client.chat.completions.create(model="m", messages=history, stream=True)
            answer = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            assert answer == f"To {ANNE}"
            history += [{"role": "assistant", "content": answer}, {"role": "user", "content": turn}]

    one, two, three = (prompt["messages"] for prompt in server.prompts)
    assert two[: len(one)] == one
    assert three[: len(two)] == two


async def test_t7_t8_tools_get_values_and_their_history_leaves_without() -> None:
    def answer(prompt: Any) -> bytes:
        (token,) = set(TOKEN.findall(json.dumps(prompt["messages"])))
        arguments = json.dumps({"to": token, "note": f'"{token}"\n'})
        function = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "mail", "arguments": ""}}
        deltas = [{"index": 0, "function": {"arguments": character}} for character in arguments]
        chunks = [chunk_event({"tool_calls": [delta]}) for delta in [function, *deltas]]
        return b"".join([*chunks, chunk_event({}, "tool_calls"), b"data: [DONE]\n\n"])

    server = ModelServer(answer, step=17)
    async with base_url(server) as url, openai.AsyncOpenAI(api_key="sk-x", base_url=url + "/v1") as client:
        asked: Any = {"role": "user", "content": f"Mail {ANNE}."}
        arguments = ""
        async for chunk in await client.chat.completions.create(model="m", messages=[asked], stream=True):
            for call in chunk.choices[0].delta.tool_calls or []:
                arguments += (call.function.arguments if call.function else None) or ""
        function = {"name": "mail", "arguments": arguments}
        called: Any = {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function": function}]}
        result: Any = {"role": "tool", "tool_call_id": "call_1", "content": f"sent to {ANNE}"}
        async for _ in await client.chat.completions.create(model="m", messages=[asked, called, result], stream=True):
            pass

    assert json.loads(arguments) == {"to": ANNE, "note": f'"{ANNE}"\n'}
    left = json.dumps(server.prompts)
    assert "example.org" not in left
    assert len(set(TOKEN.findall(left))) == 1
