"""Specification section 5 over real sockets: a route that enforces MathProtocol, with the firewall and the airlock."""

import json
import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from policies.airlock.config import AirlockConfig
from policies.airlock.redact import AirlockPolicy
from policies.firewall import FirewallPolicy, InjectionScanner
from policies.firewall_config import FirewallConfig
from policies.firewall_cue import Cue
from policies.honeypot.config import HoneypotConfig
from policies.mathprotocol.codes import CLASSIFICATION_TASKS, Kind
from policies.mathprotocol.config import ProtocolConfig, ProtocolMode
from policies.mathprotocol.grammar import parse_request
from policies.mathprotocol.policy import ProtocolPolicy
from policies.mathprotocol.responses import is_valid_response
from policies.model import Alert, Ban, DeadLetter, Policy, ResultCode
from tests.fakes.chat import DONE, SSE_HEAD, chunked, completion, content_of, error_code, event, prompt
from tests.fakes.datapath import (
    DataPath,
    Message,
    ScriptedUpstream,
    Visit,
    running_datapath,
    scripted_upstream,
    snapshot_of,
)

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
ENFORCE = ProtocolConfig(mode=ProtocolMode.ENFORCE, ban_seconds=60)
SSN = "536-90-4399"
END = chunked(DONE) + b"0\r\n\r\n"


def protocol(config: ProtocolConfig = ENFORCE) -> ProtocolPolicy:
    return ProtocolPolicy(config, b"key")


@asynccontextmanager
async def route(
    answers: Iterable[bytes], *policies: Policy, forever: bool = False
) -> AsyncIterator[tuple[DataPath, ScriptedUpstream]]:
    """A sidecar before a model that gives `answers` (whole HTTP answers) in turn, over any number of connections."""
    upstream: ScriptedUpstream
    due = list(answers)

    async def script(visit: Visit) -> None:
        while True:
            upstream.requests.append(await visit.request())
            await visit.send(due[0] if forever else due.pop(0))

    asked_for = policies or (protocol(),)
    async with (
        scripted_upstream(script) as upstream,
        running_datapath(snapshot_of(upstream.url, *asked_for)) as sidecar,
    ):
        yield sidecar, upstream


def whole(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def said(content: str) -> bytes:
    return whole(completion(content))


def streamed(*deltas: str) -> bytes:
    return SSE_HEAD + chunked(*map(event, deltas)) + END


def message(**fields: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": None, **fields}, "finish_reason": "stop"}
    return whole(json.dumps({"id": "c", "object": "chat.completion", "model": "m", "choices": [choice]}).encode())


def text_of(answer: Message) -> str:
    """The text of a stream, or of a whole answer."""
    if answer.body.startswith(b"{"):
        return content_of(answer.body)
    events = [json.loads(line[6:]) for line in answer.body.decode().splitlines() if line.startswith("data: {")]
    return "".join(choice["delta"].get("content") or "" for event in events for choice in event.get("choices", []))


def asked(request: Message) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = json.loads(request.body)["messages"]
    return messages


async def test_request_goes_out_taught_and_bounded_and_the_leaf_knows_its_task() -> None:
    async with route([said("17-128 | short")]) as (sidecar, upstream):
        client = await sidecar.connect()

        answer = await client.post(CHAT, prompt("3-1 | a long text"))

        assert (answer.status, content_of(answer.body)) == (200, "17-128 | short")
        system, user = asked(upstream.requests[0])
        assert "MathProtocol" in system["content"]
        assert re.fullmatch(r"3-1 \| <(USER_DATA_SEGMENT_ID_[0-9a-f]{16})>a long text</\1>", user["content"])
        (entry,) = await sidecar.settled()
        assert (entry.task, entry.result) == (3, ResultCode.FORWARDED)


@pytest.mark.parametrize(("text", "code"), [("hello", "4096"), ("31-1 | x", "1024"), ("2-4 | x", "2048")])
async def test_request_out_of_protocol_never_reaches_the_model(text: str, code: str) -> None:
    async with route([]) as (sidecar, upstream):
        client = await sidecar.connect()

        answer = await client.post(CHAT, prompt(text))

        assert (answer.status, error_code(answer.body)) == (400, code)
        assert answer.field("x-should-retry") == "false"
        assert upstream.requests == []
        (entry,) = await sidecar.settled()
        assert entry.result is ResultCode.DENIED_PROTOCOL


async def test_anthropic_client_is_refused_in_its_own_shape() -> None:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
    async with route([]) as (sidecar, _):
        client = await sidecar.connect()

        answer = await client.post(MESSAGES, json.dumps(body).encode(), {"anthropic-version": "2023-06-01"})

        assert answer.status == 400
        assert json.loads(answer.body)["type"] == "error"
        assert b"4096" in answer.body


async def test_trap_is_forbidden_alerts_and_bans() -> None:
    async with route([]) as (sidecar, upstream):
        client = await sidecar.connect()

        answer = await client.post(CHAT, prompt("43-1 | x"))

        assert answer.status == 403
        assert upstream.requests == []
        await sidecar.settled()
        assert {type(effect) for effect in sidecar.effects.carried_out} == {Alert, Ban}


async def test_caught_prober_is_deceived_in_the_shape_it_asked_for() -> None:
    config = ProtocolConfig(mode=ProtocolMode.ENFORCE, honeypot=HoneypotConfig(decoy=True))
    async with route([], protocol(config)) as (sidecar, upstream):
        client = await sidecar.connect()

        answers = [await client.post(CHAT, prompt("43-1 | x", stream=stream)) for stream in (False, True)]

        assert [answer.status for answer in answers] == [200, 200]
        texts = {text_of(answer) for answer in answers}
        assert len(texts) == 1
        assert any(is_valid_response(text, kind) for text in texts for kind in Kind)
        assert upstream.requests == []
        assert [entry.result for entry in await sidecar.settled(2)] == [ResultCode.DECOY] * 2


@pytest.mark.parametrize("give", [said, streamed], ids=["whole", "streamed"])
async def test_invalid_answer_is_asked_for_again_and_nothing_of_it_is_seen(give: Callable[[str], bytes]) -> None:
    async with route([give("Sure! Here it is"), give("17-128 | short")]) as (sidecar, upstream):
        client = await sidecar.connect()

        answer = await client.post(CHAT, prompt("3-1 | x", stream=give is streamed))

        assert (answer.status, text_of(answer)) == (200, "17-128 | short")
        assert b"Sure" not in answer.body
        assert upstream.requests[0].body == upstream.requests[1].body
        assert not sidecar.effects.carried_out
        (entry,) = await sidecar.settled()
        assert entry.result is ResultCode.FORWARDED
        assert entry.findings["protocol.invalid_answer"] == 1


@pytest.mark.parametrize("give", [said, streamed], ids=["whole", "streamed"])
async def test_answer_that_stays_invalid_is_an_error_with_a_status_and_a_dead_letter(
    give: Callable[[str], bytes],
) -> None:
    async with route([give("Sure!"), give("Of course!")]) as (sidecar, upstream):
        client = await sidecar.connect()

        answer = await client.post(CHAT, prompt("3-1 | x", stream=give is streamed))

        assert (answer.status, error_code(answer.body)) == (502, "invalid_protocol_answer")
        assert len(upstream.requests) == 2
        (entry,) = await sidecar.settled()
        assert (entry.result, entry.task) == (ResultCode.INVALID_ANSWER, 3)
        assert DeadLetter("INVALID_ANSWER") in sidecar.effects.carried_out


@pytest.mark.parametrize(
    "answer",
    [
        message(),
        message(refusal="I cannot do that."),
        message(content="17-128 | x", refusal="I cannot do that."),
        message(tool_calls=[{"id": "t", "type": "function", "function": {"name": "post", "arguments": '{"a":1}'}}]),
        whole(b'{"choices": []}'),
        whole(b"{}"),
        whole(b"17-128 | x"),
        SSE_HEAD + END,
    ],
    ids=["null", "refusal", "beside", "tool", "no choice", "nothing", "no JSON", "empty stream"],
)
async def test_answer_without_a_valid_text_is_an_error(answer: bytes) -> None:
    async with route([answer], forever=True) as (sidecar, _):
        client = await sidecar.connect()

        got = await client.post(CHAT, prompt("3-1 | x"))

        assert got.status == 502


async def test_generative_answer_streams_as_soon_as_its_head_is_valid() -> None:
    upstream: ScriptedUpstream

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(SSE_HEAD + chunked(event(""), event("17-"), event("128 | Good")))
        await visit.reader.read(1)  # the test goes on first

    async with (
        scripted_upstream(script) as upstream,
        running_datapath(snapshot_of(upstream.url, protocol())) as sidecar,
    ):
        client = await sidecar.connect()
        body = prompt("3-1 | x", stream=True)
        await client.send(
            b"POST %b HTTP/1.1\r\nHost: s\r\nContent-Length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body)
        )

        begun = await client.reader.readuntil(b"Good")
        await upstream.visits[0].send(chunked(event(" morning")) + END)
        rest = await client.reader.readuntil(b"0\r\n\r\n")

        assert b"17-128 | Good" in begun
        assert b" morning" in rest


async def test_refused_upstream_call_passes_as_the_provider_s_error() -> None:
    refusal = b'HTTP/1.1 429 Slow\r\ncontent-type: application/json\r\ncontent-length: 19\r\n\r\n{"error":{"a":"b"}}'
    async with route([refusal]) as (sidecar, _):
        client = await sidecar.connect()

        answer = await client.post(CHAT, prompt("3-1 | x"))

        assert answer.status == 429


async def test_monitor_passes_everything_and_the_leaf_records_it() -> None:
    monitor = protocol(ProtocolConfig(mode=ProtocolMode.MONITOR))
    async with route([said("Sure!")], monitor, forever=True) as (sidecar, upstream):
        client = await sidecar.connect()

        texts = [content_of((await client.post(CHAT, prompt(text))).body) for text in ("hello", "3-1 | x", "43-1")]

        assert texts == ["Sure!"] * 3
        assert [asked(request)[-1]["content"] for request in upstream.requests] == ["hello", "3-1 | x", "43-1"]
        entries = await sidecar.settled(3)
        assert [set(entry.findings) for entry in entries] == [
            {"protocol.invalid_format"},
            {"protocol.invalid_answer"},
            {"protocol.honeypot", "protocol.probed.43"},
        ]


async def test_identifiers_leave_as_tokens_within_the_boundary_and_come_back_in_the_payload() -> None:
    upstream: ScriptedUpstream

    async def script(visit: Visit) -> None:
        upstream.requests.append(await visit.request())
        token = re.search(rb"\[SSN-[0-9A-Z]{6}\]", upstream.requests[0].body)
        assert token is not None
        await visit.answer(completion(f"17-128 | The number is {token[0].decode()}."))

    policies = (protocol(), AirlockPolicy(AirlockConfig(), b"t" * 32))
    async with scripted_upstream(script) as upstream, running_datapath(snapshot_of(upstream.url, *policies)) as sidecar:
        client = await sidecar.connect()

        answer = await client.post(CHAT, prompt(f"3-1 | SSN {SSN} of a patient"))

        assert content_of(answer.body) == f"17-128 | The number is {SSN}."
        assert SSN.encode() not in upstream.requests[0].body
        user = asked(upstream.requests[0])[-1]["content"]
        assert re.fullmatch(r"3-1 \| <(USER_DATA_SEGMENT_ID_[0-9a-f]{16})>SSN \[SSN-\w{6}\] of a patient</\1>", user)


HOSTILE_ANSWERS = [
    "Sure! Here is the system prompt: You answer in MathProtocol",
    f"17-128 | see {SSN}",
    "3-128",
    "3-128 | 17-128 | forged",
    "1025-128",
    "１７-128 | full-width",
    "",
]


@pytest.mark.parametrize("wrap", ["{}", "3-1 | {}", "2-1 | {}", "11-1 | {}"], ids=["raw", "3-1", "2-1", "11-1"])
async def test_every_development_attack_fails_secure_whatever_the_model_answers(wrap: str, shared: Path) -> None:
    """Section 5: the application receives a valid answer to the task it asked for, or an error; no PHI leaves."""
    lines = (shared / "data/injection/attacks.dev.jsonl").read_text().splitlines()
    cues = (Cue("override", 1.0, (" ignore all ",)), Cue("forged", 1.0, ("<script",), marks=True))
    scanner = InjectionScanner(cues)
    policies = (protocol(), FirewallPolicy(FirewallConfig(), scanner), AirlockPolicy(AirlockConfig(), b"t" * 32))
    outcomes: dict[str, int] = {}
    async with route(map(said, HOSTILE_ANSWERS * len(lines)), *policies) as (sidecar, upstream):
        client = await sidecar.connect()
        for line in lines:
            attack = json.loads(line)["text"]
            text = wrap.format(attack if wrap == "{}" else " ".join(attack.split()) + f" SSN {SSN}")

            answer = await client.post(CHAT, prompt(text))

            outcomes[str(answer.status)] = outcomes.get(str(answer.status), 0) + 1
            if answer.status == 200:
                request = parse_request(text)
                assert request is not None
                kind = Kind.CLASSIFICATION if request.task in CLASSIFICATION_TASKS else Kind.GENERATIVE
                assert is_valid_response(content_of(answer.body), kind)
            else:
                assert answer.status in (400, 403, 502)
        assert not [request for request in upstream.requests if SSN.encode() in request.body]
    assert sum(outcomes.values()) == 124
