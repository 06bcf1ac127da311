"""A TCP relay that does what bad networks and attackers do. Packet loss as such cannot be made above TCP: what a
connection sees of it here is delay; `lossy_link.py` makes it below."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Relay:
    """Faults hold for every connection, and may be changed at any time."""

    target: int
    port: int = 0
    """Of the relay itself."""
    delay: float = 0.0
    """Seconds that each piece takes, in either direction."""
    chop: int = 0
    """Bytes of a piece that is handed on at a time; 0: as it came."""
    frozen: bool = False
    """Nothing passes, and nobody is told: half-open."""
    flip_next: bool = False
    """Flip a bit of the next piece towards the dialler."""
    flights: list[tuple[str, bytes]] = field(default_factory=list)
    """("up" or "down", bytes), runs of one direction joined."""
    keeps: bool = True
    """Whether `flights` are written down."""
    connections: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = field(default_factory=list)

    def reset(self) -> None:
        """RST on every connection, both ways."""
        for pair in self.connections:
            for writer in pair:
                writer.transport.abort()
        self.connections.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        self.connections.append((writer, back))
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._carry("up", reader, back))
                tasks.create_task(self._carry("down", there, writer))
        except* OSError:
            pass
        finally:
            for each in (writer, back):
                each.transport.abort()

    async def _carry(self, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self.keeps:
                self._write_down(direction, data)
            if self.delay:
                await asyncio.sleep(self.delay)
            while self.frozen:
                await asyncio.sleep(0.01)
            if self.flip_next and direction == "down":
                self.flip_next = False
                data = bytes([*data[:-1], data[-1] ^ 1])
            for at in range(0, len(data), self.chop or len(data)):
                writer.write(data[at : at + (self.chop or len(data))])
                await writer.drain()
                if self.chop:
                    await asyncio.sleep(0)
        writer.close()

    def _write_down(self, direction: str, data: bytes) -> None:
        if self.flights and self.flights[-1][0] == direction:
            data = self.flights.pop()[1] + data
        self.flights.append((direction, data))


@asynccontextmanager
async def relay(target: int) -> AsyncIterator[Relay]:
    """A relay to this port of 127.0.0.1."""
    it = Relay(target)
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()
        it.frozen = False
        it.reset()
        await asyncio.sleep(0.02)
