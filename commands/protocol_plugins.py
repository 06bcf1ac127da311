"""`aegis protocol plugins`: task plugins read, resolved and tried in their sandbox."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import click

from commands.protocol_text import text_of
from policies.mathprotocol.codes import DEFAULT_TRAPS
from policies.mathprotocol.grammar import parse_request
from policies.mathprotocol.manifest import ManifestError
from policies.mathprotocol.resolver import Resolution, ResolutionError, resolve
from sidecar.plugins.host import LoadedPlugin, PluginAction, PluginError, PluginHost, load


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--call", "request", type=text_of, help="A request for one of their tasks, answered in the sandbox.")
@click.option("--policy", is_flag=True, help="Print them as `registered` of a ProtocolPolicy.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def plugins(folders: tuple[Path, ...], request: str | None, *, policy: bool, as_json: bool) -> None:
    """Read task plugins, say whether they fit together, and with --call run one in its sandbox."""
    faults: list[str] = []
    loaded = _loaded(folders, faults)
    try:
        resolution = resolve([plugin.manifest for plugin in loaded], DEFAULT_TRAPS)
    except ResolutionError as error:
        faults += error.conflicts
        resolution = Resolution((), {})
    if policy and not faults:
        click.echo(_policy(resolution), nl=False)
        return
    described: dict[str, Any] = {
        "valid": not faults,
        "faults": faults,
        "tasks": {str(prime): f"{task.name} of {owner.name}" for prime, (owner, task) in resolution.tasks.items()},
    }
    if request is not None and not faults:
        described |= _called(request, loaded, resolution)
    if as_json:
        click.echo(json.dumps(described, ensure_ascii=False, indent=2))
    else:
        for prime, name in described["tasks"].items():
            click.echo(f"{prime:>4}  {name}")
        for line in [*described.get("actions", []), *described["faults"], *described.get("answer", "").splitlines()]:
            click.echo(line)
    sys.exit(0 if described["valid"] else 1)


def _loaded(folders: tuple[Path, ...], faults: list[str]) -> list[LoadedPlugin]:
    loaded: list[LoadedPlugin] = []
    for folder in folders:
        try:
            loaded.append(load(folder))
        except ManifestError as error:
            faults += [f"{folder}: {fault}" for fault in error.faults]
        except OSError as error:
            faults.append(f"{folder}: {error.strerror}")
    return loaded


def _policy(resolution: Resolution) -> str:
    """YAML for a ProtocolPolicy."""
    from policies import spec_yaml

    tasks = [task for _, (_, task) in sorted(resolution.tasks.items())]
    registered = [
        {
            "prime": task.prime,
            "name": task.name,
            "kind": task.kind.value,
            "params": sorted(task.params),
            **({"code": True} if task.entry else {"instruction": _on_one_line(task.template)}),
        }
        for task in tasks
    ]
    return spec_yaml.dump({"registered": registered})


def _on_one_line(template: str) -> str:
    return " ".join(template.replace("{context}", "CONTEXT").split())


def _called(request: str, loaded: list[LoadedPlugin], resolution: Resolution) -> dict[str, Any]:
    parsed = parse_request(request)
    if parsed is None or parsed.task not in resolution.tasks:
        raise click.BadParameter(f"expected a request for one of {sorted(resolution.tasks)}", param_hint="--call")
    owner = resolution.tasks[parsed.task][0].name
    actions: list[PluginAction] = []
    host = PluginHost(next(p for p in loaded if p.manifest.name == owner), actions.append)

    async def answered() -> str:
        try:
            return await host.call(parsed.task, parsed.param, parsed.context)
        finally:
            await host.stop()

    try:
        outcome: dict[str, Any] = {"answer": asyncio.run(answered())}
    except PluginError as error:
        outcome = {"valid": False, "faults": [str(error)]}
    return outcome | {"actions": [f"{action.event} {action.detail}".strip() for action in actions]}
