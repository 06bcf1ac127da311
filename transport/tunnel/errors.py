"""Why there is no tunnel, or none any more.

TunnelError                 root; messages name what was expected and the likely cause, never a service or a key
├── HandshakeError          no tunnel came to be; `outcome` is what fallback.py decides by
│   └── RejectedError       the server proved to be the public name and has other ECH keys, or none
├── RefusedError            an acceptor turned somebody away; `refusal` is a bounded metric label
└── TunnelLostError         a tunnel that stood has ended
"""

from enum import StrEnum

from transport.fallback import Outcome


class TunnelError(Exception):
    """Root."""


class HandshakeError(TunnelError):
    """At the dialling end."""

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


class RejectedError(HandshakeError):
    """ECH was rejected by a server that authenticated as the public name (RFC 9849 section 6.1.6)."""

    def __init__(self, retry_configs: bytes | None) -> None:
        """`retry_configs`: an ECHConfigList for one more try; None: the server has turned ECH off."""
        super().__init__(
            Outcome.SECURELY_DISABLED if retry_configs is None else Outcome.REJECTED_WITH_CONFIGS,
            "the server could not open the encrypted client hello",
        )
        self.retry_configs = retry_configs


class Refusal(StrEnum):
    """Why an acceptor turned somebody away."""

    TLS = "tls"
    """The TLS handshake failed, or its peer gave up."""
    NOT_A_TUNNEL = "not_a_tunnel"
    """TLS worked, but nobody asked for a tunnel: a browser, a probe, or ECH that was rejected."""
    NOISE = "noise"
    """A Noise message did not authenticate."""
    NOT_ADMITTED = "not_admitted"
    """A proved static key that is unknown, revoked or not allowed for the service."""
    MIN_PQ = "min_pq"
    STALE_ECH = "stale_ech"
    """Its ECH key is not one of ours; it was told the current one, authenticated, and left to come back."""
    REPLAY = "replay"
    """Its first flight was seen before."""
    FLOOD = "flood"
    """Too many handshakes of its address, or of all."""
    FULL = "full"
    """We had as many handshakes, or tunnels, as we take on."""
    LATE = "late"
    GONE = "gone"
    """The connection ended before the handshake did."""


class RefusedError(TunnelError):
    """At the accepting end."""

    def __init__(self, refusal: Refusal, message: str) -> None:
        super().__init__(message)
        self.refusal = refusal


class End(StrEnum):
    """Why a tunnel that stood ended; a bounded metric label."""

    CLOSED = "closed"
    """By us, in order: drained, idle or old."""
    PEER_CLOSED = "peer_closed"
    LOST = "lost"
    """The connection broke, or was cut without a word."""
    SILENT = "silent"
    """No answer to a PING: half-open, or the peer hangs."""
    PROTOCOL = "protocol"
    """The peer broke a rule of TLS or of the streams."""
    REVOKED = "revoked"
    """The peer's static key was revoked."""
    NOT_ADMITTED = "not_admitted"
    """The acceptor could not read our third Noise message, or does not admit us."""


class TunnelLostError(TunnelError):
    """A tunnel that stood has ended; streams on it have ended with it."""

    def __init__(self, end: End, message: str) -> None:
        super().__init__(message)
        self.end = end
