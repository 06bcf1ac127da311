"""`aegis ledger`: run a Merkle node, or make its log."""

import asyncio
import gc
import os
import signal
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import click

import settings
from controlplane.ledger.config import LedgerConfig
from controlplane.ledger.errors import NodeError
from settings.hygiene import keep_memory_private

if TYPE_CHECKING:
    from controlplane.ledger.node import Doors


@click.group("ledger")
def command() -> None:
    """A Merkle node: takes audit leaves from sidecars, keeps them in a log that anybody can verify."""


@command.command("run")
@settings.options(LedgerConfig, prefix="AEGIS_LEDGER_")
def run(config: LedgerConfig) -> None:
    """Serve a log until SIGTERM. Prints one line when it is ready."""
    keep_memory_private()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it would print "Got goaway" lines that are no news
    import uvloop

    # Leaves come as thousands of small objects that live for one growth: the default thresholds would look through
    # all of them again and again for cycles that there are none.
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(config))
    except NodeError as error:
        raise click.ClickException(str(error)) from None


@command.command("init")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Directory to make; empty or missing.")
@click.option("--origin", default="", help="Identity of the log, e.g. forest.example/node-a [default: a random one]")
def init(data: Path, origin: str) -> None:
    """Make a new, empty log with fresh keys. Never over anything that is there."""
    from controlplane.ledger import node

    try:
        signers = node.initialise(data, origin)
    except NodeError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"made the log {signers.origin} in {data}\nits verifier keys, for trust policies of auditors:")
    for one in (signers.ed25519, signers.mldsa):
        click.echo(f"log {one.key}")


async def _run(config: LedgerConfig) -> None:
    from controlplane.ledger import node
    from observability.logs import set_up_logging
    from observability.metrics import Registry
    from observability.process import watch_process

    metrics = Registry()
    watch_process(metrics, version=version("aegis-mesh"), started_at=time.time_ns() / 1e9)
    end_logging = set_up_logging(sys.stderr, metrics, level=config.log_level)
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await node.run(config, stop, _announce, metrics)
    finally:
        end_logging()


def _announce(doors: "Doors") -> None:
    click.echo(
        f"ledger ready: grpc port {doors.grpc_port}, http port {doors.http_port}, {doors.origin}, {doors.size} leaves"
    )
    sys.stdout.flush()
