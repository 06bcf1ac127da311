"""The auditor's side of the demo: the two commands that an auditor uses, and what they answer."""

import asyncio
import json
from pathlib import Path
from typing import Any, Final

from commands.demo.errors import UnprovenError
from commands.demo.scene import Proof
from commands.up.child import ended
from commands.up.directory import Directory
from commands.up.programs import AEGIS

_WITHIN: Final = 30.0
"""Seconds until the leaf of an exchange must stand in the published log."""
_EVERY: Final = 0.1


def prove_command(directory: Directory, exchange: str, proof: Path) -> tuple[str, ...]:
    """Makes the proof out of the log's files and the sidecar's opening of the leaf."""
    places = ("--spool", str(directory.sidecar), "--log", str(directory.ledger), "--out", str(proof))
    return "audit", "prove", "--exchange", exchange, *places


def verify_command(directory: Directory, proof: Path) -> tuple[str, ...]:
    """Checks it offline, against the log's public key."""
    opening = str(proof.with_suffix(".opening"))
    return "audit", "verify", str(proof), "--opening", opening, "--policy", str(directory.ledger / "policy")


async def prove(directory: Directory, exchange: str, proof: Path) -> Proof:
    """The verified proof of an exchange. Raises UnprovenError."""
    try:
        async with asyncio.timeout(_WITHIN):
            while not (made := await _run(prove_command(directory, exchange, proof)))["ok"]:  # noqa: ASYNC110 a file grows
                await asyncio.sleep(_EVERY)
        facts = await _run(verify_command(directory, proof))
    except TimeoutError:
        raise UnprovenError(f"exchange {exchange} is not in the log, or not verified, after {_WITHIN:g} s") from None
    if not facts["ok"]:
        raise UnprovenError(f"{proof}: {facts['problem']}")
    return Proof(
        file=proof,
        index=made["index"],
        size=facts["size"],
        root=facts["root"],
        origin=facts["origin"],
        result=facts["leaf"]["result"],
        revision=facts["leaf"]["policy_revision"],
        findings=facts["statement"]["findings"],
        request_sha256=facts["statement"]["request_sha256"],
    )


async def _run(command: tuple[str, ...]) -> Any:
    status, out, err = await ended((*AEGIS, *command, "--json"), _WITHIN)
    if status not in {0, 1}:
        raise UnprovenError(f"aegis {' '.join(command)}: {err.decode('utf-8', 'replace').strip()}")
    return json.loads(out)
