"""What a FirewallPolicy enforces: the values that the YAML kind of that name compiles to."""

from dataclasses import dataclass
from enum import StrEnum

from policies.errors import refuse


class FirewallMode(StrEnum):
    """What happens to a prompt whose score reaches the threshold."""

    MONITOR = "monitor"
    """It passes, and an alert is raised."""
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class FirewallConfig:
    """How much instruction a route tolerates in its texts. Construction raises ConfigError."""

    mode: FirewallMode = FirewallMode.BLOCK
    threshold: float = 1.0
    """Score from which a prompt is suspected. 0.7 is strict, 1.0 is balanced, 1.5 lets single tricks through."""

    def __post_init__(self) -> None:
        refuse(((not 0.1 <= self.threshold <= 10, "threshold: expected 0.1 to 10"),))
