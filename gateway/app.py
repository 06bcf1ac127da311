"""The gateway's web face.

    POST /v2/process    {"request": "3-1 | text"} or a chain -> the whole answer
    POST /v2/stream     {"request": "3-1 | text"} -> text/event-stream, one chunk an event, the end mark last
    WS   /v2/stream     a request in a text message -> one chunk a message, the end mark last; then the next request
    GET  /v2/dead-letters, /v2/dead-letters/{id}
    GET  /healthz

An error before the first chunk has a status; after it, it is an `error` event, or a message that begins with a brace,
which no chunk does. A stream that ends without end mark and without error broke off.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, TypeVar

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from gateway.config import GatewayConfig
from gateway.doorkeeper import Doorkeeper
from gateway.model import Model
from gateway.tasks import PluginTasks, TaskError, Tasks
from gateway.vault import DeadLetterVault, VaultError
from policies.mathprotocol.chain import Breakers, StageCache
from policies.mathprotocol.composite import is_composite

Answer = TypeVar("Answer")

logger = logging.getLogger(__name__)

_EXPIRE_EVERY: Final = 600.0
"""Seconds."""
_ASKED_AHEAD: Final = 4
"""Requests of one WebSocket that may wait behind the one that is being answered; it is not read beyond them."""
_OVERLOADED: Final = TaskError(503, "overloaded", "too many requests in progress; ask again later")


def application(config: GatewayConfig, plugins: PluginTasks, vault: DeadLetterVault) -> Starlette:
    """The ASGI application. Plugin hosts are stopped and the vault is closed at shutdown."""
    model = Model(config.upstream, config.model, config.timeout)
    tasks = Tasks(
        model,
        plugins,
        StageCache(config.cache),
        Breakers(config.breaker_threshold, config.breaker_cooldown),
        vault,
        config.max_stream,
        registered=config.plugins_registered,
    )
    face = _Face(tasks, config)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as background:
            expiry = background.create_task(_expiring(vault))
            yield
            expiry.cancel()
        vault.close()
        await model.close()
        for host in {id(host): host for host, _ in plugins.values()}.values():
            await host.stop()

    return Starlette(
        routes=[
            Route("/v2/process", face.process, methods=["POST"]),
            Route("/v2/stream", face.stream, methods=["POST"]),
            WebSocketRoute("/v2/stream", face.socket),
            Route("/v2/dead-letters", face.letters, methods=["GET"]),
            Route("/v2/dead-letters/{id}", face.letter, methods=["GET"]),
            Route("/healthz", face.health, methods=["GET"]),
        ],
        middleware=[Middleware(Doorkeeper, config.token)],
        lifespan=lifespan,
    )


class _Face:
    """The endpoints."""

    def __init__(self, tasks: Tasks, config: GatewayConfig) -> None:
        self._tasks = tasks
        self._max_request = config.max_request
        self._slots = asyncio.Semaphore(config.max_concurrent)

    async def process(self, request: Request) -> Response:
        try:
            text = await self._text(request)
            return JSONResponse(await _unless_gone(request.receive, self._processed(text, request)))
        except TaskError as error:
            return JSONResponse(error.as_json(), error.status)
        except ClientGoneError:
            return Response(status_code=499)  # nobody reads it

    async def stream(self, request: Request) -> "Response | EventStream":
        try:
            chunks = self._chunks(_single(await self._text(request)), request)
            first = await _unless_gone(request.receive, anext(chunks))
        except TaskError as error:
            return JSONResponse(error.as_json(), error.status)
        except ClientGoneError:
            return Response(status_code=499)  # nobody reads it
        return EventStream(_events(first, chunks), chunks)

    async def socket(self, socket: WebSocket) -> None:
        """Answers one request after the other, and listens meanwhile: a client that goes away ends its answer."""
        await socket.accept()
        asked: asyncio.Queue[str] = asyncio.Queue(_ASKED_AHEAD)
        async with asyncio.TaskGroup() as group:
            answering = group.create_task(self._answer_each(asked, socket))
            with contextlib.suppress(WebSocketDisconnect, KeyError):  # gone, or not a text message
                while True:
                    await asked.put(await socket.receive_text())
            answering.cancel()

    async def _answer_each(self, asked: "asyncio.Queue[str]", socket: WebSocket) -> None:
        with contextlib.suppress(WebSocketDisconnect):  # whoever listens hears of it, too
            while True:
                text = await asked.get()
                try:
                    if len(text.encode()) > self._max_request:
                        raise TaskError(413, "too_large", "the request is too large")
                    async with aclosing(self._chunks(_single(text), socket)) as chunks:
                        async for chunk in chunks:
                            await socket.send_text(chunk)
                except TaskError as error:
                    await socket.send_text(json.dumps(error.as_json()))

    async def letters(self, _: Request) -> Response:
        try:
            return JSONResponse(await asyncio.to_thread(self._tasks.vault.summaries))
        except VaultError as error:
            return _unreadable(error)

    async def letter(self, request: Request) -> Response:
        try:
            letter = await asyncio.to_thread(self._tasks.vault.get, request.path_params["id"])
        except VaultError as error:
            return _unreadable(error)
        return Response(status_code=404) if letter is None else JSONResponse(letter)

    async def health(self, _: Request) -> Response:
        return Response(status_code=200)

    async def _processed(self, text: str, request: Request) -> dict[str, Any]:
        async with self._slot():
            return await self._tasks.process(text, request.headers)

    async def _chunks(self, text: str, connection: Request | WebSocket) -> AsyncGenerator[str]:
        async with self._slot(), aclosing(self._tasks.chunks(text, connection.headers)) as chunks:
            async for chunk in chunks:
                yield chunk

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self._slots.locked():
            raise _OVERLOADED
        async with self._slots:
            yield

    async def _text(self, request: Request) -> str:
        raw = bytearray()
        async for part in request.stream():
            raw += part
            if len(raw) > self._max_request:
                raise TaskError(413, "too_large", f"a request has at most {self._max_request} bytes")
        try:
            body: Any = json.loads(raw)
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict) or not isinstance(body.get("request"), str):
            raise TaskError(400, 4096, 'expected a JSON object such as {"request": "3-1 | text"}')
        text: str = body["request"]
        try:
            text.encode()
        except UnicodeEncodeError:
            raise TaskError(400, 4096, "the request holds half a surrogate pair, which is no text") from None
        return text


async def _expiring(vault: DeadLetterVault) -> None:
    """Delete letters when they are old, also when nobody keeps or reads any."""
    while True:
        await asyncio.sleep(_EXPIRE_EVERY)
        try:
            await asyncio.to_thread(vault.expire)
        except VaultError as error:
            logger.error("dead letters not expired", extra={"reason": str(error)})


def _unreadable(error: VaultError) -> Response:
    return JSONResponse(TaskError(500, "unreadable", str(error)).as_json(), 500)


class EventStream:
    """An ASGI response that stops at once, and its sources with it, when the client goes away."""

    def __init__(self, events: AsyncGenerator[bytes], *sources: AsyncGenerator[Any]) -> None:
        """`sources`: what `events` draws from."""
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        self._response = StreamingResponse(events, media_type="text/event-stream", headers=headers)
        self._sources = (events, *sources)

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        try:
            with contextlib.suppress(ClientGoneError):
                await _unless_gone(receive, self._response.stream_response(send))
        finally:
            for source in self._sources:  # else the collector would close them, some time
                await source.aclose()


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


async def _unless_gone(receive: Receive, work: Awaitable[Answer]) -> Answer:
    """What `work` gives. Cancels it and raises ClientGoneError when the client goes away first."""
    given: list[Answer] = []
    failed: list[Exception] = []

    async def working() -> None:
        try:
            given.append(await work)
        except Exception as error:  # noqa: BLE001 raised again below, not as a group
            failed.append(error)

    async with asyncio.TaskGroup() as group:
        worker = group.create_task(working())
        watcher = group.create_task(_disconnected(receive))
        worker.add_done_callback(lambda _: watcher.cancel())
        watcher.add_done_callback(lambda _: worker.cancel())
    if failed:
        raise failed[0]
    if not given:
        raise ClientGoneError
    return given[0]


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _single(text: str) -> str:
    if is_composite(text):
        raise TaskError(400, 4096, "a chain has several answers and is not streamed: ask /v2/process")
    return text


async def _events(first: str, chunks: AsyncGenerator[str]) -> AsyncGenerator[bytes]:
    yield _event(first)
    try:
        async for chunk in chunks:
            yield _event(chunk)
    except TaskError as error:
        yield f"event: error\ndata: {json.dumps(error.as_json())}\n\n".encode()


def _event(chunk: str) -> bytes:
    return f"data: {chunk}\n\n".encode("utf-8", "replace")
