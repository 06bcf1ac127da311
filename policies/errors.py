"""Errors of the policy room.

PolicyError
├── ConfigError         settings of a policy that cannot be; names every field at fault (also a ValueError)
├── SpecError           policy documents are wrong; carries every finding with file, line and column
├── WireError           a distributed resource cannot be read or is not what its digest says
├── ReferenceMissingError  a document refers to one that is not there
└── CapExceededError    a bound that fails closed was passed (text, spans, depth)
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class PolicyError(Exception):
    """Root of this package's errors. Messages never hold prompt text."""


class ConfigError(PolicyError, ValueError):
    """Settings of a policy that cannot be. Each fault reads `field: what was expected`."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


def refuse(checks: Iterable[tuple[bool, str]]) -> None:
    """Raise one ConfigError for all `checks` (wrong, `field: what was expected`) that are wrong."""
    faults = [text for wrong, text in checks if wrong]
    if faults:
        raise ConfigError(faults)


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing that is wrong with a policy document, and what to do about it."""

    file: str
    """Empty: the document is not in a file (it is in force already)."""
    line: int
    """From 1; 0: the finding has no place."""
    column: int
    field: str
    """Dotted path into the document: `spec.actions.SSN`."""
    message: str
    hint: str = ""
    """What to do."""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: " if self.line else f"{self.file}: " if self.file else ""
        field = f"{self.field}: " if self.field else ""
        return f"{place}{field}{self.message}" + (f"; {self.hint}" if self.hint else "")


class SpecError(PolicyError):
    """Policy documents are wrong. One line per finding, in the order of files and lines."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(sorted(findings))
        super().__init__("\n".join(map(str, self.findings)))


class WireError(PolicyError):
    """A distributed resource cannot be read, or is not what its digest says."""


class ReferenceMissingError(PolicyError):
    """A document refers to one that is not there."""


class CapExceededError(PolicyError):
    """A bound was passed and the text was not fully inspected: the exchange must be refused."""
