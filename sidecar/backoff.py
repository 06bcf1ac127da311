"""How long to wait before the next attempt: exponential, with full jitter, so that a fleet does not return at once."""

from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """Grows with every `delay`, starts over with `reset`."""

    base: float = 0.5
    """Seconds: upper bound of the first delay."""
    factor: float = 1.6
    cap: float = 30.0
    """Seconds: upper bound of every delay."""
    eager: int = 0
    """So many attempts at the very beginning are at most `eager_cap` apart, until the first `reset`: what is started
    together with us is up soon, and somebody waits."""
    eager_cap: float = 1.0
    """Seconds."""
    attempts: int = 0

    def delay(self, fraction: float) -> float:
        """Seconds to wait. `fraction`: random, from 0 to 1."""
        if self.attempts < self.eager:
            exponent, cap = self.attempts, self.eager_cap
        else:
            exponent, cap = self.attempts - self.eager, self.cap
        ceiling = min(cap, self.base * self.factor ** min(exponent, 64))
        self.attempts += 1
        return ceiling * fraction

    def reset(self) -> None:
        """An attempt was worth it."""
        self.attempts = 0
        self.eager = 0
