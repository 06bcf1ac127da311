"""The upstream cannot be reached, breaks, or is not who it should be. Always exactly one leaf."""

import asyncio
import json
import socket
import struct
from pathlib import Path

import pytest

from policies.model import ResultCode
from tests.fakes.chat import DONE, SSE_HEAD, chunked, completion, error_code, event, prompt
from tests.fakes.datapath import (
    Visit,
    answering_upstream,
    request,
    running_datapath,
    scripted_upstream,
    snapshot_of,
)
from tests.fakes.policies import Judging, Swapping, Watching
from tests.fakes.tls import Authority

CHAT = "/v1/chat/completions"
STREAM = prompt("x", stream=True)
READERS = [(), (Watching(),), (Swapping(),)]


async def test_upstream_that_refuses_connections_is_a_502() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with running_datapath(snapshot_of(f"http://127.0.0.1:{port}")) as sidecar:
        client = await sidecar.connect()

        answer = await client.post()
        again = await client.post()

        assert (answer.status, error_code(answer.body)) == (502, "aegis_upstream_unreachable")
        assert answer.field("x-should-retry") is None
        assert again.status == 502
        entry, _ = await sidecar.settled(2)
        assert entry.result is ResultCode.UPSTREAM_FAILED
        assert entry.request_digest == bytes(32)


async def test_fault_while_connecting_ends_its_exchange_and_not_the_sidecar(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a resolver or a TLS library raises is not always an OSError: UnicodeError for `a..b`, say."""

    async def unforeseen(*_: object, **__: object) -> None:
        raise UnicodeError("encoding with 'idna' codec failed")

    async with (
        answering_upstream(completion("hello")) as upstream,
        running_datapath(snapshot_of(upstream.url)) as sidecar,
    ):
        client = await sidecar.connect()
        with monkeypatch.context() as patch:
            patch.setattr(asyncio.get_running_loop(), "create_connection", unforeseen)
            failed = await client.post()

        served = await client.post()

        assert (failed.status, error_code(failed.body), served.status) == (502, "aegis_upstream_unreachable", 200)
        assert [entry.result for entry in await sidecar.settled(2)] == [
            ResultCode.UPSTREAM_FAILED,
            ResultCode.FORWARDED,
        ]
        assert sidecar.pools.counts() == {"model": {"open": 1, "idle": 1}}


async def test_post_is_sent_again_when_a_kept_connection_was_dead_before_it_arrived() -> None:
    """T24: nothing of it was accepted, so nobody can have acted upon it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        async with running_datapath(snapshot_of(url)) as sidecar:
            client = await sidecar.connect()
            await client.send(request(CHAT, b"{}"))
            upstream = await _accept_and_answer(server, b"first")
            assert (await client.answer()).body == b"first"

            # The reset is on its way while the request is: the sidecar cannot know yet that the connection is dead.
            upstream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            upstream.close()
            (connection,) = sidecar.listener._connections
            connection.data_received(request(CHAT, b"{}"))
            (await _accept_and_answer(server, b"second")).close()

            assert (await client.answer()).body == b"second"
            assert sidecar.telemetry.reused == [False, True, False]
            assert [entry.result for entry in await sidecar.settled(2)] == [ResultCode.FORWARDED] * 2


async def _accept_and_answer(server: socket.socket, body: bytes) -> socket.socket:
    upstream, _ = await asyncio.to_thread(server.accept)
    upstream.settimeout(5)
    await asyncio.to_thread(upstream.recv, 65536)
    upstream.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    return upstream


@pytest.mark.parametrize("policies", READERS)
async def test_post_is_not_sent_again_once_the_upstream_accepted_some_of_it(policies: tuple[Swapping, ...]) -> None:
    """T24: it may have been acted upon, and a prompt sent twice is paid for twice."""

    async def script(visit: Visit) -> None:
        upstream.requests.append(await visit.request())
        await visit.answer(b"{}")
        upstream.requests.append(await visit.request())
        visit.reset()

    async with (
        scripted_upstream(script) as upstream,
        running_datapath(snapshot_of(upstream.url, *policies)) as sidecar,
    ):
        client = await sidecar.connect()
        await client.post(CHAT, prompt("x"))

        answer = await client.post(CHAT, prompt("x"))

        assert (answer.status, error_code(answer.body)) == (502, "aegis_upstream_broken")
        assert len(upstream.requests) == 2
        assert len(upstream.visits) == 1


async def test_fresh_connection_that_breaks_is_not_tried_again() -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        visit.reset()

    async with scripted_upstream(script) as upstream, running_datapath(snapshot_of(upstream.url)) as sidecar:
        client = await sidecar.connect()

        answer = await client.post()

        assert answer.status == 502
        assert len(upstream.visits) == 1


async def test_connection_that_the_upstream_closed_while_idle_is_not_used() -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.answer(b"%d" % visit.number)

    async with scripted_upstream(script) as upstream, running_datapath(snapshot_of(upstream.url)) as sidecar:
        client = await sidecar.connect()

        first = await client.post()
        await _eventually(lambda: sidecar.pools.counts()["model"]["open"] == 0)
        second = await client.post()

        assert (first.body, second.body) == (b"0", b"1")


@pytest.mark.parametrize("policies", READERS)
async def test_stream_that_breaks_ends_in_the_dialects_error_and_never_in_a_fake_end(
    policies: tuple[Swapping, ...],
) -> None:
    """T18."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(SSE_HEAD + chunked(event("begun")))
        await asyncio.sleep(0.02)
        visit.reset()

    async with (
        scripted_upstream(script) as upstream,
        running_datapath(snapshot_of(upstream.url, *policies)) as sidecar,
    ):
        client = await sidecar.connect()

        answer = await client.post(CHAT, STREAM)

        assert answer.status == 200
        assert b"begun" in answer.body
        assert b"[DONE]" not in answer.body
        last = [line for line in answer.body.splitlines() if line.startswith(b"data:")][-1]
        assert json.loads(last[5:])["error"]["code"] == "aegis_upstream_broken"
        (entry,) = await sidecar.settled()
        assert (entry.result, entry.status) == (ResultCode.UPSTREAM_FAILED, 200)


async def test_anthropic_stream_that_breaks_ends_in_an_error_event() -> None:
    started = b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","content":[]}}\n\n'

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(SSE_HEAD + chunked(started))
        await asyncio.sleep(0.02)
        visit.reset()

    body = json.dumps({"model": "m", "stream": True, "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]})
    for policies in READERS:
        async with (
            scripted_upstream(script) as upstream,
            running_datapath(snapshot_of(upstream.url, *policies)) as sidecar,
        ):
            client = await sidecar.connect()

            answer = await client.post("/v1/messages", body.encode(), {"anthropic-version": "2023-06-01"})

            assert b"event: error\n" in answer.body
            assert b"message_stop" not in answer.body


async def test_stream_that_ends_with_its_connection_but_without_its_end_is_cut_off() -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + event("begun"))

    async with (
        scripted_upstream(script) as upstream,
        running_datapath(snapshot_of(upstream.url, Watching())) as sidecar,
    ):
        client = await sidecar.connect()

        answer = await client.post(CHAT, STREAM)

        assert b'"error"' in answer.body
        (entry,) = await sidecar.settled()
        assert entry.result is ResultCode.MALFORMED_RESPONSE


@pytest.mark.parametrize("policies", [(), (Watching(),)])
async def test_unread_json_answer_that_breaks_resets_the_client(policies: tuple[Watching, ...]) -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{")
        await asyncio.sleep(0.02)
        visit.reset()

    async with (
        scripted_upstream(script) as upstream,
        running_datapath(snapshot_of(upstream.url, *policies)) as sidecar,
    ):
        client = await sidecar.connect()
        await client.send(request(CHAT, prompt("x")))

        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await client.answer()

        (entry,) = await sidecar.settled()
        assert entry.result is ResultCode.UPSTREAM_FAILED


async def test_json_answer_that_breaks_while_policies_read_it_is_a_502() -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{")
        await asyncio.sleep(0.02)
        visit.reset()

    async with (
        scripted_upstream(script) as upstream,
        running_datapath(snapshot_of(upstream.url, Swapping())) as sidecar,
    ):
        client = await sidecar.connect()

        answer = await client.post(CHAT, prompt("x"))

        assert (answer.status, error_code(answer.body)) == (502, "aegis_upstream_broken")


@pytest.mark.parametrize(
    "garbage", [b"\x00\x01\x02\r\n\r\n", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: b\r\n" * 9000]
)
async def test_upstream_that_does_not_speak_http_is_a_502(garbage: bytes) -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(garbage)
        await visit.reader.read()

    async with scripted_upstream(script) as upstream, running_datapath(snapshot_of(upstream.url)) as sidecar:
        client = await sidecar.connect()

        answer = await client.post()

        assert (answer.status, error_code(answer.body)) == (502, "aegis_upstream_broken")


async def test_judgement_in_the_middle_of_a_stream_becomes_an_error_event() -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(SSE_HEAD + chunked(event("good ")))
        await asyncio.sleep(0.02)
        await visit.send(chunked(event("wrong"), event("more"), DONE) + b"0\r\n\r\n")
        await visit.reader.read()

    async with (
        scripted_upstream(script) as upstream,
        running_datapath(snapshot_of(upstream.url, Judging(retries=1))) as sidecar,
    ):
        client = await sidecar.connect()

        answer = await client.post(CHAT, STREAM)

        assert b"good" in answer.body
        assert b"test_invalid_answer" in answer.body
        assert not {b"wrong", b"more", b"[DONE]"} & set(answer.body.split(b'"'))
        assert len(upstream.visits) == 1
        (entry,) = await sidecar.settled()
        assert entry.result is ResultCode.INVALID_ANSWER


async def test_upstream_that_answers_before_the_request_is_whole_is_heard() -> None:
    async def script(visit: Visit) -> None:
        await visit.reader.readuntil(b"\r\n\r\n")
        await visit.answer(b'{"error":"no"}', status="401 Unauthorized")
        await visit.reader.read()

    async with scripted_upstream(script) as upstream, running_datapath(snapshot_of(upstream.url)) as sidecar:
        client = await sidecar.connect()

        await client.send(request(CHAT, b"x" * 100_000)[:50_000])
        answer = await client.answer()

        assert answer.status == 401
        (entry,) = await sidecar.settled()
        assert entry.result is ResultCode.UPSTREAM_REFUSED
        assert sidecar.pools.counts()["model"]["idle"] == 0


async def test_connections_to_an_upstream_are_bounded() -> None:
    gate = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        await gate.wait()
        await visit.answer()

    async with (
        scripted_upstream(script) as upstream,
        running_datapath(snapshot_of(upstream.url), max_upstream_connections=1) as sidecar,
    ):
        first, second = await sidecar.connect(), await sidecar.connect()
        await first.send(request(CHAT, b"{}"))
        await _eventually(lambda: upstream.visits)

        refused = await second.post()
        gate.set()

        assert (refused.status, error_code(refused.body)) == (503, "aegis_upstream_saturated")
        assert refused.field("retry-after") == "1"
        assert (await first.answer()).status == 200


async def test_upstream_is_verified_against_the_given_authority_and_its_name(tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    async def script(visit: Visit) -> None:
        while True:
            await visit.request()
            chosen = visit.writer.get_extra_info("ssl_object").selected_alpn_protocol()
            await visit.answer(str(chosen).encode())

    async with scripted_upstream(script, tls=authority.server_context("localhost")) as upstream:
        good = snapshot_of(f"https://localhost:{upstream.port}", ca_file=str(authority.ca_file))
        wrong_name = snapshot_of(f"https://127.0.0.1:{upstream.port}", ca_file=str(authority.ca_file))
        system_cas = snapshot_of(f"https://localhost:{upstream.port}")
        no_file = snapshot_of(f"https://localhost:{upstream.port}", ca_file=str(tmp_path / "missing.pem"))
        async with running_datapath(good) as sidecar:
            client = await sidecar.connect()

            served = [await client.post() for _ in range(3)]
            refused = []
            for snapshot in (wrong_name, system_cas, no_file):
                sidecar.snapshots.current = snapshot
                refused.append(await client.post())

            assert [answer.body for answer in served] == [b"http/1.1"] * 3
            assert sidecar.telemetry.reused == [False, True, True]
            assert {(answer.status, error_code(answer.body)) for answer in refused} == {
                (502, "aegis_upstream_unreachable")
            }


async def test_plain_upstream_behind_https_is_a_502() -> None:
    async def script(visit: Visit) -> None:
        await visit.reader.read(1)
        await visit.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    async with scripted_upstream(script) as upstream:
        snapshot = snapshot_of(f"https://127.0.0.1:{upstream.port}")
        async with running_datapath(snapshot) as sidecar:
            client = await sidecar.connect()

            assert (await client.post()).status == 502


async def _eventually(condition: object) -> None:
    async with asyncio.timeout(5):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.005)
