"""A dialler and a server of tunnels on loopback, with protocols that write down what they are told."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from observability.metrics import Registry
from observability.names import FAMILIES, Kind
from tests.fakes.mesh import ALICE, BOB, PKI, PUBLIC_NAME, SERVICE, Mesh
from tests.fakes.relay import Relay, relay
from transport.decisions import PeerMode, Reason, SecurityEvent
from transport.ech.config import encode_config_list
from transport.mux.limits import Limits
from transport.peers import Endpoint, Peer, PeerDirectory, SpiffeId, Statics
from transport.tcp import attempts as dialling
from transport.tcp.attempts import Attempts, Datagrams, NoTunnelError
from transport.tcp.dialler import Tunnels
from transport.tcp.meter import Meter
from transport.tcp.server import BUFFER, Bounds, StreamInfo, TunnelServer
from transport.tls13.record import BufferPool
from transport.tunnel.errors import End, TunnelLostError
from transport.tunnel.session import Times


@dataclass
class Doorman:
    """Implements `Guard`: lets everybody in unless told otherwise, and writes down what it saw."""

    admits: Callable[[str], bool] = lambda _: True
    seen: set[bytes] = field(default_factory=set)
    events: list[SecurityEvent] = field(default_factory=list)
    stale: int = 0

    def admit(self, source: str, now: float) -> bool:
        return self.admits(source)

    def is_replay(self, first_flight: bytes, source: str, now: float) -> bool:
        known = first_flight in self.seen
        self.seen.add(first_flight)
        return known

    def rejected_ech(self, now: float) -> None:
        self.stale += 1

    def observed(self, event: SecurityEvent, source: str, now: float) -> None:
        self.events.append(event)


async def eventually(holds: Callable[[], bool], within: float = 20.0) -> None:
    """Until it does: for what the other end of a socket does in its own time. TimeoutError if it never does."""
    async with asyncio.timeout(within):
        while not holds():
            await asyncio.sleep(0.002)


class Echo(asyncio.Protocol):
    """Says everything again, and ends when the other end does."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


class Collector(asyncio.Protocol):
    """Keeps what it is told; `until` waits for something."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.pieces = 0
        self.has_ended = False
        self.is_lost = False
        self.error: Exception | None = None
        self.is_paused = False
        self.pauses = 0
        self.transport: Any = None
        self._changed = asyncio.Event()

    async def until(self, holds: Callable[["Collector"], bool], within: float = 20.0) -> None:
        async with asyncio.timeout(within):
            while not holds(self):
                self._changed.clear()
                await self._changed.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.pieces += 1
        self._changed.set()

    def eof_received(self) -> bool:
        self.has_ended = True
        self._changed.set()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost, self.error = True, exc
        self._changed.set()

    def pause_writing(self) -> None:
        self.is_paused = True
        self.pauses += 1
        self._changed.set()

    def resume_writing(self) -> None:
        self.is_paused = False
        self._changed.set()


@dataclass
class Stage:
    """What a test has of a mesh that runs."""

    mesh: Mesh
    server: TunnelServer
    port: int
    tunnels: Tunnels
    doorman: Doorman
    registry: Registry
    told: list[SecurityEvent]
    """What the dialler raised."""
    view: dialling.Mesh
    """What the dialler knows; a test may put another in its place."""
    served: list[StreamInfo]
    relay: Relay
    """Between the two, if it was asked for."""

    def peer(self, **changes: Any) -> None:
        """Let Alice know Bob otherwise."""
        self.view = view_of(self.mesh, self.port, directory=directory(self.mesh, self.port, **changes))

    def count(self, name: str, *labels: str) -> float:
        """The value of a counter or gauge; without labels, of all its series."""
        family = next(family for family in FAMILIES if family.name == name)
        instrument = self.registry.gauge(family) if family.kind is Kind.GAUGE else self.registry.counter(family)
        return sum(value for found, value in instrument.values().items() if not labels or found == labels)

    async def connect(self, **settings: Any) -> Collector:
        """A stream to Bob."""
        settings = {"deadline": 10.0, **settings}
        _, protocol = await self.tunnels.create_connection(Collector, "bob", **settings)
        return protocol


def directory(mesh: Mesh, port: int, **changes: Any) -> PeerDirectory:
    """Alice and Bob; `changes` of the peer `bob`."""
    settings: dict[str, Any] = {
        "endpoints": (Endpoint.parse(f"tcp://127.0.0.1:{port}"),),
        "mode": PeerMode.REQUIRED,
        "allowed": frozenset([SpiffeId(ALICE)]),
        **changes,
    }
    peer = Peer("bob", SpiffeId(BOB), SERVICE, **settings)
    statics = {SpiffeId(ALICE): Statics(mesh.alice.public), SpiffeId(BOB): Statics(mesh.bob.public)}
    return PeerDirectory({"bob": peer}, statics)


def view_of(mesh: Mesh, port: int, **changes: Any) -> dialling.Mesh:
    """What Alice knows."""
    settings: dict[str, Any] = {
        "directory": directory(mesh, port),
        "ech_configs": encode_config_list([mesh.key.config]),
        **changes,
    }
    return dialling.Mesh(SpiffeId(ALICE), mesh.alice, public_name=PUBLIC_NAME, trust=PKI.trust, **settings)


@asynccontextmanager
async def stage(
    on_stream: Callable[[StreamInfo], asyncio.Protocol | None] = lambda _: Echo(),
    *,
    mesh: Mesh | None = None,
    times: Times | None = None,
    limits: Limits | None = None,
    bounds: Bounds | None = None,
    relayed: bool = False,
    datagrams: Datagrams | None = None,
) -> AsyncIterator[Stage]:
    """A server, and a dialler that knows it. `relayed`: by way of `Stage.relay`."""
    mesh = mesh or Mesh()
    doorman, registry, served, told = Doorman(), Registry(), [], []
    meter = Meter(registry)

    def serve(info: StreamInfo) -> asyncio.Protocol | None:
        served.append(info)
        return on_stream(info)

    server = TunnelServer(mesh.reception, serve, meter=meter, guard=doorman, bounds=bounds, times=times, limits=limits)
    port = await server.listen("127.0.0.1", 0)
    buffers = BufferPool(BUFFER)

    def attempts(name: str) -> Attempts:
        return Attempts(
            name,
            meter=meter,
            buffers=buffers,
            on_event=lambda event, _: told.append(event),
            times=times,
            limits=limits,
            datagrams=datagrams,
        )

    async with AsyncExitStack() as stack:
        between = await stack.enter_async_context(relay(port)) if relayed else None
        dialled = port if between is None else between.port
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        tunnels = Tunnels(lambda: it.view, tasks, attempts)
        view = view_of(mesh, dialled)
        it = Stage(mesh, server, dialled, tunnels, doorman, registry, told, view, served, between or Relay(port))
        stack.callback(server.close)
        stack.callback(tunnels.close)
        yield it


async def refusal(it: Stage) -> End | Reason:
    """Why there is no stream. The acceptor's alert comes before the stream is opened, or after."""
    try:
        stream = await it.connect()
    except NoTunnelError as error:
        return error.decision.reason
    stream.transport.write(b"a prompt")
    await stream.until(lambda found: found.is_lost)
    return stream.error.end if isinstance(stream.error, TunnelLostError) else End.CLOSED


async def reason_of(it: Stage) -> Reason:
    """Why there is no tunnel. The test fails if there is one."""
    with pytest.raises(NoTunnelError) as caught:
        await it.connect(deadline=20.0)
    return caught.value.decision.reason
