"""What small requests wait while others flood the same sidecar with long bodies full of identifiers.

    python benchmarks/bench_floods.py [--floods 20] [--kib 576] [--rounds 3] [--json FILE]

Floods post bodies with an identifier every 18 bytes, all at once; the upstream sends back what it was sent, so the
answers are as long and as full of tokens. Beside them a small request goes out every 20 ms. The sidecar has one core,
load and upstream another.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import uvloop
from bench_http import KEY, prompt
from rich.console import Console
from side_by_side import LOAD_CORE, Target, aegis_proxy, free_port, median, policy, stage

EVERY = 0.02
"""Seconds between two small requests."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--floods", type=int, default=20)
    parser.add_argument("--kib", type=int, default=576)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, stage(Path(directory)) as it:
        port = free_port()
        script = Path(__file__).with_name("upstream.py")
        it.start("upstream", [sys.executable, script, str(port), "--echo"], port, core=LOAD_CORE)
        target = aegis_proxy(it, "aegis, flooded", policy(port, airlock=True), KEY)
        found = [uvloop.run(one_round(target, options)) for _ in range(options.rounds)]
    show(found, options)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


async def one_round(target: Target, options: argparse.Namespace) -> dict[str, object]:
    """Waits of small requests alone, then beside the floods, in milliseconds."""
    small = prompt("Dear Ms Ada Byron, SSN 536-22-8726, it will rain tonight.")
    alone = [await ask(target, small) for _ in range(50)]
    bodies = [flood(options.kib, number) for number in range(options.floods)]
    async with asyncio.TaskGroup() as tasks:
        floods = [tasks.create_task(ask(target, body)) for body in bodies]
        beside = []
        while not all(task.done() for task in floods):
            await asyncio.sleep(EVERY)
            beside.append(tasks.create_task(ask(target, small)))
    waits = sorted(task.result()[1] for task in beside)
    statuses = Counter(task.result()[0] for task in floods)
    return {
        "alone_p50_ms": round(median([wait for _, wait in alone]), 2),
        "beside_p50_ms": round(median(waits), 2),
        "beside_p99_ms": round(waits[int(len(waits) * 0.99)], 2),
        "beside_max_ms": round(waits[-1], 2),
        "small_requests": len(waits),
        "last_flood_ms": round(max(task.result()[1] for task in floods)),
        "statuses_of_floods": statuses,
    }


async def ask(target: Target, body: bytes) -> tuple[int, float]:
    """Status and milliseconds until the answer was whole, on a connection of its own."""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    head = f"POST {target.path} HTTP/1.1\r\nHost: model\r\nContent-Type: application/json\r\nConnection: close\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    answer = await reader.read()
    writer.close()
    return int(answer[9:12]), (time.perf_counter() - began) * 1e3


def flood(kib: int, number: int) -> bytes:
    """A prompt of `kib` KiB with a mail address every 18 bytes, none of them twice."""
    count = kib * 1024 // 18
    return prompt("".join([f"u{number:02}{at:06}@ab.org " for at in range(count)]))


def show(found: list[dict[str, object]], options: argparse.Namespace) -> None:
    """One line a round."""
    console = Console(width=120)
    console.print(f"{options.floods} floods of {options.kib} KiB at once, a small request every {EVERY * 1e3:g} ms")
    for line in found:
        console.print(json.dumps(line))


if __name__ == "__main__":
    main()
