"""The command `aegis up`."""

import asyncio
import time
from datetime import UTC, datetime

import click

import settings
from commands.screen import console, print_listing
from commands.up.addresses import exports, places
from commands.up.config import UpConfig
from commands.up.directory import Directory, locked
from commands.up.errors import UpError
from commands.up.signals import until_signal


@click.command("up")
@settings.options(UpConfig, prefix="AEGIS_UP_")
def command(config: UpConfig) -> None:
    """Put the whole product in front of a model server, on this machine only.

    Control plane, ledger node and sidecar run as children of this process until Ctrl-C; what dies is started again.
    Every dialect's route goes to --upstream, all labels of hipaa_safe_harbor are tokenised, every exchange is audited.
    Ready when http://127.0.0.1:15021/healthz/ready answers 200.
    """
    from commands.up.ports import settled
    from controlplane.identity.spiffe import IdentityError

    try:
        with locked(config.data) as directory:
            asyncio.run(until_signal(_run(settled(config), directory)))
    except settings.SettingsError as error:
        raise click.UsageError(str(error)) from error
    except (UpError, IdentityError, OSError) as error:
        raise click.ClickException(str(error)) from error


async def _run(config: UpConfig, directory: Directory) -> None:
    from commands.up.product import product

    def say(text: str) -> None:
        click.echo(f"aegis up: {text}")

    async with product(config, directory, say, now):
        screen = console()
        print_listing(screen, f"Aegis Mesh is ready in front of {config.upstream}", places(config, directory))
        print_listing(screen, "For applications on this machine", exports(config))
        click.echo("Ctrl-C stops everything.")
        await asyncio.Event().wait()


def now() -> datetime:
    """The wall clock, with its time zone."""
    return datetime.fromtimestamp(time.time_ns() / 1e9, UTC)
