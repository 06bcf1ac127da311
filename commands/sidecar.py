"""`aegis sidecar`."""

import asyncio
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import click

import settings
from commands.cache import share_compiled_expressions
from settings.hygiene import keep_memory_private
from sidecar.config import SidecarConfig

if TYPE_CHECKING:
    from observability.metrics import Registry
    from observability.telemetry import Telemetry
    from policies.mathprotocol.manifest import PluginTask
    from policies.snapshot import PolicySnapshot
    from policies.spec import Source
    from sidecar.app import CompileFiles, Place


@click.command("sidecar")
@click.option("--worker", type=int, default=-1, hidden=True, help="Which worker of several this is.")
@click.option("--worker-socket", type=click.Path(path_type=Path), hidden=True, help="Where it shows its pages.")
@settings.options(SidecarConfig, prefix="AEGIS_SIDECAR_")
def command(config: SidecarConfig, worker: int, worker_socket: Path | None) -> None:
    """Stand between an application and its models.

    Applications use http://127.0.0.1:15080/<route> as the base URL of their SDK. Policies come from --policy-file or
    from a control plane.
    """
    keep_memory_private()
    share_compiled_expressions()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it would print "Got goaway" lines that are no news
    # Every connection is a file; the soft limit of a shell, 1024, is soon reached.
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    import uvloop

    from observability.otlp import ExporterMissingError
    from settings.key_files import KeyFileError
    from sidecar.app import CannotListenError, Place
    from sidecar.audit.errors import SpoolError
    from sidecar.plugins.tasks import PluginsRefusedError
    from sidecar.workers import WorkersFailedError
    from transport.rollout import RolloutError

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            if worker >= 0 or config.workers == 1:
                runner.run(_run(config, Place(max(worker, 0), worker_socket)))
            else:
                runner.run(_run_workers(config))
    except* (
        CannotListenError,
        KeyFileError,
        SpoolError,
        PluginsRefusedError,
        RolloutError,
        ExporterMissingError,
        WorkersFailedError,
    ) as errors:
        raise click.ClickException("; ".join(str(error) for error in errors.exceptions)) from errors


async def _run(config: SidecarConfig, place: "Place") -> None:
    from observability.logs import set_up_logging
    from observability.metrics import Registry
    from observability.process import watch_process
    from sidecar.app import Sidecar

    registry, build = Registry(), version("aegis-mesh")
    watch_process(registry, version=build, started_at=time.time_ns() / 1e9)
    end_logging = set_up_logging(sys.stderr, registry, level=config.log_level)
    try:
        with _telemetry(config, registry, build) as telemetry:
            sidecar = Sidecar(config, registry, telemetry, _compiler(config), place, build)
            _on_signals(sidecar.drain)
            if place.socket is not None:
                _on_end_of_parent(sidecar.drain)
            await sidecar.run(lambda it: None if place.socket else _say(config, it.ports["listen"]))
    finally:
        end_logging()


@contextmanager
def _telemetry(config: SidecarConfig, registry: "Registry", build: str) -> "Iterator[Telemetry]":
    """Spans only where there is a collector for them: OpenTelemetry's SDK takes 10 MB."""
    from observability.telemetry import Telemetry

    if not config.otlp_endpoint:
        yield Telemetry(registry)
        return
    from observability import names
    from observability.otlp import otlp_exporter
    from observability.tracing import Spans

    resource = {"service.name": "aegis-sidecar", "service.version": build, "service.instance.id": socket.gethostname()}
    exporter = otlp_exporter(config.otlp_endpoint, ca_file=config.otlp_ca_file)
    spans = Spans(exporter, resource, registry.counter(names.SPANS_DROPPED))
    try:
        yield Telemetry(registry, spans=spans, sample_ratio=config.trace_ratio)
    finally:
        spans.close()


async def _run_workers(config: SidecarConfig) -> None:
    from observability.logs import set_up_logging
    from observability.metrics import Registry
    from sidecar.workers import Workers

    end_logging = set_up_logging(sys.stderr, Registry(), level=config.log_level)
    try:
        workers = Workers(config)
        _on_signals(workers.drain)
        await workers.run(lambda it: _say(config, it.ports["listen"]))
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


def _compiler(config: SidecarConfig) -> "CompileFiles":
    """What turns policy files into a snapshot. The reader of YAML is imported only where files are read."""

    def compile_files(
        hosted: Mapping[int, "PluginTask"], sources: Sequence["Source"], revision: int
    ) -> "PolicySnapshot":
        from policies.compile import compile_documents
        from policies.spec_load import load
        from sidecar.app import tenant_key

        return compile_documents(load(sources), tenant_key(config), revision=revision, source="file", hosted=hosted)

    return compile_files
