"""Tasks that a route serves beside those of v2.1: what a plugin's `template` becomes where requests are enforced."""

import re
from dataclasses import dataclass
from typing import Final

from policies.errors import refuse
from policies.mathprotocol.codes import FIBONACCI, FREE_PRIMES, Kind

MAX_INSTRUCTION: Final = 4096
"""Characters."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_&+. -]{0,62}")


@dataclass(frozen=True, slots=True)
class RegisteredTask:
    """One task. Construction raises ConfigError, which names every field at fault."""

    prime: int
    name: str
    kind: Kind
    params: frozenset[int]
    """Those that the task takes; one that is a canary elsewhere is an ordinary param of this task."""
    instruction: str = ""
    """What the model is told of the task, on one line, beside its name."""
    code: bool = False
    """Whether code of a plugin in the sidecar answers, and the model is never asked."""

    def __post_init__(self) -> None:
        is_line = len(self.instruction) <= MAX_INSTRUCTION and self.instruction.isprintable()
        refuse(
            (
                (self.prime not in FREE_PRIMES, f"prime: expected a prime without a task: {sorted(FREE_PRIMES)}"),
                (not _NAME.fullmatch(self.name), "name: expected 1 to 63 letters, digits and blanks"),
                (not self.params or not self.params <= FIBONACCI, f"params: expected some of {sorted(FIBONACCI)}"),
                (self.code and bool(self.instruction), "instruction: is for the model, and code answers this task"),
                (not is_line, f"instruction: expected one line of at most {MAX_INSTRUCTION} characters"),
            )
        )
