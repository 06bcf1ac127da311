"""The dead-letter vault: chains that failed, with what their earlier stages gave, for a human to look at.

In memory only, bounded in number, oldest first to go: letters hold restored values, which must not reach a disk.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from policies.mathprotocol.chain import Failed
from policies.mathprotocol.composite import Plan


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One failed chain."""

    id: str
    at: float
    """Seconds since the epoch."""
    plan: Plan = field(repr=False)
    failed: Failed = field(repr=False)

    def summary(self) -> dict[str, Any]:
        """What happened, without any text."""
        return {
            "id": self.id,
            "at": self.at,
            "plan": str(self.plan),
            "stage": str(self.failed.stage),
            "failure": self.failed.failure.value,
            "answered": [str(given.stage) for given in self.failed.given],
        }

    def content(self) -> dict[str, Any]:
        """Everything, texts included."""
        given = [{"stage": str(given.stage), "answer": given.answer} for given in self.failed.given]
        return {**self.summary(), "request": f"{self.plan} | {self.plan.context}", "given": given}


class DeadLetterVault:
    """The last failed chains. Owned by one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._letters: OrderedDict[str, DeadLetter] = OrderedDict()

    def keep(self, letter: DeadLetter) -> None:
        """Keep a letter; the oldest makes room."""
        self._letters[letter.id] = letter
        while len(self._letters) > self._most:
            self._letters.popitem(last=False)

    def get(self, letter: str) -> DeadLetter | None:
        """One letter by id."""
        return self._letters.get(letter)

    def summaries(self) -> list[dict[str, Any]]:
        """All letters, newest first, without texts."""
        return [letter.summary() for letter in reversed(self._letters.values())]
