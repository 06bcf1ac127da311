"""One change of policy, pushed to many sidecars: time until the last has acknowledged, and server CPU per push.

    python benchmarks/bench_policy_push.py [--streams 1000] [--rounds 7] [--size 4096]

The server is a process of its own with uvloop and mutual TLS, as `aegis controlplane` runs it; CPU is its user and
system time by the operating system. The sidecars are streams with a connection each, in two other processes; they
acknowledge without building anything. In the same run, interleaved, two floors without any of our logic: `bare` is a
gRPC handler that writes the same bytes and reads an answer, `write` one that only writes.

A push is one Delta written and one Ack read. Budget: <= 0.5 s for 1,000 sidecars, and 40 us of CPU per push above
`bare`: that one is what grpc.aio needs with a TLS connection for each sidecar (docs/adr/0052 takes it apart). The Delta
is serialised once for all.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "proto")]
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc  # noqa: E402
import uvloop  # noqa: E402
from aegispb.v1 import discovery_pb2 as pb  # noqa: E402

from controlplane.app import SERVER_OPTIONS  # noqa: E402
from controlplane.discovery.desired import Desired, DesiredType  # noqa: E402
from controlplane.discovery.server import PolicyDiscovery  # noqa: E402
from controlplane.identity.ca import LOOPBACK, LocalAuthority  # noqa: E402
from controlplane.identity.credentials import server_credentials  # noqa: E402
from observability import names  # noqa: E402
from observability.metrics import Registry  # noqa: E402
from policies import wire  # noqa: E402
from policies.airlock.config import AirlockConfig  # noqa: E402
from policies.spec import Document, Kind  # noqa: E402
from sidecar.policy_client import CHANNEL_OPTIONS  # noqa: E402

AIRLOCK = wire.TYPE_URLS[Kind.AIRLOCK]
PUSHERS = 2
SILENT = "do not answer"


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Bare:
    """The floors: one write and one read per push, or the write alone."""

    def __init__(self) -> None:
        self.streams: set[asyncio.Event] = set()
        self.frame = b""
        self.written = 0
        self.answers = 0

    def handler(self) -> Any:
        method: Any = grpc.stream_stream_rpc_method_handler(self.stream, pb.Up.FromString, None)
        return grpc.method_handlers_generic_handler("bare.Bare", {"Stream": method})

    async def stream(self, _requests: object, call: Any) -> None:
        wake = asyncio.Event()
        self.streams.add(wake)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.read(call))
            while True:
                await wake.wait()
                wake.clear()
                await call.write(self.frame)
                self.written += 1

    async def read(self, call: Any) -> None:
        while isinstance(await call.read(), pb.Up):
            self.answers += 1

    def push(self, frame: bytes) -> None:
        self.frame, self.written, self.answers = frame, 0, 0
        for wake in self.streams:
            wake.set()


def desired(revision: int, size: int) -> Desired:
    document = Document("hipaa", AirlockConfig(hint=f"{revision} ".ljust(size, "x")))
    types = {**Desired.nothing().types, AIRLOCK: DesiredType.of(revision, [wire.resource(document)])}
    return Desired(revision, types, asyncio.get_running_loop().time())


async def serve(directory: Path, streams: int, rounds: int, size: int) -> None:
    metrics = Registry()
    service, bare = PolicyDiscovery("bench.local", metrics, server_id="bench"), Bare()
    service.publish(desired(1, size))
    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers((service.handler(), bare.handler()))
    port = server.add_secure_port("127.0.0.1:0", server_credentials(directory, print))
    await server.start()
    print(json.dumps({"port": port}), flush=True)
    _ticking = asyncio.get_running_loop().create_task(service.run())

    def acknowledged() -> float:
        return sum(metrics.histogram(names.CP_PUSH_SECONDS).series()[:-1])

    async def until(condition: Any) -> None:
        while not condition():
            await asyncio.sleep(0.002)

    await until(lambda: acknowledged() >= streams)
    await until(lambda: len(bare.streams) == streams)
    await asyncio.sleep(1)
    results: dict[str, list[tuple[float, float]]] = {"aegis": [], "bare": [], "write": []}
    for number in range(2, rounds + 2):
        delta = pb.Delta(upserts=desired(number, size).types[AIRLOCK].resources.values())
        answered, unanswered = pb.Down(delta=delta), pb.Down(delta=delta)
        unanswered.delta.nonce = SILENT
        for name, measured in results.items():
            used, started, before = cpu(), time.perf_counter(), acknowledged()
            match name:
                case "aegis":
                    service.publish(desired(number, size))
                    await until(lambda before=before: acknowledged() - before >= streams)
                case "bare":
                    bare.push(answered.SerializeToString())
                    await until(lambda: bare.answers >= streams)
                case _:
                    bare.push(unanswered.SerializeToString())
                    await until(lambda: bare.written >= streams)
            measured.append((time.perf_counter() - started, cpu() - used))
            await asyncio.sleep(0.3)
    print(json.dumps(results), flush=True)
    os._exit(0)  # what a thousand cut streams would say is no part of the result


async def be_sidecars(directory: Path, port: int, streams: int) -> None:
    files = [(directory / name).read_bytes() for name in ("ca.crt", "tls.key", "tls.crt")]
    credentials = grpc.ssl_channel_credentials(*files)
    # Without the last all channels would share one connection.
    options = [*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
    gate = asyncio.Semaphore(32)

    def stream(channel: grpc.aio.Channel, method: str) -> Any:
        return channel.stream_stream(method, pb.Up.SerializeToString, pb.Down.FromString)()

    async def sidecar(number: int) -> None:
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
            call: Any = channel.stream_stream(
                "/aegispb.v1.PolicyDiscovery/Stream", pb.Up.SerializeToString, pb.Down.FromString
            )()
            async with gate:
                node = pb.Node(id=f"{os.getpid()}-{number}")
                await call.write(
                    pb.Up(hello=pb.Hello(node=node, types=[pb.TypeState(type_url=url) for url in wire.KINDS]))
                )
                await call.read()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(bare(channel))
                while isinstance(down := await call.read(), pb.Down):
                    # One answer to each message: two writers would corrupt the call.
                    ack = pb.Ack(type_url=down.delta.type_url, nonce=down.delta.nonce)
                    await call.write(pb.Up(ack=ack) if down.HasField("delta") else pb.Up(heartbeat=pb.Heartbeat()))

    async def bare(channel: grpc.aio.Channel) -> None:
        call = stream(channel, "/bare.Bare/Stream")
        answer = pb.Up(ack=pb.Ack(type_url=AIRLOCK, nonce="x" * 12))
        while isinstance(down := await call.read(), pb.Down):
            if down.delta.nonce != SILENT:
                await call.write(answer)

    try:
        async with asyncio.TaskGroup() as tasks:
            for number in range(streams):
                tasks.create_task(sidecar(number))
    except* (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        pass  # the server is done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=4096, help="bytes of the changed policy")
    parser.add_argument("--role", choices=["server", "sidecars"], help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if arguments.role == "server":
            runner.run(serve(arguments.directory / "server", arguments.streams, arguments.rounds, arguments.size))
        elif arguments.role == "sidecars":
            runner.run(be_sidecars(arguments.directory / "sidecar", arguments.port, arguments.streams))
        else:
            compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    now = datetime.fromtimestamp(time.time_ns() / 1e9, UTC)
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        authority = LocalAuthority.open_or_create(directory / "ca", "bench.local", now)
        authority.issue("controlplane/bench", now=now, hosts=LOOPBACK).write(directory / "server")
        authority.issue("sidecar/bench", now=now).write(directory / "sidecar")
        shared = ["--directory", scratch, "--rounds", str(arguments.rounds), "--size", str(arguments.size)]
        program = [sys.executable, __file__, *shared]
        server = subprocess.Popen(
            [*program, "--role", "server", "--streams", str(arguments.streams)], stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None
        port = json.loads(server.stdout.readline())["port"]
        share = ["--streams", str(arguments.streams // PUSHERS), "--port", str(port)]
        sidecars = [subprocess.Popen([*program, "--role", "sidecars", *share]) for _ in range(PUSHERS)]
        results = json.loads(server.stdout.readline())
        server.wait(30)
        for each in sidecars:
            each.wait(30)
    print(f"{arguments.streams} sidecars, {arguments.size} bytes of policy, medians of {arguments.rounds} rounds")
    print(f"{'':8}{'all acknowledged':>20}{'CPU per push':>16}")
    for name, rounds in results.items():
        wall = statistics.median(each[0] for each in rounds)
        used = statistics.median(each[1] for each in rounds) / arguments.streams * 1e6
        print(f"{name:8}{wall * 1000:>17.0f} ms{used:>13.0f} us")


if __name__ == "__main__":
    main()
