"""A running simulated model and a raw HTTP/1.1 client for it: sees bytes where an SDK would see values."""

import asyncio
import functools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from settings import Address
from simulator.app import application
from simulator.config import SimulatorConfig

CONFIG = SimulatorConfig(listen=Address("127.0.0.1", 0))


@dataclass(frozen=True)
class Reply:
    """What a raw HTTP/1.1 client read until the connection was closed."""

    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> bytes:
        """The body without chunk framing; what came of it when it broke off."""
        if self.headers.get("transfer-encoding") != "chunked":
            return self.raw
        rest, parts = self.raw, []
        while b"\r\n" in rest:
            size, rest = rest.split(b"\r\n", 1)
            parts.append(rest[: int(size, 16)])
            rest = rest[int(size, 16) + 2 :]
        return b"".join(parts)

    @property
    def chunks(self) -> int:
        return self.raw.count(b"\r\n") // 2 - 1

    @property
    def ended(self) -> bool:
        """Whether the chunked body had its end mark."""
        return self.raw.endswith(b"0\r\n\r\n")


class Model:
    """A running simulated model."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def connect(self, path: str, body: object, headers: dict[str, str], method: str = "POST") -> Any:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "host: x", "connection: close", f"content-length: {len(raw)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + raw)
        return reader, writer

    async def ask(self, path: str, body: object, method: str = "POST", **settings: object) -> Reply:
        headers = {f"x-simulate-{name.replace('_', '-')}": str(value) for name, value in settings.items()}
        reader, writer = await self.connect(path, body, {"authorization": "Bearer sk-secret", **headers}, method)
        head, raw = (await reader.read()).split(b"\r\n\r\n", 1)
        writer.close()
        first, *rest = head.decode().split("\r\n")
        return Reply(int(first.split()[1]), dict(line.split(": ", 1) for line in rest), raw)

    async def seen(self) -> list[dict[str, Any]]:
        seen: list[dict[str, Any]] = json.loads((await self.ask("/_seen", b"", "GET")).body)
        return seen


@asynccontextmanager
async def running_model(config: SimulatorConfig = CONFIG) -> AsyncIterator[Model]:
    """The simulated model on a free loopback port of this event loop."""
    # uvicorn's protocol without uvicorn's Server, whose start and stop wait for a ticking clock.
    web = uvicorn.Config(application(config), log_level="critical", access_log=False, lifespan="off", http="httptools")
    web.load()
    state = ServerState()
    protocol: Any = functools.partial(web.http_protocol_class, config=web, server_state=state, app_state={})
    listening = await asyncio.get_running_loop().create_server(protocol, config.listen.host, config.listen.port)
    try:
        yield Model(listening.sockets[0].getsockname()[1])
    finally:
        listening.close()
        for connection in tuple(state.connections):
            connection.transport.abort()
        if state.tasks:
            await asyncio.wait(state.tasks)
