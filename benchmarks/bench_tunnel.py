"""Tunnels beside the standard library's `ssl`, in one run: bulk, ping-pong, handshakes, memory.

    python benchmarks/bench_tunnel.py [--rounds 5] [--megabytes 256] [--json FILE]
                                      [--only bulk,pingpong,handshake,memory] [--quic]

Two processes, one for each end, talk over loopback TCP under uvloop (or `--loop asyncio`); CPU time is user and system
time of each. Rounds of the candidates are interleaved and medians are shown; trust the ratios of one run. Handshakes
run in memory, without sockets. `tunnel` is TLS 1.3 records under keys of TLS and Noise, with streams; `ssl` is
OpenSSL's TLS 1.3 by way of the event loop, without streams; `tcp` is neither. `--quic` adds the tunnel over QUIC.
"""

import argparse
import asyncio
import gc
import json
import os
import ssl
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.fakes.mesh import PKI, SERVICE, Mesh, shake
from tests.fakes.tls13 import SslPeer, pump
from tests.fakes.tunnels import Stage, directory, stage, view_of
from transport.peers import Endpoint

WRITE = 64 * 1024


class Sink(asyncio.Protocol):
    """Counts what comes; answers the last byte with one."""

    def __init__(self, expected: int) -> None:
        self.left = expected

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.left -= len(data)
        if self.left == 0:
            self.transport.write(b"!")


class Source(asyncio.Protocol):
    """Writes 64 KiB at a time, waits when it is told to."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.goes = True
        self.data = bytes(WRITE)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def start(self) -> None:
        while self.left and self.goes:
            self.left -= WRITE
            self.transport.write(self.data)

    def pause_writing(self) -> None:
        self.goes = False

    def resume_writing(self) -> None:
        self.goes = True
        self.start()

    def data_received(self, _: bytes) -> None:
        self.done.set_result(None)


class Pong(asyncio.Protocol):
    """Says 256 bytes again."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Ping(asyncio.Protocol):
    """Says 256 bytes so many times, one after the other."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def start(self) -> None:
        self.transport.write(bytes(256))

    def data_received(self, _: bytes) -> None:
        self.left -= 1
        if self.left:
            self.transport.write(bytes(256))
        else:
            self.done.set_result(None)


class Peer:
    """The accepting end, in a process of its own: serves tcp, ssl and tunnels, and tells what it used."""

    def __init__(self, mesh: Mesh, run: Callable[[Any], Any], quic: bool) -> None:
        """Forks: both ends have the same keys. To be made before there is an event loop."""
        there, self._commands = os.pipe()
        self._answers, back = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            os.close(self._commands)
            try:
                run(_serve(mesh, os.fdopen(there), back, quic))
            finally:
                os._exit(0)
        self.ports: dict[str, int] = self._read()

    def ask(self, command: str) -> float:
        """ "bulk SIZE" and "pong" say what is served next; all answer with the CPU seconds used so far."""
        os.write(self._commands, command.encode() + b"\n")
        return float(self._read())

    def end(self) -> None:
        os.close(self._commands)
        os.waitpid(self._child, 0)

    def _read(self) -> Any:
        return json.loads(os.read(self._answers, 65536))


async def _serve(mesh: Mesh, commands: Any, answers: int, quic: bool) -> None:
    loop = asyncio.get_running_loop()
    serve: list[Callable[[], asyncio.Protocol]] = [Pong]
    async with stage(lambda _: serve[0](), mesh=mesh) as it:
        context = PKI.ssl_server(SERVICE)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        plain = await loop.create_server(lambda: serve[0](), "127.0.0.1", 0)  # noqa: PLW0108 serve[0] changes
        tls = await loop.create_server(lambda: serve[0](), "127.0.0.1", 0, ssl=context)  # noqa: PLW0108
        ports = {"tcp": plain.sockets[0].getsockname()[1], "ssl": tls.sockets[0].getsockname()[1], "tunnel": it.port}
        datagrams = None
        if quic:
            from transport.quic import tunnels

            datagrams = await tunnels.listen(it.server, mesh.reception(alpn=(b"h3",)).tls, "127.0.0.1", 0)
            ports["quic"] = datagrams.port
        os.write(answers, json.dumps(ports).encode())
        while command := await loop.run_in_executor(None, commands.readline):
            name, *arguments = command.split()
            if name == "bulk":
                size = int(arguments[0])
                serve[0] = lambda size=size: Sink(size)  # type: ignore[misc]
            elif name == "pong":
                serve[0] = Pong
            os.write(answers, json.dumps(time.process_time()).encode())
        plain.close()
        tls.close()


async def traffic(options: argparse.Namespace, mesh: Mesh, peer: Peer, kind: str) -> dict[str, list[float]]:
    """CPU: milliseconds a megabyte, or microseconds a round trip; "who dials", "who accepts" and the sum."""
    loop = asyncio.get_running_loop()
    names = ("tcp", "ssl", "tunnel", *(("quic",) if options.quic else ()))
    found: dict[str, list[float]] = {f"{name}{end}": [] for name in names for end in (", dialling", ", accepting", "")}
    size, trips = options.megabytes << 20, options.pings
    async with AsyncExitStack() as stack:
        it = await stack.enter_async_context(stage(mesh=mesh))
        it.view = view_of(mesh, peer.ports["tunnel"])
        await it.tunnels.warm("bob")
        client_context = PKI.ssl_client()
        over_quic = await stack.enter_async_context(_over_quic(mesh, peer.ports["quic"])) if options.quic else it

        async def connect(name: str) -> Any:
            client = (lambda: Source(size)) if kind == "bulk" else (lambda: Ping(trips))
            if name in {"tunnel", "quic"}:
                tunnels = (over_quic if name == "quic" else it).tunnels
                return (await tunnels.create_connection(client, "bob", deadline=5.0))[1]
            tls = {"ssl": client_context, "server_hostname": SERVICE} if name == "ssl" else {}
            return (await loop.create_connection(client, "127.0.0.1", peer.ports[name], **tls))[1]  # type: ignore[arg-type]

        for _ in range(options.rounds):
            for name in names:
                peer.ask(f"bulk {size}" if kind == "bulk" else "pong")
                protocol = await connect(name)
                await asyncio.sleep(0.02)
                there, here = peer.ask("cpu"), time.process_time()
                protocol.start()
                await protocol.done
                here = time.process_time() - here
                there = peer.ask("cpu") - there
                unit = 1e3 / options.megabytes if kind == "bulk" else 1e6 / trips
                for end, seconds in ((", dialling", here), (", accepting", there), ("", here + there)):
                    found[name + end].append(seconds * unit)
                protocol.transport.close()
                await asyncio.sleep(0.02)
    return found


@asynccontextmanager
async def _over_quic(mesh: Mesh, port: int) -> AsyncIterator[Stage]:
    """A dialler that knows the endpoint `quic://`."""
    from transport.quic import tunnels

    async with stage(mesh=mesh, datagrams=tunnels) as it:
        endpoints = (Endpoint.parse(f"quic://127.0.0.1:{port}"),)
        it.view = view_of(mesh, port, directory=directory(mesh, port, endpoints=endpoints))
        await it.tunnels.warm("bob")
        yield it


def handshakes(options: argparse.Namespace) -> dict[str, list[float]]:
    """CPU milliseconds of both ends of one handshake, certificate verified."""
    mesh = Mesh()
    server, client = PKI.ssl_server(SERVICE), PKI.ssl_client()
    found: dict[str, list[float]] = {"ssl": [], "tunnel, no ECH": [], "tunnel, ECH": []}

    def openssl() -> None:
        pump(SslPeer(client, server_side=False, name=SERVICE), SslPeer(server, server_side=True))

    def ours(**plan: Any) -> None:
        shake(mesh.dial(**plan), mesh.accept())

    candidates = {"ssl": openssl, "tunnel, no ECH": lambda: ours(ech=None), "tunnel, ECH": ours}
    for _ in range(options.rounds):
        for name, run in candidates.items():
            began = time.process_time()
            for _ in range(options.handshakes):
                run()
            found[name].append((time.process_time() - began) * 1e3 / options.handshakes)
    return found


async def memory(options: argparse.Namespace) -> dict[str, list[float]]:
    """KiB of resident memory for each end of an idle tunnel that has carried a stream."""
    async with stage(lambda _: Pong()) as it:
        await it.tunnels.warm("bob")
        gc.collect()
        before = _resident()
        pools = [
            type(it.tunnels)(lambda: it.view, it.tunnels._tasks, it.tunnels._attempts) for _ in range(options.tunnels)
        ]
        for pool in pools:
            ping = Ping(1)
            await pool.create_connection(lambda ping=ping: ping, "bob", deadline=5.0)  # type: ignore[misc]
            ping.start()
            await ping.done
            ping.transport.close()
        gc.collect()
        found = (_resident() - before) / options.tunnels / 2
        for pool in pools:
            pool.close()
    return {"tunnel": [found]}


def _resident() -> float:
    """KiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--pings", type=int, default=5000)
    parser.add_argument("--handshakes", type=int, default=100)
    parser.add_argument("--tunnels", type=int, default=200)
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--only", default="bulk,pingpong,handshake,memory", help="comma-separated")
    parser.add_argument("--quic", action="store_true", help="the tunnel over QUIC, too")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args()
    only = options.only.split(",")
    found: dict[str, dict[str, list[float]]] = {}
    run = uvloop.run if options.loop == "uvloop" else asyncio.run
    mesh = Mesh()
    for kind, what in (("bulk", "bulk, CPU ms/MB"), ("pingpong", "256 bytes there and back, CPU us")):
        if kind in only:
            peer = Peer(mesh, run, options.quic)
            found[what] = run(traffic(options, mesh, peer, kind))
            peer.end()
    if "handshake" in only:
        found["handshake, CPU ms, both ends"] = handshakes(options)
    if "memory" in only:
        found["idle tunnel, resident KiB, one end"] = run(memory(options))
    show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


def show(found: dict[str, dict[str, list[float]]]) -> None:
    """Medians, and what each is of `ssl`."""
    table = Table("what", "who", "median", "least", "x ssl")
    for what, candidates in found.items():
        for name, values in candidates.items():
            median = statistics.median(values)
            baseline = statistics.median(candidates.get("ssl" + name.removeprefix(name.split(",")[0]), [0.0]))
            baseline = baseline or statistics.median(candidates.get("ssl", [0.0]))
            ratio = f"{median / baseline:.2f}" if baseline else ""
            table.add_row(what, name, f"{median:.3f}", f"{min(values):.3f}", ratio)
    Console().print(table)


if __name__ == "__main__":
    main()
