"""What the audit trail costs an exchange: CPU time on the path, in all, and the delay that its thread adds to the loop.

    python benchmarks/bench_audit.py [--rate 4000] [--seconds 8] [--directory DIR]

A loop of its own appends entries at a steady rate, as a sidecar under load would; a fake ledger over real gRPC in
another process takes the leaves. CPU comes from the operating system, less that of a run without appending. A `delay`
is how late a 1 ms timer fires: with the trail, beside without.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import grpc.aio
import uvloop

from observability import names
from observability.metrics import Registry
from sidecar.audit.auditing import Auditing, spool_path
from sidecar.audit.leaves import LeafWriter
from sidecar.audit.shipper import CHANNEL_OPTIONS
from sidecar.audit.spool import open_spool
from tests.fakes.entries import audit_entry
from tests.fakes.ledger_node import FakeLedger, serving

BURSTS = 500
"""Bursts of entries a second: exchanges do not end one by one."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=int, default=4000)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(_serve())
        return
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        _in_memory(Path(directory))
        uvloop.run(_measure(Path(directory), options.rate, options.seconds))


def _in_memory(directory: Path) -> None:
    """The parts alone, without a thread or a loop: the least of several attempts."""
    entries = [audit_entry(n)._replace(findings={}) for n in range(256)]
    spool = open_spool(directory / "parts.spool", entropy=os.urandom, now_us=0)
    writer = LeafWriter(spool.producer_id, 1, build="", entropy=os.urandom)
    made, committed = [], []
    for _ in range(200):
        before = time.process_time()
        group = writer.group(entries)
        made.append(time.process_time() - before)
        before = time.process_time()
        spool.commit(group, now_us=0, durable_through=None, placements=[])
        committed.append(time.process_time() - before)
    spool.close()
    print(f"{'leaves and openings made, µs an entry':48}{min(made) / len(entries) * 1e6:10.2f}")
    print(f"{'committed in groups of 256, µs an entry':48}{statistics.median(committed) / len(entries) * 1e6:10.2f}")


async def _measure(directory: Path, rate: int, seconds: float) -> None:
    server = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    port = int(server.stdout.readline())
    registry = Registry()
    auditing = Auditing(spool_path(directory, 0), registry)
    entries = [audit_entry(n) for n in range(int(rate * seconds))]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", CHANNEL_OPTIONS) as channel, asyncio.TaskGroup() as tasks:
        shipping = tasks.create_task(auditing.run(channel))
        await asyncio.sleep(0.5)
        idle_cpu, idle_delays, _, _ = await _load(auditing, entries, 0, seconds / 4)
        cpu, delays, appended, on_path = await _load(auditing, entries, rate, seconds)
        before = time.perf_counter()
        durable = await auditing.close(10)
        drained = time.perf_counter() - before
        shipping.cancel()
    server.terminate()
    commits = registry.counter(names.AUDIT_COMMITS).values()[()]
    spooled = registry.counter(names.AUDIT_SPOOLED).values()[()]
    print(
        f"{rate} exchanges/s for {seconds:g} s; durable at the end: {durable}, {drained * 1000:.0f} ms after the last"
    )
    print(f"{'CPU on the path, µs an entry':48}{on_path / appended * 1e6:10.2f}")
    print(f"{'CPU of the process in all, µs an entry':48}{(cpu - idle_cpu * 4) / appended * 1e6:10.2f}")
    print(f"{'leaves a commit':48}{spooled / commits:10.1f}")
    for name, taken in {"without": idle_delays, "with the trail": delays}.items():
        p50, p99 = statistics.quantiles(taken, n=100)[49], statistics.quantiles(taken, n=100)[98]
        print(f"{'loop delay ' + name + ', µs p50 / p99':48}{p50:10.0f} /{p99:8.0f}")


async def _load(auditing: Auditing, entries: list, rate: int, seconds: float) -> tuple[float, list[float], int, float]:
    """(CPU seconds of the process, loop delays in µs, entries appended, CPU seconds in `append`)."""
    delays: list[float] = []
    burst = rate // BURSTS
    appended, on_path = 0, 0.0
    cpu = time.process_time()
    end = time.perf_counter() + seconds
    due = time.perf_counter()
    while due < end:
        due += 1 / BURSTS
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        delays.append((time.perf_counter() - due) * 1e6)
        before = time.thread_time()
        for entry in entries[appended : appended + burst]:
            auditing.trail.append(entry)
        on_path += time.thread_time() - before
        appended += burst
    return time.process_time() - cpu, delays, appended, on_path


async def _serve() -> None:
    ledger = FakeLedger()
    async with serving(ledger) as port:
        print(port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    main()
