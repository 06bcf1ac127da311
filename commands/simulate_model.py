"""`aegis simulate-model`: a model server that repeats what it was told."""

import click

import settings
from simulator.config import SimulatorConfig


@click.command("simulate-model")
@settings.options(SimulatorConfig, prefix="AEGIS_SIMULATOR_")
def command(config: SimulatorConfig) -> None:
    """A stand-in model server: OpenAI and Anthropic shapes, JSON and SSE.

    It repeats what it was told, so that one sees what reached it and what is put back. Behaviour of one request: the
    header x-simulate-NAME, or a model named `any?NAME=value&NAME=value`. GET /_seen shows the last requests.
    """
    from simulator.server import bind, server

    try:
        listener = bind(config.listen)
    except OSError as error:
        raise click.ClickException(f"--listen {config.listen}: {error.strerror}") from error
    with listener:
        host, port = listener.getsockname()[:2]
        click.echo(f"simulated model on http://{settings.Address(host, port)}")
        server(config).run(sockets=[listener])
