"""Whether a tunnel uses ECH: the kill switch, the percentage, and what policy demands of the peer. Client side only.

    bucket = u64(HMAC-SHA256(feature_salt, source ‖ 0 ‖ target)[:8]) mod 10000 < percentage · 100

Sticky: a pair of workloads stays on its side as long as the salt stays. Monotone: raising the percentage only adds
pairs. Servers accept ECH regardless. Nothing here ever chooses plaintext: the choice is between ECH and the tunnel
without it.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from transport.decisions import Decision, PeerMode, Reason, SecurityEvent, TunnelMode

BUCKETS: Final = 10_000
ENABLED: Final = "ECH_ENABLED"
PERCENTAGE: Final = "ECH_ROLLOUT_PERCENTAGE"
_TRUE: Final = frozenset({"true", "1", "yes", "on"})
_FALSE: Final = frozenset({"false", "0", "no", "off"})


class RolloutError(ValueError):
    """A setting of the environment is not what it can be. Names the variable."""


@dataclass(frozen=True, slots=True)
class Switches:
    """What the environment says. It is read once, at the start."""

    enabled: bool = True
    """False: the kill switch. It wins over everything, the control plane included."""
    percentage: float | None = None
    """0 to 100; takes the place of the control plane's. None: not said."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Switches":
        """Raises RolloutError: a kill switch with a typing error must not be taken for the absence of one."""
        said = environment.get(ENABLED, "").strip().lower()
        if said and said not in _TRUE | _FALSE:
            raise RolloutError(f"{ENABLED}: expected true or false, got {said[:20]!r}")
        percentage = environment.get(PERCENTAGE, "").strip()
        return cls(said not in _FALSE, _percentage(percentage) if percentage else None)


@dataclass(frozen=True, slots=True)
class Rollout:
    """What the control plane says."""

    enabled: bool = True
    percentage: float = 100.0
    """0 to 100, in steps of 0.01."""
    salt: bytes = b"ech"
    """Another salt deals the buckets anew."""


def bucket(salt: bytes, source: str, target: str) -> int:
    """0 to 9,999. A NUL between the names keeps ("a", "bc") and ("ab", "c") apart; neither name can hold one."""
    digest = hmac.digest(salt, source.encode() + b"\0" + target.encode(), "sha256")
    return int.from_bytes(digest[:8], "big") % BUCKETS


def choose(peer: PeerMode, rollout: Rollout, switches: Switches, source: str, target: str) -> Decision:
    """The mode of a new tunnel from workload `source` to service `target`.

    `required` is not subject to the percentage nor to the control plane's switch: those are for rolling out, and a
    peer that requires ECH has been rolled out. The kill switch of the environment is the one exception, and an event.
    """
    if not switches.enabled:
        overruled = SecurityEvent.REQUIRED_OVERRULED if peer is PeerMode.REQUIRED else None
        return Decision(TunnelMode.NO_ECH, Reason.KILL_SWITCH, overruled)
    match peer:
        case PeerMode.REQUIRED:
            return Decision(TunnelMode.ECH, Reason.REQUIRED)
        case PeerMode.OFF:
            return Decision(TunnelMode.NO_ECH, Reason.PEER_OFF)
        case PeerMode.OPPORTUNISTIC if not rollout.enabled:
            return Decision(TunnelMode.NO_ECH, Reason.DISABLED)
        case PeerMode.OPPORTUNISTIC:
            percentage = rollout.percentage if switches.percentage is None else switches.percentage
            if bucket(rollout.salt, source, target) < round(percentage * 100):
                return Decision(TunnelMode.ECH, Reason.ROLLED_OUT)
            return Decision(TunnelMode.NO_ECH, Reason.NOT_ROLLED_OUT)


def _percentage(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:  # not a number is neither
        raise RolloutError(f"{PERCENTAGE}: expected 0 to 100, got {text[:20]!r}")
    return value
