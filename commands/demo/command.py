"""The command `aegis demo`."""

import asyncio
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import click

import settings
from commands.demo.errors import DemoError
from commands.screen import console, print_listing
from commands.up.command import now
from commands.up.config import LOOPBACK, UpConfig
from commands.up.directory import Directory, locked
from commands.up.errors import UpError
from commands.up.signals import until_signal
from settings import Port


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoConfig:
    """The whole product with a simulated model. Ports that are taken give way to free ones."""

    once: bool = False
    """End by itself after the prompts, and remove what it made."""
    data: Path | None = None
    """Directory to work in; nothing: a fresh one."""
    port: Port = 15080
    """Where applications reach the sidecar."""
    model_port: Port = 15099
    """Where the simulated model is served."""


@dataclass(slots=True)
class _Outcome:
    """What was found wrong."""

    failures: list[str] = field(default_factory=list)


@click.command("demo")
@settings.options(DemoConfig, prefix="AEGIS_DEMO_")
def command(config: DemoConfig) -> None:
    """Send prompts with PHI through everything and show what happened.

    Starts control plane, ledger node, sidecar and a simulated model on this machine, sends one streamed OpenAI prompt
    and one Anthropic prompt through the official SDKs, and shows what left, what came back and the verified proof of
    each. Ends with status 1 if anything leaked, was not restored or could not be proven.
    """
    from controlplane.identity.spiffe import IdentityError

    if missing := _missing_sdks():
        raise click.ClickException(f"the demo drives {missing}: pip install 'aegis-mesh[demo]'")
    # A proxy for the outside world must not get requests to this machine.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = f"{LOOPBACK},localhost"
    root = config.data or Path(tempfile.mkdtemp(prefix="aegis-demo-"))
    outcome = _Outcome()
    try:
        with locked(root) as directory:
            asyncio.run(until_signal(_run(config, directory, outcome)))
    except (UpError, DemoError, IdentityError, OSError) as error:
        raise click.ClickException(f"{error}\nEverything is left in {root}.") from error
    if outcome.failures:
        raise click.ClickException("\n".join([*outcome.failures, f"Everything is left in {root}."]))
    if config.data is None:
        shutil.rmtree(root)


async def _run(config: DemoConfig, directory: Directory, outcome: _Outcome) -> None:
    from commands.demo.scenes import SCRIPTS, canaries, play
    from commands.demo.view import scene_panel
    from commands.up import addresses
    from commands.up.ports import free_port, settled
    from commands.up.product import product
    from commands.up.programs import AEGIS
    from commands.up.tree import Program

    screen = console()
    model_port = free_port(config.model_port)
    model = Program("model", (*AEGIS, "simulate-model", "--listen", f"{LOOPBACK}:{model_port}"), stop_timeout=5)
    up = settled(UpConfig(upstream=f"http://{LOOPBACK}:{model_port}", port=config.port), give_way=True)
    async with product(up, directory, _step, now, beside=[model]):
        for number, script in enumerate(SCRIPTS, 1):
            scene = await play(number, script, addresses.sidecar(up), model_port, directory)
            screen.print(scene_panel(number, scene))
            outcome.failures += [f"{scene.title}: {failure}" for failure in scene.failures()]
        outcome.failures += canaries(directory)
        if config.once or outcome.failures:
            return
        print_listing(screen, "Everything keeps running. Applications on this machine:", addresses.exports(up))
        print_listing(screen, "To look at:", addresses.places(up, directory))
        click.echo("Ctrl-C stops everything and removes its directory.")
        await asyncio.Event().wait()


def _step(text: str) -> None:
    click.echo(f"· {text}")


def _missing_sdks() -> str:
    from importlib.util import find_spec

    return " and ".join(name for name in ("openai", "anthropic") if find_spec(name) is None)
