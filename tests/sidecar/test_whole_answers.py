"""Messages that come at once take a short way. Nobody outside may be able to tell."""

import asyncio
import gzip
import json
from collections.abc import Mapping

import pytest

from policies.model import Policy, ResultCode
from tests.fakes.chat import completion, prompt
from tests.fakes.datapath import DataPath, Visit, request, running_datapath, scripted_upstream, snapshot_of
from tests.fakes.policies import Swapping, Watching

PATH = "/v1/chat/completions"
FAILED = json.dumps({"error": {"message": "Incorrect API key provided: sk-0123456789abcdef", "code": "x"}}).encode()
ERR_INSIDE = json.dumps({"error": {"message": "overloaded"}}).encode()
ANSWERS: Mapping[str, tuple[str, str, bytes]] = {
    "completion": ("200 OK", "", completion("hi")),
    "empty": ("200 OK", "", b""),
    "no JSON": ("200 OK", "", b"\x00\xffnothing"),
    "error status": ("401 Unauthorized", "", FAILED),
    "error inside": ("200 OK", "", ERR_INSIDE),
    "packed": ("200 OK", "content-encoding: gzip\r\n", gzip.compress(completion("hi"), mtime=0)),
    "stream": ("200 OK", "content-type: text/event-stream\r\n", b'data: {"id":"a","model":"m-1"}\n\ndata: [DONE]\n\n'),
    "closing": ("200 OK", "connection: close\r\n", completion("hi")),
}
_IDS = frozenset({"x-aegis-request-id", "x-request-id", "request-id"})
_FRAMING = frozenset({"content-length", "transfer-encoding"})


async def seen(policy: Policy | None, answer: tuple[str, str, bytes], *, cut: bool, sends: bytes) -> list[object]:
    """What client, leaf and record are told of two exchanges over one connection."""
    status, fields, body = answer
    head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{fields}\r\n".encode()

    async def script(visit: Visit) -> None:
        while True:
            await visit.request()
            if cut:
                await visit.send(head + body[:3])
                await asyncio.sleep(0.02)  # so that it is read in two pieces
                await visit.send(body[3:])
            else:
                await visit.send(head + body)
            if "close" in fields:
                return

    told: list[object] = []
    async with (
        scripted_upstream(script) as upstream,
        running_datapath(snapshot_of(upstream.url, *([policy] if policy else []))) as sidecar,
    ):
        client = await sidecar.connect()
        for _ in range(3):
            await client.send(sends)
            came = await client.answer()
            # A body that may change is framed by how much of it was there; otherwise nothing may differ but ids.
            varies = _IDS | _FRAMING if isinstance(policy, Swapping) and policy.rewrites_answer else _IDS
            shown = [field for field in came.fields if field[0] not in varies]
            told.append((came.first_line, sorted(shown), came.body))
        await sidecar.settled(3)
        told += of_entries(sidecar)
    return told


def of_entries(sidecar: DataPath) -> list[object]:
    """All that does not depend on when and where it happened."""
    told: list[object] = []
    for entry, record in zip(sidecar.trail.entries, sidecar.telemetry.records, strict=True):
        assert record.started_at <= record.sent_at <= record.first_chunk_at <= record.ended_at
        told.append((entry.result, entry.status, entry.request_digest, entry.response_digest, dict(entry.findings)))
        told.append((record.result, record.status, record.request_bytes, record.response_bytes, record.request_model))
        told.append((record.response_model, record.response_id, record.finish_reason, record.stream))
        told.append((record.input_tokens, record.output_tokens))
    return told


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("policy", [None, Watching(), Swapping()], ids=["none", "watching", "swapping"])
async def test_answer_that_comes_at_once_is_told_like_one_that_comes_in_pieces(
    kind: str, policy: Policy | None
) -> None:
    asked = request(PATH, prompt("hi"))

    at_once = await seen(policy, ANSWERS[kind], cut=False, sends=asked)
    in_pieces = await seen(policy, ANSWERS[kind], cut=True, sends=asked)

    assert at_once == in_pieces


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_client_that_wants_its_connection_closed_is_told_so(version: str) -> None:
    asked = request(PATH, b"{}", {"Connection": "close"}).replace(b"HTTP/1.1", f"HTTP/{version}".encode())

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.answer(b"{}")

    async with (
        scripted_upstream(script) as upstream,
        running_datapath(snapshot_of(upstream.url)) as sidecar,
    ):
        client = await sidecar.connect()
        await client.send(asked)
        answer = await client.answer()

        assert answer.body == b"{}"
        assert answer.field("connection") == "close"
        assert await client.is_closed()
        (entry,) = await sidecar.settled()
        assert entry.result is ResultCode.FORWARDED


async def test_last_answer_before_the_end_says_that_the_connection_closes() -> None:
    asked = asyncio.Event()
    drained = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        asked.set()
        await drained.wait()
        await visit.answer(b"{}")

    async with (
        scripted_upstream(script) as upstream,
        running_datapath(snapshot_of(upstream.url)) as sidecar,
    ):
        client = await sidecar.connect()
        await client.send(request(PATH, b"{}"))
        await asked.wait()
        sidecar.listener.stop_accepting()
        drained.set()
        answer = await client.answer()

        assert (answer.status, answer.field("connection")) == (200, "close")
        assert await client.is_closed()
