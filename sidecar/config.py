"""What a sidecar can be told."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from settings import Address, ByteSize, Finding, Range, Seconds, Secret


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarConfig:
    """The data plane beside one application."""

    listen: Address = Address("127.0.0.1", 15080)
    """Where applications connect (base-URL mode)."""
    ready: Address = Address("127.0.0.1", 15021)
    """/healthz/ready and /healthz/live."""
    metrics: Address = Address("127.0.0.1", 15020)
    """/metrics."""
    admin: Address = Address("127.0.0.1", 15000)
    """Admin pages; loopback only."""
    workers: Annotated[int, Range(1, 64)] = 1
    """Processes that share the listening port, each with an event loop of its own."""
    data: Path = Path("~/.local/state/aegis/sidecar")
    """Directory of what must outlive the process: audit spool, last known good policies, tenant key."""

    policy_file: tuple[Path, ...] = ()
    """Files or directories of policy documents, in place of a control plane."""
    controlplane: Address | None = None
    """Where policies come from."""
    ledger: Address | None = None
    """Where audit leaves go; none: they stay in the spool under `data`."""
    identity: Path | None = None
    """Directory with this sidecar's certificate, key and CA bundle."""
    tenant_key_file: Path | None = None
    """File of 32 secret bytes, the same on every sidecar of a tenant: tokens are derived from it. None: one is made
    under `data`."""
    peer: str = "local"
    """Name under which the application beside this sidecar appears in policies and bans."""

    tunnel_listen: Address | None = None
    """Where other sidecars' tunnels come in, usually port 15008; none: this sidecar takes none."""
    tunnel_quic: bool = False
    """Take tunnels over QUIC, too: UDP at the port of `tunnel_listen`. Needs the extra `quic`."""
    tunnel_identity: Path | None = None
    """Directory of tls.crt, tls.key and ca.crt for tunnels: the certificate is for the mesh's public name and for the
    services that this sidecar answers for. Needed to take tunnels and to open them."""

    plugins: tuple[Path, ...] = ()
    """Folders of task plugins: their code answers, in jailed processes, what a ProtocolPolicy registers for it."""

    bans_redis: Secret = field(default="", repr=False)
    """redis://, rediss:// or unix:// URL over which sidecars and workers share bans; empty: each has its own."""

    head_timeout: Seconds = 10.0
    """From the first byte of a request head to its end."""
    body_timeout: Seconds = 30.0
    """Between two pieces of a request body."""
    idle_timeout: Seconds = 75.0
    """A client's connection between two requests."""
    stall_timeout: Seconds = 60.0
    """How long a client may leave its answer unread."""
    drain_timeout: Seconds = 30.0
    """For exchanges under way after SIGTERM; then they are cut off."""
    max_connections: Annotated[int, Range(1, 1_000_000)] = 20_000
    """Clients at one time, for each worker."""
    max_upstream_connections: Annotated[int, Range(1, 1_000_000)] = 4_096
    """To each upstream at one time, for each worker."""
    inspect_inline: ByteSize = 64 * 1024
    """Longest request body that is inspected, and JSON answer that is restored, on the event loop; longer ones go to a
    thread of their own."""
    max_held_bodies: ByteSize = 512 * 1024 * 1024
    """All request bodies that are held for inspection at one time, for each worker; beyond it: 503."""

    audit_linger: Seconds = 0.05
    """How long audit entries are gathered before they are committed to disk: what a crash of the process may cost."""
    audit_max_waiting: Annotated[int, Range(100, 1_000_000_000)] = 1_000_000
    """Audit leaves on disk that no ledger has acknowledged; beyond it routes that demand an audit entry refuse."""
    audit_max_openings: Annotated[int, Range(0, 1_000_000_000)] = 1_000_000
    """Openings of audit leaves kept for auditors, about 200 bytes each, for each worker; the oldest are deleted."""
    audit_keep_openings: Seconds = 90 * 86400.0
    """After this the opening of an audit leaf is deleted; the leaf itself stays in its log."""

    otlp_endpoint: str = ""
    """Collector of traces: http(s)://host:4317. Empty: the caller's trace context is passed on and no span made."""
    otlp_ca_file: Path | None = None
    """PEM bundle that verifies the collector; None: the system's CAs."""
    trace_ratio: Annotated[float, Range(0, 1)] = 0.0
    """Share of the traces begun here that are sampled; a caller's decision is followed."""
    log_level: LogLevel = LogLevel.INFO
    """Log lines below this level are dropped."""

    def check(self) -> Iterable[Finding]:
        """One source of policies; admin stays on this machine."""
        if bool(self.policy_file) == (self.controlplane is not None):
            problem = "exactly one of policy_file and controlplane is needed"
            yield Finding("policy_file", problem, also=("controlplane",))
        for name in ("controlplane", "ledger"):
            if getattr(self, name) is not None and self.identity is None:
                yield Finding("identity", f"is needed to speak to {name}", also=(name,))
        if self.tunnel_listen is not None and self.tunnel_identity is None:
            yield Finding("tunnel_identity", "is needed to take tunnels", also=("tunnel_listen",))
        if self.tunnel_quic and self.tunnel_listen is None:
            yield Finding("tunnel_listen", "is needed to take tunnels over QUIC", also=("tunnel_quic",))
        if self.tunnel_quic and find_spec("aioquic") is None:
            yield Finding("tunnel_quic", "needs the extra `quic`: pip install 'aegis-mesh[quic]'")
        if self.tunnel_identity is not None and self.controlplane is None:
            yield Finding(
                "controlplane", "is needed for tunnels: their keys come from there", also=("tunnel_identity",)
            )
        if self.bans_redis and not self.bans_redis.startswith(("redis://", "rediss://", "unix://")):
            yield Finding("bans_redis", "expected a redis://, rediss:// or unix:// URL")
        if not self.admin.is_loopback:
            yield Finding("admin", f"must be a loopback address, got {self.admin}")
