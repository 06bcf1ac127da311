"""Why an upstream did not answer.

UpstreamError            the network's or the upstream's fault; carries the status the client is told
├── UnreachableError     502  no connection: refused, unknown name, TLS not trusted
├── NoTunnelToPeerError  503  a peer is reached through its tunnel or not at all
├── ConnectTimeoutError  504
├── SaturatedError       503  as many connections as allowed are busy
└── BrokenError          502  the connection ended, or what came was no answer
"""

from typing import ClassVar


class UpstreamError(Exception):
    """Root. Messages name the upstream and the likely cause, never a path or a header."""

    status: ClassVar[int] = 502
    code: ClassVar[str] = "aegis_upstream_failed"


class UnreachableError(UpstreamError):
    """No connection could be made."""

    code = "aegis_upstream_unreachable"


class NoTunnelToPeerError(UpstreamError):
    """There is no tunnel to the upstream's peer, and nothing was sent another way."""

    status = 503
    code = "aegis_no_tunnel"


class ConnectTimeoutError(UpstreamError):
    """No connection stood in time."""

    status = 504
    code = "aegis_upstream_connect_timeout"


class SaturatedError(UpstreamError):
    """The bound on connections to this upstream is reached."""

    status = 503
    code = "aegis_upstream_saturated"


class BrokenError(UpstreamError):
    """A connection that stood ended before the end of the answer, or did not speak HTTP."""

    code = "aegis_upstream_broken"
