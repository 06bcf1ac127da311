"""A UDP relay that loses, repeats and reorders datagrams: what `tc netem` does, for kernels without it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from tests.fakes.weather import Weather


class _Door(asyncio.DatagramProtocol):
    """Where diallers send to."""

    def __init__(self, target: int, weather: Weather) -> None:
        self._target = target
        self._weather = weather
        self._ways: dict[Any, _Way] = {}
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        loop = asyncio.get_running_loop()
        way = self._ways.get(addr)
        if way is None:
            way = self._ways[addr] = _Way(self, addr)
            way.opening = loop.create_task(
                loop.create_datagram_endpoint(lambda: way, remote_addr=("127.0.0.1", self._target))
            )
        for after in self._weather.fates("up"):
            loop.call_later(after, way.send, data)

    def back(self, data: bytes, addr: Any) -> None:
        for after in self._weather.fates("down"):
            asyncio.get_running_loop().call_later(after, self._send, data, addr)

    def _send(self, data: bytes, addr: Any) -> None:
        if not self.transport.is_closing():
            self.transport.sendto(data, addr)

    def close(self) -> None:
        self.transport.close()
        for way in self._ways.values():
            way.close()


class _Way(asyncio.DatagramProtocol):
    """On behalf of one dialler."""

    def __init__(self, door: _Door, addr: Any) -> None:
        self._door = door
        self._addr = addr
        self._waiting: list[bytes] = []
        self._transport: asyncio.DatagramTransport | None = None
        self.opening: asyncio.Task[Any] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        for data in self._waiting:
            self._transport.sendto(data)

    def send(self, data: bytes) -> None:
        if self._transport is None:
            self._waiting.append(data)
        elif not self._transport.is_closing():
            self._transport.sendto(data)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._door.back(data, self._addr)

    def error_received(self, exc: Exception) -> None:
        """The other end is closed: a datagram lost, as on any network."""

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


@asynccontextmanager
async def udp_relay(target: int, weather: Weather) -> AsyncIterator[int]:
    """The port of a relay to this port of 127.0.0.1."""
    loop = asyncio.get_running_loop()
    transport, door = await loop.create_datagram_endpoint(lambda: _Door(target, weather), local_addr=("127.0.0.1", 0))
    try:
        yield int(transport.get_extra_info("sockname")[1])
    finally:
        door.close()
        await asyncio.sleep(0.05)
