"""uvicorn, made fit for strangers: heads are bounded in size and time, connections in number."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from controlplane.ledger.errors import StartError
from settings import Address

MAX_CONNECTIONS: Final = 1024
MAX_HEAD: Final = 16 * 1024
"""Bytes of a request line and its headers. h11 keeps to it; uvicorn's faster parser collects headers without end."""
HEAD_WITHIN: Final = 10.0
"""Seconds that a client may take for them."""
ANSWER_WITHIN: Final = 60.0
"""Seconds in which a client must have read an answer, at most 17 MB."""
_KEEP_ALIVE: Final = 30
_GRACE: Final = 2
"""Seconds for answers that are under way when the node stops."""


def web_server(app: Starlette) -> uvicorn.Server:
    """What serves the application, once `serve(sockets=...)` is called; `should_exit` ends it."""
    return _Server(
        uvicorn.Config(
            app,
            http=_HastyProtocol,
            h11_max_incomplete_event_size=MAX_HEAD,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=_GRACE,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
        )
    )


def listen(address: Address) -> socket.socket:
    """A socket for `serve`. Raises StartError."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family, backlog=512)
    except OSError as error:
        raise StartError(f"{address} cannot be listened on: {error.strerror}") from error


class _Server(uvicorn.Server):
    """Without signal handlers, which uvicorn has no other way to leave out: the node decides when to stop."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _HastyProtocol(H11Protocol):
    """Hangs up on whoever does not finish a head or read an answer in time. uvicorn itself waits for ever."""

    _hurry: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._allow(HEAD_WITHIN)

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._allow(ANSWER_WITHIN)
        elif self._hurry is None:
            self._allow(HEAD_WITHIN)

    def on_response_complete(self) -> None:
        self._calm()
        before = self.cycle
        super().on_response_complete()
        if self.cycle is not before:  # a request that was sent ahead
            self._allow(ANSWER_WITHIN)

    def connection_lost(self, exc: Exception | None) -> None:
        self._calm()
        super().connection_lost(exc)

    def _allow(self, seconds: float) -> None:
        self._calm()
        self._hurry = self.loop.call_later(seconds, self.transport.abort)

    def _calm(self) -> None:
        if self._hurry is not None:
            self._hurry.cancel()
            self._hurry = None
