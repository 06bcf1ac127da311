"""A whole node in this process, on real sockets and a real directory."""

import asyncio
import http.client
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from aegispb.v1 import audit_pb2, audit_pb2_grpc

from controlplane.ledger import node
from controlplane.ledger.config import LedgerConfig
from observability.metrics import Registry
from settings import Address

FREE = Address("127.0.0.1", 0)


@dataclass
class RunningNode:
    doors: node.Doors
    stop: asyncio.Event
    task: "asyncio.Task[None]"
    metrics: Registry

    async def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of a GET."""

        def fetch() -> tuple[int, dict[str, str], bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", self.doors.http_port, timeout=30)
            connection.request("GET", path, headers=headers or {})
            response = connection.getresponse()
            body = response.read()
            connection.close()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, body

        return await asyncio.to_thread(fetch)


def config_of(directory: Path, **settings: Any) -> LedgerConfig:
    if "identity" not in settings:
        settings["insecure_loopback"] = True
    defaults = {"grpc": FREE, "http": FREE, "init_if_missing": True, "period": 0.01}
    return LedgerConfig(data=directory, **(defaults | settings))


@asynccontextmanager
async def running(directory: Path, **settings: Any) -> AsyncIterator[RunningNode]:
    """A node that serves; it is stopped in good order at the end."""
    stop, metrics = asyncio.Event(), Registry()
    ready: asyncio.Future[node.Doors] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(node.run(config_of(directory, **settings), stop, ready.set_result, metrics))
        await asyncio.wait((task, ready), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            yield RunningNode(ready.result(), stop, task, metrics)
            stop.set()


@asynccontextmanager
async def stream(port: int, credentials: grpc.ChannelCredentials | None = None) -> AsyncIterator[Any]:
    """A call of `AuditIngest.Append`."""
    address = f"localhost:{port}"
    channel = grpc.aio.secure_channel(address, credentials) if credentials else grpc.aio.insecure_channel(address)
    async with channel:
        call = audit_pb2_grpc.AuditIngestStub(channel).Append(timeout=50)
        try:
            yield call
        finally:
            call.cancel()


async def until(call: Any, seq: int) -> list[audit_pb2.LeafAck]:
    """The acknowledgements up to the one that covers `seq`."""
    acks = list[audit_pb2.LeafAck]()
    while not acks or not acks[-1].count or acks[-1].through_seq < seq:
        ack = await call.read()
        assert ack is not grpc.aio.EOF, f"the stream ended: {await call.code()} {await call.details()}"
        acks.append(ack)
    return acks
