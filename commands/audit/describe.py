"""A leaf in words, for people, and in names, for scripts."""

from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

import msgspec

from ledger.commitment import Statement
from ledger.errors import LeafError
from ledger.leaf import DialectCode, Leaf, LeafFlag, LeafKind, parse_leaf
from policies.model import ResultCode


def leaf_facts(entry: bytes) -> dict[str, Any]:
    """The fields of a leaf under their names; for an entry that is no leaf of a known format its bytes."""
    try:
        leaf = parse_leaf(entry)
    except LeafError as error:
        return {"unknown": str(error), "hex": entry.hex()}
    return {
        "kind": _name(LeafKind, leaf.kind),
        "dialect": _name(DialectCode, leaf.dialect),
        "flags": _flags(leaf.flags),
        "task": leaf.task,
        "result": _name(ResultCode, leaf.result),
        "status": leaf.status,
        "lost": leaf.lost,
        "producer_id": leaf.producer_id.hex(),
        "epoch": leaf.epoch,
        "seq": leaf.seq,
        "time": _time(leaf),
        "policy_revision": leaf.policy_revision,
        "commitment": leaf.commitment.hex(),
    }


def leaf_lines(entry: bytes) -> list[str]:
    """The same, to read."""
    return [f"  {name:16} {_plain(value)}" for name, value in leaf_facts(entry).items()]


def statement_facts(statement: Statement) -> dict[str, Any]:
    """What the opening of a leaf says."""
    facts: dict[str, Any] = msgspec.to_builtins(statement)
    return facts


def statement_lines(statement: Statement) -> list[str]:
    """The same, to read."""
    return [f"  {name:16} {_plain(value)}" for name, value in statement_facts(statement).items()]


def _plain(value: object) -> str:
    match value:
        case dict():
            return ", ".join(f"{name} {count}" for name, count in value.items()) or "none"
        case list():
            return ", ".join(map(str, value)) or "none"
        case _:
            return str(value)


def _name(names: type[IntEnum] | type[ResultCode], code: int) -> str:
    # A log outlives the program that reads it: a code of tomorrow is shown as its number.
    return names(code).name.lower() if code in set(names) else f"code {code}"


def _flags(flags: int) -> list[str]:
    known = [flag.name.lower() for flag in LeafFlag if flags & flag and flag.name]
    rest = flags & ~sum(LeafFlag)
    return [*known, *([f"bits {rest:#x}"] if rest else [])]


def _time(leaf: Leaf) -> str:
    try:
        return datetime.fromtimestamp(leaf.time_ms / 1000, UTC).isoformat().replace("+00:00", "Z")
    except (OverflowError, ValueError):
        return f"{leaf.time_ms} ms since 1970"
