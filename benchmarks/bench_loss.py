"""What packet loss costs a tunnel: bulk and small requests over TCP and over QUIC, on a link that loses packets.

Both ends are in this process, in network namespaces of their own, with a link between them that drops packets by a
seed (tests/fakes/lossy_link.py). It is Python that carries the packets, so times are for comparison only: of one
carrier with another, and of loss with none.

    python benchmarks/bench_loss.py [--seeds 3] [--delay 5] [--megabytes 2]
"""

import argparse
import asyncio
import statistics
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.fakes.lossy_link import lossy_link
from tests.fakes.mesh import CREDENTIAL
from tests.fakes.tunnels import Stage, stage
from tests.fakes.weather import Weather
from transport.peers import Endpoint
from transport.quic import tunnels
from transport.tls13.config import ServerConfig

LOSSES = (0.0, 0.01, 0.03, 0.05)
REQUESTS = 100


async def measure(carrier: str, weather: Weather, megabytes: float) -> tuple[float, list[float]]:
    """(seconds for a MB there and back, seconds of each small request)."""
    async with AsyncExitStack() as stack:
        ours, theirs = await stack.enter_async_context(lossy_link(weather))
        it = await stack.enter_async_context(stage(datagrams=tunnels))
        with theirs.here():
            if carrier == "tcp":
                port = await it.server.listen(theirs.address, 0)
            else:
                certificates = ServerConfig((CREDENTIAL,), alpn=(b"h3",))
                listener = await tunnels.listen(it.server, certificates, theirs.address, 0)
                stack.callback(listener.close)
                port = listener.port
        it.peer(endpoints=(Endpoint.parse(f"{carrier}://{theirs.address}:{port}"),))
        stack.enter_context(ours.here())
        stack.push_async_callback(asyncio.sleep, 0.2)
        stack.callback(it.server.close)
        stack.callback(it.tunnels.close)
        await ask(it, b"warm")
        small = [await timed(ask(it, b"x" * 256)) for _ in range(REQUESTS)]
        bulk = await timed(ask(it, bytes(round(megabytes * 1e6))))
        weather.loss = 0.0
        return bulk / megabytes, small


async def timed(work: Any) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def ask(it: Stage, body: bytes) -> None:
    stream = await it.connect()
    for at in range(0, len(body), 60_000):
        stream.transport.write(body[at : at + 60_000])
        await stream.until(lambda found: not found.is_paused, within=300)
    stream.transport.write_eof()
    await stream.until(lambda found: found.is_lost, within=300)
    assert bytes(stream.data) == body


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--delay", type=float, default=5.0, help="milliseconds, each way")
    parser.add_argument("--megabytes", type=float, default=2.0)
    options = parser.parse_args()
    table = Table("loss each way", "carrier", "bulk, s/MB there and back", "small, ms: median", "9 of 10", "worst")
    for loss in LOSSES:
        for carrier in ("tcp", "quic"):
            bulk: list[float] = []
            small: list[float] = []
            for seed in range(options.seeds):
                weather = Weather(seed, loss=loss, delay=options.delay / 1000)
                each, several = asyncio.run(measure(carrier, weather, options.megabytes))
                bulk.append(each)
                small += several
            small.sort()
            ms = (f"{1e3 * value:.0f}" for value in (statistics.median(small), small[len(small) * 9 // 10], small[-1]))
            table.add_row(f"{loss:.0%}", carrier, f"{statistics.median(bulk):.2f}", *ms)
    Console().print(table)


if __name__ == "__main__":
    main()
