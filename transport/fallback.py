"""What follows a tunnel attempt that failed: a table of every outcome under every mode, and nothing beside the table.

The rule behind it: an attacker on the path can produce time-outs, resets and alerts at will. Were any of them a reason
to leave ECH out, ECH would protect nobody. Only a server that has proved to be the public name may say that it has no
ECH, and even that is an event (RFC 9849 section 6.1.6).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from transport.decisions import Decision, PeerMode, Reason, SecurityEvent, TunnelMode


class Outcome(Enum):
    """How an attempt failed. Whoever ran it names the most specific."""

    NOISE_AUTHENTICATION = auto()
    """A Noise message did not open, or the peer's static is not the pinned one."""
    TLS_AUTHENTICATION = auto()
    """Certificate chain, CertificateVerify or Finished; also a protected record that does not open."""
    CONFIRMATION = auto()
    """HelloRetryRequest confirmed ECH and ServerHello did not, or another contradiction."""
    CONFIG_UNUSABLE = auto()
    """The ECHConfigList cannot be parsed, or offers nothing that we can use."""
    NO_CONFIG = auto()
    """There is no ECHConfigList at all."""
    TIMEOUT = auto()
    RESET = auto()
    """Refused, reset, or closed in the middle."""
    ALERT = auto()
    """A fatal alert, whatever it says."""
    REJECTED_UNAUTHENTICATED = auto()
    """ECH was rejected by a server that did not prove to be the public name."""
    MIN_PQ = auto()
    """The server insists on a group that is not post-quantum, by ServerHello or HelloRetryRequest."""
    REJECTED_WITH_CONFIGS = auto()
    """ECH was rejected by the public name, with retry_configs that we can use."""
    REJECTED_AGAIN = auto()
    """The same, on a connection that was made with retry_configs."""
    SECURELY_DISABLED = auto()
    """ECH was rejected by the public name, without retry_configs or with none of a version that we know."""


class Action(Enum):
    """What to do."""

    FAIL = auto()
    """No tunnel. Whoever asked for it gets an error."""
    RETRY_SAME_MODE = auto()
    """After a backoff, at another endpoint if there is one, as long as the breaker lets it."""
    RETRY_WITH_CONFIGS = auto()
    """At once, on a new connection, with the retry_configs; tell the control plane."""
    RETRY_WITHOUT_ECH = auto()
    """A new connection in the mode NO_ECH; to the same peer with the same Noise static."""


class Counts(Enum):
    """Which counter of the peer's breaker it goes to."""

    AUTHENTICATION = auto()
    TRANSPORT = auto()
    REJECTION = auto()
    NOTHING = auto()
    """Nothing was sent."""


@dataclass(frozen=True, slots=True)
class Step:
    """What follows, as what it is counted, and why."""

    action: Action
    counts: Counts
    decision: Decision


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was tried."""

    mode: TunnelMode
    """ECH or NO_ECH."""
    with_retry_configs: bool = False
    """Whether it was the one retry that retry_configs allow."""


@dataclass(frozen=True, slots=True)
class _Row:
    action: Action
    counts: Counts
    reason: Reason
    event: SecurityEvent | None = None


def _everywhere(row: _Row) -> Mapping[PeerMode, _Row]:
    return dict.fromkeys(PeerMode, row)


def _stray(required: _Row, opportunistic: _Row) -> Mapping[PeerMode, _Row]:
    """An outcome that only an attempt with ECH can have. Without ECH it means that the engine believed GREASE."""
    stray = _Row(Action.FAIL, Counts.AUTHENTICATION, Reason.STRAY_REJECTION, SecurityEvent.STRAY_REJECTION)
    return {PeerMode.REQUIRED: required, PeerMode.OPPORTUNISTIC: opportunistic, PeerMode.OFF: stray}


def _broken(reason: Reason, event: SecurityEvent) -> _Row:
    return _Row(Action.FAIL, Counts.AUTHENTICATION, reason, event)


def _transient(reason: Reason) -> Mapping[PeerMode, _Row]:
    return _everywhere(_Row(Action.RETRY_SAME_MODE, Counts.TRANSPORT, reason))


def _without_config(reason: Reason, event: SecurityEvent) -> Mapping[PeerMode, _Row]:
    return {
        PeerMode.REQUIRED: _Row(Action.FAIL, Counts.NOTHING, reason, event),
        PeerMode.OPPORTUNISTIC: _Row(Action.RETRY_WITHOUT_ECH, Counts.NOTHING, reason, event),
        PeerMode.OFF: _Row(Action.RETRY_SAME_MODE, Counts.NOTHING, Reason.PEER_OFF),
    }


_DISABLED: Final = Reason.SECURELY_DISABLED
_BY_SERVER: Final = SecurityEvent.ECH_DISABLED_BY_SERVER
_RETRY: Final = _Row(Action.RETRY_WITH_CONFIGS, Counts.REJECTION, Reason.RETRY_CONFIGS, SecurityEvent.ECH_KEY_STALE)
_AGAIN: Final = _Row(Action.FAIL, Counts.REJECTION, Reason.REJECTED_AGAIN, SecurityEvent.ECH_REJECTED_AGAIN)
_UNPROVED: Final = _broken(Reason.REJECTED_UNAUTHENTICATED, SecurityEvent.ECH_REJECTED_UNAUTHENTICATED)
_CONFIRMATION: Final = _broken(Reason.CONFIRMATION, SecurityEvent.ECH_CONFIRMATION)

TABLE: Final[Mapping[Outcome, Mapping[PeerMode, _Row]]] = {
    Outcome.NOISE_AUTHENTICATION: _everywhere(
        _broken(Reason.NOISE_AUTHENTICATION, SecurityEvent.AUTHENTICATION_FAILED)
    ),
    Outcome.TLS_AUTHENTICATION: _everywhere(_broken(Reason.TLS_AUTHENTICATION, SecurityEvent.AUTHENTICATION_FAILED)),
    Outcome.MIN_PQ: _everywhere(_broken(Reason.MIN_PQ, SecurityEvent.POST_QUANTUM_REFUSED)),
    Outcome.CONFIRMATION: _stray(_CONFIRMATION, _CONFIRMATION),
    Outcome.CONFIG_UNUSABLE: _without_config(Reason.CONFIG_UNUSABLE, SecurityEvent.ECH_CONFIG_UNUSABLE),
    Outcome.NO_CONFIG: _without_config(Reason.NO_CONFIG, SecurityEvent.ECH_CONFIG_MISSING),
    Outcome.TIMEOUT: _transient(Reason.TIMEOUT),
    Outcome.RESET: _transient(Reason.RESET),
    Outcome.ALERT: _transient(Reason.ALERT),
    Outcome.REJECTED_UNAUTHENTICATED: _stray(_UNPROVED, _UNPROVED),
    Outcome.REJECTED_WITH_CONFIGS: _stray(_RETRY, _RETRY),
    Outcome.REJECTED_AGAIN: _stray(_AGAIN, _AGAIN),
    Outcome.SECURELY_DISABLED: _stray(
        _Row(Action.FAIL, Counts.REJECTION, _DISABLED, _BY_SERVER),
        _Row(Action.RETRY_WITHOUT_ECH, Counts.REJECTION, _DISABLED, _BY_SERVER),
    ),
}
"""Outcome -> mode of the peer -> what follows. An attempt that ran without ECH is judged by the column `off`."""


def after(outcome: Outcome, peer: PeerMode, attempt: Attempt) -> Step:
    """What follows `attempt` to a peer of this mode."""
    if outcome is Outcome.REJECTED_WITH_CONFIGS and attempt.with_retry_configs:
        # RFC 9849 section 6.1.6: "Clients SHOULD NOT accept "retry_config" in response to a connection initiated in
        # response to a "retry_config"."
        outcome = Outcome.REJECTED_AGAIN
    row = TABLE[outcome][peer if attempt.mode is TunnelMode.ECH else PeerMode.OFF]
    return Step(row.action, row.counts, Decision(_mode_after(row.action, attempt), row.reason, row.event))


def _mode_after(action: Action, attempt: Attempt) -> TunnelMode:
    match action:
        case Action.FAIL:
            return TunnelMode.REFUSED
        case Action.RETRY_SAME_MODE:
            return attempt.mode
        case Action.RETRY_WITH_CONFIGS:
            return TunnelMode.ECH
        case Action.RETRY_WITHOUT_ECH:
            return TunnelMode.NO_ECH
