"""Streams whose events come one a read, as from every model server: the short way gives what the long one does."""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import pytest

from observability.record import ExchangeRecord
from policies.airlock.config import AirlockConfig, Profile
from policies.airlock.redact import AirlockPolicy
from policies.model import Policy, ResultCode
from sidecar.ports import AuditEntry
from tests.fakes.chat import DONE, SSE_HEAD, chunked, prompt
from tests.fakes.datapath import Message, Visit, running_datapath, scripted_upstream, snapshot_of
from tests.fakes.policies import Judging, Swapping, Watching

CHAT = "/v1/chat/completions"
ASKED = prompt("I am Alice, alice@example.org", stream=True)
LAST = b"0\r\n\r\n"


def says(text: str, choice: int = 0, **more: object) -> bytes:
    body = {
        "id": "c",
        "model": "m-1",
        "choices": [{"index": choice, "delta": {"content": text}, "finish_reason": None}],
    }
    return b"data: %b\n\n" % json.dumps(body | more).encode()


ENDS = b'data: {"id":"c","model":"m-1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}\n\n'
WORDS = [says(word) for word in ["Rain", "is", "likely", "tonight", ",", "so", "take", "an", "umbrella"]]


class Told(NamedTuple):
    """What came of one stream."""

    answer: Message
    entry: AuditEntry
    record: ExchangeRecord


async def stream(policies: Sequence[Policy], pieces: Sequence[bytes], *, paced: bool = True) -> Told:
    """The exchange whose answer has these pieces of its framed body. `paced`: each one is a read of its own."""

    async def script(visit: Visit) -> None:
        await visit.request()
        with suppress(ConnectionError):
            for piece in [SSE_HEAD, *pieces]:
                await visit.send(piece)
                if paced:
                    await asyncio.sleep(0.01)
            await visit.reader.read()

    async with (
        scripted_upstream(script) as upstream,
        running_datapath(snapshot_of(upstream.url, *policies)) as sidecar,
    ):
        answer = await (await sidecar.connect()).post(CHAT, ASKED)
        (entry,) = await sidecar.settled()
        return Told(answer, entry, sidecar.telemetry.records[0])


@pytest.mark.parametrize("policies", [(), (Watching(),), (Swapping(),)], ids=["unread", "observed", "read"])
async def test_stream_that_nobody_changes_is_forwarded_chunk_by_chunk_as_it_came(policies: tuple[Policy, ...]) -> None:
    events = [*WORDS, says('é \u2028 \\ " \n'), b": still there\n\n", *WORDS, ENDS, USAGE, DONE]
    pieces = [*map(chunked, events), LAST]

    told = await stream(policies, pieces, paced=False)
    slowly = await stream(policies, pieces)

    assert told.answer.body == slowly.answer.body == b"".join(events)
    assert slowly.answer.raw_body == b"".join(pieces)
    digest = hashlib.sha256(b"".join(events)).digest()
    assert told.entry.response_digest == slowly.entry.response_digest == digest
    assert slowly.record.response_bytes == len(told.answer.body)
    if policies:
        seen = slowly.record
        assert (seen.response_model, seen.response_id, seen.finish_reason) == ("m-1", "c", "stop")
        assert (seen.input_tokens, seen.output_tokens) == (3, 5)


@pytest.mark.parametrize("policies", [(), (Watching(),), (Swapping(),)], ids=["unread", "observed", "read"])
async def test_several_events_a_read_leave_in_one_write(policies: tuple[Policy, ...]) -> None:
    first, *others = [WORDS[0], *WORDS, b": still there\n\n", *WORDS, ENDS]

    told = await stream(policies, [chunked(first), chunked(*others), chunked(DONE) + LAST])

    assert told.answer.body == b"".join([first, *others, DONE])
    assert told.answer.raw_body == chunked(first, b"".join(others), DONE) + LAST
    assert told.entry.response_digest == hashlib.sha256(told.answer.body).digest()


async def test_nothing_behind_a_refused_event_of_one_read_is_shown() -> None:
    told = await stream([Judging()], [chunked(WORDS[0]), chunked(*WORDS, says("wrong"), says("more"))])

    assert told.answer.body.startswith(WORDS[0])
    assert b"test_invalid_answer" in told.answer.body
    assert not {b"wrong", b"more"} & set(told.answer.body.split(b'"'))


async def test_value_comes_back_in_one_event_and_cut_over_several_of_them() -> None:
    policy = AirlockPolicy(AirlockConfig(profile=Profile.HIPAA_SAFE_HARBOR), bytes(32))
    token = await token_of_the_address(policy)
    for events in (
        [says("Write to "), says(token), says(" now")],
        [says("Write to "), *map(says, token), says(" now")],
        [
            says("Write to "),
            *(says(char, at % 2) for at, char in enumerate(c for c in token for _ in "ab")),
            says(" now"),
        ],
    ):
        told = await stream([policy], [*map(chunked, events), chunked(ENDS + DONE) + LAST])

        text = {0: "", 1: ""}
        for line in told.answer.body.split(b"\n\n")[:-2]:
            for choice in json.loads(line[6:])["choices"]:
                text[choice["index"]] += choice["delta"].get("content", "")
        assert text[0] == "Write to alice@example.org now"
        assert text[1] in {"", "alice@example.org"}


async def token_of_the_address(policy: AirlockPolicy) -> str:
    """What the model sees in place of it."""

    async def script(visit: Visit) -> None:
        asked.append(await visit.request())
        await visit.answer()

    asked = []
    async with (
        scripted_upstream(script) as upstream,
        running_datapath(snapshot_of(upstream.url, policy)) as sidecar,
    ):
        await (await sidecar.connect()).post(CHAT, ASKED)
        return str(json.loads(asked[0].body)["messages"][-1]["content"].rpartition(", ")[2])


async def test_judgement_far_into_a_stream_ends_it_in_an_error_event() -> None:
    pieces = [*map(chunked, [*WORDS, says("wrong"), *WORDS])]

    told = await stream([Judging()], pieces)

    assert told.answer.body.startswith(b"".join(WORDS))
    assert b"test_invalid_answer" in told.answer.body
    assert b"wrong" not in told.answer.body
    assert told.entry.result is ResultCode.INVALID_ANSWER
    came = hashlib.sha256(b"".join([*WORDS, says("wrong")])).digest()
    assert told.entry.response_digest == came


async def test_event_that_cannot_be_read_ends_a_stream_like_the_ones_before_it() -> None:
    pieces = [*map(chunked, [*WORDS, WORDS[0].replace(b"Rain", b"R\x01in"), *WORDS])]

    told = await stream([Swapping()], pieces)

    assert told.answer.body.startswith(b"".join(WORDS))
    assert b"aegis_answer_malformed" in told.answer.body
    assert told.entry.result is ResultCode.MALFORMED_RESPONSE


async def test_error_within_a_stream_is_noted_and_loses_the_key_that_it_quotes() -> None:
    broken = b'data: {"error":{"message":"Incorrect API key provided: sk-proj-abcdefghijklmnopqrstuvwx"}}\n\n'

    late = says("and sk-proj-zyxwvutsrqponmlkjihgfedc")

    told = await stream([Watching()], [*map(chunked, [*WORDS, broken, late]), LAST])

    assert told.answer.body.startswith(b"".join(WORDS))
    assert b"sk-proj-abcdefghij" not in told.answer.body
    assert b"sk-proj-zyxwvutsrq" not in told.answer.body
    assert told.entry.result is ResultCode.UPSTREAM_FAILED


async def test_chunk_that_is_cut_anywhere_goes_the_long_way_and_the_next_ones_the_short_one() -> None:
    whole = chunked(WORDS[1])
    for cut in range(1, len(whole)):
        told = await stream(
            [Swapping()],
            [
                chunked(WORDS[0]),
                whole[:cut],
                whole[cut:] + chunked(WORDS[2]),
                *map(chunked, WORDS),
                chunked(DONE) + LAST,
            ],
        )

        assert told.answer.body == b"".join([*WORDS[:3], *WORDS, DONE])
