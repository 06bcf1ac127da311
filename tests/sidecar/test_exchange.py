"""The life of an exchange over real sockets: what leaves, what comes back, what is remembered."""

import asyncio
import hashlib
import json

import pytest

from policies.model import Alert, DialectName, ResultCode
from policies.snapshot import AuditMode, BlockedRoute, PolicySnapshot, UnknownEndpoint
from sidecar.exchange import ASKED_AGAIN
from tests.fakes.chat import DONE, SSE_HEAD, chunked, completion, content_of, error_code, event, prompt
from tests.fakes.datapath import (
    Visit,
    answering_upstream,
    request,
    running_datapath,
    scripted_upstream,
    snapshot_of,
)
from tests.fakes.policies import Deceiving, Dwelling, Failing, FailingOver, Judging, Refusing, Swapping, Watching

CHAT = "/v1/chat/completions"
STRANGE = b'{ "model" : "m","messages":[{"content":"h\\u00e9 1e3","role":"user","x":1.0}] ,"y":[1e3, 1.50]}\n'


async def test_what_no_policy_changes_passes_byte_for_byte_both_ways() -> None:
    """T1."""
    for policies in ((), (Watching(),), (Swapping(),)):
        async with (
            answering_upstream(STRANGE, fields="x-request-id: up-1\r\n") as upstream,
            running_datapath(snapshot_of(upstream.url, *policies)) as sidecar,
        ):
            client = await sidecar.connect()

            answer = await client.post(CHAT, STRANGE)

            assert (answer.status, answer.body) == (200, STRANGE)
            assert answer.field("content-length") == str(len(STRANGE))
            assert answer.field("x-request-id") == "up-1"
            assert upstream.requests[0].body == STRANGE


async def test_identifier_never_reaches_the_model_and_comes_back_in_the_answer() -> None:
    body = completion("Dear [NAME-000001], all is well")
    async with (
        answering_upstream(body) as upstream,
        running_datapath(snapshot_of(upstream.url, Swapping())) as sidecar,
    ):
        client = await sidecar.connect()

        answer = await client.post(CHAT, prompt("I am Alice"))

        assert b"Alice" not in upstream.requests[0].body
        assert b"[NAME-000001]" in upstream.requests[0].body
        assert content_of(answer.body) == "Dear Alice, all is well"
        assert answer.field("content-length") == str(len(answer.body))
        assert answer.field("x-aegis-redacted") == "1"


async def test_leaf_tells_of_bytes_outside_the_pod_only() -> None:
    body = completion("Dear [NAME-000001]")
    async with (
        answering_upstream(body) as upstream,
        running_datapath(snapshot_of(upstream.url, Swapping())) as sidecar,
    ):
        client = await sidecar.connect()

        await client.post(CHAT, prompt("I am Alice"))

        (entry,) = await sidecar.settled()
        assert entry.result is ResultCode.FORWARDED
        assert (entry.status, entry.route, entry.dialect) == (200, "test", DialectName.OPENAI_CHAT)
        assert entry.policy_revision == sidecar.snapshots.current.revision  # type: ignore[union-attr]
        assert entry.request_digest == hashlib.sha256(upstream.requests[0].body).digest()
        assert entry.response_digest == hashlib.sha256(body).digest()
        assert dict(entry.findings) == {"name": 1}
        assert 0 < entry.started_at <= entry.ended_at


async def test_record_tells_telemetry_what_the_dialect_saw() -> None:
    async with (
        answering_upstream(completion("hi")) as upstream,
        running_datapath(snapshot_of(upstream.url, Watching())) as sidecar,
    ):
        client = await sidecar.connect()
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

        await client.post(CHAT, prompt("hi"), {"traceparent": trace, "tracestate": "a=b"})
        await client.post(CHAT, prompt("hi"), {"tracestate": "a=b"})

        await sidecar.settled(2)
        record = sidecar.telemetry.records[0]
        assert (record.request_model, record.response_model, record.response_id) == ("m", "m-1", "chatcmpl-1")
        assert (record.input_tokens, record.output_tokens, record.finish_reason) == (3, 5, "stop")
        assert (record.endpoint.operation, record.endpoint.provider, record.stream) == ("chat", "openai", False)
        assert record.started_at <= record.sent_at <= record.first_chunk_at <= record.ended_at
        assert (record.endpoint.server_address, record.endpoint.server_port) == ("127.0.0.1", upstream.port)
        assert (record.traceparent, record.parent_span) == (trace, "b7ad6b7169203331")
        traced, untraced = upstream.requests
        assert (traced.field("traceparent"), traced.field("tracestate")) == (trace, "a=b")
        # A tracestate is valid only beside a traceparent.
        assert (untraced.field("traceparent"), untraced.field("tracestate")) == (None, None)


async def test_streamed_answer_is_restored_event_by_event_before_the_next_one_is_sent() -> None:
    """T6."""
    released = []

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(SSE_HEAD + chunked(event("Dear ")))
        await visit.reader.read(1)  # the test says when

    async with (
        scripted_upstream(script) as upstream,
        running_datapath(snapshot_of(upstream.url, Swapping())) as sidecar,
    ):
        client = await sidecar.connect()
        await client.send(prompt_request(prompt("I am Alice", stream=True)))

        head = await client.reader.readuntil(b"\r\n\r\n")
        released.append(await client.reader.readuntil(b"\n\n\r\n"))
        await upstream.visits[0].send(chunked(event("[NAME-000001]")))
        released.append(await client.reader.readuntil(b"\n\n\r\n"))
        await upstream.visits[0].send(chunked(DONE) + b"0\r\n\r\n")
        rest = await client.reader.readuntil(b"0\r\n\r\n")

        assert b"transfer-encoding: chunked" in head
        assert b"Dear " in released[0]
        assert b"Alice" in released[1]
        assert b"[DONE]" in rest
        (entry,) = await sidecar.settled()
        assert entry.result is ResultCode.FORWARDED


def prompt_request(body: bytes) -> bytes:
    return b"POST /v1/chat/completions HTTP/1.1\r\nHost: s\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def test_refused_prompt_never_reaches_the_model() -> None:
    async with (
        answering_upstream() as upstream,
        running_datapath(snapshot_of(upstream.url, Refusing())) as sidecar,
    ):
        client = await sidecar.connect()

        answer = await client.post(CHAT, prompt("anything"))
        again = await client.post(CHAT, prompt("anything"))

        assert (answer.status, error_code(answer.body)) == (403, "test_denied")
        assert answer.field("x-should-retry") == "false"
        assert answer.field("x-request-id") == answer.field("x-aegis-request-id")
        assert again.status == 403
        assert not upstream.visits
        entry, _ = await sidecar.settled(2)
        assert entry.result is ResultCode.DENIED_FIREWALL
        assert entry.request_digest == entry.response_digest == bytes(32)
        assert Alert("test_alert", sidecar.effects.carried_out[0].severity) in sidecar.effects.carried_out  # type: ignore[union-attr]


async def test_decoy_is_answered_without_the_model() -> None:
    async with (
        answering_upstream() as upstream,
        running_datapath(snapshot_of(upstream.url, Deceiving())) as sidecar,
    ):
        client = await sidecar.connect()

        answer = await client.post(CHAT, prompt("ls"))

        assert (answer.status, content_of(answer.body)) == (200, "all is well")
        assert not upstream.visits
        (entry,) = await sidecar.settled()
        assert (entry.result, entry.status) == (ResultCode.DECOY, 200)


async def test_refusal_speaks_the_dialect_of_its_client() -> None:
    async with (
        answering_upstream() as upstream,
        running_datapath(snapshot_of(upstream.url, Refusing())) as sidecar,
    ):
        client = await sidecar.connect()
        body = json.dumps({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}).encode()

        answer = await client.post("/v1/messages", body, {"anthropic-version": "2023-06-01"})

        error = json.loads(answer.body)
        assert (error["type"], error["error"]["type"]) == ("error", "permission_error")
        assert answer.field("request-id") == error["request_id"]


async def test_policy_with_a_bug_lets_nothing_out() -> None:
    for inline in (True, False):
        async with (
            answering_upstream() as upstream,
            running_datapath(snapshot_of(upstream.url, Failing())) as sidecar,
        ):
            client = await sidecar.connect()

            answer = await client.post(CHAT, prompt("x" * (10 if inline else 200_000)))

            assert (answer.status, error_code(answer.body)) == (500, "aegis_internal")
            assert not upstream.visits
            (entry,) = await sidecar.settled()
            assert entry.result is ResultCode.INTERNAL


async def test_policy_with_a_bug_ends_only_the_exchange_that_was_sent_behind_another() -> None:
    async with (
        answering_upstream() as upstream,
        running_datapath(snapshot_of(upstream.url, FailingOver("Mallory"))) as sidecar,
    ):
        client = await sidecar.connect()
        await client.send(request(CHAT, prompt("x")) + request(CHAT, prompt("Mallory")))

        async with asyncio.timeout(10):
            answers = [await client.answer(), await client.answer()]

        assert [answer.status for answer in answers] == [200, 500]
        results = [entry.result for entry in await sidecar.settled(2)]
        assert results == [ResultCode.FORWARDED, ResultCode.INTERNAL]
        assert sidecar.pools.counts() == {"model": {"open": 1, "idle": 1}}


async def test_body_that_cannot_be_read_is_refused_where_policies_read() -> None:
    async with (
        answering_upstream() as upstream,
        running_datapath(snapshot_of(upstream.url, Watching())) as sidecar,
    ):
        client = await sidecar.connect()

        answer = await client.post(CHAT, b'{"messages": [')

        assert (answer.status, error_code(answer.body)) == (400, "aegis_malformed_body")
        assert not upstream.visits
        (entry,) = await sidecar.settled()
        assert entry.result is ResultCode.MALFORMED_REQUEST


async def test_answer_that_a_policy_refuses_becomes_an_error() -> None:
    async with (
        answering_upstream(completion("wrong")) as upstream,
        running_datapath(snapshot_of(upstream.url, Judging())) as sidecar,
    ):
        client = await sidecar.connect()

        answer = await client.post(CHAT, prompt("x"))

        assert (answer.status, error_code(answer.body)) == (502, "test_invalid_answer")
        (entry,) = await sidecar.settled()
        assert entry.result is ResultCode.INVALID_ANSWER
        assert len(sidecar.effects.carried_out) == 1


async def test_model_is_asked_once_more_where_the_policy_says_so() -> None:
    async def script(visit: Visit) -> None:
        for content in ("wrong", "right"):
            upstream.requests.append(await visit.request())
            await visit.answer(completion(content))

    async with scripted_upstream(script) as upstream:
        judging = Judging(retries=1)
        async with running_datapath(snapshot_of(upstream.url, judging)) as sidecar:
            client = await sidecar.connect()

            answer = await client.post(CHAT, prompt("x"))

            assert content_of(answer.body) == "right"
            assert judging.restarts == 1
            assert upstream.requests[0].body == upstream.requests[1].body
            (entry,) = await sidecar.settled()
            assert entry.result is ResultCode.FORWARDED
            assert not sidecar.effects.carried_out


async def test_model_is_asked_again_five_times_at_most_whatever_the_policy_wants() -> None:
    async with (
        answering_upstream(completion("wrong")) as upstream,
        running_datapath(snapshot_of(upstream.url, Judging(retries=99))) as sidecar,
    ):
        client = await sidecar.connect()

        answer = await client.post(CHAT, prompt("x"))

        assert answer.status == 502
        assert len(upstream.requests) == 1 + ASKED_AGAIN


async def test_without_any_policy_everything_is_refused() -> None:
    async with running_datapath(None) as sidecar:
        client = await sidecar.connect()

        answer = await client.post()

        assert (answer.status, error_code(answer.body)) == (503, "aegis_no_policy")
        assert answer.field("retry-after") == "5"
        (entry,) = await sidecar.settled()
        assert entry.result is ResultCode.NO_POLICY


async def test_path_without_a_route_is_refused() -> None:
    async with running_datapath(snapshot_of("http://127.0.0.1:9", prefix="/openai")) as sidecar:
        client = await sidecar.connect()

        for path in ("/other/v1", "/openaiX/v1", "/"):
            answer = await client.post(path)
            assert (answer.status, error_code(answer.body)) == (404, "aegis_no_route")


async def test_route_whose_policies_are_missing_is_blocked_and_nothing_falls_through() -> None:
    async with answering_upstream() as upstream:
        open_route = snapshot_of(upstream.url)
        blocked = BlockedRoute("strict", "/openai", {})
        snapshot = PolicySnapshot(open_route.routes, revision=1, source="live", blocked=[blocked])
        async with running_datapath(snapshot) as sidecar:
            client = await sidecar.connect()

            answer = await client.post("/openai/v1/chat/completions")

            assert (answer.status, error_code(answer.body)) == (503, "aegis_route_blocked")
            assert not upstream.visits


async def test_exchange_keeps_the_snapshot_it_began_with() -> None:
    async with (
        answering_upstream(completion("[NAME-000001]")) as upstream,
        running_datapath(snapshot_of(upstream.url, Swapping())) as sidecar,
    ):
        client = await sidecar.connect()
        request = prompt_request(prompt("I am Alice"))
        await client.send(request[:-5])
        await sidecar.begun()
        first = sidecar.snapshots.current
        assert first is not None
        sidecar.snapshots.current = snapshot_of(upstream.url, Refusing())
        await client.send(request[-5:])
        answer = await client.answer()
        after = await client.post(CHAT, prompt("I am Alice"))

        assert content_of(answer.body) == "Alice"
        assert after.status == 403
        entry, _ = await sidecar.settled(2)
        assert entry.policy_revision == first.revision


async def test_route_decides_prefix_target_and_query() -> None:
    async with (
        answering_upstream() as upstream,
        running_datapath(snapshot_of(upstream.url + "/base", prefix="/openai")) as sidecar,
    ):
        client = await sidecar.connect()

        await client.post("/openai/v1/chat/completions?api-key=s%20x&y=/..")

        assert upstream.requests[0].first_line == "POST /base/v1/chat/completions?api-key=s%20x&y=/.. HTTP/1.1"
        assert upstream.requests[0].field("host") == f"127.0.0.1:{upstream.port}"


async def test_endpoint_that_no_dialect_knows_is_walked_or_refused_by_policy() -> None:
    body = b'{"anything": {"at": ["all, Alice"]}}'
    async with answering_upstream(b'{"echo": "[NAME-000001]"}') as upstream:
        walk = snapshot_of(upstream.url, Swapping())
        refuse = snapshot_of(upstream.url, Swapping(), unknown_endpoint=UnknownEndpoint.REFUSE)
        async with running_datapath(walk) as sidecar:
            client = await sidecar.connect()

            walked = await client.post("/v1/brand_new", body)
            sidecar.snapshots.current = refuse
            refused = await client.post("/v1/brand_new", body)

            assert b"[NAME-000001]" in upstream.requests[0].body
            assert json.loads(walked.body) == {"echo": "Alice"}
            assert (refused.status, error_code(refused.body)) == (403, "aegis_unknown_endpoint")


async def test_models_are_listed_even_where_unknown_endpoints_are_refused() -> None:
    async with answering_upstream(b'{"data":[]}') as upstream:
        snapshot = snapshot_of(upstream.url, Watching(), unknown_endpoint=UnknownEndpoint.REFUSE)
        async with running_datapath(snapshot) as sidecar:
            client = await sidecar.connect()

            await client.send(b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n")
            listed = await client.answer()
            await client.send(b"GET /v1/files HTTP/1.1\r\nHost: a\r\n\r\n")
            refused = await client.answer()

            assert listed.body == b'{"data":[]}'
            assert "content-length" not in upstream.requests[0].names
            assert refused.status == 403


async def test_banned_client_is_refused_before_anything_is_read() -> None:
    async with answering_upstream() as upstream, running_datapath(snapshot_of(upstream.url)) as sidecar:
        sidecar.effects.banned_peers.add("test")
        client = await sidecar.connect()

        answer = await client.post()

        assert (answer.status, error_code(answer.body)) == (403, "aegis_banned")
        (entry,) = await sidecar.settled()
        assert entry.result is ResultCode.DENIED_BAN


async def test_exchange_that_could_not_be_proven_does_not_take_place_where_audit_is_required() -> None:
    async with (
        answering_upstream() as upstream,
        running_datapath(snapshot_of(upstream.url, audit=AuditMode.REQUIRED)) as sidecar,
    ):
        client = await sidecar.connect()
        assert (await client.post()).status == 200
        sidecar.trail.accepting = False

        answer = await client.post()

        assert (answer.status, error_code(answer.body)) == (503, "aegis_audit_unavailable")
        assert answer.field("retry-after") == "5"
        assert len(upstream.requests) == 1


async def test_limits_errors_cookies_and_retry_hints_of_the_provider_pass() -> None:
    """T22."""
    fields = {
        "retry-after": "7",
        "retry-after-ms": "7000",
        "x-should-retry": "true",
        "openai-processing-ms": "12",
        "x-ratelimit-remaining-tokens": "3",
        "anthropic-ratelimit-unified-status": "allowed",
        "request-id": "req_1",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    lines += "set-cookie: a=1; Path=/\r\nset-cookie: b=2\r\nkeep-alive: timeout=5\r\n"
    body = b'{"error":{"message":"slow down","type":"rate_limit","param":null,"code":null}}'
    async with (
        answering_upstream(body, status="429 Too Many Requests", fields=lines) as upstream,
        running_datapath(snapshot_of(upstream.url, Swapping())) as sidecar,
    ):
        client = await sidecar.connect()

        answer = await client.post(CHAT, prompt("x"))

        assert (answer.status, answer.body) == (429, body)
        assert {name: answer.field(name) for name in fields} == fields
        assert [value for name, value in answer.fields if name == "set-cookie"] == ["a=1; Path=/", "b=2"]
        assert answer.field("keep-alive") is None
        (entry,) = await sidecar.settled()
        assert (entry.result, entry.status) == (ResultCode.UPSTREAM_REFUSED, 429)


async def test_fields_of_the_hop_do_not_reach_the_upstream() -> None:
    """T23."""
    async with (
        answering_upstream() as upstream,
        running_datapath(snapshot_of(upstream.url, Swapping())) as sidecar,
    ):
        client = await sidecar.connect()
        hop = {
            "Connection": "keep-alive, X-Private",
            "X-Private": "1",
            "Keep-Alive": "timeout=5",
            "TE": "trailers",
            "Accept-Encoding": "gzip, br",
            "Authorization": "Bearer k",
            "X-Stainless-Retry-Count": "0",
            "X-Aegis-Conversation": "c1",
        }

        await client.post(CHAT, prompt("x"), hop)

        (request,) = upstream.requests
        assert not {"connection", "x-private", "keep-alive", "te", "x-aegis-conversation"} & set(request.names)
        assert request.field("accept-encoding") == "identity"
        assert request.field("authorization") == "Bearer k"
        assert request.field("x-stainless-retry-count") == "0"


async def test_long_prompt_is_inspected_on_a_thread_of_its_own() -> None:
    async with (
        answering_upstream(completion("ok")) as upstream,
        running_datapath(snapshot_of(upstream.url, Swapping())) as sidecar,
    ):
        client = await sidecar.connect()

        answer = await client.post(CHAT, prompt("Alice " * 50_000))

        assert content_of(answer.body) == "ok"
        assert b"Alice" not in upstream.requests[0].body
        assert len(upstream.requests[0].body) > 500_000


async def test_long_answer_is_restored_on_that_thread_and_a_short_one_is_not() -> None:
    for words, on_thread in ((10, False), (20_000, True)):
        dwelling = Dwelling()
        dwelling.may_end.set()
        async with (
            answering_upstream(completion("[NAME-000001] " * words)) as upstream,
            running_datapath(snapshot_of(upstream.url, dwelling)) as sidecar,
        ):
            client = await sidecar.connect()

            for _ in range(2):
                answer = await client.post(CHAT, prompt("I am Alice"))

                assert content_of(answer.body) == "Alice " * words
                assert answer.field("content-length") == str(len(answer.body))
            assert dwelling.on_thread.startswith("inspector") is on_thread
            assert len(upstream.visits) == 1


@pytest.mark.parametrize("body", [completion("wrong " * 20_000), b'{"choices": [' + b" " * 100_000])
async def test_long_answer_that_must_not_be_shown_is_an_error(body: bytes) -> None:
    async with (
        answering_upstream(body) as upstream,
        running_datapath(snapshot_of(upstream.url, Judging())) as sidecar,
    ):
        client = await sidecar.connect()

        answer = await client.post(CHAT, prompt("x"))

        expected = "test_invalid_answer" if b"wrong" in body else "aegis_answer_malformed"
        assert (answer.status, error_code(answer.body)) == (502, expected)
        assert b"wrong" not in answer.body


async def test_model_is_asked_again_for_a_long_answer_too() -> None:
    judging = Judging(retries=2)
    async with (
        answering_upstream(completion("wrong " * 20_000)) as upstream,
        running_datapath(snapshot_of(upstream.url, judging)) as sidecar,
    ):
        client = await sidecar.connect()

        answer = await client.post(CHAT, prompt("x"))

        assert (answer.status, error_code(answer.body)) == (502, "test_invalid_answer")
        assert (judging.restarts, len(upstream.requests)) == (2, 3)


@pytest.mark.parametrize("policies", [(), (Swapping(),)])
async def test_connections_to_the_upstream_are_kept_and_used_again(policies: tuple[Swapping, ...]) -> None:
    """T25."""
    async with (
        answering_upstream(completion("ok")) as upstream,
        running_datapath(snapshot_of(upstream.url, *policies)) as sidecar,
    ):
        client = await sidecar.connect()

        for _ in range(5):
            await client.post(CHAT, prompt("x"))

        assert len(upstream.visits) == 1
        assert sidecar.telemetry.reused == [False, True, True, True, True]
