"""The gateway over real sockets: chains, chunked streams over SSE and WebSocket, plugin tasks, dead letters."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.app import EventStream, application
from gateway.config import GatewayConfig
from gateway.tasks import PluginTasks
from gateway.vault import DeadLetterVault, VaultLimits
from policies.mathprotocol.standin import stand_in_answer
from policies.mathprotocol.streaming import ChunkReader
from settings import Address
from sidecar.plugins.host import PluginHost, load
from tests.fakes.asgi_server import serving

pytestmark = pytest.mark.looptime(False)
EXAMPLE = Path(__file__).parents[2] / "plugins/example_sentiment"


class TaughtModel:
    """An OpenAI-compatible server whose model speaks MathProtocol, three characters an event."""

    def __init__(self, answer: Callable[[str], str] = stand_in_answer) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.keys: list[str | None] = []
        self.breaks_off = False
        self.refuses: tuple[int, str] | None = None
        self.stalled = asyncio.Event()
        """Set when it said all that it will say."""
        self.gone = asyncio.Event()
        """Set when nobody waits for it any more."""
        self.stalls = False
        self.stalls_after = 9
        self.drips = False
        """Whether it goes on saying next to nothing for ever."""
        self.error: object = ...
        """What stands under `error` in every event."""

    def application(self) -> Starlette:
        return Starlette(routes=[Route("/v1/chat/completions", self._complete, methods=["POST"])])

    async def _complete(self, request: Request) -> Response | EventStream:
        body: dict[str, Any] = await request.json()
        self.asked.append(body["messages"][-1]["content"])
        self.keys.append(request.headers.get("authorization"))
        if self.refuses is not None:
            return JSONResponse({"error": {"code": self.refuses[1], "message": "no"}}, self.refuses[0])
        return EventStream(self._events(self.answer(self.asked[-1])))

    async def _events(self, text: str) -> AsyncGenerator[bytes]:
        for start in range(0, len(text), 3):
            yield self._event(text[start : start + 3])
            if self.stalls and start > self.stalls_after:
                self.stalled.set()
                try:
                    await asyncio.sleep(60)
                finally:
                    self.gone.set()
        try:
            while self.drips:
                yield self._event("")
                await asyncio.sleep(0.02)
        finally:
            self.gone.set()
        if not self.breaks_off:
            yield b"data: [DONE]\n\n"

    def _event(self, text: str) -> bytes:
        delta: dict[str, object] = {"choices": [{"index": 0, "delta": {"content": text}}]}
        if self.error is not ...:
            delta["error"] = self.error
        return b"data: %s\n\n" % json.dumps(delta).encode()


def a_vault() -> DeadLetterVault:
    """One that nobody finds again."""
    return DeadLetterVault.open(Path(mkdtemp(prefix="aegis-vault-")), VaultLimits())


@asynccontextmanager
async def gateway(
    model: TaughtModel, plugins: PluginTasks | None = None, **settings: Any
) -> AsyncIterator[httpx2.AsyncClient]:
    async with serving(model.application()) as upstream:
        config = GatewayConfig(upstream=f"http://{upstream}/v1", **settings)
        async with (
            serving(application(config, plugins or {}, a_vault())) as address,
            httpx2.AsyncClient(base_url=f"http://{address}", trust_env=False) as client,
        ):
            yield client


async def process(client: httpx2.AsyncClient, text: str, status: int = 200) -> Any:
    response = await client.post("/v2/process", json={"request": text}, headers={"authorization": "Bearer key"})
    assert response.status_code == status
    return response.json()


async def streamed(client: httpx2.AsyncClient, text: str) -> tuple[str, list[httpx2.ServerSentEvent]]:
    """The joined payload and all events."""
    events = []
    reader, payload = ChunkReader(), ""
    async with client.sse("/v2/stream", method="POST", json={"request": text}) as source:
        async for event in source:
            events.append(event)
            if event.event != "error":
                payload += reader.message(event.data)
    return payload, events


async def test_single_task_is_answered_whole_and_the_key_goes_along() -> None:
    model = TaughtModel()
    async with gateway(model) as client:
        answer = await process(client, "11-1 | What is the capital of France?")

    assert answer == {"answer": "17-128 | Paris", "codes": [17, 128], "payload": "Paris"}
    assert model.asked == ["11-1 | What is the capital of France?"]
    assert model.keys == ["Bearer key"]


async def test_answer_streams_over_sse_as_numbered_chunks_with_an_end_mark() -> None:
    async with gateway(TaughtModel()) as client:
        payload, events = await streamed(client, "3-3 | one two three four")

    assert payload == "one two three four..."
    assert [event.data.split(" | ")[0] for event in events] == [
        *(f"17-128-{n}" for n in range(len(events) - 1)),
        "17-128-END",
    ]
    assert len(events) > 3


async def test_answer_streams_over_websocket_and_the_socket_takes_the_next_request() -> None:
    async with gateway(TaughtModel()) as client, client.websocket("/v2/stream") as socket:
        payloads = []
        for text in ("3-1 | a b c", "2-1 | great", "hello", "17-1 | Hello"):
            await socket.send_text(text)
            reader, payload = ChunkReader(), ""
            while not reader.finished:
                message = await socket.receive_text()
                if message.startswith("{"):
                    payload = str(json.loads(message)["error"]["code"])
                    break
                payload += reader.message(message)
            payloads.append(payload)

    assert payloads == ["a b c...", "", "4096", "Hola"]


@pytest.mark.parametrize(
    ("answer", "code"), [("Sure! Here it is", 4096), ("16-128 | x", 4096), ("1024", 1024), ("17-128", 4096), ("", 4096)]
)
async def test_answer_out_of_protocol_is_withheld_streamed_or_not(answer: str, code: int) -> None:
    async with gateway(TaughtModel(lambda _: answer)) as client:
        response = await client.post("/v2/stream", json={"request": "3-1 | x"})
        whole = None if answer == "1024" else await process(client, "3-1 | x", status=502)

    assert response.status_code == 502
    assert response.json()["error"]["code"] == code
    assert "Sure" not in response.text + json.dumps(whole)


async def test_stream_that_breaks_off_ends_in_an_error_event_and_without_end_mark() -> None:
    model = TaughtModel()
    model.breaks_off = True
    async with gateway(model) as client:
        _, events = await streamed(client, "3-3 | one two three four")

    assert events[-1].event == "error"
    assert not any(event.data.endswith("-END") for event in events)


async def test_payload_beyond_the_bound_ends_in_an_error_event() -> None:
    async with gateway(TaughtModel(lambda _: "17-128 | " + "x" * 3000), max_stream=1024) as client:
        _, events = await streamed(client, "3-1 | x")

    assert json.loads(events[-1].data)["error"]["code"] == "too_large"


async def test_client_that_goes_away_ends_the_model_s_answer() -> None:
    model = TaughtModel(lambda _: "17-128 | a long answer")
    model.stalls = True
    async with gateway(model) as client:
        async with client.stream("POST", "/v2/stream", json={"request": "3-1 | x"}) as response:
            pass
        async with asyncio.timeout(5):
            await model.gone.wait()

    assert response.status_code == 200


@pytest.mark.parametrize(
    ("path", "text"),
    [("/v2/stream", "3-1 | x"), ("/v2/process", "3-1 | x"), ("/v2/process", "[19-1]->[3-1] | x")],
)
async def test_client_that_goes_away_before_the_first_word_ends_the_model_s_answer_too(path: str, text: str) -> None:
    model = TaughtModel(lambda _: "17-128 | a long answer")
    model.stalls, model.stalls_after = True, 0
    async with gateway(model, max_concurrent=1) as client, asyncio.timeout(10):
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(client.post(path, json={"request": text}))
            await model.stalled.wait()
            asking.cancel()
        await model.gone.wait()

        model.stalls = False
        while (await client.post("/v2/process", json={"request": "3-1 | x"})).status_code == 503:
            await asyncio.sleep(0.01)  # the place of the first one is being given back


async def test_client_of_a_websocket_that_goes_away_ends_the_model_s_answer() -> None:
    model = TaughtModel(lambda _: "17-128 | a long answer")
    model.stalls, model.stalls_after = True, 0
    async with gateway(model) as client, asyncio.timeout(10):
        async with client.websocket("/v2/stream") as socket:
            await socket.send_text("3-1 | x")
            await model.stalled.wait()
        await model.gone.wait()


async def test_answer_that_never_ends_is_given_up_after_the_timeout() -> None:
    model = TaughtModel(lambda _: "17-128 | a")
    model.drips = True
    async with gateway(model, timeout=0.3) as client, asyncio.timeout(10):
        late = await process(client, "3-1 | x", status=504)
        await model.gone.wait()

    assert late["error"]["message"] == "the model did not answer in 0.3 s"


@pytest.mark.parametrize(("error", "status"), [(None, 200), ({}, 200), ({"code": "overloaded"}, 502), ("no", 502)])
async def test_error_in_a_stream_is_one_and_null_is_none(error: object, status: int) -> None:
    model = TaughtModel()
    model.error = error
    async with gateway(model) as client:
        await process(client, "11-1 | What is the capital of France?", status=status)


async def test_long_explanation_of_a_refusal_is_not_read_to_its_end() -> None:
    model = TaughtModel()
    model.refuses = (403, "x" * 1_000_000)
    async with gateway(model) as client:
        refused = await process(client, "3-1 | x", status=403)

    assert refused["error"]["code"] == "upstream"


async def test_chain_runs_its_stages_and_a_second_one_is_cached() -> None:
    model = TaughtModel()
    async with gateway(model) as client:
        first = await process(client, "[19-1]->[3-1]&[5-1] | one two three four five six")
        again = await process(client, "[19-1]->[3-1]&[5-1] | one two three four five six")

    assert first["answers"] == ["17-128 | one two three four five...", "17-128"]
    assert [given["cached"] for given in again["given"]] == [True, True, True]
    assert len(model.asked) == 3


async def test_guard_that_says_no_stops_the_chain() -> None:
    async with gateway(TaughtModel()) as client:
        stopped = await process(client, "[19-1]->[3-1] | explicit violence")

    assert stopped["stopped_by"] == "[19-1]"


async def test_failed_chain_becomes_a_dead_letter_with_what_came_before() -> None:
    model = TaughtModel(lambda text: "9-128" if text.startswith("19") else "Sure!")
    async with gateway(model) as client:
        refused = await process(client, "[19-1]->[3-1] | secret text", status=502)
        (summary,) = (await client.get("/v2/dead-letters")).json()
        letter = (await client.get(f"/v2/dead-letters/{summary['id']}")).json()
        missing = await client.get("/v2/dead-letters/none")

    assert refused["error"]["code"] == "stage_invalid_answer"
    assert summary["id"] in refused["error"]["message"]
    assert "secret" not in json.dumps(summary)
    assert letter["request"] == "[19-1]->[3-1] | secret text"
    assert letter["given"] == [{"stage": "[19-1]", "answer": "9-128"}]
    assert missing.status_code == 404


async def test_stage_that_keeps_failing_is_not_asked_any_more() -> None:
    model = TaughtModel(lambda _: "Sure!")
    async with gateway(model, breaker_threshold=2) as client:
        codes = [(await process(client, "[19-1]->[3-1] | x", 502))["error"]["code"] for _ in range(3)]

    assert codes == ["stage_invalid_answer", "stage_invalid_answer", "stage_breaker_open"]
    assert len(model.asked) == 2


async def test_refusal_of_the_sidecar_is_passed_on() -> None:
    model = TaughtModel()
    model.refuses = (403, "forbidden")
    async with gateway(model) as client:
        refused = await process(client, "43-1 | x", status=403)

    assert refused["error"]["code"] == "forbidden"
    assert model.asked == ["43-1 | x"]  # the honeypot must see it


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'{"request": 1}', 400),
        (b'{"request": "hello"}', 400),
        (b'{"request": "[43-1]->[2-1] | x"}', 400),
        (b"[" * 1500, 400),
        (b'{"request": "' + b"x" * 3000 + b'"}', 413),
        (b'{"request": "3-1 | \\ud83d"}', 400),
    ],
)
@pytest.mark.parametrize("path", ["/v2/process", "/v2/stream"])
async def test_what_is_no_request_is_refused_before_the_model(path: str, body: bytes, status: int) -> None:
    model = TaughtModel()
    async with gateway(model, max_request=2048) as client:
        response = await client.post(path, content=body)

    assert response.status_code == status
    assert model.asked == []


async def test_key_that_is_no_ascii_is_passed_on_as_it_came() -> None:
    model = TaughtModel()
    async with gateway(model) as client:
        headers = {"authorization": "Bearer kéy".encode("latin-1")}
        answer = await client.post("/v2/process", json={"request": "2-1 | good"}, headers=headers)

    assert answer.status_code == 200
    assert model.keys == ["Bearer kéy"]


async def test_chain_is_not_streamed() -> None:
    async with gateway(TaughtModel()) as client:
        response = await client.post("/v2/stream", json={"request": "[19-1]->[3-1] | x"})

    assert response.status_code == 400


async def test_plugin_task_never_reaches_the_model() -> None:
    model, plugin = TaughtModel(), load(EXAMPLE)
    host = PluginHost(plugin, lambda _: None)
    async with gateway(model, {31: (host, plugin.manifest.tasks[0])}) as client:
        answer = await process(client, "31-1 | I love it")
        _, events = await streamed(client, "31-1 | broken, I want a refund")
        refused = await process(client, "31-5 | x", status=400)

    assert answer["answer"] == "3-128"
    assert [event.data for event in events] == ["5-128-END"]
    assert refused["error"]["code"] == 2048
    assert model.asked == []


async def test_too_many_at_once_are_refused() -> None:
    model = TaughtModel(lambda _: "17-128 | a long answer")
    model.stalls = True
    async with (
        gateway(model, max_concurrent=1) as client,
        client.stream("POST", "/v2/stream", json={"request": "3-1 | x"}) as first,
    ):
        second = await client.post("/v2/process", json={"request": "3-1 | x"})

    assert (first.status_code, second.status_code) == (200, 503)


async def test_upstream_that_is_not_there_is_an_error() -> None:
    async with (
        serving(application(GatewayConfig(upstream="http://127.0.0.1:1/v1"), {}, a_vault())) as address,
        httpx2.AsyncClient(base_url=f"http://{address}", trust_env=False) as client,
    ):
        refused = await process(client, "2-1 | x", status=502)
        healthy = await client.get("/healthz")

    assert re.search("the upstream failed", refused["error"]["message"])
    assert healthy.status_code == 200


@pytest.mark.parametrize(("registered", "sent"), [(False, "Rhyme on: a cat"), (True, "37-1 | a cat")])
async def test_template_is_filled_in_here_or_by_the_sidecar_that_registers_it(
    registered: bool, sent: str, tmp_path: Path
) -> None:
    (tmp_path / "plugin.toml").write_text(
        '[plugin]\nname = "rhyme"\nversion = "1.0"\napi = 1\n[[task]]\nprime = 37\nname = "Rhyme"\n'
        'kind = "generative"\nparams = [1]\ntemplate = "Rhyme on: {context}"\n'
    )
    model, plugin = TaughtModel(lambda _: "17-128 | a hat"), load(tmp_path)
    tasks = {37: (PluginHost(plugin, lambda _: None), plugin.manifest.tasks[0])}
    async with gateway(model, tasks, plugins_registered=registered) as client:
        answer = await process(client, "37-1 | a cat")

    assert model.asked == [sent]
    assert answer["payload"] == "a hat"


@pytest.mark.parametrize(
    ("token", "headers", "status"),
    [
        ("", {}, 200),
        ("", {"host": "localhost:15090"}, 200),
        ("", {"host": "[::1]:15090"}, 200),
        ("", {"host": "rebound.example"}, 403),
        ("", {"host": "127.0.0.1.evil.example:80"}, 403),
        ("", {"origin": "https://evil.example"}, 403),
        ("", {"origin": "http://localhost:3000"}, 200),
        ("s3cret", {}, 401),
        ("s3cret", {"x-aegis-token": "s3cre"}, 401),
        ("s3cret", {"x-aegis-token": "s3cret", "host": "gateway.mesh"}, 200),
    ],
)
async def test_strangers_and_web_pages_may_not_ask(token: str, headers: dict[str, str], status: int) -> None:
    async with gateway(TaughtModel(), token=token) as client:
        asked = await client.post("/v2/process", json={"request": "2-1 | good"}, headers=headers)
        letters = await client.get("/v2/dead-letters", headers=headers)
        health = await client.get("/healthz", headers=headers)

    assert (asked.status_code, letters.status_code, health.status_code) == (status, status, 200)


async def test_websocket_of_a_web_page_from_elsewhere_is_closed() -> None:
    async with gateway(TaughtModel()) as client:
        with pytest.raises(Exception, match="403"):
            async with client.websocket("/v2/stream", headers={"origin": "https://evil.example"}):
                pass


def test_gateway_for_others_needs_a_token() -> None:
    config = GatewayConfig(listen=Address("0.0.0.0", 15090))  # noqa: S104 that is what is refused

    assert [finding.setting for finding in config.check()] == ["token"]
