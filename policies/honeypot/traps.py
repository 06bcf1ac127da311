"""Which primes are traps now. Every sidecar of a tenant draws the same, without talking to any other.

The draw is keyed: whoever learns today's traps by falling into them knows nothing of tomorrow's. Drawn are primes that
no task uses, those that attackers try of late more likely than others (weighted sampling without replacement,
Efraimidis and Spirakis 2006, with HMAC-SHA256 in place of a random number).
"""

import hashlib
import hmac
import math

from policies.honeypot.config import HoneypotConfig
from policies.model import UnixNanos

_PROBED_WEIGHT = 3.0


def period_of(now: UnixNanos, config: HoneypotConfig) -> int:
    """Number of the period in which `now` lies."""
    return now // round(config.rotation_seconds * 1e9)


def traps_of_period(period: int, key: bytes, config: HoneypotConfig, free: frozenset[int]) -> frozenset[int]:
    """The primes of `free` that are traps in a period. Equal arguments give equal traps."""
    seed = period.to_bytes(16, "big", signed=True) + config.generation.to_bytes(8, "big")

    def rank(prime: int) -> float:
        drawn = hmac.digest(key, b"aegis honeypot 1" + seed + prime.to_bytes(2, "big"), hashlib.sha256)
        uniform = (int.from_bytes(drawn[:8], "big") + 1) / (2**64 + 1)
        weight = _PROBED_WEIGHT if prime in config.probed_primes else 1.0
        return math.log(uniform) / weight

    return frozenset(sorted(free, key=rank, reverse=True)[: config.rotating_traps])
