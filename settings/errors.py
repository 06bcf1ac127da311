"""What can be wrong with settings.

SettingsError     carries every Finding, so that an operator corrects all of them in one go
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with one setting. Never holds the value of a secret."""

    setting: str
    """Name of the setting, or of the key that is none."""
    problem: str
    """What was expected and what came, as the end of a sentence that starts with the setting's name."""
    origin: str = ""
    """Where the value came from: `flag --port`, `environment AEGIS_X_PORT`, `x.yaml:3`, `default`."""
    also: tuple[str, ...] = ()
    """Other settings that take part; a finding is dropped when one of them is wrong by itself."""

    def __str__(self) -> str:
        where = f" ({self.origin})" if self.origin else ""
        return f"{self.setting}{where}: {self.problem}"


class SettingsError(Exception):
    """One or more settings are wrong."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        count = "1 setting is" if len(findings) == 1 else f"{len(findings)} settings are"
        super().__init__("\n  ".join([f"{count} wrong:", *map(str, findings)]))
