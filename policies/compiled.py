"""Compiled expressions, which processes may keep for each other: compiling the airlock's takes a second, loading 1 ms.

They are kept under the digest of all that they were made from, the version of hyperscan included; hyperscan itself
refuses what was made for another processor. Whatever is wrong with what was kept, the expressions are compiled again.
"""

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Final, Protocol

import hyperscan

Expression = tuple[bytes, int, int]
"""(expression, its number, hyperscan's flags)."""


class Shelf(Protocol):
    """Where compiled expressions are kept. Hyperscan trusts them with its memory: only what nobody else could write."""

    def load(self, key: str) -> bytes | None:
        """What was kept under this key, undamaged, or None."""

    def keep(self, key: str, body: bytes) -> None:
        """Keep this if that is possible."""


class Kept:
    """Whether and where this process keeps what it compiled. Nowhere, unless a command says so when it starts."""

    def __init__(self, shelf: Shelf | None = None) -> None:
        self.shelf = shelf

    def compiled(self, expressions: Sequence[Expression]) -> Any:
        """A hyperscan database in block mode with these expressions. Takes up to a second of CPU, or 1 ms."""
        key = _key(expressions)
        body = self.shelf.load(key) if self.shelf is not None else None
        database = _loaded(body) if body is not None else None
        if database is None:
            database = _compiled(expressions)
            if self.shelf is not None:
                self.shelf.keep(key, hyperscan.dumpb(database))
        return database


KEPT: Final = Kept()
"""The one of this process, as `policies.airlock.matcher.matcher` is the one matcher."""


def compiled(expressions: Sequence[Expression]) -> Any:
    """A hyperscan database in block mode with these expressions, kept where this process keeps them."""
    return KEPT.compiled(expressions)


def _compiled(expressions: Sequence[Expression]) -> Any:
    sources, ids, flags = map(list, zip(*expressions, strict=True))
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(expressions=sources, ids=ids, flags=flags, elements=len(expressions))
    return database


def _loaded(body: bytes) -> Any | None:
    try:
        database = hyperscan.loadb(body, mode=hyperscan.HS_MODE_BLOCK)
        hyperscan.Scratch(database)
    except (hyperscan.error, ValueError):
        return None
    return database


def _key(expressions: Sequence[Expression]) -> str:
    digest = hashlib.sha256(f"aegis hyperscan/1 {version('hyperscan')} {hyperscan.HS_MODE_BLOCK}\n".encode())
    for source, number, flags in expressions:
        digest.update(b"%d %d %d " % (len(source), number, flags) + source)
    return digest.hexdigest()[:40]
