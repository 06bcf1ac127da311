"""`aegis honeypot`: where traps are placed, and moving them at once."""

from pathlib import Path
from typing import Any

import click

from commands.policy.connection import Server, admin, server_options
from commands.printed import print_json

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


@click.group("honeypot")
def command() -> None:
    """Show what attackers probe, and move the traps.

    Every sidecar draws its traps by a key that the control plane does not have, so no list of them can leak from here.
    """


@command.command()
@server_options
@_JSON
def show(server: str, identity: Path, as_json: bool) -> None:
    """Show what is probed, and which primes traps prefer now."""
    from aegispb.v1 import admin_pb2 as pb

    with admin(Server(server, identity)) as stub:
        _show(stub.Traps(pb.TrapsRequest()), as_json=as_json)


@command.command()
@click.option("--reason", default="", metavar="TEXT", help="Why, for the history.")
@server_options
@_JSON
def rotate(reason: str, server: str, identity: Path, as_json: bool) -> None:
    """Draw new traps on every route at once, preferring what is probed."""
    from aegispb.v1 import admin_pb2 as pb

    with admin(Server(server, identity)) as stub:
        answer = stub.RotateTraps(pb.RotateTrapsRequest(reason=reason))
    if not as_json:
        click.echo(f"traps are drawn anew: revision {answer.revision} is in force")
    _show(answer, as_json=as_json)


def _show(answer: Any, *, as_json: bool) -> None:
    placed = sorted(answer.probed_primes)
    probes = dict(sorted(answer.probes.items(), key=lambda pair: (-pair[1], pair[0])))
    if as_json:
        shown = {"revision": answer.revision, "generation": answer.generation, "preferred": placed, "probes": probes}
        print_json(shown)
        return
    click.echo(f"rotated {answer.generation} times; traps prefer {', '.join(map(str, placed)) or 'no prime'}")
    if not probes:
        click.echo("nothing was probed since the last rotation")
    for prime, count in probes.items():
        click.echo(f"  {prime:>3}  probed {count} times since the last rotation")
