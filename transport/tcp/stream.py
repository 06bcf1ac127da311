"""One stream of a tunnel as an asyncio.Transport: any asyncio.Protocol runs over it unchanged.

    write, writelines, write_eof     queued in the tunnel; pause_writing when too much is
    pause_reading, resume_reading    credit: while paused the peer gets none back, and stops
    close                            what is queued, then the end
    abort                            RESET: the peer learns at once that nobody waits

`get_extra_info` knows "peer" (whose static key was proved, a SPIFFE ID), "service", "headers" (of the OPEN frame),
"tunnel" (a TunnelMode: ech or no_ech), "leaving" (whether the tunnel is about to end, or its peer silent: begin nothing
new on it), of a stream that was lost "unsent" (how many of the last bytes written never left this process) and
"unserved" (whether the peer says that it did nothing with it), and what the socket knows ("peername", ...).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from transport.mux.frames import Code
from transport.mux.headers import Headers
from transport.mux.mux import Mux
from transport.tunnel.errors import TunnelError


class StreamResetError(TunnelError):
    """The peer dropped the stream."""

    def __init__(self, code: Code) -> None:
        super().__init__(f"the peer dropped the stream: {code.name.lower()}")
        self.code = code

    @property
    def is_unserved(self) -> bool:
        """Whether the peer says that it did nothing with it: it may be sent again elsewhere."""
        return self.code is Code.REFUSED


class Owner(Protocol):
    """The tunnel that a stream belongs to."""

    @property
    def mux(self) -> Mux:
        """Where streams are."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Whose turn it is."""

    def flush_soon(self) -> None:
        """Send what is queued, at the end of this turn of the loop."""

    def forget(self, number: int) -> None:
        """Tell nothing more of this stream."""

    def extra_info(self, name: str, default: Any) -> Any:
        """What the tunnel or its socket knows."""


class StreamTransport(asyncio.Transport):
    """Owned by its protocol and, until it is closed, by its tunnel."""

    def __init__(self, owner: Owner, number: int, headers: Headers) -> None:
        super().__init__()
        self.number: Final = number
        self._owner = owner
        self._headers = headers
        self._protocol: asyncio.Protocol | None = None
        self._is_paused = False
        self._is_closing = False
        self._is_full = False
        self._is_attached = True
        """Whether the tunnel still has the stream. It has not when the peer is gone and all that it said came, end
        included: that is for us to read in our own time."""
        self._has_ended = False
        """Whether we sent the end."""
        self._unsent = 0
        self._is_unserved = False
        self._views: list[memoryview] = []
        """Came in the read that is under way; they lie in the receive buffer."""
        self._waiting: deque[bytes] = deque()
        """Came while reading was paused; at most a window's worth, because it is not given back."""
        self._eof_waits = False
        self._high, self._low = 128 * 1024, 32 * 1024

    def begin(self, protocol: asyncio.Protocol) -> None:
        """Drive this protocol from now on."""
        self._protocol = protocol
        self._tell(protocol.connection_made, self)

    # --- called by the protocol ---

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Queue bytes. After `close` they are dropped. Raises RuntimeError after `write_eof`."""
        if not self._is_attached or not data:
            return
        if self._has_ended:
            raise RuntimeError("write after write_eof")
        goes_on = self._owner.mux.send(self.number, data if type(data) is bytes else bytes(data))
        self._owner.flush_soon()
        if not goes_on and not self._is_full:
            self._is_full = True
            if self._protocol is not None:
                self._tell(self._protocol.pause_writing)

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        """All in one go."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """Always: each direction ends by itself."""
        return True

    def write_eof(self) -> None:
        """Nothing more from us; reading goes on."""
        if not self._has_ended and self._is_attached:
            self._has_ended = True
            self._owner.mux.send(self.number, b"", end=True)
            self._owner.flush_soon()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """As asyncio tells; bytes."""
        if high is None:
            high = 64 * 1024 if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high}) must be >= low ({low}), and low not negative")
        self._high, self._low = high, low
        if self._is_attached:
            self._owner.mux.watermarks(self.number, high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """(low, high), bytes."""
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        """Bytes that wait for credit or for the socket."""
        return self._owner.mux.queued(self.number) if self._is_attached else 0

    def pause_reading(self) -> None:
        """Hold back what comes, and the peer with it."""
        self._is_paused = True

    def resume_reading(self) -> None:
        """Go on, soon."""
        if self._is_paused and not self._is_closing:
            self._is_paused = False
            self._owner.loop.call_soon(self._release)

    def is_reading(self) -> bool:
        """Whether what comes is handed on."""
        return not self._is_paused and not self._is_closing

    def is_closing(self) -> bool:
        """Whether it was closed, or is gone."""
        return self._is_closing

    def close(self) -> None:
        """Send what is queued and the end; hear nothing more."""
        if self._is_attached:
            self._owner.mux.close(self.number)
        self._leave(None)

    def abort(self) -> None:
        """Drop what is queued; the peer learns at once."""
        if self._is_attached:
            self._owner.mux.reset(self.number, Code.CANCELLED)
        self._leave(None)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """See the module."""
        match name:
            case "headers":
                return self._headers
            case "unsent":
                return self._unsent
            case "unserved":
                return self._is_unserved
            case _:
                return self._owner.extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Another protocol takes over. Raises TypeError unless it is an asyncio.Protocol."""
        if not isinstance(protocol, asyncio.Protocol):
            raise TypeError("a stream drives an asyncio.Protocol")
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who is driven. Raises RuntimeError before there is one."""
        if self._protocol is None:
            raise RuntimeError("the stream has no protocol yet")
        return self._protocol

    # --- called by the tunnel ---

    def received(self, data: memoryview, *, ended: bool) -> bool:
        """Bytes came, perhaps none; `ended`: the last ones. True: the first ones of this read, `settle` is due.

        They are copied out of the receive buffer once, by `settle`, however many frames they came in.
        """
        is_first = not self._views and not self._eof_waits
        self._eof_waits = self._eof_waits or ended
        if data:
            self._views.append(data)
        return is_first

    def settle(self) -> None:
        """The read is over: hand on what it brought."""
        views = self._views
        if views:
            self._waiting.append(bytes(views[0]) if len(views) == 1 else b"".join(views))
            views.clear()
        self._release()

    def was_reset(self, code: Code) -> None:
        """The peer dropped the stream; NO_ERROR: it only wants no more of us."""
        self.settle()
        error = None if code is Code.NO_ERROR else StreamResetError(code)
        self._is_unserved = error is not None and error.is_unserved
        self.lost(error)

    def writable(self) -> None:
        """The queue is short again."""
        was_full, self._is_full = self._is_full, False
        if was_full and self._protocol is not None and not self._is_closing:
            self._tell(self._protocol.resume_writing)

    def lost(self, error: Exception | None, *, unsent: int = 0) -> None:
        """The stream, or the whole tunnel, is gone; `unsent`: bytes of it that no socket was given."""
        if not self._is_attached:
            return
        self._unsent = unsent
        if self._eof_waits:
            # A peer that has answered may close, and a tunnel that has drained end, before a slow reader has it all.
            self._detach()
            self._owner.loop.call_soon(self.writable)
        else:
            self._leave(error)

    # ---

    def _release(self) -> None:
        """Hand on what waits. The protocol may pause, close or abort at every piece."""
        protocol = self._protocol
        if protocol is None or self._is_closing:
            return
        mux = self._owner.mux if self._is_attached else None
        while self._waiting and not self._is_paused and not self._is_closing:
            data = self._waiting.popleft()
            if mux is not None:
                mux.consumed(self.number, len(data))
            self._tell(protocol.data_received, data)
        if self._eof_waits and not self._waiting and not self._is_paused and not self._is_closing:
            self._eof_waits = False
            if not self._tell(protocol.eof_received) or not self._is_attached:
                self.close()
        self._owner.flush_soon()

    def _tell(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """What the protocol says. One that fails loses its stream, and not the tunnel of all the others."""
        try:
            return call(*arguments)
        except Exception as error:  # noqa: BLE001 the boundary that asyncio's own transports have, too
            context = {"message": "a protocol on a tunnel stream failed", "exception": error, "transport": self}
            self._owner.loop.call_exception_handler(context)
            self.abort()
            return None

    def _detach(self) -> None:
        """The tunnel has nothing to do with the stream any more."""
        if self._is_attached:
            self._is_attached = False
            self._owner.forget(self.number)
            self._owner.flush_soon()

    def _leave(self, error: Exception | None) -> None:
        if self._is_closing:
            return
        self._is_closing = True
        self._views.clear()
        self._waiting.clear()
        self._detach()
        if self._protocol is not None:
            self._owner.loop.call_soon(self._protocol.connection_lost, error)
