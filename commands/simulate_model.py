"""`aegis simulate-model`."""

import click


@click.command("simulate-model")
def command() -> None:
    """A stand-in model server."""
