"""The words in which tunnels tell what was decided: closed sets, so that each can be a metric label.

Every decision about a tunnel is a `Decision`: the mode that is used from here on, why, and whether somebody who guards
the mesh should hear of it.
"""

from dataclasses import dataclass
from enum import StrEnum


class PeerMode(StrEnum):
    """What policy demands of tunnels to a peer. None of them ever allows plaintext."""

    REQUIRED = "required"
    """ECH or nothing; only the kill switch of the environment overrules it."""
    OPPORTUNISTIC = "opportunistic"
    """ECH where the rollout says so; without it where the server securely says that it has none."""
    OFF = "off"
    """The tunnel without ECH: the target's name travels inside Noise."""


class TunnelMode(StrEnum):
    """How the name of the service is kept off the wire."""

    ECH = "ech"
    """In the inner hello of RFC 9849."""
    NO_ECH = "no_ech"
    """SNI is the public name, with a GREASE ECH extension; the real name is inside the third Noise message."""
    REFUSED = "refused"
    """There is no tunnel, and nothing was sent another way."""


class Reason(StrEnum):
    """Why a mode was chosen, or why there is none."""

    REQUIRED = "required"
    ROLLED_OUT = "rolled_out"
    NOT_ROLLED_OUT = "not_rolled_out"
    KILL_SWITCH = "kill_switch"
    """ECH_ENABLED=false in the environment."""
    DISABLED = "disabled"
    """The control plane has switched ECH off for the mesh."""
    PEER_OFF = "peer_off"
    NO_CONFIG = "no_config"
    """No ECHConfig was ever received."""
    CONFIG_UNUSABLE = "config_unusable"
    RETRY_CONFIGS = "retry_configs"
    """An authenticated server has newer keys: once more with those."""
    REJECTED_AGAIN = "rejected_again"
    REJECTED_UNAUTHENTICATED = "rejected_unauthenticated"
    SECURELY_DISABLED = "securely_disabled"
    NOISE_AUTHENTICATION = "noise_authentication"
    TLS_AUTHENTICATION = "tls_authentication"
    CONFIRMATION = "confirmation"
    MIN_PQ = "min_pq"
    TIMEOUT = "timeout"
    RESET = "reset"
    ALERT = "alert"
    STRAY_REJECTION = "stray_rejection"
    """A rejection of ECH that was never offered: GREASE is not answered with anything to be believed."""
    BREAKER_OPEN = "breaker_open"
    REVOKED = "revoked"
    UNKNOWN_PEER = "unknown_peer"
    NO_KEYS = "no_keys"
    """We were given none: no Peer document names this workload."""


class SecurityEvent(StrEnum):
    """What whoever guards the mesh should hear of."""

    REQUIRED_OVERRULED = "tunnel.required_overruled"
    """The kill switch took ECH from a peer whose policy requires it."""
    ECH_DISABLED_BY_SERVER = "tunnel.ech_disabled_by_server"
    ECH_CONFIG_UNUSABLE = "tunnel.ech_config_unusable"
    ECH_CONFIG_MISSING = "tunnel.ech_config_missing"
    ECH_REJECTED_UNAUTHENTICATED = "tunnel.ech_rejected_unauthenticated"
    ECH_REJECTED_AGAIN = "tunnel.ech_rejected_again"
    ECH_KEY_STALE = "tunnel.ech_key_stale"
    ECH_CONFIRMATION = "tunnel.ech_confirmation"
    STRAY_REJECTION = "tunnel.stray_rejection"
    AUTHENTICATION_FAILED = "tunnel.authentication_failed"
    POST_QUANTUM_REFUSED = "tunnel.post_quantum_refused"
    HANDSHAKE_FLOOD = "tunnel.handshake_flood"
    STALE_KEY_STORM = "tunnel.stale_key_storm"
    DOWNGRADE_ATTEMPT = "tunnel.downgrade_attempt"
    REPLAYED_FIRST_FLIGHT = "tunnel.replayed_first_flight"
    UNKNOWN_STATIC = "tunnel.unknown_static"
    REVOKED_STATIC = "tunnel.revoked_static"


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision. `(mode, reason)` are the labels of its metric."""

    mode: TunnelMode
    reason: Reason
    event: SecurityEvent | None = None

    @property
    def labels(self) -> tuple[str, str]:
        """Values of the labels `mode` and `reason`."""
        return self.mode.value, self.reason.value
