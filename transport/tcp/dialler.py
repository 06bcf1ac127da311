"""The dialling end: `create_connection` gives a stream to a peer as if it were a TCP connection to it.

    transport, protocol = await tunnels.create_connection(Protocol, "billing", headers={...}, deadline=5.0)

Behind it: one or two warm tunnels for each peer. Whether with ECH is decided by rollout.py, what follows a failure by
fallback.py, whether to try at all by breaker.py, where by preference.py; `attempts.py` carries out what they say.
"""

import asyncio
from collections.abc import Callable, Collection
from functools import partial
from typing import Final, TypeVar

from transport.decisions import Decision, Reason, TunnelMode
from transport.mux.errors import SaturatedError
from transport.mux.headers import Headers
from transport.tcp.attempts import Attempts, Mesh, NoTunnelError
from transport.tcp.link import Link
from transport.tcp.stream import StreamTransport
from transport.tunnel.errors import End, TunnelLostError

MAX_TUNNELS: Final = 2
"""For one peer."""
SPREAD: Final = 32
"""Streams on a tunnel from which on a second one is made."""
TRIES: Final = 3
"""Tunnels that may turn out to be full or gone between being chosen and being used."""

_NOT_ADMITTED: Final = Decision(TunnelMode.REFUSED, Reason.NOISE_AUTHENTICATION)
_CLOSED: Final = Decision(TunnelMode.REFUSED, Reason.RESET)
_P = TypeVar("_P", bound=asyncio.Protocol)


class _Pool:
    """The tunnels to one peer."""

    def __init__(self, attempts: Attempts) -> None:
        self.attempts = attempts
        self.links: list[Link] = []
        self.dialling: asyncio.Future[Link] | None = None
        self.task: asyncio.Task[None] | None = None

    def best(self) -> Link | None:
        """The tunnel with room that has the fewest streams."""
        self.links = [link for link in self.links if not link.is_over]
        return min((link for link in self.links if link.has_room), key=lambda link: link.load, default=None)


class Tunnels:
    """Tunnels to all peers. Owned by one event loop."""

    def __init__(self, mesh: Callable[[], Mesh], tasks: asyncio.TaskGroup, attempts: Callable[[str], Attempts]) -> None:
        """`mesh`: asked for each attempt, so that new keys hold from the next one on. `attempts`: makes the one who
        dials a peer, by its name."""
        self._mesh = mesh
        self._tasks = tasks
        self._attempts = attempts
        self._pools: dict[str, _Pool] = {}
        self._is_closed = False
        self._era = 0
        """Grows with all that makes tunnels old, those that are being made included."""

    async def create_connection(
        self, protocol_factory: Callable[[], _P], peer: str, headers: Headers | None = None, *, deadline: float
    ) -> tuple[StreamTransport, _P]:
        """A stream to the peer of this name, driving a protocol; `deadline` in seconds.

        Raises NoTunnelError, whose `decision` says why; nothing was sent another way. Bytes may be written at once;
        should the peer not admit us, `connection_lost` says so.
        """
        try:
            async with asyncio.timeout(deadline):
                for _ in range(TRIES):
                    link = await self._tunnel(peer)
                    try:
                        protocol = protocol_factory()
                        return link.open(protocol, headers or {}), protocol
                    except SaturatedError:
                        continue
                    except TunnelLostError as error:
                        if error.end is End.NOT_ADMITTED:
                            raise NoTunnelError(_NOT_ADMITTED) from error
        except TimeoutError:
            raise NoTunnelError(Decision(TunnelMode.REFUSED, Reason.TIMEOUT)) from None
        raise NoTunnelError(_CLOSED)

    async def warm(self, peer: str) -> None:
        """Have a tunnel ready. Raises NoTunnelError."""
        await self._tunnel(peer)

    def counts(self) -> dict[str, int]:
        """Peer -> tunnels that stand."""
        return {name: sum(not link.is_over for link in pool.links) for name, pool in self._pools.items()}

    def has_room(self, peer: str) -> bool:
        """Whether a stream to the peer would go at once, on a tunnel that stands."""
        pool = self._pools.get(peer)
        return pool is not None and pool.best() is not None

    def revoke(self, statics: Collection[bytes]) -> int:
        """Close every tunnel to one of these static keys, now; how many there were."""
        self._era += bool(statics)
        hit = [link for link in self._links() if link.standing.established.peer_static in statics]
        for link in hit:
            link.revoke()
        return len(hit)

    def renew(self) -> None:
        """Let every tunnel end in peace: policy or our own static key changed, the next ones are made anew."""
        self._era += 1
        for link in self._links():
            link.go_away()

    def close(self) -> None:
        """End everything now."""
        self._is_closed = True
        for pool in self._pools.values():
            if pool.task is not None:
                pool.task.cancel()
        for link in self._links():
            link.close()

    # ---

    def _links(self) -> list[Link]:
        return [link for pool in self._pools.values() for link in pool.links if not link.is_over]

    async def _tunnel(self, peer: str) -> Link:
        if self._is_closed:
            raise NoTunnelError(_CLOSED)
        pool = self._pools.get(peer)
        if pool is None:
            if peer not in self._mesh().directory.peers:
                raise NoTunnelError(Decision(TunnelMode.REFUSED, Reason.UNKNOWN_PEER))
            pool = self._pools[peer] = _Pool(self._attempts(peer))
        link = pool.best()
        if link is not None and (link.load < SPREAD or len(pool.links) >= MAX_TUNNELS):
            return link
        if pool.dialling is None or pool.dialling.done():  # however many wait, there is one attempt at a time
            pool.dialling = asyncio.get_running_loop().create_future()
            pool.dialling.add_done_callback(_look_at)
            pool.task = self._tasks.create_task(self._dial(pool, pool.dialling))
            # However it ends, cancelled before its first step included: whoever waits was not cancelled, and is told.
            pool.task.add_done_callback(partial(_give_up, pool.dialling))
        return link if link is not None else await asyncio.shield(pool.dialling)

    async def _dial(self, pool: _Pool, waiting: asyncio.Future[Link]) -> None:
        try:
            link = await self._newest(pool.attempts)
        except NoTunnelError as error:
            waiting.set_exception(error)
        except Exception as error:  # noqa: BLE001 the boundary: what fails here is one tunnel, not the process
            context = {"message": "dialling a tunnel failed unexpectedly", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
            waiting.set_exception(NoTunnelError(_CLOSED))
        else:
            pool.links.append(link)
            waiting.set_result(link)

    async def _newest(self, attempts: Attempts) -> Link:
        """A tunnel of now. One that was begun before a key was revoked, or policy changed, is made once more."""
        while True:
            era = self._era
            link = await attempts.dial(self._mesh())
            if era == self._era:
                return link
            link.close()


def _give_up(waiting: asyncio.Future[Link], _task: asyncio.Task[None]) -> None:
    if not waiting.done():
        waiting.set_exception(NoTunnelError(_CLOSED))


def _look_at(done: asyncio.Future[Link]) -> None:
    """Nobody may be waiting any more, and that is no error."""
    if not done.cancelled():
        done.exception()
