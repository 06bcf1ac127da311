"""`aegis audit fsck`: re-hashes a whole log and names what is wrong with it. Works beside a running node."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import Progress as ProgressBar

from commands.audit.outcome import answer, fail, json_option, judge
from commands.audit.source import DirectorySource, HttpSource, log_argument, open_source, policy_beside
from commands.audit.trust import trust_options, trusted
from ledger.checkpoint import Checkpoint
from ledger.errors import LedgerError, MissingError
from ledger.fsck import Fault, Progress, check_leftover, check_tree
from ledger.policy import TrustPolicy
from ledger.reader import Fetch, TreeReader, with_full_tiles
from ledger.staging import staging_key, unpack_staging
from ledger.tiles import Tile, width_at

_MAX_FAULTS: Final = 100
"""Named one by one; the rest is counted."""
_ADVICE: Final = (
    "Stop the node, keep the directory as it is (it is evidence), and compare it with a copy of the log that others "
    "have. What a signed checkpoint commits to can be restored from any honest copy."
)


@click.command("fsck")
@log_argument
@trust_options
@json_option
def fsck(where: str, policy_file: Path | None, vkeys: tuple[str, ...], as_json: bool) -> None:
    """Check every leaf, tile and leftover of the log at WHERE (a directory or URL) against its signed checkpoint."""
    source = open_source(where)
    policy = trusted(policy_file, vkeys, policy_beside(source))
    checkpoint = judge(as_json, _ADVICE, lambda: policy.verify(source.fetch("checkpoint")))
    faults, count = list[Fault](), 0
    with nullcontext() if as_json else ProgressBar(console=Console(stderr=True)) as bar:
        task = bar.add_task("re-hashing", total=checkpoint.size) if bar else None
        for step in _steps(source, policy, checkpoint):
            match step:
                case Progress(leaves):
                    if bar and task is not None:
                        bar.update(task, completed=leaves)
                case Fault():
                    count += 1
                    faults += [step] if len(faults) < _MAX_FAULTS else []
    facts = {"origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.hex()}
    if not count:
        line = f"whole: {checkpoint.size} leaves of {checkpoint.origin}, every hash as the signed checkpoint says"
        answer(as_json, facts | {"faults": []}, [line])
        return
    if not as_json:
        for fault in faults:
            click.echo(f"{fault.path}: {fault.problem}", err=True)
        if count > len(faults):
            click.echo(f"... and {count - len(faults)} more", err=True)
    named = [{"path": fault.path, "problem": fault.problem} for fault in faults]
    fail(as_json, f"the log has {count} faults", _ADVICE, **facts, count=count, faults=named)


def _steps(source: DirectorySource | HttpSource, policy: TrustPolicy, head: Checkpoint) -> Iterator[Fault | Progress]:
    is_whole = True
    for step in check_tree(head.size, head.root, with_full_tiles(source.fetch)):
        is_whole = is_whole and not isinstance(step, Fault)
        yield step
    if isinstance(source, DirectorySource):
        yield from _leftovers(source, policy, head, is_whole)


def _leftovers(source: DirectorySource, policy: TrustPolicy, head: Checkpoint, is_whole: bool) -> Iterator[Fault]:
    """Faults of files that the tree of `head` does not need; those that only follow from an earlier fault are not
    named again."""
    stored = list(source.stored())
    # A node that runs may have grown the log meanwhile. It moves its lock before it writes any tile, so the lock, read
    # after the tiles were listed, covers them all.
    try:
        reader = _latest(source, policy, head)
    except LedgerError as error:
        if is_whole:
            yield Fault("checkpoint", f"a later checkpoint of this log contradicts the one that was checked: {error}")
        return
    for path, resource in stored:
        if resource is None:
            yield Fault(path, "no tile or bundle has this name")
            continue
        level = resource.level if isinstance(resource, Tile) else 0
        if resource.width == width_at(reader.size, level, resource.number):
            continue
        try:
            fault = check_leftover(reader, resource, source.fetch(path))
        except MissingError:
            continue  # removed meanwhile: the full one is there
        except LedgerError as error:
            fault = Fault(path, f"it cannot be compared with the present tree: {error}") if is_whole else None
        if fault:
            yield fault


def _latest(source: DirectorySource, policy: TrustPolicy, head: Checkpoint) -> TreeReader:
    """The largest tree that the directory has a signed checkpoint of, all of them consistent with each other."""
    reader = TreeReader(head.size, head.root, source.fetch)
    for path in (".state/lock", "checkpoint"):
        try:
            note = source.fetch(path)
        except MissingError:
            continue  # a copy of a log has no lock
        other = policy.verify(note)
        other_reader = TreeReader(other.size, other.root, _with_staged(source, other))
        larger, smaller = (other_reader, reader) if other.size >= reader.size else (reader, other_reader)
        if larger.root_at(smaller.size) != smaller.root:
            raise LedgerError(f"the trees of {smaller.size} and {larger.size} leaves are two histories")
        reader = larger
    return reader


def _with_staged(source: DirectorySource, head: Checkpoint) -> Fetch:
    """Reads what a node that was killed has committed and not yet put into its place: it does so when it starts."""
    try:
        staged = unpack_staging(source.fetch(staging_key(head.size, head.root))).objects
    except LedgerError:
        staged = {}
    return lambda path: staged[path] if path in staged else source.fetch(path)
