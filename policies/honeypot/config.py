"""How a route lays its traps (a part of ProtocolPolicy), and where the control plane wants them."""

from dataclasses import dataclass

from policies.errors import refuse


@dataclass(frozen=True, slots=True)
class HoneypotConfig:
    """Rotating traps and what they answer. Construction raises ConfigError, which names every field at fault."""

    rotating_traps: int = 0
    """How many traps are drawn anew in every period, beside the fixed `trap_primes`; 0 to 10."""
    rotation_seconds: float = 86_400.0
    """How long a draw holds. At least a minute."""
    generation: int = 0
    """Raised to draw anew at once, whatever the time."""
    probed_primes: frozenset[int] = frozenset()
    """Primes that attackers tried of late: three times as likely to be drawn."""
    decoy: bool = False
    """Whether a caught prober is given a well-formed false answer instead of 403."""

    def __post_init__(self) -> None:
        refuse(
            (
                (not 0 <= self.rotating_traps <= 10, "rotating_traps: expected 0 to 10"),
                (not 60 <= self.rotation_seconds <= 31_536_000, "rotation_seconds: expected 60 to 31536000"),
                (not 0 <= self.generation < 1 << 32, "generation: expected 0 to 4294967295"),
                (
                    not all(1 < prime < 100 for prime in self.probed_primes),
                    "probed_primes: expected primes from 2 to 97",
                ),
            )
        )


@dataclass(frozen=True, slots=True)
class TrapPlacement:
    """Where the traps of every route belong now: kept by the control plane, which hears what attackers probe.

    Construction raises ConfigError, which names every field at fault.
    """

    generation: int = 0
    """Grows with every rotation; added to each route's own `generation`."""
    probed_primes: frozenset[int] = frozenset()
    """What attackers tried most of late; joined with each route's own `probed_primes`."""

    def __post_init__(self) -> None:
        refuse(
            (
                (not 0 <= self.generation < 1 << 31, "generation: expected 0 to 2147483647"),
                (
                    not all(1 < prime < 100 for prime in self.probed_primes),
                    "probed_primes: expected primes from 2 to 97",
                ),
            )
        )
