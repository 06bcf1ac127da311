"""One connection to an upstream, serving one exchange at a time."""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Final, Protocol, cast

from sidecar.codecs.http1 import AnswerReader, AnswerSink
from sidecar.codecs.http1_errors import BadAnswerError
from sidecar.codecs.http1_head import AnswerHeads
from sidecar.deadlines import UNWATCHED
from sidecar.upstream_errors import BrokenError, UpstreamError

WRITE_HIGH_WATER: Final = 64 * 1024
"""Bytes that may wait to be sent before the client is told to pause."""
KEEP_ALIVE: Final = 50.0
"""Seconds an unused connection is kept: less than the minute after which common load balancers drop theirs."""

_BYTES_ACKED: Final = struct.Struct("=120xQ")  # struct tcp_info up to tcpi_bytes_acked, linux/tcp.h
_UNKNOWN: Final = -1


class Caller(AnswerSink, Protocol):
    """The exchange that a connection serves, or that waits for one."""

    def upstream_ready(self, connection: "UpstreamConnection") -> bool:
        """This connection is yours until the end of the answer: `serve` it a request. False: not wanted any more."""

    def upstream_failed(self, error: UpstreamError) -> None:
        """There is no connection, or it broke before the end of the answer."""

    def upstream_full(self) -> None:
        """More than `WRITE_HIGH_WATER` bytes wait: hold back the request's body."""

    def upstream_drained(self) -> None:
        """Go on."""

    def answer_chunk(self, data: bytes) -> bool:
        """Some of the answer came behind a whole chunk, framing and all. False: nothing was made of it, it is no whole
        chunk; tell it the long way. True: no flush has to follow."""

    def flush(self) -> None:
        """All that came at once has been told: hand on what may be handed on."""


class UpstreamConnection(asyncio.Protocol):
    """Sends requests and tells their exchange what comes back. Owned by its pool."""

    __slots__ = (
        "_accepted",
        "_caller",
        "_closed",
        "_counts_bytes",
        "_now",
        "_reader",
        "_released",
        "_shares_socket",
        "_transport",
        "_written",
        "due",
        "last_byte_at",
        "reused",
        "slot",
    )

    def __init__(
        self,
        heads: AnswerHeads,
        now: Callable[[], float],
        *,
        released: Callable[["UpstreamConnection"], None],
        closed: Callable[["UpstreamConnection"], None],
    ) -> None:
        self._reader = AnswerReader(heads)
        self._now = now
        self._released = released
        """Told when an answer is whole and another request may be sent."""
        self._closed = closed
        """Told once, when the connection is gone."""
        self._caller: Caller | None = None
        self._transport: asyncio.Transport | None = None
        self._counts_bytes = True
        """Whether what we write is what TCP carries; under TLS it is not."""
        self._shares_socket = False
        """Whether it is a stream of a tunnel: what its socket acknowledged may be another's."""
        self._written = 0
        self._accepted = _UNKNOWN
        """What the peer's kernel had acknowledged, or will have, when the current request begins."""
        self.last_byte_at = 0.0
        self.due = 0.0
        self.slot = UNWATCHED
        self.reused = False
        """Whether it served a request before this one."""

    # --- called by the exchange ---

    def serve(self, caller: Caller, data: bytes, *, to_head: bool) -> None:
        """Send `caller`'s request, or the beginning of it."""
        self._caller = caller
        self._reader.expect(caller, to_head=to_head)
        self.last_byte_at = self._now()
        if self._counts_bytes:
            self._accepted += self._written
        else:
            self._accepted = self._bytes_acked()
        self._written = len(data)
        if self._transport is not None:
            self._transport.write(data)

    def write(self, data: bytes) -> None:
        """Send more of the request."""
        if self._transport is not None:
            self._written += len(data)
            self._transport.write(data)

    def pause(self) -> None:
        """Stop reading the answer: the client is slow."""
        if self._transport is not None and not self._transport.is_closing():  # uvloop's transport would raise
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        self.last_byte_at = self._now()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def abandon(self) -> None:
        """Nobody wants the rest of the answer. Resets the connection, so that the model stops working."""
        self._caller = None
        if self._transport is not None:
            self._transport.abort()

    @property
    def has_accepted_nothing(self) -> bool:
        """Whether no byte of the current request can have reached the peer.

        Then nobody can have acted upon it and it may be sent again elsewhere, POST or not. On a connection of its own:
        the peer's kernel has acknowledged none, because the peer had closed the idle connection before; False where the
        kernel does not say. On a stream of a tunnel that was lost: no socket was given any, or the peer itself said
        that it served nothing of the stream. What a socket took may have arrived although no answer came.
        """
        if self._shares_socket and self._transport is not None:
            is_unsent = 0 < self._written <= int(self._transport.get_extra_info("unsent"))
            return is_unsent or bool(self._transport.get_extra_info("unserved"))
        return self.reused and 0 <= self._accepted == self._bytes_acked()

    # --- called by the event loop ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = stream = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        stream.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        self._counts_bytes = transport.get_extra_info("ssl_object") is None
        self._shares_socket = transport.get_extra_info("tunnel") is not None
        self._accepted = self._bytes_acked()  # not 0: Linux counts the SYN

    def data_received(self, data: bytes) -> None:
        self.last_byte_at = self._now()
        caller = self._caller
        # Streams: nearly always one whole chunk a read.
        if self._reader.is_between_chunks and caller is not None and caller.answer_chunk(data):
            return
        try:
            self._reader.feed(data)
        except BadAnswerError as error:
            self._fail(BrokenError(str(error)))
            return
        reader = self._reader
        if reader.sink is None:
            self._caller = None
            # Before the exchange ends, which may begin the client's next one: it can have this connection.
            if reader.reusable and (not self._shares_socket or self.is_usable):
                self.reused = True
                self.due = self.last_byte_at + KEEP_ALIVE
                self._released(self)
            else:
                self.close()
        if caller is not None:
            caller.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        caller = self._caller
        try:
            if exc is not None:
                raise BadAnswerError("the upstream's connection broke")
            self._reader.close()
        except BadAnswerError as error:
            self._fail(BrokenError(str(error)))
        else:
            if caller is not None:
                caller.flush()
        self._caller = None
        self._transport = None
        self._closed(self)

    def pause_writing(self) -> None:
        if self._caller is not None:
            self._caller.upstream_full()

    def resume_writing(self) -> None:
        if self._caller is not None:
            self._caller.upstream_drained()

    # --- called by the pool ---

    @property
    def is_usable(self) -> bool:
        """Whether a request may be sent. The peer can still have closed it a moment ago."""
        transport = self._transport
        if transport is None or not self._reader.reusable or transport.is_closing():
            return False
        # A tunnel that is about to end lets its streams end, but not begin anew.
        return not (self._shares_socket and transport.get_extra_info("leaving"))

    def close(self) -> None:
        """Close an idle connection."""
        if self._transport is not None:
            self._transport.close()

    def overdue(self, now: float) -> bool:
        """Close it if it idled for long enough."""
        if self._caller is None:
            self.close()
            return False
        self.due = now + KEEP_ALIVE
        return True

    # ---

    def _fail(self, error: BrokenError) -> None:
        caller, self._caller = self._caller, None
        if caller is not None:
            caller.upstream_failed(error)
        if self._transport is not None:
            self._transport.abort()

    def _bytes_acked(self) -> int:
        """Bytes that the peer acknowledged since the connection stands."""
        if self._transport is None or self._shares_socket:
            return _UNKNOWN
        sock = self._transport.get_extra_info("socket")
        if sock is None or not hasattr(socket, "TCP_INFO"):
            return _UNKNOWN
        try:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.size)
        except OSError:
            return _UNKNOWN
        return int(_BYTES_ACKED.unpack(info)[0]) if len(info) == _BYTES_ACKED.size else _UNKNOWN
