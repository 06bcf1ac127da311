"""`aegis audit verify`: does this entry stand in a log that I trust, and what does it say?"""

from pathlib import Path
from typing import Any, Final

import click

from commands.audit.describe import leaf_facts, leaf_lines, statement_facts, statement_lines
from commands.audit.outcome import answer, json_option, judge
from commands.audit.source import read_file
from commands.audit.trust import trust_options, trusted
from ledger.commitment import open_leaf, parse_opening
from ledger.leaf import parse_leaf
from ledger.proof import parse_proof, verify_proof

_ADVICE: Final = (
    "Do not rely on this leaf. Make the proof anew, straight from the log (`aegis audit prove`). If it still fails, "
    "keep all files: they are evidence."
)
_ADVICE_OPENING: Final = "The leaf itself stands in the log. What was given as its opening is not what it commits to."


@click.command("verify")
@click.argument("proof", type=click.Path(path_type=Path))
@click.option(
    "--leaf", type=click.Path(path_type=Path), help="What was logged [default: the leaf that the proof brings]"
)
@click.option("--opening", type=click.Path(path_type=Path), help="What the leaf commits to; shown when it fits.")
@trust_options
@json_option
def verify(
    proof: Path,
    leaf: Path | None,
    opening: Path | None,
    policy_file: Path | None,
    vkeys: tuple[str, ...],
    as_json: bool,
) -> None:
    """Verify a .tlog-proof, offline, and show the leaf that it proves."""
    policy = trusted(policy_file, vkeys)
    parsed = judge(as_json, _ADVICE, lambda: parse_proof(read_file(proof)))
    entry = read_file(leaf) if leaf else parsed.extra
    if not entry:
        raise click.UsageError("the proof does not bring the leaf: give its bytes with --leaf FILE")
    checkpoint = judge(as_json, _ADVICE, lambda: verify_proof(parsed, entry, policy))
    facts: dict[str, Any] = {
        "index": parsed.index,
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "leaf": leaf_facts(entry),
    }
    lines = [
        f"verified: leaf {parsed.index} of {checkpoint.origin}, in a tree of {checkpoint.size}",
        *leaf_lines(entry),
    ]
    if opening:
        statement = judge(
            as_json, _ADVICE_OPENING, lambda: open_leaf(parse_leaf(entry), parse_opening(read_file(opening)))
        )
        facts["statement"] = statement_facts(statement)
        lines += ["verified: this is what the leaf commits to", *statement_lines(statement)]
    answer(as_json, facts, lines)
