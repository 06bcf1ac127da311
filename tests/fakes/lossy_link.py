"""Two hosts and a link between them that loses packets, below TCP: network namespaces, and a TUN device in each.

What the kernel sends into one device comes out of the other as the `Weather` says, so TCP sees loss as it is, without
`tc netem`, which many kernels lack. Needs Linux and the right to make namespaces; whoever has it not gets a skip.
"""

import asyncio
import ctypes
import fcntl
import os
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from tests.fakes.weather import Weather

MTU: Final = 1400
_NEWNET: Final = 0x40000000
_TUNSETIFF: Final = 0x400454CA
_TUN_NO_INFO: Final = 0x1001
_libc: Final = ctypes.CDLL(None, use_errno=True)


class Host:
    """A network namespace with a device. The thread that opens sockets inside `here` has them there for good."""

    def __init__(self, address: str, other: str) -> None:
        """Must be made in a namespace of its own, which it keeps."""
        self.address: Final = address
        self.namespace: Final = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.device: Final = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(self.device, _TUNSETIFF, struct.pack("16sH22x", b"aegis0", _TUN_NO_INFO))
        for words in (
            f"address add {address} peer {other} dev aegis0",
            f"link set aegis0 mtu {MTU} up",
            "link set lo up",
        ):
            subprocess.run(["ip", *words.split()], check=True, capture_output=True)

    @contextmanager
    def here(self) -> Iterator[None]:
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        _checked(_libc.setns(self.namespace, _NEWNET))
        try:
            yield
        finally:
            _checked(_libc.setns(before, _NEWNET))
            os.close(before)

    def close(self) -> None:
        os.close(self.device)
        os.close(self.namespace)


def _checked(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextmanager
def _hosts() -> Iterator[tuple[Host, Host]]:
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    made: list[Host] = []
    try:
        for address, other in (("10.77.0.1", "10.77.0.2"), ("10.77.0.2", "10.77.0.1")):
            _checked(_libc.unshare(_NEWNET))
            made.append(Host(address, other))
    except (OSError, AttributeError, subprocess.CalledProcessError) as error:
        for host in made:
            host.close()
        pytest.skip(f"no network namespaces with TUN devices here: {error}")
    finally:
        _checked(_libc.setns(before, _NEWNET))
        os.close(before)
    try:
        yield made[0], made[1]
    finally:
        for host in made:
            host.close()


@asynccontextmanager
async def lossy_link(weather: Weather) -> AsyncIterator[tuple[Host, Host]]:
    """Two hosts. For event loops that are asyncio's: sockets must be opened by the loop's own thread."""
    if not Path("/dev/net/tun").exists():
        pytest.skip("no /dev/net/tun here")
    loop = asyncio.get_running_loop()

    def carry(source: int, target: int, direction: str) -> None:
        while True:
            try:
                packet = os.read(source, MTU + 64)
            except BlockingIOError:
                return
            for after in weather.fates(direction):
                loop.call_later(after, _write, target, packet)

    with _hosts() as (one, other):
        loop.add_reader(one.device, carry, one.device, other.device, "up")
        loop.add_reader(other.device, carry, other.device, one.device, "down")
        try:
            yield one, other
        finally:
            loop.remove_reader(one.device)
            loop.remove_reader(other.device)


def _write(device: int, packet: bytes) -> None:
    with suppress(OSError):  # the device is full or gone: a packet lost
        os.write(device, packet)
