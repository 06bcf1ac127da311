"""A control plane on loopback, real in everything: sockets, mutual TLS, SQLite."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from aegispb.v1 import admin_pb2, admin_pb2_grpc, discovery_pb2_grpc
from aegispb.v1 import discovery_pb2 as pb

from controlplane.app import MAX_MESSAGE, SERVER_OPTIONS, Ports, serve
from controlplane.config import ControlPlaneConfig
from controlplane.discovery.server import PolicyDiscovery
from controlplane.identity.ca import LOOPBACK, LocalAuthority
from controlplane.identity.credentials import server_credentials
from controlplane.identity.identity import Identity
from observability.metrics import Registry
from policies import wire
from settings import Address

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # read at the first use: "Got goaway" lines are no news

FREE = Address("127.0.0.1", 0)
OPTIONS = [("grpc.max_receive_message_length", MAX_MESSAGE), ("grpc.max_send_message_length", MAX_MESSAGE)]


def now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 certificates are judged by the real clock


@dataclass
class Plane:
    """A running control plane and the means to speak to it."""

    directory: Path
    authority: LocalAuthority
    ports: Ports
    stop: asyncio.Event
    metrics: Registry
    serving: asyncio.Task[None] | None
    """Done once everything is closed."""
    channels: list[grpc.aio.Channel] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.ports.listen}"

    def identity(self, name: str, *, lifetime: timedelta = timedelta(hours=1), at: datetime | None = None) -> Identity:
        return self.authority.issue(name, now=at or now(), lifetime=lifetime)

    def channel(self, identity: Identity | None, ca_pem: bytes | None = None) -> grpc.aio.Channel:
        key, chain = (identity.key_pem, identity.cert_pem) if identity else (None, None)
        credentials = grpc.ssl_channel_credentials(ca_pem or self.authority.ca_pem, key, chain)
        channel = grpc.aio.secure_channel(self.address, credentials, OPTIONS)
        self.channels.append(channel)
        return channel

    def admin(self, name: str = "operator/alice") -> Any:
        return admin_pb2_grpc.PolicyAdminStub(self.channel(self.identity(name)))

    def stream(self, name: str = "sidecar/one") -> "Stream":
        return Stream(self.channel(self.identity(name)))

    async def push(self, *texts: str, prune: bool = False) -> int:
        sources = [admin_pb2.SourceFile(name=f"{n}.yaml", text=text) for n, text in enumerate(texts)]
        answer = await self.admin().Push(admin_pb2.PushRequest(sources=sources, prune=prune))
        assert not answer.findings, answer.findings
        return answer.revision


@asynccontextmanager
async def discovering(directory: Path, service: PolicyDiscovery) -> AsyncIterator["Plane"]:
    """`service` alone behind mutual TLS, for tests that publish by themselves."""
    authority = LocalAuthority.open_or_create(directory / "ca", "test.local", now())
    authority.enroll(directory / "identity", "controlplane/one", now=now(), hosts=LOOPBACK)
    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers((service.handler(),))
    port = server.add_secure_port("127.0.0.1:0", server_credentials(directory / "identity", print))
    await server.start()
    plane = Plane(directory, authority, Ports(port, 0, None), asyncio.Event(), Registry(), None)
    async with asyncio.TaskGroup() as tasks:
        ticking = tasks.create_task(service.run())
        try:
            yield plane
        finally:
            await service.drain(1.0)
            ticking.cancel()
            for channel in plane.channels:
                await channel.close()
            await server.stop(0)


class Stream:
    """One policy stream, spoken by hand."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.call: Any = discovery_pb2_grpc.PolicyDiscoveryStub(channel).Stream()

    async def send(self, **message: Any) -> None:
        await self.call.write(pb.Up(**message))

    async def hello(self, versions: dict[str, dict[str, str]] | None = None, node: str = "pod-1") -> pb.Welcome:
        known = versions or {}
        types = [pb.TypeState(type_url=url, versions=known.get(url, {})) for url in wire.ORDER]
        await self.send(hello=pb.Hello(node=pb.Node(id=node, build="test"), types=types))
        return (await self.read()).welcome

    async def read(self, within: float = 30.0) -> pb.Down:
        async with asyncio.timeout(within):
            down = await self.call.read()
        assert isinstance(down, pb.Down), "the stream has ended"
        return down

    async def delta(self) -> pb.Delta:
        """The next Delta; heartbeats before it are passed over."""
        while not (down := await self.read()).HasField("delta"):
            assert down.HasField("heartbeat"), down
        return down.delta

    async def ack(self, delta: pb.Delta, *refused: pb.Rejected) -> None:
        ack = pb.Ack(type_url=delta.type_url, nonce=delta.nonce, rejected=refused)
        if refused:
            ack.error_detail.code = refused[0].why.code
        await self.send(ack=ack)

    async def synced(self) -> list[pb.Delta]:
        """Accept everything up to the first heartbeat."""
        deltas = []
        while (down := await self.read()).HasField("delta"):
            deltas.append(down.delta)
            await self.ack(down.delta)
        assert down.HasField("heartbeat")
        return deltas

    async def status(self) -> grpc.StatusCode:
        """How the stream ended; what is still in it is passed over."""
        async with asyncio.timeout(30):
            try:
                while await self.call.read() is not grpc.aio.EOF:
                    pass
            except grpc.aio.AioRpcError as error:
                return error.code()
            return await self.call.code()


@asynccontextmanager
async def running(directory: Path, *, name: str = "one", **settings: Any) -> AsyncIterator[Plane]:
    """A control plane until the block ends; it is drained then. Two with one `directory` are replicas."""
    authority = LocalAuthority.open_or_create(directory / "ca", "test.local", now())
    authority.enroll(directory / f"identity/{name}", f"controlplane/{name}", now=now(), hosts=LOOPBACK)
    given = {"drain_within": 0.2, "poll_every": 0.1, "metrics": None, "listen": FREE, "health": FREE, **settings}
    config = ControlPlaneConfig(identity=directory / f"identity/{name}", data=directory / "data", **given)
    stop, ready, metrics = asyncio.Event(), asyncio.get_running_loop().create_future(), Registry()
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(serve(config, metrics, stop, now=now, ready=ready.set_result))
        await asyncio.wait([ready, serving], return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            await serving
        plane = Plane(directory, authority, ready.result(), stop, metrics, serving)
        try:
            yield plane
        finally:
            stop.set()
            await serving
            for channel in plane.channels:
                await channel.close()
