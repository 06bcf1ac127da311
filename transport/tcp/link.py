"""One socket of a tunnel: the handshake, then the session, and the streams' transports on it.

The event loop reads straight into the record layer's buffer, where records are decrypted in place; buffers belong to
a pool and are held only while a record is incomplete, so an idle tunnel has none. There is one writer: `_flush`, once
at the end of a turn of the loop or of a read, so that what many streams said in a turn shares records and a segment.
It stops while the socket is full; then credit runs out, queues fill, and each stream's protocol is asked to pause.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from transport.mux.frames import Code
from transport.mux.headers import Headers
from transport.mux.limits import Limits
from transport.mux.mux import Mux
from transport.tcp.stream import StreamTransport
from transport.tls13.alerts import AlertDescription
from transport.tunnel.binding import Established
from transport.tunnel.channel import Channel
from transport.tunnel.errors import End, Refusal, RefusedError, TunnelError, TunnelLostError
from transport.tunnel.session import Session, Times

WRITE_HIGH: Final = 128 * 1024
"""Bytes that the socket's buffer in this process may hold before streams have to wait."""
LATE: Final = 1.0
"""Seconds by which a timer may be late. One that is later tells of us (a stopped process, a paused machine), not of the
peer, whose answer may lie in the socket."""
LINGER: Final = 5.0
"""Seconds for the last bytes of a closed tunnel to a peer who does not read."""


class Handshaking(Protocol):
    """A handshake under way: `Dialling` or `Accepting`."""

    @property
    def connection(self) -> Channel:
        """What it goes over."""

    def advance(self) -> Established | None:
        """The tunnel, once it stands. Raises TunnelError."""


class Watcher(Protocol):
    """Who made a link. Exactly one of `failed` and `ended` is called, once."""

    def established(self, link: "Link") -> None:
        """The tunnel stands."""

    def confirmed(self, link: "Link") -> None:
        """The peer was heard under the new keys: it admitted us."""

    def doubted(self, link: "Link") -> None:
        """A PING is without an answer for longer than it should be. Once, or again after the peer was heard."""

    def failed(self, link: "Link", error: TunnelError) -> None:
        """No tunnel came to be."""

    def ended(self, link: "Link", error: TunnelLostError) -> None:
        """The tunnel that stood is gone, and every stream on it was told."""


Serve = Callable[["Link", int, Headers], asyncio.Protocol | None]
"""(tunnel, stream, headers) -> who serves the stream; None: nobody, it is dropped as unavailable."""


class Link(asyncio.BufferedProtocol):
    """One end of one tunnel over one socket. Implements the mux's Sink and the streams' Owner."""

    def __init__(
        self,
        handshake: Handshaking,
        watcher: Watcher,
        loop: asyncio.AbstractEventLoop,
        *,
        deadline: float,
        serve: Serve | None = None,
        admit: Callable[[str], bool] | None = None,
        times: Times | None = None,
        limits: Limits | None = None,
    ) -> None:
        """`deadline`: seconds that the handshake may take from the first byte on. `serve`: we are the accepting end.
        `admit`: whether this address may begin a handshake."""
        self.loop: Final = loop
        self.source = ""
        """Address of the other end."""
        self.opened_at = loop.time()
        self.session: Session | None = None
        self._handshake = handshake
        self._connection = handshake.connection
        self._watcher = watcher
        self._serve = serve
        self._admit = admit
        self._is_confirmed = False
        self._is_doubted = False
        self._look_at = 0.0
        """When the timer of a tunnel that stands is due."""
        self._times = times or Times()
        self._limits = limits
        self._deadline = deadline
        self._timer: asyncio.TimerHandle | None = None
        self._socket: asyncio.Transport | None = None
        self._streams: dict[int, StreamTransport] = {}
        self._touched: list[StreamTransport] = []
        """Got something in the read that is under way."""
        self._is_full = False
        self._is_reading = False
        """Inside `buffer_updated`, which flushes at its end."""
        self._flush_is_due = False
        self._error: TunnelError | None = None
        """Why it is over."""

    # --- for whoever has the tunnel ---

    @property
    def mux(self) -> Mux:
        """The streams. Only while the tunnel stands."""
        return self.standing.mux

    @property
    def standing(self) -> Session:
        """The session. Raises TunnelLostError before and after."""
        if isinstance(self._error, TunnelLostError):
            raise self._error
        if self.session is None or self._error is not None:
            raise TunnelLostError(End.LOST, "the tunnel does not stand")
        return self.session

    @property
    def has_room(self) -> bool:
        """Whether another stream can be opened, and would probably be heard."""
        session = self.session
        return session is not None and self._error is None and session.mux.has_room and not session.is_doubtful

    @property
    def is_over(self) -> bool:
        """Whether nothing will happen on it any more."""
        return self._error is not None

    @property
    def load(self) -> int:
        """Streams that stand."""
        return 0 if self.session is None else self.session.mux.streams

    def open(self, protocol: asyncio.Protocol, headers: Headers) -> StreamTransport:
        """A new stream that drives `protocol`. Raises SaturatedError, TunnelLostError, ValueError for bad headers."""
        number = self.standing.mux.open(headers)
        transport = self._streams[number] = StreamTransport(self, number, headers)
        transport.begin(protocol)
        if self.load == 1:  # nobody waited until now: look whether the peer is there, with the first bytes
            self._look_after(0.0)
        self.flush_soon()
        return transport

    def go_away(self) -> None:
        """End once the streams that stand have ended."""
        if self.session is not None and self._error is None:
            self.session.go_away(self.loop.time())
            self.flush_soon()

    def close(self) -> None:
        """End now, in order; streams that stand are lost."""
        if self.session is not None and self._error is None:
            self.session.close()
        self._finish(TunnelLostError(End.CLOSED, "the tunnel was closed"))

    def give_up(self, error: TunnelError) -> None:
        """End now, without a word: no tunnel came to be, for this reason."""
        self._finish(error, silently=True)

    def revoke(self) -> None:
        """End now: the peer's key is not good any more."""
        if self.session is not None and self._error is None:
            self.session.revoke()
        self._finish(TunnelLostError(End.REVOKED, "the peer's static key was revoked"))

    # --- Owner: called by streams ---

    def flush_soon(self) -> None:
        """Once at the end of this turn."""
        if not self._flush_is_due and not self._is_reading and self._error is None:
            self._flush_is_due = True
            self.loop.call_soon(self._flush)

    def forget(self, number: int) -> None:
        """The stream's transport is closed."""
        self._streams.pop(number, None)

    def extra_info(self, name: str, default: Any) -> Any:
        """See transport.tcp.stream."""
        if self.session is not None:
            established = self.session.established
            match name:
                case "peer":
                    return established.identity
                case "service":
                    return established.service
                case "tunnel":
                    return established.mode
                case "leaving":
                    return self.session.mux.is_leaving or self.session.is_doubtful
                case _:
                    pass
        return default if self._socket is None else self._socket.get_extra_info(name, default)

    # --- Sink: called by the mux ---

    def stream_opened(self, stream: int, headers: Headers, *, ended: bool) -> None:
        """Ask who serves it."""
        protocol = self._serve(self, stream, headers) if self._serve is not None else None
        if protocol is None:
            self.mux.reset(stream, Code.UNAVAILABLE)
            return
        transport = self._streams[stream] = StreamTransport(self, stream, headers)
        transport.begin(protocol)
        if ended:
            self.stream_data(stream, memoryview(b""), ended=True)

    def stream_data(self, stream: int, data: memoryview, *, ended: bool) -> None:
        """Hand it on."""
        transport = self._streams.get(stream)
        if transport is not None and transport.received(data, ended=ended):
            self._touched.append(transport)

    def stream_reset(self, stream: int, code: Code) -> None:
        """Tell it."""
        transport = self._streams.get(stream)
        if transport is not None:
            transport.was_reset(code)

    def stream_writable(self, stream: int) -> None:
        """Tell it."""
        transport = self._streams.get(stream)
        if transport is not None:
            transport.writable()

    def pong(self, opaque: bytes) -> None:
        """The session saw a sign of life by itself."""

    def going_away(self, code: Code) -> None:
        """No new streams; the mux knows."""

    # --- called by the event loop ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        if self._error is not None:  # it was ended while the event loop made the connection
            connection.abort()
            return
        self._socket = connection
        address = connection.get_extra_info("peername")
        self.source = str(address[0]) if address else ""
        raw = connection.get_extra_info("socket")
        if raw is not None and raw.family in {socket.AF_INET, socket.AF_INET6}:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.set_write_buffer_limits(high=WRITE_HIGH)
        if self._admit is not None and not self._admit(self.source):
            self._finish(RefusedError(Refusal.FLOOD, "too many handshakes"), silently=True)
            return
        self._timer = self.loop.call_later(self._deadline, self._is_late)
        self._flush()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 the record layer knows better
        return self._connection.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        if self._error is not None:
            return
        self._connection.buffer_updated(nbytes)
        self._is_reading = True
        error = self._read()
        while self._touched:
            self._touched.pop().settle()
        self._is_reading = False
        if error is not None:
            self._finish(error)
        self._flush()

    def eof_received(self) -> None:
        self._finish(TunnelLostError(End.LOST, "the connection was cut without a word"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._socket = None
        self._finish(TunnelLostError(End.LOST, "the connection broke" if exc else "the connection ended"))

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._flush()

    # ---

    def _read(self) -> TunnelError | None:
        """Tell streams what came; the error that ended it."""
        try:
            if self.session is None:
                self._advance()
            if self.session is not None:
                self.session.receive(self.loop.time())
                self._confirm(self.session)
        except TunnelError as error:
            return error
        except Exception as error:  # noqa: BLE001 the boundary: a fault of ours costs one tunnel, on every carrier
            self.loop.call_exception_handler({"message": "a tunnel failed unexpectedly", "exception": error})
            self._connection.abort(AlertDescription.INTERNAL_ERROR, "a fault of ours")
            return TunnelLostError(End.LOST, "a fault of ours")
        return None

    def _advance(self) -> None:
        established = self._handshake.advance()
        if established is None:
            return
        opens = self._serve is None
        self.session = Session(
            self._connection,
            established,
            self,
            opens=opens,
            now=self.loop.time(),
            times=self._times,
            limits=self._limits,
        )
        self._look_after(self.session.look_every)
        self._watcher.established(self)

    def _confirm(self, session: Session) -> None:
        if session.is_confirmed and not self._is_confirmed:
            self._is_confirmed = True
            self._watcher.confirmed(self)

    def _flush(self) -> None:
        self._flush_is_due = False
        connection = self._socket
        if connection is None or self._error is not None:
            return
        if self.session is None:
            if data := self._connection.data_to_send():
                connection.write(data)
            return
        mux = self.session.mux
        while not self._is_full and (data := self.session.output()):
            connection.write(data)
            if not mux.has_output:
                break
        if self.session.is_over:
            self.close()

    def _look_after(self, seconds: float) -> None:
        self._stop_timer()
        self._look_at = self.loop.time() + seconds
        self._timer = self.loop.call_later(seconds, self._tick)

    def _tick(self) -> None:
        session, now = self.standing, self.loop.time()
        try:
            if now - self._look_at < LATE:
                session.tick(now)
        except TunnelLostError as error:
            if error.end is End.CLOSED:
                session.close()
            self._finish(error, silently=error.end is End.SILENT)
            return
        if session.is_doubtful and not self._is_doubted:
            self._watcher.doubted(self)
        self._is_doubted = session.is_doubtful
        self._look_after(session.look_every)
        self._flush()

    def _is_late(self) -> None:
        self._finish(TunnelLostError(End.SILENT, f"no handshake within {self._deadline:g} s"), silently=True)

    def _finish(self, error: TunnelError, *, silently: bool = False) -> None:
        """The end, once: last words unless nobody would hear them; streams and watcher are told."""
        if self._error is not None:
            return
        self._error = error
        self._stop_timer()
        connection, self._socket = self._socket, None
        if connection is not None and not connection.is_closing():
            if silently:
                connection.abort()
            else:
                connection.write(self._connection.data_to_send())
                connection.close()
                self.loop.call_later(LINGER, connection.abort)
        for stream in list(self._streams.values()):
            stream.lost(error, unsent=0 if self.session is None else self.session.mux.queued(stream.number))
        if self.session is None:
            self._watcher.failed(self, error)
        else:
            lost = error if isinstance(error, TunnelLostError) else TunnelLostError(End.LOST, str(error))
            self._watcher.ended(self, lost)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
