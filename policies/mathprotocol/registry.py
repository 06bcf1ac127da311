"""Which codes have a name. A value: registering gives a new registry and leaves the old one alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from policies.mathprotocol.codes import (
    CLASSIFICATION_TASKS,
    EXTENDED_PARAM_NAMES,
    FIBONACCI,
    PARAM_NAMES,
    PRIMES,
    RESPONSE_NAMES,
    SUCCESS_BIT,
    TASK_NAMES,
    Kind,
)


@dataclass(frozen=True, slots=True)
class Registry:
    """Names of tasks, params and response flags. The default is v2.1's."""

    tasks: Mapping[int, str] = field(default_factory=lambda: TASK_NAMES)
    params: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({**PARAM_NAMES, **EXTENDED_PARAM_NAMES}))
    responses: Mapping[int, str] = field(
        default_factory=lambda: MappingProxyType({SUCCESS_BIT: "SUCCESS_BIT", **RESPONSE_NAMES})
    )
    classifications: frozenset[int] = CLASSIFICATION_TASKS

    def with_task(self, prime: int, name: str, kind: Kind = Kind.GENERATIVE) -> "Registry":
        """A registry that also knows this task. Raises ValueError for anything but a prime of the set."""
        if not _is_code(prime) or prime not in PRIMES:
            raise ValueError(f"a task is one of the primes from 2 to 97, not {prime!r}")
        classifications = self.classifications - {prime}
        if kind is Kind.CLASSIFICATION:
            classifications |= {prime}
        return replace(self, tasks=_with(self.tasks, prime, name), classifications=classifications)

    def with_param(self, number: int, name: str) -> "Registry":
        """A registry that also knows this param. Raises ValueError for anything but a Fibonacci number of the set."""
        if not _is_code(number) or number not in FIBONACCI:
            raise ValueError(f"a param is one of the Fibonacci numbers {sorted(FIBONACCI)}, not {number!r}")
        return replace(self, params=_with(self.params, number, name))

    def with_response(self, code: int, name: str) -> "Registry":
        """A registry that also knows this response flag. Raises ValueError for anything but a power of two."""
        if not _is_code(code) or code < 1 or code & (code - 1):
            raise ValueError(f"a response flag is a power of two, not {code!r}")
        return replace(self, responses=_with(self.responses, code, name))

    def kind(self, task: int) -> Kind | None:
        """How the task is answered, or None for a task without a name."""
        if task not in self.tasks:
            return None
        return Kind.CLASSIFICATION if task in self.classifications else Kind.GENERATIVE

    def flags(self, code: int) -> list[str]:
        """Names of the registered flags that are set in `code`, lowest first."""
        return [name for flag, name in sorted(self.responses.items()) if code > 0 and code & flag]


def _is_code(value: object) -> bool:
    # `True` is an int and equals 1; it is no code.
    return isinstance(value, int) and not isinstance(value, bool)


def _with(names: Mapping[int, str], code: int, name: str) -> Mapping[int, str]:
    return MappingProxyType({**names, code: name})
