"""Where applications connect: reads their requests in order, one exchange at a time for each connection."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, Final, cast

from sidecar.codecs.http1 import RequestReader
from sidecar.codecs.http1_errors import BadRequestError
from sidecar.codecs.http1_head import RequestHead, RequestHeads
from sidecar.deadlines import UNWATCHED, Deadlines
from sidecar.exchange import ExchangeRun
from sidecar.plan import NO_HEAD
from sidecar.services import Services

WRITE_HIGH_WATER: Final = 64 * 1024
"""Bytes of an answer that may wait for the client before its upstream is paused."""
LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the clock for an exchange that is under way."""
PIPELINED: Final = 64 * 1024
"""Bytes of further requests that may wait behind the current one before the connection is paused."""
LINGER: Final = 2.0
"""Seconds during which the rest of a refused request is read and dropped. Closing at once would reset the connection
while the client still sends, and it would never see why it was refused."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """How long a client may take, and how many there may be."""

    head_timeout: float = 10.0
    """Seconds from the first byte of a request head to its end, or from connecting to the first byte."""
    idle_timeout: float = 75.0
    """Seconds a connection is kept between two requests."""
    connections: int = 20_000
    """Client connections at one time."""


class ClientConnection(asyncio.Protocol):
    """One application's connection."""

    __slots__ = (
        "_is_full",
        "_is_in_head",
        "_is_lingering",
        "_is_looked_after",
        "_listener",
        "_paused",
        "_reader",
        "_run",
        "_transport",
        "due",
        "slot",
    )

    def __init__(self, listener: "Listener") -> None:
        self._listener = listener
        self._reader = RequestReader(listener.heads, self._begin)
        self._transport: asyncio.Transport
        self._run: ExchangeRun | None = None
        """The current exchange; None between requests."""
        self._is_full = False
        """Whether more than `WRITE_HIGH_WATER` bytes wait for the client."""
        self._paused = False
        self._is_in_head = False
        """Whether the time for a request head runs."""
        self._is_lingering = False
        self._is_looked_after = False
        """Whether the wheel comes by every `LOOK_EVERY`, as it does until it finds the connection idle: that spares a
        busy one the price of naming a new moment twice an exchange."""
        self.due = 0.0
        self.slot = UNWATCHED

    # --- called by the event loop ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = stream = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        stream.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        self._listener.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._is_lingering:
            return
        try:
            if self._reader.feed(data):
                if self._is_looked_after:
                    return  # nearly always: one request, all of it
            elif self._run is not None:
                self._run.request_flush()
        except BadRequestError as error:
            self._reject(error)
        except Exception as fault:  # noqa: BLE001 boundary: one exchange's fault must not end the others
            self._fault(fault)
        if self._run is not None:
            if self._reader.waiting > PIPELINED:
                self.pause()
            if not self._is_looked_after:
                self._look_again_in(LOOK_EVERY)
                self._is_looked_after = True
        elif self._reader.in_head and not self._is_in_head:
            self._is_in_head = True
            self._look_again_in(self._listener.limits.head_timeout)

    def eof_received(self) -> bool:
        # A client that closes its sending side while it waits is taken as gone, as nginx does: there is no other sign
        # of a client that gave up, and the model works for nobody.
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 the loop's signature
        run, self._run = self._run, None
        self._listener.closed(self)
        if run is not None:
            run.client_gone()

    def pause_writing(self) -> None:
        self._is_full = True
        if self._run is not None:
            self._run.client_full()

    def resume_writing(self) -> None:
        self._is_full = False
        if self._run is not None:
            self._run.client_drained()
        elif not self._transport.is_closing():
            self._next_message()

    def overdue(self, now: float) -> bool:
        """The wheel's call. Whether to go on watching."""
        try:
            return self._look_at_clock(now)
        except Exception as error:  # noqa: BLE001 boundary: one connection's fault must not stop the wheel
            self._fault(error)
            return False

    # --- called by the exchange ---

    def send(self, data: bytes) -> None:
        """Some of the answer."""
        self._transport.write(data)

    def pause(self) -> None:
        """Stop reading."""
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._paused:
            self._paused = False
            if not self._transport.is_closing():  # uvloop's transport would raise
                self._transport.resume_reading()

    def finished(self, *, keep_alive: bool) -> None:
        """The exchange is over."""
        self._run = None
        if self._transport.is_closing():
            return
        if not keep_alive:
            self._end()
        elif not self._is_full:  # else a client that reads nothing could pile up answers
            self._next_message()

    def abort(self) -> None:
        """Reset the connection."""
        self._transport.abort()

    # --- called by the listener ---

    @property
    def is_busy(self) -> bool:
        """Whether an exchange is under way."""
        return self._run is not None

    def drain(self) -> None:
        """Close now if nothing is under way; otherwise the current exchange is the last one."""
        if self._run is None and not self._reader.in_head and not self._is_lingering:
            self._transport.close()

    # ---

    def _begin(self, head: RequestHead, length: int, traceparent: bytes) -> ExchangeRun:
        """A request begins, and with it an exchange, to which the reader tells the rest."""
        self._is_in_head = False
        self._run = run = ExchangeRun(self._listener.services, self, head, length)
        run.request_head(traceparent)
        return run

    def _next_message(self) -> None:
        if self._paused:
            self.resume()
        try:
            self._reader.next_message()
            if self._run is not None:
                self._run.request_flush()
        except BadRequestError as error:
            self._reject(error)
        except Exception as fault:  # noqa: BLE001 boundary: whoever ended the exchange before it is not to blame
            self._fault(fault)

    def _reject(self, error: BadRequestError) -> None:
        if self._run is None:
            self._run = ExchangeRun(self._listener.services, self, NO_HEAD, 0)
        self._run.reject(error)

    def _fault(self, error: Exception) -> None:
        logger.error("fault while serving a client", exc_info=error)
        if self._run is not None:
            self._run.broke()
        else:
            self._transport.abort()

    def _look_again_in(self, seconds: float) -> None:
        self._is_looked_after = False
        self.due = self._listener.clock() + seconds
        self._listener.deadlines.watch(self)

    def _end(self) -> None:
        """Close once everything is sent."""
        if not self._reader.in_body and not self._reader.waiting:
            self._transport.close()
            return
        self._is_lingering = True
        self.resume()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._look_again_in(LINGER)

    def _look_at_clock(self, now: float) -> bool:
        limits = self._listener.limits
        if self._run is not None:
            self.due = min(self._run.look_at_clock(now), now + LOOK_EVERY)
            if self._is_lingering:  # it has just been ended, and this would cut the time to read why
                self.due = now + LINGER
        elif self._is_looked_after:  # its exchange ended since the last look
            self._is_looked_after = False
            self._is_in_head = self._reader.in_head
            self.due = now + (limits.head_timeout if self._is_in_head else limits.idle_timeout)
        elif self._is_lingering:
            self._transport.abort()
        elif self._reader.in_head:
            self._reject(BadRequestError("the request head did not end in time", 408))
        else:
            self._transport.close()
        return not self._transport.is_closing()


class Listener:
    """Accepts applications and keeps account of their connections. Owned by one event loop."""

    def __init__(self, services: Services, deadlines: Deadlines, limits: ConnectionLimits) -> None:
        self.services = services
        self.deadlines = deadlines
        self.limits = limits
        self.clock = services.clock
        self.heads = RequestHeads()
        self._connections: set[ClientConnection] = set()
        self._emptied = asyncio.Event()
        self._server: asyncio.Server | None = None

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._connections)

    @property
    def exchanges(self) -> int:
        """How many are under way."""
        return sum(connection.is_busy for connection in self._connections)

    async def listen(self, host: str, port: int, *, shared_port: bool = False) -> int:
        """Accept on host and port; the port, which was chosen when 0 was given. `shared_port`: by SO_REUSEPORT."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: ClientConnection(self), host, port, backlog=4096, reuse_port=shared_port or None
        )
        sockets: Any = getattr(self._server, "sockets")  # noqa: B009 a tuple, says asyncio; uvloop makes it a list
        bound: int = sockets[0].getsockname()[1]
        return bound

    def stop_accepting(self) -> None:
        """Take no new connections, end the idle ones, and let each of the others finish its exchange."""
        self.services.draining = True
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.drain()

    async def drained(self) -> None:
        """Returns when no connection is left."""
        if self._connections:
            self._emptied.clear()
            await self._emptied.wait()

    def abort(self) -> None:
        """Reset every connection that is left; their exchanges end as if the clients had gone."""
        for connection in list(self._connections):
            connection.abort()

    def opened(self, connection: ClientConnection) -> None:
        """A client connected."""
        if len(self._connections) >= self.limits.connections:
            connection.abort()
            return
        self._connections.add(connection)
        self.services.telemetry.connection_opened()
        connection.due = self.clock() + self.limits.head_timeout
        self.deadlines.watch(connection)

    def closed(self, connection: ClientConnection) -> None:
        """A client is gone."""
        if connection in self._connections:
            self._connections.discard(connection)
            self.services.telemetry.connection_closed()
            if not self._connections:
                self._emptied.set()
        self.deadlines.forget(connection)
