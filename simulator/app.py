"""The simulated model as a web application: which path speaks which provider's shapes."""

import ipaddress
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from settings import SettingsError
from simulator import anthropic, openai
from simulator.answer import Answer, streamed, whole
from simulator.config import SimulatorConfig, for_request
from simulator.errors import RefusedError
from simulator.prompt import anthropic_prompt, openai_prompt
from simulator.seen import MAX_BODY_SHOWN, Seen, Sighting
from simulator.speech import speech
from simulator.wire import Event, Stamp, json_text

Answering = Callable[[Any, SimulatorConfig, Sighting], Answer]
Refusing = Callable[[int, str, Sighting], dict[str, Any]]


def application(config: SimulatorConfig) -> Starlette:
    """The ASGI application."""
    seen = Seen(config.remember)

    def endpoint(path: str, answering: Answering, refusing: Refusing) -> Route:
        async def serve(request: Request) -> Answer:
            return await _serve(request, config, seen, answering, refusing)

        return Route(path, _asgi(serve), methods=["POST"])

    async def models(request: Request) -> Response:  # noqa: ARG001 starlette's signature
        return JSONResponse(openai.models(_now()))

    async def seen_requests(request: Request) -> Response:
        # It shows whole prompts: for the machine it runs on only, even if `listen` is wider.
        host = request.client.host if request.client else ""
        if not _is_loopback(host):
            return Response(status_code=404)
        if request.method == "DELETE":
            seen.forget()
        return JSONResponse(seen.as_json())

    return Starlette(
        routes=[
            endpoint("/v1/chat/completions", _chat, _openai_refusal),
            endpoint("/v1/embeddings", _embeddings, _openai_refusal),
            endpoint("/v1/messages", _messages, _anthropic_refusal),
            endpoint("/v1/messages/count_tokens", _count_tokens, _anthropic_refusal),
            Route("/v1/models", models, methods=["GET"]),
            Route("/_seen", seen_requests, methods=["GET", "DELETE"]),
            endpoint("/{path:path}", _unknown, _openai_refusal),
        ]
    )


async def _serve(
    request: Request, config: SimulatorConfig, seen: Seen, answering: Answering, refusing: Refusing
) -> Answer:
    headers = dict(request.headers)
    sighting = seen.note(request.url.path, headers)
    try:
        raw = await _body(request, config.max_body)
        sighting.body = raw[:MAX_BODY_SHOWN]
        body = _parsed(raw)
        model = str(body.get("model", "")) if isinstance(body, dict) else ""
        behaviour = for_request(config, headers, model)
        if behaviour.status:
            return _refused(behaviour.status, "simulated error", behaviour, sighting, refusing)
        return answering(body, behaviour, sighting)
    except RefusedError as error:
        return _refused(error.status, str(error), config, sighting, refusing)
    except SettingsError as error:
        return _refused(400, str(error), config, sighting, refusing)


def _chat(body: Any, behaviour: SimulatorConfig, sighting: Sighting) -> Answer:
    prompt = openai_prompt(body)
    said, stamp = speech(prompt, behaviour), Stamp(sighting.serial, _now())
    if prompt.stream:
        events = openai.chunks(said, prompt, behaviour, stamp)
        error = Event(json_text(openai.error(500, "simulated error"), ascii_only=True))
        return _stream(events, error, behaviour, sighting)
    return _json(openai.completion(said, prompt, behaviour, stamp), behaviour, sighting)


def _embeddings(body: Any, behaviour: SimulatorConfig, sighting: Sighting) -> Answer:
    return _json(openai.embeddings(body), behaviour, sighting)


def _messages(body: Any, behaviour: SimulatorConfig, sighting: Sighting) -> Answer:
    prompt = anthropic_prompt(body)
    said, stamp = speech(prompt, behaviour), Stamp(sighting.serial, _now())
    if prompt.stream:
        failure = anthropic.error(529, "simulated error", request_id=_request_id(sighting))
        events = anthropic.events(said, prompt, behaviour, stamp)
        return _stream(events, Event(json_text(failure, ascii_only=True), "error"), behaviour, sighting)
    return _json(anthropic.message(said, prompt, stamp), behaviour, sighting)


def _count_tokens(body: Any, behaviour: SimulatorConfig, sighting: Sighting) -> Answer:
    prompt = anthropic_prompt({"max_tokens": 1, **body} if isinstance(body, dict) else body)
    return _json({"input_tokens": speech(prompt, behaviour).input_tokens}, behaviour, sighting)


def _unknown(body: Any, behaviour: SimulatorConfig, sighting: Sighting) -> Answer:
    """An endpoint of no provider: gives back what it was told."""
    return _json({"object": "simulated", "told": body}, behaviour, sighting)


def _openai_refusal(status: int, message: str, sighting: Sighting) -> dict[str, Any]:  # noqa: ARG001 as Refusing
    return openai.error(status, message)


def _anthropic_refusal(status: int, message: str, sighting: Sighting) -> dict[str, Any]:
    return anthropic.error(status, message, request_id=_request_id(sighting))


def _refused(status: int, message: str, behaviour: SimulatorConfig, sighting: Sighting, refusing: Refusing) -> Answer:
    extra = {"retry-after": behaviour.retry_after} if behaviour.retry_after else {}
    return _json(refusing(status, message, sighting), behaviour, sighting, status, extra)


def _json(
    value: object,
    behaviour: SimulatorConfig,
    sighting: Sighting,
    status: int = 200,
    extra: Mapping[str, str] = MappingProxyType({}),
) -> Answer:
    body = json_text(value, ascii_only=behaviour.ascii).encode()
    headers = {"content-type": "application/json", **_headers(sighting), **extra}
    return Answer(status, headers, whole(body, behaviour), sighting, len(body))


def _stream(events: Iterable[Event], error: Event, behaviour: SimulatorConfig, sighting: Sighting) -> Answer:
    headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", **_headers(sighting)}
    return Answer(200, headers, streamed(events, error, behaviour), sighting, None)


def _headers(sighting: Sighting) -> dict[str, str]:
    request_id = _request_id(sighting)
    return {
        "x-request-id": request_id,
        "request-id": request_id,
        "openai-processing-ms": "1",
        "x-ratelimit-remaining-requests": "4999",
        "anthropic-ratelimit-requests-remaining": "49",
    }


def _request_id(sighting: Sighting) -> str:
    return f"req_sim{sighting.serial:08d}"


async def _body(request: Request, limit: int) -> bytes:
    parts = bytearray()
    async for part in request.stream():
        parts += part
        if len(parts) > limit:
            raise RefusedError("the body is too large", 413)
    return bytes(parts)


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise RefusedError("the body is not JSON") from error


def _asgi(serve: Callable[[Request], Awaitable[Answer]]) -> Callable[[Request], Awaitable[Any]]:
    # Starlette calls whatever an endpoint returns as an ASGI application; its type says Response.
    return serve


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _now() -> int:
    return time.time_ns() // 1_000_000_000
