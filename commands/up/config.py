"""What `aegis up` can be told."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from policies.mathprotocol.config import ProtocolMode
from settings import Finding, Port, Range

LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpConfig:
    """The whole product in front of one model server, on this machine only.

    Every port is opened on 127.0.0.1; 0 takes a free one, which is printed.
    """

    upstream: str
    """The model server: http(s)://host[:port][/base/path]. `/openai/v1/...` and `/anthropic/v1/...` arrive there as
    `/v1/...`."""
    data: Path = Path("~/.local/state/aegis")
    """Directory of everything that lasts: keys, identities, policies, spool, ledger, logs."""
    protocol: ProtocolMode = ProtocolMode.OFF
    """Whether MathProtocol is recorded or enforced on every route."""
    policy: tuple[Path, ...] = ()
    """Files of policy documents to push instead of the default ones; `upstream` and `protocol` then have no effect."""
    workers: Annotated[int, Range(1, 64)] = 1
    """Processes of the sidecar."""
    port: Port = 15080
    """Where applications reach the sidecar."""
    ready_port: Port = 15021
    """/healthz/ready of the sidecar."""
    metrics_port: Port = 15020
    """/metrics of the sidecar."""
    admin_port: Port = 15000
    """Admin interface of the sidecar."""
    grpc_port: Port = 8443
    """Control plane: policy distribution."""
    health_port: Port = 8444
    """Control plane: health."""
    controlplane_metrics_port: Port = 8446
    """Control plane: /metrics."""
    ledger_port: Port = 8463
    """Ledger node: ingest."""
    ledger_http_port: Port = 8480
    """Ledger node: checkpoint, tiles and entries for auditors."""

    def check(self) -> Iterable[Finding]:
        """A usable upstream, and no port twice."""
        if problem := _url_problem(self.upstream):
            yield Finding("upstream", problem)
        seen: dict[int, str] = {}
        for name, port in self.ports().items():
            if port and port in seen:
                yield Finding(name, f"{port} is the setting {seen[port]} already", also=(seen[port],))
            seen.setdefault(port, name)

    def ports(self) -> dict[str, int]:
        """Setting -> port."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name == "port" or f.name.endswith("_port")}

    def with_ports(self, ports: dict[str, int]) -> "UpConfig":
        """The same with other ports."""
        return replace(self, **ports)  # type: ignore[arg-type]  # names and types are those of `ports()`


def _url_problem(url: str) -> str:
    expected = "expected http(s)://host[:port][/base/path]"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return f"{expected}, got {url!r}"
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        return f"{expected}, got {url!r}"
    if parts.username or parts.password:
        return f"{expected} without a user: credentials belong to the application's requests"
    if parts.query or parts.fragment:
        return f"{expected} without a query"
    return ""
