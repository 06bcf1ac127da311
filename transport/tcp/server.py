"""The accepting end: listens, lets in who may come, and asks for a protocol for each stream.

What a stranger can cost us is bounded before anything is computed: connections in a handshake at a time, handshakes of
one address and of all, and the time one may take. Revocation is live: `revoke` closes every tunnel of a key.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol, cast

from transport.decisions import SecurityEvent, TunnelMode
from transport.mux.headers import Headers
from transport.mux.limits import Limits
from transport.tcp.link import Link
from transport.tcp.meter import Meter, Role
from transport.tls13.config import ServerConfig
from transport.tls13.record import BufferPool
from transport.tunnel.accepting import Accepting, Reception
from transport.tunnel.binding import Established
from transport.tunnel.channel import Channel
from transport.tunnel.errors import End, Refusal, RefusedError, TunnelError, TunnelLostError
from transport.tunnel.prologue import Carrier
from transport.tunnel.session import Times

BACKLOG: Final = 1024
BUFFER: Final = 512 * 1024
"""Bytes of a receive buffer. A connection holds one only inside a read, so one or two serve all of them. Bulk over
loopback took .86 ms of CPU a MB with 128 KiB (.87 of `ssl`), .75 with 256, .70 with 512 (.72)."""


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """A stream that a peer opened."""

    peer: str
    """Whose static key was proved: a SPIFFE ID."""
    service: str
    """What the tunnel is for; the peer is admitted to it."""
    headers: Headers
    """Of the OPEN frame: what the peer says, not proved."""
    mode: TunnelMode


OnStream = Callable[[StreamInfo], asyncio.Protocol | None]
"""Who serves a stream; None: nobody can now."""


class Guard(Protocol):
    """Who watches the door: transport.threats.Watch is one. `now` is the event loop's clock."""

    def admit(self, source: str, now: float) -> bool:
        """Whether a handshake of this address may begin. False: it is cut off without a word."""

    def is_replay(self, first_flight: bytes, source: str, now: float) -> bool:
        """Whether this Noise ephemeral opened a connection before."""

    def rejected_ech(self, now: float) -> None:
        """A client had an ECH key that we have not, and was told the current one."""

    def observed(self, event: SecurityEvent, source: str, now: float) -> None:
        """Something that the handshake found."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a server takes on."""

    handshakes: int = 256
    """At a time. Each may hold a receive buffer."""
    tunnels: int = 4096
    handshake_within: float = 5.0
    """Seconds. A handshake takes milliseconds; who takes longer holds a place (slowloris)."""


_EVENTS: Final = {
    Refusal.NOISE: SecurityEvent.AUTHENTICATION_FAILED,
    Refusal.NOT_ADMITTED: SecurityEvent.UNKNOWN_STATIC,
    Refusal.MIN_PQ: SecurityEvent.POST_QUANTUM_REFUSED,
}


class TunnelServer:
    """Owned by one event loop. Implements `Watcher` for its links."""

    def __init__(
        self,
        reception: Callable[[], Reception],
        on_stream: OnStream,
        *,
        meter: Meter,
        guard: Guard,
        bounds: Bounds | None = None,
        times: Times | None = None,
        limits: Limits | None = None,
    ) -> None:
        """`reception`: asked for each connection, so that new keys hold from the next one on; and for whom to admit
        once more when a peer has proved its key, because that may have been revoked since."""
        self._reception = reception
        self._on_stream = on_stream
        self._meter = meter
        self._guard = guard
        self._bounds = bounds or Bounds()
        self._times = times
        self._limits = limits
        self._buffers = BufferPool(BUFFER, keep=2)
        self._handshaking: set[Link] = set()
        self._tunnels: set[Link] = set()
        self._servers: list[asyncio.Server] = []
        self._is_draining = False
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    @property
    def tunnels(self) -> int:
        """That stand."""
        return len(self._tunnels)

    async def listen(self, host: str, port: int, *, reuse_port: bool = False) -> int:
        """Take connections at this address, too; the port, chosen by the system for 0. Raises OSError."""
        server = await asyncio.get_running_loop().create_server(
            self._accept, host, port, backlog=BACKLOG, reuse_port=reuse_port
        )
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    def review(self, may_stay: Callable[[Established], bool]) -> int:
        """Close every tunnel that may not stand any more, now; how many there were."""
        hit = [link for link in self._tunnels if not may_stay(link.standing.established)]
        for link in hit:
            self._guard.observed(SecurityEvent.REVOKED_STATIC, link.source, link.loop.time())
            link.revoke()
        return len(hit)

    async def drain(self, within: float) -> None:
        """Take no new connections and streams; end when those that stand have, or after `within` seconds.

        Handshakes under way may finish, and learn then that there will be no streams.
        """
        self._is_draining = True
        for server in self._servers:
            server.close()
        for link in list(self._tunnels):
            link.go_away()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._is_empty.wait()
        self.close()

    def close(self) -> None:
        """End everything now."""
        self._is_draining = True
        for server in self._servers:
            server.close()
        for link in [*self._handshaking, *self._tunnels]:
            link.close()

    # --- connections ---

    def _accept(self) -> asyncio.BaseProtocol:
        return self.accept_over(Carrier.TCP) or _Shut()

    def accept_over(self, carrier: Carrier, over: Callable[[ServerConfig], Channel] | None = None) -> Link | None:
        """A link for a connection that just came, over what `over` makes (see `Accepting`); None: take no more now."""
        if self._is_draining:
            return None
        if len(self._handshaking) >= self._bounds.handshakes or len(self._tunnels) >= self._bounds.tunnels:
            self._meter.handshake(Role.ACCEPTOR, Refusal.FULL, 0.0)
            return None
        loop = asyncio.get_running_loop()
        try:
            reception = replace(self._reception(), admit=self._admit)
        except Exception as error:  # noqa: BLE001 the boundary: event loops leave a connection hanging otherwise
            loop.call_exception_handler({"message": "tunnels cannot be received", "exception": error})
            return None
        accepting = Accepting(
            reception,
            random=os.urandom,
            buffers=self._buffers,
            is_replay=lambda ephemeral: self._guard.is_replay(ephemeral, link.source, loop.time()),
            carrier=carrier,
            over=over,
        )
        link = Link(
            accepting,
            self,
            loop,
            deadline=self._bounds.handshake_within,
            serve=self._serve,
            admit=lambda source: self._guard.admit(source, loop.time()),
            times=self._times,
            limits=self._limits,
        )
        self._handshaking.add(link)
        self._is_empty.clear()
        return link

    def _admit(self, static: bytes, service: str) -> str | None:
        return self._reception().admit(static, service)

    def _serve(self, link: Link, _stream: int, headers: Headers) -> asyncio.Protocol | None:
        established = link.standing.established
        self._meter.stream(Role.ACCEPTOR)
        info = StreamInfo(established.identity, established.service, headers, established.mode)
        try:
            return self._on_stream(info)
        except Exception as error:  # noqa: BLE001 the boundary: a stream that cannot be served is not its tunnel's fault
            link.loop.call_exception_handler({"message": "a tunnel stream could not be served", "exception": error})
            return None

    # --- Watcher ---

    def established(self, link: Link) -> None:
        """A peer was let in."""
        self._handshaking.discard(link)
        self._tunnels.add(link)
        if self._is_draining:  # its handshake was under way when we began to leave
            link.go_away()
        self._meter.handshake(Role.ACCEPTOR, link.standing.established.mode, link.loop.time() - link.opened_at)
        self._meter.opened(Role.ACCEPTOR)

    def confirmed(self, link: Link) -> None:
        """It is, from the beginning."""

    def doubted(self, link: Link) -> None:
        """It opens the streams, so it looks for another way."""

    def failed(self, link: Link, error: TunnelError) -> None:
        """A peer was not, or went."""
        self._handshaking.discard(link)
        self._look_whether_empty()
        refusal = _refusal(error)
        now = link.loop.time()
        self._meter.handshake(Role.ACCEPTOR, refusal, now - link.opened_at)
        if refusal in _EVENTS:
            self._guard.observed(_EVENTS[refusal], link.source, now)
        elif refusal is Refusal.STALE_ECH:
            self._guard.rejected_ech(now)

    def ended(self, link: Link, error: TunnelLostError) -> None:
        """A tunnel is gone."""
        self._tunnels.discard(link)
        self._meter.ended(Role.ACCEPTOR, error.end)
        self._look_whether_empty()

    def _look_whether_empty(self) -> None:
        if not self._tunnels and not self._handshaking:
            self._is_empty.set()


def _refusal(error: TunnelError) -> Refusal:
    match error:
        case RefusedError(refusal=refusal):
            return refusal
        case TunnelLostError(end=End.SILENT):
            return Refusal.LATE
        case _:
            return Refusal.GONE


class _Shut(asyncio.Protocol):
    """Cuts a connection off without a word."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()
