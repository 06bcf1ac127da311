"""A running data path over real sockets, with ports that remember, a scripted model server and a raw client."""

import asyncio
import itertools
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from observability.record import ExchangeRecord
from policies.model import Effect, ExchangeId, Policy, UnixNanos
from policies.pipeline import Pipeline
from policies.snapshot import AuditMode, PolicySnapshot, Route, UnknownEndpoint, Upstream
from sidecar.deadlines import Deadlines
from sidecar.dialects.registry import Dialects
from sidecar.inspector import Inspector
from sidecar.listener import ConnectionLimits, Listener
from sidecar.plan import Planner
from sidecar.plugins.host import PluginHost
from sidecar.plugins.tasks import PluginTasks
from sidecar.ports import AuditEntry
from sidecar.services import Limits, Services
from sidecar.upstream_pool import TunnelDialler
from sidecar.upstream_pools import UpstreamPools


class RememberingTrail:
    """Keeps every entry."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []
        self.accepting = True

    def append(self, entry: AuditEntry) -> None:
        self.entries.append(entry)


class RememberingTelemetry:
    """Keeps every record, and passes trace contexts on as they come."""

    def __init__(self) -> None:
        self.records: list[ExchangeRecord] = []
        self.connections = 0
        self.reused: list[bool] = []
        self.begins_traces = False

    def trace(self, incoming_traceparent: str) -> tuple[str, str]:
        return incoming_traceparent, incoming_traceparent[36:52]

    def record(self, record: ExchangeRecord) -> None:
        self.records.append(record)

    def connection_opened(self) -> None:
        self.connections += 1

    def connection_closed(self) -> None:
        self.connections -= 1

    def upstream_connected(self, upstream: str, *, reused: bool) -> None:
        self.reused.append(reused)


class RememberingEffects:
    """Keeps what was asked for."""

    def __init__(self) -> None:
        self.carried_out: list[Effect] = []
        self.banned_peers: set[str] = set()

    def carry_out(self, effects: tuple[Effect, ...], exchange: ExchangeId, now: UnixNanos) -> None:
        self.carried_out.extend(effects)

    def banned(self, peer: str, now: UnixNanos) -> bool:
        return peer in self.banned_peers


class SettableSnapshots:
    """Policy that a test sets."""

    def __init__(self, current: PolicySnapshot | None) -> None:
        self.current = current


@dataclass
class DataPath:
    """What a test sees of a running data path."""

    port: int
    listener: Listener
    services: Services
    pools: UpstreamPools
    deadlines: Deadlines
    trail: RememberingTrail
    telemetry: RememberingTelemetry
    effects: RememberingEffects
    snapshots: SettableSnapshots
    clients: list["RawClient"] = field(default_factory=list)

    async def connect(self) -> "RawClient":
        client = await RawClient.connect(self.port)
        self.clients.append(client)
        return client

    async def begun(self, count: int = 1) -> None:
        """Returns once `count` exchanges are under way."""
        async with asyncio.timeout(5):
            while self.listener.exchanges != count:
                await asyncio.sleep(0.002)

    async def settled(self, count: int = 1) -> Sequence[AuditEntry]:
        """The entries, once there are `count`."""
        return await self.settled_within(5, count)

    async def settled_within(self, seconds: float, count: int = 1) -> Sequence[AuditEntry]:
        """The same, with more patience."""
        async with asyncio.timeout(seconds):
            while len(self.trail.entries) < count:
                await asyncio.sleep(0.005)
        assert len(self.trail.entries) == len(self.telemetry.records)
        return self.trail.entries


_revisions = itertools.count(1)


def snapshot_of(
    url: str,
    *policies: Policy,
    prefix: str = "/",
    unknown_endpoint: UnknownEndpoint = UnknownEndpoint.WALK,
    audit: AuditMode = AuditMode.BEST_EFFORT,
    max_body: int = 32 * 1024 * 1024,
    connect_timeout: float = 5.0,
    idle_timeout: float = 30.0,
    total_timeout: float = 60.0,
    ca_file: str = "",
) -> PolicySnapshot:
    """One route to `url`."""
    upstream = Upstream(
        "model",
        url,
        ca_file=ca_file,
        connect_timeout=connect_timeout,
        idle_timeout=idle_timeout,
        total_timeout=total_timeout,
    )
    route = Route(
        "test", prefix, upstream, Pipeline(policies), unknown_endpoint=unknown_endpoint, audit=audit, max_body=max_body
    )
    return PolicySnapshot([route], revision=next(_revisions), source="file")


@asynccontextmanager
async def running_datapath(
    snapshot: PolicySnapshot | None,
    *,
    limits: Limits | None = None,
    connections: ConnectionLimits | None = None,
    max_upstream_connections: int = 1000,
    plugins: Mapping[int, PluginHost] | None = None,
    tunnels: TunnelDialler | None = None,
) -> AsyncIterator[DataPath]:
    """A listener on a free loopback port of this event loop, with everything behind it."""
    loop = asyncio.get_running_loop()
    trail, telemetry, effects = RememberingTrail(), RememberingTelemetry(), RememberingEffects()
    snapshots = SettableSnapshots(snapshot)
    inspector = Inspector(loop)
    deadlines = Deadlines(loop.time)
    async with asyncio.TaskGroup() as tasks:
        pools = UpstreamPools(tasks, deadlines, telemetry, max_connections=max_upstream_connections, tunnels=tunnels)
        tasks_of_plugins = PluginTasks(plugins or {}, tasks)
        services = Services(
            snapshots=snapshots,
            planner=Planner(Dialects(), pools.pool),
            audit=trail,
            telemetry=telemetry,
            effects=effects,
            inspector=inspector,
            limits=limits or Limits(),
            peer="test",
            plugins=tasks_of_plugins,
            clock=loop.time,
            now=lambda: UnixNanos(time.time_ns()),
        )
        listener = Listener(services, deadlines, connections or ConnectionLimits())
        wheel = tasks.create_task(deadlines.run())
        port = await listener.listen("127.0.0.1", 0)
        datapath = DataPath(port, listener, services, pools, deadlines, trail, telemetry, effects, snapshots)
        try:
            yield datapath
        finally:
            for client in datapath.clients:
                client.reset()
            listener.stop_accepting()
            listener.abort()
            pools.close()
            await tasks_of_plugins.stop()
            inspector.close()
            await asyncio.sleep(0)
            wheel.cancel()


Script = Callable[["Visit"], Awaitable[None]]
"""What a scripted upstream does with one connection."""


class Visit:
    """One connection to a scripted upstream."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        """0 for the first connection."""
        self.reader = reader
        self.writer = writer

    async def request(self) -> "Message":
        """The next request, whole."""
        return await read_message(self.reader)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, body: bytes = b"{}", *, status: str = "200 OK", fields: str = "") -> None:
        """A whole answer with a length."""
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{fields}\r\n"
        await self.send(head.encode() + body)

    def reset(self) -> None:
        with suppress(AttributeError):  # CPython 3.11: a transport that closed with something left to send has no loop
            self.writer.transport.abort()


@dataclass
class ScriptedUpstream:
    """A model server that does what a test says."""

    port: int
    visits: list[Visit] = field(default_factory=list)
    requests: list["Message"] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def scripted_upstream(script: Script, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedUpstream]:
    """Runs `script` for every connection; a connection ends with it."""
    upstream = ScriptedUpstream(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visit = Visit(len(upstream.visits), reader, writer)
        upstream.visits.append(visit)
        try:
            await script(visit)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20, ssl=tls)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
        for visit in upstream.visits:
            visit.reset()
        await asyncio.sleep(0)


@asynccontextmanager
async def answering_upstream(
    body: bytes = b"{}", *, status: str = "200 OK", fields: str = ""
) -> AsyncIterator[ScriptedUpstream]:
    """Answers every request of every connection the same."""
    upstream: ScriptedUpstream

    async def script(visit: Visit) -> None:
        while True:
            upstream.requests.append(await visit.request())
            await visit.answer(body, status=status, fields=fields)

    async with scripted_upstream(script) as upstream:
        yield upstream


@dataclass
class Message:
    """One HTTP/1.1 message as it was read from a socket."""

    first_line: str
    fields: list[tuple[str, str]]
    """Lower-case names."""
    body: bytes
    raw_body: bytes = b""
    """With its chunk framing."""

    @property
    def status(self) -> int:
        return int(self.first_line.split()[1])

    def field(self, name: str) -> str | None:
        values = [value for key, value in self.fields if key == name]
        return ", ".join(values) if values else None

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.fields]


class RawClient:
    """A client that sends bytes and reads messages."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int) -> "RawClient":
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 20))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def post(
        self, path: str = "/v1/chat/completions", body: bytes = b"{}", fields: Mapping[str, str] | None = None
    ) -> Message:
        """One request and its answer."""
        await self.send(request(path, body, fields))
        return await self.answer()

    async def answer(self, *, to_head: bool = False) -> Message:
        return await read_message(self.reader, to_head=to_head)

    async def is_closed(self) -> bool:
        """Waits for the end of the connection; whether nothing came before it."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        self.writer.transport.abort()


def request(path: str, body: bytes, fields: Mapping[str, str] | None = None, *, method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: sidecar", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in (fields or {}).items()]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


async def read_message(reader: asyncio.StreamReader, *, to_head: bool = False) -> Message:
    """Reads one message; raises IncompleteReadError when it is cut off."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first_line, *lines = head[:-4].split("\r\n")
    fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    message = Message(first_line, fields, b"")
    if to_head or (first_line.startswith("HTTP/") and (message.status < 200 or message.status in {204, 304})):
        return message
    if message.field("transfer-encoding") == "chunked":
        message.body, message.raw_body = await _read_chunked(reader)
    elif (length := message.field("content-length")) is not None:
        message.body = message.raw_body = await reader.readexactly(int(length))
    elif first_line.startswith("HTTP/"):
        message.body = message.raw_body = await reader.read()
    return message


async def _read_chunked(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    body, raw = b"", b""
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line, 16)
        data = await reader.readexactly(size + 2)
        raw += line + data
        body += data[:-2]
        if not size:
            return body, raw
