"""What a ProtocolPolicy enforces: the values that the YAML kind of that name compiles to."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from policies.errors import refuse
from policies.honeypot.config import HoneypotConfig
from policies.mathprotocol.codes import (
    CLASSIFICATION_TASKS,
    DEFAULT_TRAPS,
    FIBONACCI,
    PRIMES,
    V21_CANARIES,
    V21_PARAMS,
    V21_TASKS,
    Kind,
)
from policies.mathprotocol.context import ContextRules
from policies.mathprotocol.registered import RegisteredTask

SYSTEM_PROMPT_VERSIONS: Final = frozenset({1})
"""Versions of the text that teaches a model the protocol (see `prompt.py`)."""


class ProtocolMode(StrEnum):
    """How strictly a route holds its exchanges to the protocol."""

    OFF = "off"
    MONITOR = "monitor"
    """Nothing is changed or blocked, everything is recorded."""
    ENFORCE = "enforce"


@dataclass(frozen=True, slots=True)
class ProtocolConfig:
    """One route's settings. Construction raises ConfigError, which names every field at fault."""

    mode: ProtocolMode = ProtocolMode.OFF
    tasks: frozenset[int] = V21_TASKS
    """Task primes that this route serves; a subset of the registered ones."""
    params: frozenset[int] = V21_PARAMS - V21_CANARIES
    """Fibonacci params that this route registers. A canary that stands here is an ordinary param on this route."""
    trap_primes: frozenset[int] = DEFAULT_TRAPS
    """Primes that no honest client sends: 403, an alert and, if `ban_seconds` is set, a ban."""
    canary_params: frozenset[int] = V21_CANARIES
    """Params that are traps unless `params` registers them."""
    ban_seconds: float = 0.0
    """How long a peer that touched a trap is refused; 0: not at all."""
    max_protocol_retries: int = 1
    """How often a model is asked again after an invalid answer. 0 to 5."""
    system_prompt_version: int = 1
    """Which text teaches the model the protocol; 0: none is added, the application carries its own."""
    max_answer: int = 1 << 20
    """Characters of an answer; a longer one is invalid."""
    context: ContextRules = field(default_factory=ContextRules)
    """How CONTEXT is normalised, bounded and cleaned."""
    honeypot: HoneypotConfig = field(default_factory=HoneypotConfig)
    """Traps that move, and decoys."""
    registered: tuple[RegisteredTask, ...] = ()
    """Tasks that this route serves beside `tasks`, in order of their primes."""

    def __post_init__(self) -> None:
        refuse(self._checks())

    def kind(self, task: int) -> Kind:
        """How a served task is answered."""
        registered = self._registered(task)
        if registered is not None:
            return registered.kind
        return Kind.CLASSIFICATION if task in CLASSIFICATION_TASKS else Kind.GENERATIVE

    def is_code(self, task: int) -> bool:
        """Whether a plugin's code answers this task."""
        registered = self._registered(task)
        return registered is not None and registered.code

    def params_of(self, task: int) -> frozenset[int]:
        """The params that a task takes on this route."""
        registered = self._registered(task)
        return self.params if registered is None else registered.params

    def _registered(self, task: int) -> RegisteredTask | None:
        return next((each for each in self.registered if each.prime == task), None)

    @property
    def served(self) -> frozenset[int]:
        """Every task prime that this route answers."""
        return self.tasks | {each.prime for each in self.registered}

    def _checks(self) -> list[tuple[bool, str]]:
        return [
            (not self.tasks, "tasks: expected at least one task prime"),
            (not self.tasks <= V21_TASKS, f"tasks: expected some of {sorted(V21_TASKS)}"),
            (not self.params, "params: expected at least one param"),
            (not self.params <= FIBONACCI, f"params: expected some of {sorted(FIBONACCI)}"),
            (not self.trap_primes <= PRIMES, "trap_primes: expected primes from 2 to 97"),
            (bool(self.trap_primes & self.served), "trap_primes: a task that is served cannot be a trap"),
            (
                [each.prime for each in self.registered] != sorted({each.prime for each in self.registered}),
                "registered: expected each prime once, in order",
            ),
            (not self.canary_params <= FIBONACCI, f"canary_params: expected some of {sorted(FIBONACCI)}"),
            (not 0 <= self.ban_seconds <= 31_536_000, "ban_seconds: expected 0 to 31536000"),
            (not 0 <= self.max_protocol_retries <= 5, "max_protocol_retries: expected 0 to 5"),
            (
                self.system_prompt_version != 0 and self.system_prompt_version not in SYSTEM_PROMPT_VERSIONS,
                f"system_prompt_version: expected 0 or one of {sorted(SYSTEM_PROMPT_VERSIONS)}",
            ),
            (not 16 <= self.max_answer <= 1 << 26, "max_answer: expected 16 to 67108864 characters"),
        ]
