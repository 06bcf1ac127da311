"""`aegis audit erase`: what opens the leaves of one exchange is deleted; the leaves stay, and still verify."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from commands.audit.describe import leaf_facts
from commands.audit.outcome import answer, fail, json_option, judge
from commands.audit.prove import prove_leaf
from commands.audit.source import DirectorySource, HttpSource, log_option, open_source, policy_beside
from commands.audit.trust import trust_options, trusted
from ledger.leaf import Position
from ledger.policy import TrustPolicy
from ledger.proof import verify_proof
from sidecar.audit.errors import SpoolError
from sidecar.audit.openings import KeptOpening, find_openings, spools
from sidecar.audit.spool import erase_openings

T = TypeVar("T")
Log = DirectorySource | HttpSource

_ADVICE: Final = (
    "The openings are erased. The log cannot prove their leaf; `aegis audit fsck` names what is wrong with it."
)
_NOT_REACHED: Final = "not reached: backups, file system snapshots, openings that were handed out"


@click.command("erase")
@click.argument("exchange")
@click.option(
    "--spool",
    type=click.Path(path_type=Path),
    required=True,
    help="A sidecar's audit spool, or a directory of them; it may run.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@log_option(required=False)
@trust_options
@json_option
def erase(
    exchange: str,
    spool: Path,
    yes: bool,
    where: str | None,
    policy_file: Path | None,
    vkeys: tuple[str, ...],
    as_json: bool,
) -> None:
    """Erase what ties the leaves of EXCHANGE to it: salt and statement (GDPR Art. 17). There is no way back.

    The leaves stay in their log and say nothing about anybody any more. With --log, they are proven afterwards.
    """
    proving = _log_to_prove_with(where, policy_file, vkeys)
    kept = _readable(lambda: find_openings(spool, exchange))
    if not kept:
        fail(as_json, f"no opening of exchange {exchange} is kept in {spool}", "Look in the spools of other sidecars.")
    if not yes:
        for one in kept:
            click.echo(f"the opening of {_which(one)}", err=True)
        click.confirm("Erase? Nobody can open it afterwards.", abort=True, err=True)
    erased = sum(_erased(path, exchange, as_json) for path in _readable(lambda: spools(spool)))
    facts: dict[str, Any] = {"exchange": exchange, "erased": erased, "leaves": []}
    lines = [f"erased {erased} opening{'' if erased == 1 else 's'} of {exchange}, overwritten on disk", _NOT_REACHED]
    for one in kept:
        facts["leaves"].append(_leaf_of(one))
        lines.append(f"what stays: {_which(one)}")
        if proving is not None and one.index is not None:
            facts["leaves"][-1] |= _proven(one, *proving, as_json)
            lines.append("verified: it stands in the log, and nothing opens it")
    answer(as_json, facts, lines)


def _log_to_prove_with(
    where: str | None, policy_file: Path | None, vkeys: tuple[str, ...]
) -> tuple[Log, TrustPolicy] | None:
    if where is None:
        return None
    source = open_source(where)
    return source, trusted(policy_file, vkeys, policy_beside(source))


def _readable(read: Callable[[], T]) -> T:
    try:
        return read()
    except SpoolError as error:
        raise click.UsageError(str(error)) from None


def _erased(path: Path, exchange: str, as_json: bool) -> int:
    try:
        return erase_openings(path, exchange)
    except SpoolError as error:
        fail(as_json, str(error), "Run the command again.")


def _proven(one: KeptOpening, source: Log, policy: TrustPolicy, as_json: bool) -> dict[str, Any]:
    """The leaf, found in the log again under its own number. Ends the command when it does not stand there."""
    assert one.index is not None  # noqa: S101 the caller looked
    index, position = one.index, Position(one.producer_id, one.epoch, one.seq)
    proof, _ = judge(as_json, _ADVICE, lambda: prove_leaf(source, policy, index, position))
    checkpoint = judge(as_json, _ADVICE, lambda: verify_proof(proof, proof.extra, policy))
    return {"verified": True, "size": checkpoint.size, "leaf": leaf_facts(proof.extra)}


def _leaf_of(one: KeptOpening) -> dict[str, Any]:
    return {
        "producer_id": one.producer_id.hex(),
        "epoch": one.epoch,
        "seq": one.seq,
        "origin": one.origin,
        "index": one.index,
    }


def _which(one: KeptOpening) -> str:
    number = f"leaf {one.seq} of epoch {one.epoch} of producer {one.producer_id.hex()}"
    return f"{number}, {f'index {one.index} of {one.origin}' if one.index is not None else 'not in a log yet'}"
