"""HTTP at its edges, over real sockets: what clients and upstreams may do, and what they may not."""

import asyncio
import gzip
import json
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.model import ResultCode
from tests.fakes.chat import DONE, SSE_HEAD, chunked, completion, content_of, error_code, event, prompt
from tests.fakes.cuts import cuts
from tests.fakes.datapath import (
    Message,
    RawClient,
    Visit,
    answering_upstream,
    request,
    running_datapath,
    scripted_upstream,
    snapshot_of,
)
from tests.fakes.policies import Swapping, Watching

CHAT = "/v1/chat/completions"
HOST = b"Host: a\r\n"


async def test_fifty_pipelined_requests_are_answered_in_order() -> None:
    async def script(visit: Visit) -> None:
        while True:
            message = await visit.request()
            await visit.answer(message.body)

    async with scripted_upstream(script) as upstream, running_datapath(snapshot_of(upstream.url)) as sidecar:
        client = await sidecar.connect()

        await client.send(b"".join(request(CHAT, b"%d" % number) for number in range(50)))

        assert [(await client.answer()).body for _ in range(50)] == [b"%d" % number for number in range(50)]
        assert len(await sidecar.settled(50)) == 50


async def test_pipelining_is_bounded_by_bytes_while_an_answer_is_due() -> None:
    gate = asyncio.Event()

    async def script(visit: Visit) -> None:
        while True:
            await visit.request()
            await gate.wait()
            await visit.answer()

    async with scripted_upstream(script) as upstream, running_datapath(snapshot_of(upstream.url)) as sidecar:
        client = await sidecar.connect()
        await client.send(request(CHAT, b"first"))
        await sidecar.begun()

        client.writer.write(request(CHAT, b"x" * 1000) * 4000)
        (connection,) = sidecar.listener._connections
        async with asyncio.timeout(10):
            while not connection._paused:
                await asyncio.sleep(0.002)

        assert connection._reader.waiting < 1024 * 1024
        gate.set()
        for _ in range(4001):
            assert (await client.answer()).status == 200


async def test_request_in_chunks_byte_by_byte_arrives_whole() -> None:
    async with answering_upstream(completion("ok")) as upstream:
        for policies in ((), (Swapping(),)):
            async with running_datapath(snapshot_of(upstream.url, *policies)) as sidecar:
                client = await sidecar.connect()
                body = prompt("hello")
                framed = b"".join(chunked(body[i : i + 1]) for i in range(len(body))) + b"0\r\nX-Trailer: y\r\n\r\n"

                await client.send(b"POST %b HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n" % (CHAT.encode(), HOST))
                for piece in cuts(framed, range(0, len(framed), 3)):
                    await client.send(piece)
                    await asyncio.sleep(0)
                answer = await client.answer()

                assert answer.status == 200
                assert upstream.requests[-1].body == body


async def test_request_is_streamed_onward_before_it_is_whole_where_no_policy_reads_it() -> None:
    arrived = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.reader.readuntil(b"first")
        arrived.set()
        await visit.reader.readuntil(b"last")
        await visit.answer(b"done")

    async with scripted_upstream(script) as upstream, running_datapath(snapshot_of(upstream.url)) as sidecar:
        client = await sidecar.connect()

        await client.send(b"POST %b HTTP/1.1\r\n%bContent-Length: 9\r\n\r\nfirst" % (CHAT.encode(), HOST))
        await asyncio.wait_for(arrived.wait(), 2)  # noqa: TID251 a test's bound
        await client.send(b"last")

        assert (await client.answer()).body == b"done"


async def test_client_that_waits_for_100_continue_gets_it() -> None:
    async with answering_upstream() as upstream, running_datapath(snapshot_of(upstream.url)) as sidecar:
        client = await sidecar.connect()

        await client.send(
            b"POST %b HTTP/1.1\r\n%bExpect: 100-continue\r\nContent-Length: 2\r\n\r\n" % (CHAT.encode(), HOST)
        )
        interim = await client.answer()
        await client.send(b"{}")
        answer = await client.answer()

        assert (interim.status, answer.status) == (100, 200)
        assert upstream.requests[0].field("expect") is None


async def test_client_that_waits_for_100_continue_is_spared_a_body_that_is_too_long() -> None:
    async with running_datapath(snapshot_of("http://127.0.0.1:9", max_body=10)) as sidecar:
        client = await sidecar.connect()

        await client.send(
            b"POST %b HTTP/1.1\r\n%bExpect: 100-continue\r\nContent-Length: 11\r\n\r\n" % (CHAT.encode(), HOST)
        )

        assert (await client.answer()).status == 413


async def test_early_hints_of_the_upstream_pass_and_its_100_does_not() -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        await visit.answer(b"ok")

    async with scripted_upstream(script) as upstream, running_datapath(snapshot_of(upstream.url)) as sidecar:
        client = await sidecar.connect()
        await client.send(request(CHAT, b"{}"))

        assert [(await client.answer()).status for _ in range(2)] == [103, 200]


@pytest.mark.parametrize("policies", [(), (Watching(),), (Swapping(),)])
async def test_answer_that_ends_with_its_connection_arrives_whole(policies: tuple[Swapping, ...]) -> None:
    body = completion("all of it")

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + body)

    async with (
        scripted_upstream(script) as upstream,
        running_datapath(snapshot_of(upstream.url, *policies)) as sidecar,
    ):
        client = await sidecar.connect()

        assert (await client.post(CHAT, prompt("x"))).body == body
        assert (await client.post(CHAT, prompt("x"))).body == body  # the client's connection goes on
        assert len(upstream.visits) == 2


async def test_answer_to_head_keeps_its_length_and_has_no_body() -> None:
    async def script(visit: Visit) -> None:
        while True:
            message = await visit.request()
            if message.first_line.startswith("HEAD"):
                await visit.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n")
            else:
                await visit.answer(b"next")

    for policies in ((), (Swapping(),)):
        async with (
            scripted_upstream(script) as upstream,
            running_datapath(snapshot_of(upstream.url, *policies)) as sidecar,
        ):
            client = await sidecar.connect()

            await client.send(b"HEAD /v1/models HTTP/1.1\r\n%b\r\n" % HOST)
            head = await client.answer(to_head=True)
            await client.send(b"GET /v1/models HTTP/1.1\r\n%b\r\n" % HOST)

            assert (head.status, head.field("content-length")) == (200, "1234")
            assert (await client.answer()).body == b"next"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_answers_without_a_body_leave_the_connection_usable(status: str) -> None:
    async def script(visit: Visit) -> None:
        while True:
            await visit.request()
            await visit.send(f"HTTP/1.1 {status}\r\ncontent-length: 5\r\n\r\n".encode())

    for policies in ((), (Swapping(),)):
        async with (
            scripted_upstream(script) as upstream,
            running_datapath(snapshot_of(upstream.url, *policies)) as sidecar,
        ):
            client = await sidecar.connect()

            first = await client.post(CHAT, prompt("x"))
            second = await client.post(CHAT, prompt("x"))

            assert first.status == second.status == int(status[:3])
            assert first.field("transfer-encoding") is None
            assert len(upstream.visits) == 1


async def test_chunked_answer_byte_by_byte_with_trailer_arrives_whole() -> None:
    body = completion("byte by byte")

    async def script(visit: Visit) -> None:
        while True:
            await visit.request()
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
            stream = head + b"".join(chunked(body[i : i + 1]) for i in range(len(body))) + b"0\r\nX-T: y\r\n\r\n"
            for piece in cuts(stream, range(0, len(stream), 2)):
                await visit.send(piece)
                await asyncio.sleep(0)

    for policies in ((), (Watching(),), (Swapping(),)):
        async with (
            scripted_upstream(script) as upstream,
            running_datapath(snapshot_of(upstream.url, *policies)) as sidecar,
        ):
            client = await sidecar.connect()

            answer = await client.post(CHAT, prompt("x"))

            assert answer.body == body
            assert (await client.post(CHAT, prompt("x"))).body == body


async def test_http10_client_gets_an_answer_that_ends_with_the_connection() -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(SSE_HEAD + chunked(event("a")))
        await asyncio.sleep(0.01)
        await visit.send(chunked(event("b"), DONE) + b"0\r\n\r\n")

    async with (
        scripted_upstream(script) as upstream,
        running_datapath(snapshot_of(upstream.url, Swapping())) as sidecar,
    ):
        client = await sidecar.connect()
        body = prompt("x", stream=True)

        await client.send(b"POST %b HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body))
        answer = await client.answer()

        assert answer.field("transfer-encoding") is None
        assert answer.body == event("a") + event("b") + DONE
        assert await client.is_closed()


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_compressed_answer_is_read_and_passed_on_unpacked(encoding: str, pack: object) -> None:
    """T21."""
    packed = pack(completion("Dear [NAME-000001]"))  # type: ignore[operator]
    async with (
        answering_upstream(packed, fields=f"content-encoding: {encoding}\r\n") as upstream,
        running_datapath(snapshot_of(upstream.url, Swapping())) as sidecar,
    ):
        client = await sidecar.connect()

        answer = await client.post(CHAT, prompt("Alice"))

        assert content_of(answer.body) == "Dear Alice"
        assert answer.field("content-encoding") is None
        assert answer.field("content-length") == str(len(answer.body))


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [("br", b"\x0b\x02\x80{}\x03"), ("gzip", gzip.compress(bytes(100_000_000), 1)), ("gzip", b"x")],
    ids=["brotli", "bomb", "damage"],
)
async def test_compressed_answer_that_cannot_be_read_is_refused(encoding: str, packed: bytes) -> None:
    """T21, T17: what must be read and cannot is not passed on."""
    async with (
        answering_upstream(packed, fields=f"content-encoding: {encoding}\r\n") as upstream,
        running_datapath(snapshot_of(upstream.url, Swapping())) as sidecar,
    ):
        client = await sidecar.connect()

        answer = await client.post(CHAT, prompt("Alice"))

        assert (answer.status, error_code(answer.body)) == (502, "aegis_answer_malformed")
        (entry,) = await sidecar.settled()
        assert entry.result is ResultCode.MALFORMED_RESPONSE


async def test_compressed_answer_that_nobody_reads_passes_as_it_is() -> None:
    packed = gzip.compress(b"{}")
    async with (
        answering_upstream(packed, fields="content-encoding: gzip\r\n") as upstream,
        running_datapath(snapshot_of(upstream.url)) as sidecar,
    ):
        client = await sidecar.connect()

        answer = await client.post(CHAT, b"{}", {"Accept-Encoding": "gzip"})

        assert (answer.body, answer.field("content-encoding")) == (packed, "gzip")
        assert upstream.requests[0].field("accept-encoding") == "gzip"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;\x00\r\nhello\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"\x00" * 50, 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 160_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"y" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", 417),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", 501),
    ],
)
async def test_what_is_no_request_gets_a_clean_error_and_a_leaf(data: bytes, status: int) -> None:
    async with answering_upstream() as upstream, running_datapath(snapshot_of(upstream.url)) as sidecar:
        client = await sidecar.connect()

        await client.send(data)
        answer = await client.answer()

        assert answer.status == status
        assert json.loads(answer.body)["error"]["message"]
        assert not upstream.visits
        (entry,) = await sidecar.settled()
        assert (entry.result, entry.status) == (ResultCode.MALFORMED_REQUEST, status)


async def test_h2c_is_offered_in_vain_and_the_request_served() -> None:
    """RFC 9110 section 7.8: a server may ignore Upgrade. Java's client offers h2c with its first request."""
    async with answering_upstream() as upstream, running_datapath(snapshot_of(upstream.url)) as sidecar:
        client = await sidecar.connect()
        fields = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"}

        answer = await client.post(fields=fields)

        assert answer.status == 200
        assert not {"upgrade", "http2-settings"} & set(upstream.requests[0].names)


async def test_garbage_after_a_good_request_does_not_harm_its_answer() -> None:
    async with answering_upstream(b"good") as upstream, running_datapath(snapshot_of(upstream.url)) as sidecar:
        client = await sidecar.connect()

        await client.send(request(CHAT, b"{}") + b"\x00garbage\r\n\r\n")

        assert (await client.answer()).body == b"good"
        assert (await client.answer()).status == 400
        assert await client.is_closed()


@pytest.mark.parametrize("policies", [(), (Watching(),)])
@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_body_that_is_too_long_gets_413_while_it_is_still_sent(
    policies: tuple[Watching, ...], framing: str
) -> None:
    """T23. The client that sends everything before it reads must find the answer, not a reset connection."""
    async with (
        answering_upstream() as upstream,
        running_datapath(snapshot_of(upstream.url, *policies, max_body=100_000)) as sidecar,
    ):
        client = await sidecar.connect()
        line = b"Content-Length: 3000000" if framing == "length" else b"Transfer-Encoding: chunked"

        await client.send(b"POST %b HTTP/1.1\r\n%b%b\r\n\r\n" % (CHAT.encode(), HOST, line))
        for _ in range(300):
            piece = b"x" * 10_000
            await client.send(piece if framing == "length" else chunked(piece))
            await asyncio.sleep(0)
        answer = await client.answer()

        assert (answer.status, error_code(answer.body)) == (413, "aegis_too_large")
        assert answer.field("connection") == "close"
        (entry,) = await sidecar.settled()
        assert entry.result is ResultCode.TOO_LARGE


async def test_short_refused_request_leaves_the_connection_usable() -> None:
    async with (
        answering_upstream() as upstream,
        running_datapath(snapshot_of(upstream.url, max_body=100)) as sidecar,
    ):
        client = await sidecar.connect()

        refused = await client.post(CHAT, b"x" * 200)
        served = await client.post(CHAT, b"{}")

        assert (refused.status, served.status) == (413, 200)


async def test_held_bodies_are_bounded_over_all_clients() -> None:
    from sidecar.services import Limits

    async with (
        answering_upstream(completion("ok")) as upstream,
        running_datapath(snapshot_of(upstream.url, Watching()), limits=Limits(gathered_bodies=100_000)) as sidecar,
    ):
        hog = await sidecar.connect()
        await hog.send(request(CHAT, prompt("x" * 80_000))[:-10])
        await sidecar.begun()
        client = await sidecar.connect()

        answer = await client.post(CHAT, prompt("x" * 30_000))
        hog.reset()
        await sidecar.settled(2)
        after = await (await sidecar.connect()).post(CHAT, prompt("x" * 30_000))

        assert (answer.status, error_code(answer.body)) == (503, "aegis_overloaded")
        assert answer.field("retry-after") == "1"
        assert after.status == 200
        assert sidecar.services.bodies.left == 100_000


async def test_surplus_bytes_of_an_upstream_never_reach_the_next_client() -> None:
    """Response splitting: what nobody asked for must not be taken for the answer to the next request."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(
            b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nmineHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged"
        )
        await visit.reader.read()

    async with scripted_upstream(script) as upstream, running_datapath(snapshot_of(upstream.url)) as sidecar:
        client = await sidecar.connect()

        assert (await client.post()).body == b"mine"
        assert (await client.post()).body == b"mine"
        assert len(upstream.visits) == 2


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.integers(0, 4000), max_size=10),
    st.lists(st.integers(0, 4000), max_size=10),
    st.booleans(),
    st.booleans(),
)
def test_any_cut_of_either_stream_gives_the_same_exchange(
    request_cuts: list[int], answer_cuts: list[int], chunked_request: bool, streamed: bool
) -> None:
    body = prompt("I am Alice, and Alice again", stream=streamed)
    if chunked_request:
        sent = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        sent += chunked(body[:9], body[9:]) + b"0\r\n\r\n"
    else:
        sent = request(CHAT, body)
    if streamed:
        answered = SSE_HEAD + chunked(event("Dear "), event("[NAME-000001]"), DONE) + b"0\r\n\r\n"
    else:
        whole = completion("Dear [NAME-000001]")
        answered = (
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(whole) + whole
        )

    async def exchange(request_at: list[int], answer_at: list[int]) -> tuple[object, ...]:
        async def script(visit: Visit) -> None:
            upstream.requests.append(await visit.request())
            for piece in cuts(answered, answer_at):
                await visit.send(piece)
                await asyncio.sleep(0)
            await visit.reader.read()

        async with (
            scripted_upstream(script) as upstream,
            running_datapath(snapshot_of(upstream.url, Swapping())) as sidecar,
        ):
            client = await sidecar.connect()
            for piece in cuts(sent, request_at):
                await client.send(piece)
                await asyncio.sleep(0)
            answer = await client.answer()
            (entry,) = await sidecar.settled()
            model_saw: Message = upstream.requests[0]
            return model_saw.body, answer.status, answer.body, entry.request_digest, entry.response_digest, entry.result

    async def both() -> None:
        assert await exchange(request_cuts, answer_cuts) == await exchange([], [])

    asyncio.run(both())


async def test_ten_clients_at_once_do_not_get_each_others_answers() -> None:
    async def script(visit: Visit) -> None:
        while True:
            message = await visit.request()
            await asyncio.sleep(0)
            await visit.answer(message.body)

    async with scripted_upstream(script) as upstream, running_datapath(snapshot_of(upstream.url)) as sidecar:
        clients = [await sidecar.connect() for _ in range(10)]

        async def ask(number: int, client: RawClient) -> None:
            for turn in range(20):
                mark = b"%d/%d" % (number, turn)
                assert (await client.post(CHAT, mark)).body == mark

        async with asyncio.TaskGroup() as tasks:
            for number, client in enumerate(clients):
                tasks.create_task(ask(number, client))

        assert len(upstream.visits) <= 10


async def test_request_that_is_pipelined_behind_a_chunked_one_does_not_end_its_body_twice() -> None:
    """A second last chunk would be the beginning of the next request on the upstream's connection."""
    gate, seen = asyncio.Event(), bytearray()

    async def script(visit: Visit) -> None:
        while not gate.is_set() or b"second" not in seen:
            data = await visit.reader.read(65536)
            if not data:
                return
            seen.extend(data)
            if b"second" in seen:
                await visit.answer(b"two")
            elif seen.count(b"0\r\n\r\n"):
                await gate.wait()
                await visit.answer(b"one")

    head = b"POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    async with scripted_upstream(script) as upstream, running_datapath(snapshot_of(upstream.url)) as sidecar:
        client = await sidecar.connect()
        async with asyncio.timeout(10):
            await client.send(head + b"3\r\nabc\r\n")
            while b"abc" not in seen:
                await asyncio.sleep(0.002)
            await client.send(b"0\r\n\r\n")
            while b"0\r\n\r\n" not in seen:
                await asyncio.sleep(0.002)
            (connection,) = sidecar.listener._connections
            await client.send(request("/y", b"second"))
            while not connection._reader.waiting:
                await asyncio.sleep(0.002)
        gate.set()

        answers = [(await client.answer()).body, (await client.answer()).body]

        assert answers == [b"one", b"two"]
        assert seen.count(b"0\r\n\r\n") == 1
