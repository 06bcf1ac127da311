"""A thousand tunnels at a time, each with a stream that stands: what one end of one of them costs in memory."""

import gc
import os
import sys
from pathlib import Path

import pytest
import uvloop

from tests.fakes.tunnels import Collector, Stage, stage
from transport.tcp.attempts import Attempts
from transport.tcp.link import Link
from transport.tcp.meter import Meter
from transport.tls13.record import BufferPool

TUNNELS = 1000
BOUND = 1024
"""KiB for one end."""


def resident() -> float:
    """KiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1024


async def dial(it: Stage, buffers: BufferPool) -> tuple[Link, Collector]:
    """A tunnel of its own, with a stream that has had an answer of 100 KB and stands."""
    attempts = Attempts("bob", meter=Meter(it.registry), buffers=buffers, on_event=lambda *_: None)
    link = await attempts.dial(it.view)
    collector = Collector()
    link.open(collector, {}).write(bytes(100_000))
    await collector.until(lambda found: len(found.data) == 100_000)
    collector.data.clear()
    return link, collector


@pytest.mark.slow
def test_a_thousand_tunnels_cost_less_than_a_mebibyte_each(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> float:
        async with stage() as it:
            buffers = BufferPool()
            kept = [await dial(it, buffers)]
            gc.collect()
            before = resident()
            kept += [await dial(it, buffers) for _ in range(TUNNELS)]
            gc.collect()
            assert it.server.tunnels == TUNNELS + 1
            used = (resident() - before) / TUNNELS / 2
            for link, _ in kept:
                link.close()
            return used

    each = uvloop.run(main())

    with capsys.disabled():
        sys.stdout.write(f"\n{TUNNELS} tunnels: {each:.0f} KiB for one end of each\n")
    assert each < BOUND
