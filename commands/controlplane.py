"""`aegis controlplane`."""

import asyncio
import os
import signal
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version

import click

import settings
from commands.cache import share_compiled_expressions
from controlplane.config import ControlPlaneConfig
from settings.hygiene import keep_memory_private


@click.command("controlplane")
@settings.options(ControlPlaneConfig, prefix="AEGIS_CONTROLPLANE_")
def command(config: ControlPlaneConfig) -> None:
    """Distribute policies to sidecars.

    Sidecars and operators connect with certificates of one CA; what a certificate may do is decided by its SPIFFE id:
    spiffe://<trust domain>/operator/... pushes policies, .../sidecar/... and .../ns/<ns>/sa/<sa> receive them.
    """
    keep_memory_private()
    share_compiled_expressions()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it would print "Got goaway" lines that are no news
    import uvloop

    from controlplane.app import CannotListenError
    from controlplane.identity.spiffe import IdentityError
    from controlplane.store.store import StoreError
    from settings.key_files import KeyFileError

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(config))
    except (IdentityError, KeyFileError, StoreError, CannotListenError) as error:
        raise click.ClickException(str(error)) from error


async def _run(config: ControlPlaneConfig) -> None:
    from controlplane.app import Ports, serve
    from observability.logs import set_up_logging
    from observability.metrics import Registry
    from observability.process import watch_process

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    metrics = Registry()
    watch_process(metrics, version=version("aegis-mesh"), started_at=time.time_ns() / 1e9)
    end_logging = set_up_logging(sys.stderr, metrics, level=config.log_level)

    def ready(ports: Ports) -> None:
        page = "" if ports.metrics is None else f", metrics on port {ports.metrics}"
        click.echo(f"control plane ready: gRPC on port {ports.listen}, health on port {ports.health}{page}")

    try:
        await serve(config, metrics, stop, now=lambda: datetime.fromtimestamp(time.time_ns() / 1e9, UTC), ready=ready)
    finally:
        end_logging()
