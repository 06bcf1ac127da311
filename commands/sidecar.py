"""`aegis sidecar`."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import click

import settings
from sidecar.config import SidecarConfig

if TYPE_CHECKING:
    from policies.snapshot import PolicySnapshot
    from policies.spec import Source
    from sidecar.app import Place
    from sidecar.policy_file import Compile


@click.command("sidecar")
@click.option("--worker", type=int, default=-1, hidden=True, help="Which worker of several this is.")
@click.option("--worker-socket", type=click.Path(path_type=Path), hidden=True, help="Where it shows its pages.")
@settings.options(SidecarConfig, prefix="AEGIS_SIDECAR_")
def command(config: SidecarConfig, worker: int, worker_socket: Path | None) -> None:
    """Stand between an application and its models.

    Applications use http://127.0.0.1:15080/<route> as the base URL of their SDK. Policies come from --policy-file or
    from a control plane.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it would print "Got goaway" lines that are no news
    import uvloop

    from sidecar.app import CannotListenError, Place
    from sidecar.tenant_key import TenantKeyError
    from sidecar.workers import WorkersFailedError

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            if worker >= 0 or config.workers == 1:
                runner.run(_run(config, Place(max(worker, 0), worker_socket)))
            else:
                runner.run(_run_workers(config))
    except* (CannotListenError, TenantKeyError, WorkersFailedError) as errors:
        raise click.ClickException("; ".join(str(error) for error in errors.exceptions)) from errors


async def _run(config: SidecarConfig, place: "Place") -> None:
    from observability.logs import set_up_logging
    from observability.metrics import Registry
    from observability.process import watch_process
    from sidecar.app import Sidecar

    registry = Registry()
    watch_process(registry, version=version("aegis-mesh"), started_at=time.time_ns() / 1e9)
    end_logging = set_up_logging(sys.stderr, registry, level=config.log_level)
    try:
        sidecar = Sidecar(config, registry, _compile_with(config), place)
        _on_signals(sidecar.drain)
        if place.socket is not None:
            _on_end_of_parent(sidecar.drain)
        await sidecar.run(lambda it: None if place.socket else _say(config, it.port))
    finally:
        end_logging()


async def _run_workers(config: SidecarConfig) -> None:
    from observability.logs import set_up_logging
    from observability.metrics import Registry
    from sidecar.workers import Workers

    end_logging = set_up_logging(sys.stderr, Registry(), level=config.log_level)
    try:
        workers = Workers(config)
        _on_signals(workers.drain)
        await workers.run(lambda it: _say(config, it.port))
    finally:
        end_logging()


def _say(config: SidecarConfig, port: int) -> None:
    click.echo(f"sidecar on http://{settings.Address(config.listen.host, port)}")


def _on_signals(drain: Callable[[], None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, drain)


def _on_end_of_parent(drain: Callable[[], None]) -> None:
    """The parent never writes to a worker's standard input; that it can be read means that the parent is gone."""
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(sys.stdin)
        drain()

    loop.add_reader(sys.stdin, ended)


def _compile_with(config: SidecarConfig) -> "Compile":
    """What turns policy files into a snapshot. Imports the reader of YAML only where files are read."""
    from sidecar.tenant_key import tenant_key

    key = tenant_key(config.tenant_key_file, config.data.expanduser())

    def compile_files(sources: Sequence["Source"], revision: int) -> "PolicySnapshot":
        from policies.compile import compile_documents
        from policies.spec_load import load

        return compile_documents(load(sources), key, revision=revision, source="file")

    return compile_files
