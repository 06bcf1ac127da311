"""The few pages a sidecar serves about itself, on the HTTP/1 codec of its data path.

Not for applications: one request at a time, short bodies, no streaming. Answers are made by coroutines, so that the
parent of several workers can ask them.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Final, NamedTuple, cast

import msgspec

from sidecar.codecs.http1 import RequestReader
from sidecar.codecs.http1_delivery import Delivery
from sidecar.codecs.http1_errors import BadRequestError
from sidecar.codecs.http1_head import RequestHead, RequestHeads

MAX_BODY: Final = 64 * 1024
TIMEOUT: Final = 10.0
"""Seconds for a request to arrive and its page to be made."""

_LOOPBACK: Final = re.compile(r"(localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\])(:\d{1,5})?", re.IGNORECASE)

logger = logging.getLogger(__name__)


def is_loopback_host(host: str) -> bool:
    """Whether a Host, `name[:port]`, names this machine: others are how web pages reach it by DNS rebinding."""
    return _LOOPBACK.fullmatch(host) is not None


class Request(NamedTuple):
    """What a page is asked with."""

    query: str
    """With its `?`, or empty."""
    accept: str
    body: bytes


class Page(NamedTuple):
    """One answer."""

    status: int
    content_type: str
    body: bytes


MakePage = Callable[[Request], Awaitable[Page]]


def json_page(value: object, status: int = 200) -> Page:
    """`value` as indented JSON."""
    body = msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
    return Page(status, "application/json", body)


class Site:
    """Pages by method and path."""

    def __init__(self, pages: Mapping[tuple[str, str], MakePage], *, loopback_only: bool) -> None:
        """`loopback_only`: for pages that change something or tell of secrets' surroundings. A web page in a browser on
        this machine can send requests here: by its own name, once that resolves to 127.0.0.1 (DNS rebinding), and
        across origins."""
        self._pages = dict(pages)
        self._loopback_only = loopback_only

    async def page(self, head: RequestHead, body: bytes) -> Page:
        """The page, or an error."""
        values = head.values()
        if self._loopback_only:
            if not is_loopback_host(head.host):
                return json_page({"error": "Host must be a loopback name or address"}, 403)
            if values.keys() & {"origin", "sec-fetch-site"}:
                return json_page({"error": "not for browsers"}, 403)
        make = self._pages.get(("GET" if head.method == "HEAD" else head.method, head.path))
        if make is None:
            known = sorted(f"{method} {path}" for method, path in self._pages)
            return json_page({"error": "no such page", "pages": known}, 404)
        try:
            async with asyncio.timeout(TIMEOUT):
                return await make(Request(head.query, values.get("accept", ""), body))
        except Exception as error:
            logger.error("fault while making a page", extra={"page": head.path}, exc_info=error)
            return json_page({"error": "internal error; see the log"}, 500)


class PageServer:
    """Serves one site on one port or socket."""

    def __init__(self, site: Site, tasks: asyncio.TaskGroup) -> None:
        self._site = site
        self._tasks = tasks
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        """Where it serves, if it does so on a port."""

    async def listen(self, host: str, port: int) -> None:
        """Serve on a port, any free one for 0. Raises OSError."""
        self._server = await asyncio.get_running_loop().create_server(self._accept, host, port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def listen_unix(self, path: Path) -> None:
        """Serve on a socket file. Raises OSError."""
        self._server = await asyncio.get_running_loop().create_unix_server(self._accept, str(path))

    def close(self) -> None:
        """End the server and its connections."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.close()

    def _accept(self) -> "_Connection":
        return _Connection(self._site, self._tasks, self._connections)


class _Connection(asyncio.Protocol):
    def __init__(self, site: Site, tasks: asyncio.TaskGroup, connections: set["_Connection"]) -> None:
        self._site = site
        self._tasks = tasks
        self._connections = connections
        self._reader = RequestReader(RequestHeads(), self._begin)
        self._transport: asyncio.Transport
        self._head: RequestHead
        self._body = b""
        self._timer: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 the loop's signature
        self._timer.cancel()
        self._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
        except BadRequestError as error:
            self._answer(json_page({"error": str(error)}, error.status), keep_alive=False)

    def request_body(self, data: bytes) -> None:
        """Some of the body."""
        self._body += data
        if len(self._body) > MAX_BODY:
            raise BadRequestError(f"the body is longer than {MAX_BODY} bytes", 413)

    def request_end(self, data: bytes) -> None:
        """The request is whole."""
        self.request_body(data)
        self._timer.cancel()
        self._tasks.create_task(self._make(self._head, self._body))

    def close(self) -> None:
        """End it."""
        self._transport.close()

    def _begin(self, head: RequestHead, length: int, traceparent: bytes) -> "_Connection":  # noqa: ARG002 the reader's signature
        self._head, self._body = head, b""
        return self

    async def _make(self, head: RequestHead, body: bytes) -> None:
        page = await self._site.page(head, body)
        if self._transport.is_closing():
            return
        self._answer(page, keep_alive=head.keep_alive, to_head=head.method == "HEAD", is_http11=head.is_http11)
        if not self._transport.is_closing():
            self._wait()
            try:
                self._reader.next_message()
            except BadRequestError as error:
                self._answer(json_page({"error": str(error)}, error.status), keep_alive=False)

    def _answer(self, page: Page, *, keep_alive: bool, to_head: bool = False, is_http11: bool = True) -> None:
        delivery = Delivery(is_http11=is_http11, to_head=to_head, keep_alive=keep_alive)
        head = f"HTTP/1.1 {page.status} {HTTPStatus(page.status).phrase}\r\ncontent-type: {page.content_type}\r\n"
        delivery.head(head.encode("latin-1") + b"cache-control: no-store\r\n", len(page.body))
        delivery.body(page.body)
        delivery.end()
        self._transport.write(delivery.take())
        if not keep_alive:
            self._transport.close()

    def _wait(self) -> None:
        """One timer a connection will do here."""
        self._timer = asyncio.get_running_loop().call_later(TIMEOUT, self.close)
