"""`aegis audit show`: a leaf in words."""

from pathlib import Path
from typing import Any, Final

import click

from commands.audit.describe import leaf_facts, leaf_lines
from commands.audit.outcome import answer, json_option, judge
from commands.audit.source import log_option, open_source, policy_beside, read_file
from commands.audit.trust import trust_options, trusted
from ledger.reader import TreeReader

_ADVICE: Final = "What the log says of this leaf cannot be believed. `aegis audit fsck` names everything that is wrong."


@click.command("show")
@click.argument("index", type=click.IntRange(min=0), required=False)
@click.option("--leaf", type=click.Path(path_type=Path), help="A leaf in a file instead; nothing is verified.")
@log_option(required=False)
@trust_options
@json_option
def show(
    index: int | None,
    leaf: Path | None,
    where: str | None,
    policy_file: Path | None,
    vkeys: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show the leaf at INDEX of a log, verified against its checkpoint."""
    if leaf is not None and index is None and where is None:
        entry = read_file(leaf)
        answer(as_json, {"verified": False, "leaf": leaf_facts(entry)}, ["not verified:", *leaf_lines(entry)])
        return
    if index is None or where is None or leaf is not None:
        raise click.UsageError("give INDEX and --log, or --leaf alone")
    source = open_source(where)
    policy = trusted(policy_file, vkeys, policy_beside(source))
    checkpoint = judge(as_json, _ADVICE, lambda: policy.verify(source.fetch("checkpoint")))
    entry = judge(as_json, _ADVICE, lambda: TreeReader(checkpoint.size, checkpoint.root, source.fetch).entry(index))
    facts: dict[str, Any] = {"verified": True, "index": index, "origin": checkpoint.origin, "size": checkpoint.size}
    lines = [f"verified: leaf {index} of {checkpoint.origin}, in a tree of {checkpoint.size}", *leaf_lines(entry)]
    answer(as_json, facts | {"leaf": leaf_facts(entry)}, lines)
