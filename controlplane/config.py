"""What a control plane can be told."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from settings import Address, Finding, Range, Seconds, Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlaneConfig:
    """Distributes policies to sidecars and keeps their history."""

    identity: Path
    """Directory with `tls.crt`, `tls.key` and `ca.crt`. The certificate's SPIFFE id says which trust domain this is;
    renewed files are taken up without a restart."""
    data: Path = Path("~/.local/state/aegis/controlplane")
    """Directory of the policy store, unless `database` names another one."""
    database: Secret = field(default="", repr=False)
    """SQLAlchemy URL of the policy store: SQLite, or `postgresql://` for replicas (extra `postgres`), perhaps with a
    password. Empty: SQLite in `data`."""
    tunnel_key_file: Path | None = None
    """File of 32 secret bytes, the same on every replica: keys of tunnels are sealed with it in the policy store. None:
    one is made in `data`."""
    listen: Address = Address("127.0.0.1", 8443)
    """Where sidecars and operators connect: gRPC with mutual TLS."""
    health: Address = Address("127.0.0.1", 8444)
    """grpc.health.v1 without TLS, as Kubernetes probes speak it."""
    metrics: Address | None = Address("127.0.0.1", 8446)
    """Prometheus metrics over HTTP; empty: none."""
    heartbeat_every: Annotated[Seconds, Range(0.1, 300)] = 10.0
    """Between heartbeats; a sidecar that misses three is cut off."""
    hello_within: Annotated[Seconds, Range(0.1, 60)] = 5.0
    """How long a new stream may take to say who it is."""
    drain_within: Annotated[Seconds, Range(0, 300)] = 10.0
    """Over how long sidecars spread their return when this process stops."""
    poll_every: Annotated[Seconds, Range(0.1, 60)] = 1.0
    """How often the store is asked for revisions that another replica made."""
    traps_follow_probes_every: Annotated[Seconds, Range(60, 31_536_000)] = 86_400.0
    """How often honeypot traps move to what attackers probe; `aegis honeypot rotate` moves them at once."""
    max_streams: Annotated[int, Range(1, 100_000)] = 20_000
    """Sidecars that may be connected; about 40 KB of memory each."""
    log_level: str = "info"
    """debug, info, warning or error."""

    def check(self) -> Iterable[Finding]:
        """Ports that differ, and a level that exists."""
        if self.log_level not in ("debug", "info", "warning", "error"):
            yield Finding("log_level", "expected debug, info, warning or error")
        seen: dict[Address, str] = {}
        for name in ("listen", "health", "metrics"):
            address: Address | None = getattr(self, name)
            if address is None or address.port == 0:
                continue
            if address in seen:
                yield Finding(name, f"{address} is the setting {seen[address]} already", also=(seen[address],))
            seen[address] = name

    @property
    def store_url(self) -> str:
        """Where the policies are."""
        return self.database or f"sqlite:///{self.data.expanduser().absolute() / 'policies.db'}"
