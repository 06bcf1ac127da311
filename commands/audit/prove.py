"""`aegis audit prove`: makes the proof that an auditor verifies, out of nothing but the log's files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from commands.audit.describe import leaf_facts, leaf_lines
from commands.audit.outcome import answer, fail, json_option, judge
from commands.audit.source import DirectorySource, HttpSource, log_option, open_source
from commands.audit.trust import trust_options, trusted
from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.commitment import Opening
from ledger.errors import ProofError
from ledger.leaf import Position, leaf_position
from ledger.note import parse_note
from ledger.policy import TrustPolicy
from ledger.proof import LogProof, make_proof
from ledger.reader import TreeReader
from settings import private_file

_ADVICE: Final = "The log cannot prove this leaf. `aegis audit fsck` names everything that is wrong with a log on disk."


@click.command("prove")
@click.argument("index", type=click.IntRange(min=0), required=False)
@click.option("--exchange", metavar="ID", help="The leaf of this exchange instead of INDEX; needs --spool.")
@click.option("--spool", type=click.Path(path_type=Path), help="A sidecar's audit spool, or a directory of them.")
@log_option(required=True)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Where to put the proof [default: leaf-<INDEX>.tlog-proof]"
)
@trust_options
@json_option
def prove(
    index: int | None,
    exchange: str | None,
    spool: Path | None,
    where: str,
    out: Path | None,
    policy_file: Path | None,
    vkeys: tuple[str, ...],
    as_json: bool,
) -> None:
    """Prove the leaf at INDEX, or that of an exchange, to anybody who trusts the log's key.

    The proof brings its leaf along. With --exchange the opening of the leaf is written beside it.
    """
    if (index is None) == (exchange is None) or (exchange is not None and spool is None):
        raise click.UsageError("give INDEX, or --exchange ID with --spool")
    source, policy = open_source(where), None
    if policy_file or vkeys:
        policy = trusted(policy_file, vkeys)
    elif not as_json:
        click.echo("the checkpoint's signature is not looked at here; `aegis audit verify` does that", err=True)
    position, opening = None, None
    if exchange is not None and spool is not None:
        index, position, opening = _of_exchange(exchange, spool, as_json)
    assert index is not None  # noqa: S101 checked above
    at = index
    proof, checkpoint = judge(as_json, _ADVICE, lambda: prove_leaf(source, policy, at, position))
    path = out or Path(f"leaf-{index}.tlog-proof")
    written = {"proof": str(path)}
    _written(path, lambda: path.write_bytes(proof.encode()))
    if opening is not None:
        beside, encoded = path.with_suffix(".opening"), opening.encode()
        # For its owner only: it tells what the leaf keeps to itself.
        _written(beside, lambda: private_file.replace(beside, encoded))
        written["opening"] = str(beside)
    facts: dict[str, Any] = {"index": index, "origin": checkpoint.origin, "size": checkpoint.size}
    lines = [f"leaf {index} of {checkpoint.origin}, in a tree of {checkpoint.size}", *leaf_lines(proof.extra)]
    lines += [f"wrote the {what} to {where_to}" for what, where_to in written.items()]
    answer(as_json, facts | written | {"leaf": leaf_facts(proof.extra)}, lines)


def prove_leaf(
    source: DirectorySource | HttpSource, policy: TrustPolicy | None, index: int, position: Position | None
) -> tuple[LogProof, Checkpoint]:
    """The proof of the leaf at `index`, which brings the leaf along, and the checkpoint that it leads to.

    `position`: whose leaf it must be. Raises LedgerError.
    """
    note = source.fetch("checkpoint")
    checkpoint = policy.verify(note) if policy else parse_checkpoint(parse_note(note).text)
    reader = TreeReader(checkpoint.size, checkpoint.root, source.fetch)
    entry = reader.entry(index)
    if position is not None and leaf_position(entry) != position:
        raise ProofError(f"leaf {index} is not that of the exchange: the spool belongs to another log")
    proof = make_proof(index, reader.inclusion_proof(index), note)
    return LogProof(proof.index, proof.hashes, proof.checkpoint, entry), checkpoint


def _of_exchange(exchange: str, spool: Path, as_json: bool) -> tuple[int, Position, Opening]:
    from sidecar.audit.errors import SpoolError
    from sidecar.audit.openings import find_openings

    try:
        kept = find_openings(spool, exchange)
    except SpoolError as error:
        raise click.UsageError(str(error)) from None
    placed = [one for one in kept if one.index is not None]
    if not kept:
        fail(as_json, f"no opening of exchange {exchange} is kept in {spool}", "Look in the spools of other sidecars.")
    if not placed:
        fail(as_json, f"the leaf of {exchange} is not in a log yet", "Wait until the sidecar reaches its ledger.")
    one = placed[0]
    assert one.index is not None  # noqa: S101 chosen for that
    return one.index, Position(one.producer_id, one.epoch, one.seq), one.opening


def _written(path: Path, write: Callable[[], object]) -> None:
    try:
        write()
    except OSError as error:
        raise click.UsageError(f"{path} cannot be written: {error.strerror}") from None
