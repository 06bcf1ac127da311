"""How many leaves a second one ledger node makes durable, how soon it says so, and what that costs.

    python benchmarks/bench_ledger.py [--seconds 8] [--producers 4] [--batch 64] [--tls] [--dir DIR]

The node is a process of its own (`aegis ledger run`), the clients are another; both share the machine. A leaf counts
when the acknowledgement DURABLE for it has arrived, which the node sends after the checkpoint is published and fsynced.
CPU is what the operating system charged to the node's process for the whole run, divided by the leaves.

Nothing is deleted before all is measured. ext4 without a journal, which many virtual machines have, steps past every
inode that was freed in the last one to five minutes whenever a file is made: the log of one run, deleted, doubled what
the next one cost (docs/adr/0010). Who measures on such a disk takes a fresh one, or waits.
"""

import argparse
import asyncio
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path

import grpc
import uvloop
from aegispb.v1 import audit_pb2, audit_pb2_grpc

from controlplane.identity.ca import LOOPBACK, LocalAuthority
from controlplane.identity.identity import Identity
from ledger.cosignature import signer
from ledger.keys import SignatureType, SigningKey
from ledger.leaf import Leaf
from ledger.rfc6962 import leaf_hash
from ledger.tiles import Edge, grow, pack_entries

ROOT = Path(__file__).resolve().parent.parent
BUDGET = {"leaves/s": 30_000, "ack p99 ms": 250, "server CPU us/leaf": 8.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--producers", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64, help="leaves in one message")
    parser.add_argument("--rate", type=int, default=0, help="leaves a second offered in all; 0: as many as are taken")
    parser.add_argument("--tls", action="store_true", help="mutual TLS, as between pods")
    parser.add_argument("--dir", type=Path, default=None, help="where to put the log (its disk is measured too)")
    arguments = parser.parse_args()

    in_process()
    with tempfile.TemporaryDirectory(dir=arguments.dir) as scratch:
        for name, rate in (("open loop", arguments.rate or 30_000), ("as fast as it goes", 0)):
            place = Path(scratch) / name.partition(" ")[0]
            place.mkdir()
            show(name, rate, arguments, through_grpc(place, arguments, rate))


def show(name: str, rate: int, arguments: argparse.Namespace, figures: dict[str, float]) -> None:
    print(
        f"\none node through gRPC, {arguments.batch} leaves a message, {arguments.producers} producers"
        f"{', mTLS' if arguments.tls else ''}, {name}{f' at {rate:,} leaves/s' if rate else ''}"
    )
    for what, value in figures.items():
        budget = BUDGET.get(what)
        verdict = "" if budget is None else f"   budget {budget:,}"
        print(f"  {what:24} {value:>12,.1f}{verdict}")


# --- in process ---


def in_process() -> None:
    """What the parts cost, in CPU time of one core."""
    entries = [os.urandom(96) for _ in range(4096)]
    hashes = [leaf_hash(entry) for entry in entries]
    ed25519 = signer(SigningKey("bench", SignatureType.ED25519, bytes(32)))
    mldsa = signer(SigningKey("bench", SignatureType.MLDSA44_COSIGNATURE, bytes(32)))
    text = "bench\n1\n" + "A" * 43 + "=\n"
    rows = [
        ("hash a leaf of 96 B", cpu(lambda: [leaf_hash(entry) for entry in entries]) / 4096),
        ("fold a leaf into tiles (4096 at a time)", cpu(lambda: grow(Edge(), hashes)) / 4096),
        ("sign a checkpoint, Ed25519", cpu(lambda: ed25519.sign(text, 0))),
        ("sign a checkpoint, ML-DSA-44", cpu(lambda: mldsa.sign(text, 0))),
    ]
    rows += pymerkle(entries)
    print("in process, one core")
    for what, seconds in rows:
        print(f"  {what:42} {seconds * 1e6:>10.2f} us")


def pymerkle(entries: list[bytes]) -> list[tuple[str, float]]:
    """The same tree by the best-known library, if it is installed (GPL: measured, never depended on)."""
    try:
        from pymerkle import InmemoryTree
    except ImportError:
        return []

    def append() -> None:
        tree = InmemoryTree(algorithm="sha256")
        for entry in entries:
            tree.append_entry(entry)
        tree.get_state()

    return [("pymerkle: append a leaf, no tiles, no disk", cpu(append, 3) / len(entries))]


def cpu(function, repeats: int = 7) -> float:
    """Least CPU seconds of a few calls."""
    best = float("inf")
    for _ in range(repeats):
        started = time.process_time()
        function()
        best = min(best, time.process_time() - started)
    return best


# --- through gRPC ---


def through_grpc(scratch: Path, arguments: argparse.Namespace, rate: int) -> dict[str, float]:
    tls = ["--insecure-loopback"]
    if arguments.tls:
        now = datetime.fromtimestamp(time.time_ns() / 1e9, UTC)
        authority = LocalAuthority.open_or_create(scratch / "ca", "local", now)
        authority.enroll(scratch / "ledger-id", "ledger/bench", now=now, hosts=LOOPBACK)
        authority.enroll(scratch / "client-id", "sidecar/bench", now=now)
        tls = ["--identity", str(scratch / "ledger-id")]
    command = [
        *(sys.executable, "-P", "-m", "aegis", "ledger", "run", "--init-if-missing", "--data", str(scratch / "data")),
        *("--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", *tls),
    ]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"}
    node = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        port = int(re.search(r"grpc port (\d+)", node.stdout.readline()).group(1))
        context = multiprocessing.get_context("spawn")
        results = context.Queue()
        client = context.Process(target=clients, args=(port, arguments, rate, scratch, results))
        before = cpu_of(node.pid)
        client.start()
        leaves, seconds, latencies = results.get(timeout=arguments.seconds + 60)
        spent = cpu_of(node.pid) - before
        client.join()
        memory = int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{node.pid}/status").read_text()).group(1)) / 1024
    finally:
        node.send_signal(signal.SIGTERM)
        node.wait(30)
    written = sum(file.stat().st_size for file in (scratch / "data/log").rglob("*") if file.is_file())
    latencies.sort()
    return {
        "leaves/s": leaves / seconds,
        "ack p50 ms": 1000 * latencies[len(latencies) // 2],
        "ack p99 ms": 1000 * latencies[int(len(latencies) * 0.99)],
        "server CPU us/leaf": spent / leaves * 1e6,
        "server CPU %": 100 * spent / seconds,
        "server RSS MiB": memory,
        "bytes kept per leaf": written / leaves,
    }


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def clients(port: int, arguments: argparse.Namespace, rate: int, scratch: Path, results) -> None:
    """A process with all producers."""
    identity = Identity.read(scratch / "client-id") if arguments.tls else None
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        results.put(runner.run(produce(port, arguments, rate, identity)))


async def produce(
    port: int, arguments: argparse.Namespace, rate: int, identity: Identity | None
) -> tuple[int, float, list[float]]:
    async with asyncio.TaskGroup() as tasks:
        producers = [
            Producer(port, arguments, rate / arguments.producers, identity) for _ in range(arguments.producers)
        ]
        started = time.perf_counter()
        for producer in producers:
            tasks.create_task(producer.run())
    seconds = max(p.ended for p in producers) - started
    return sum(p.durable for p in producers), seconds, [one for p in producers for one in p.latencies]


class Producer:
    """One stream that keeps its credit in use, or sends at a rate."""

    def __init__(self, port: int, arguments: argparse.Namespace, rate: float, identity: Identity | None) -> None:
        self.port, self.batch, self.rate, self.seconds = port, arguments.batch, rate, arguments.seconds
        self.identity = identity
        self.producer_id = os.urandom(16)
        self.durable, self.sent, self.credit, self.ended = 0, 0, 4096, 0.0
        self.latencies: list[float] = []
        self.waiting: deque[tuple[int, float]] = deque()
        self.wake = asyncio.Event()
        # Packing leaves is the sidecar's work and not what is measured: only the numbers are filled in later.
        self.template = Leaf(1, 1, 0, 0, 0, 200, 0, self.producer_id, 1, 0, 0, 1, os.urandom(32)).pack()

    async def run(self) -> None:
        address = f"localhost:{self.port}"
        if self.identity:
            credentials = grpc.ssl_channel_credentials(
                self.identity.ca_pem, self.identity.key_pem, self.identity.cert_pem
            )
            channel = grpc.aio.secure_channel(address, credentials)
        else:
            channel = grpc.aio.insecure_channel(address)
        async with channel, asyncio.TaskGroup() as tasks:
            call = audit_pb2_grpc.AuditIngestStub(channel).Append()
            await call.write(audit_pb2.LeafBatch(producer_id=self.producer_id, epoch=1))
            self.credit = (await call.read()).credit
            tasks.create_task(self.read(call))
            await self.write(call)
        self.ended = time.perf_counter()

    async def write(self, call) -> None:
        started = time.perf_counter()
        while (now := time.perf_counter()) < started + self.seconds:
            if self.sent - self.durable + self.batch > self.credit:
                self.wake.clear()
                await self.wake.wait()
                continue
            if self.rate and (early := started + self.sent / self.rate - now) > 0:
                await asyncio.sleep(early)
            batch = audit_pb2.LeafBatch(
                producer_id=self.producer_id, epoch=1, first_seq=self.sent, packed=self.packed(), count=self.batch
            )
            self.sent += self.batch
            self.waiting.append((self.sent, time.perf_counter()))
            await call.write(batch)
        await call.done_writing()

    def packed(self) -> bytes:
        head, tail = self.template[:40], self.template[48:]
        return pack_entries(head + seq.to_bytes(8, "big") + tail for seq in range(self.sent, self.sent + self.batch))

    async def read(self, call) -> None:
        while (ack := await call.read()) is not grpc.aio.EOF:
            now = time.perf_counter()
            self.durable, self.credit = ack.through_seq + 1, ack.credit
            while self.waiting and self.waiting[0][0] <= self.durable:
                self.latencies.append(now - self.waiting.popleft()[1])
            self.wake.set()
        assert self.durable == self.sent, (
            f"{self.sent - self.durable} leaves were not acknowledged: {await call.details()}"
        )


if __name__ == "__main__":
    main()
