"""The console script `aegis`: picks a command and imports it only then."""

import importlib
from typing import Any

import click

COMMANDS = {
    # name -> (module with a click command called `command`, one line for --help)
    "gateway": (
        "commands.gateway",
        "Chains, chunked streams and plugin tasks of MathProtocol, in front of the sidecar.",
    ),
    "mcp": (
        "commands.mcp",
        "MathProtocol as tools of the Model Context Protocol, over stdio.",
    ),
    "protocol": (
        "commands.protocol",
        "Check, explain and try MathProtocol texts.",
    ),
    "controlplane": ("commands.controlplane", "Distributes policies to sidecars and keeps their history."),
    "tunnel": ("commands.tunnel", "Makes, rotates, revokes and shows keys of tunnels, and tries one."),
    "policy": ("commands.policy", "Checks, compares, pushes and rolls back policies; shows who runs what."),
    "honeypot": ("commands.honeypot", "Show what attackers probe, and move the honeypot's traps."),
    "airlock": ("commands.airlock", "Find identifiers in text, as the airlock does."),
    "audit": ("commands.audit", "Verify, prove and show audit leaves; check a whole log. Offline."),
    "ledger": ("commands.ledger", "A Merkle node: keeps audit leaves in a log that anybody can verify."),
    "identity": ("commands.identity", "Certificates for trials, from a CA of your own."),
    "sidecar": ("commands.sidecar", "Stands between an application and its models."),
    "simulate-model": (
        "commands.simulate_model",
        "A stand-in model server: OpenAI and Anthropic shapes, JSON and SSE.",
    ),
    "demo": (
        "commands.demo",
        "The whole product with a simulated model: prompts with PHI, and the proof.",
    ),
    "up": (
        "commands.up",
        "The whole product in front of one model server, on this machine.",
    ),
}


class LazyGroup(click.Group):
    """Lists every command but imports only the one that runs: `aegis audit` must not load gRPC."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 click's signature
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 click's signature
        if cmd_name not in COMMANDS:
            return None
        module: Any = importlib.import_module(COMMANDS[cmd_name][0])
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="aegis-mesh", prog_name="aegis")
def main() -> None:
    """Takes PHI and PII out of prompts before they leave the pod, puts them back into the answer, and proves it."""


if __name__ == "__main__":  # as `aegis up` starts its programs: python -P -m aegis
    main(prog_name="aegis")
