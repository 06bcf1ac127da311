"""The HTTP read interface of c2sp.org/tlog-tiles: checkpoint, tiles and entry bundles, as static resources."""

from typing import Final, Protocol

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from controlplane.ledger.errors import NodeError
from controlplane.ledger.ports import CHECKPOINT, Backend
from controlplane.ledger.signed import SignedCheckpoint
from ledger.errors import MalformedError
from ledger.rfc6962 import HASH_SIZE
from ledger.tiles import WIDTH, Bundle, Resource, Tile, entry_offsets, parse_path, width_at
from observability.exposition import render
from observability.metrics import Registry

_IMMUTABLE: Final = "public, max-age=31536000, immutable"
_FRESH: Final = "public, max-age=1"
"""tlog-tiles, "Checkpoints": its headers SHOULD prevent caching beyond a few seconds."""


class Head(Protocol):
    """Who knows the published tree."""

    @property
    def published(self) -> SignedCheckpoint:
        """What everybody may see."""


class Health(Protocol):
    """Who knows whether the node does its work."""

    @property
    def trouble(self) -> str:
        """What is wrong; empty while all is well."""


def read_app(backend: Backend, head: Head, health: Health, metrics: Registry) -> Starlette:
    """An ASGI application; it needs no lifespan."""
    reads = _Reads(backend, head, health, metrics)
    routes = [
        Route(f"/{CHECKPOINT}", reads.checkpoint),
        Route("/tile/{path:path}", reads.tile),
        Route("/healthz", reads.healthz),
        Route("/metrics", reads.metrics),
    ]
    # Leaves are mostly commitments, which do not compress; for other logs it is a SHOULD ("Log entries").
    return Starlette(routes=routes, middleware=[Middleware(GZipMiddleware, minimum_size=1024, compresslevel=1)])


class _Reads:
    def __init__(self, backend: Backend, head: Head, health: Health, metrics: Registry) -> None:
        self._backend = backend
        self._head = head
        self._health = health
        self._metrics = metrics

    async def checkpoint(self, _request: Request) -> Response:
        # From memory: what is published never goes back, whatever a late write does to storage.
        return PlainTextResponse(self._head.published.note, headers={"cache-control": _FRESH})

    async def tile(self, request: Request) -> Response:
        try:
            resource = parse_path(f"tile/{request.path_params['path']}")
        except MalformedError as error:
            return PlainTextResponse(f"{error}\n", 400)
        try:
            data = await self._find(resource)
        except NodeError:
            return PlainTextResponse("the storage of the log cannot be read now\n", 503, headers={"retry-after": "5"})
        if data is None:
            return PlainTextResponse("the published tree has no such tile\n", 404, headers={"cache-control": _FRESH})
        return Response(data, media_type="application/octet-stream", headers={"cache-control": _IMMUTABLE})

    async def healthz(self, _request: Request) -> Response:
        checkpoint, time = self._head.published.checkpoint, self._head.published.time
        status = {"origin": checkpoint.origin, "size": checkpoint.size, "time": time, "trouble": self._health.trouble}
        return JSONResponse(status, 503 if self._health.trouble else 200)

    async def metrics(self, request: Request) -> Response:
        content_type, page = render([self._metrics.snapshot()], request.headers.get("accept", ""))
        return Response(page, headers={"content-type": content_type})

    async def _find(self, resource: Resource) -> bytes | None:
        level = resource.level if isinstance(resource, Tile) else 0
        # Objects of a growth that is committed and not yet published are there already, and nobody's business.
        if resource.width > width_at(self._head.published.checkpoint.size, level, resource.number):
            return None
        data = await self._backend.get(resource.path)
        if data is not None or resource.width == WIDTH:
            return data
        # The partial tile was removed because the full one is there, and begins with the same hashes.
        data = await self._backend.get(resource._replace(width=WIDTH).path)
        if data is None:
            return None
        if isinstance(resource, Bundle):
            return data[: entry_offsets(data, WIDTH)[resource.width]]
        return data[: resource.width * HASH_SIZE]
