"""What an exchange needs from outside. Each port is implemented elsewhere and put together in `app.py` only.

Every method is called on the path of an exchange: it must not block, must not raise unless it says so, and must cost
microseconds.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from observability.record import ExchangeRecord
from policies.model import Delegate, DialectName, Effect, ExchangeId, ResultCode, UnixNanos
from policies.snapshot import PolicySnapshot


class Client(Protocol):
    """The connection to the application, as an exchange needs it."""

    def send(self, data: bytes) -> None:
        """Some of the answer. `client_full` is called back when too much of it waits."""

    def pause(self) -> None:
        """Stop reading the request: the upstream is slow."""

    def resume(self) -> None:
        """Read on."""

    def finished(self, *, keep_alive: bool) -> None:
        """The exchange is over. Without `keep_alive` the connection ends once everything is sent."""

    def abort(self) -> None:
        """Reset the connection: the client must see that its answer broke."""


class Snapshots(Protocol):
    """Where policy comes from: the control plane, the last known good on disk, or a file."""

    @property
    def current(self) -> PolicySnapshot | None:
        """The snapshot in force, or None: no policy was ever received, every exchange is refused with 503."""


class AuditEntry(NamedTuple):
    """What the audit trail is told of one exchange. Digests are of bytes outside the pod, never of restored text.

    The order of the fields is a format on disk: see `sidecar.audit.statements`.
    """

    exchange: ExchangeId
    dialect: DialectName
    route: str
    result: ResultCode
    status: int
    """HTTP status that the client saw; 0 when it was gone before."""
    policy_revision: int
    task: int
    """MathProtocol task code, 0 when the route enforces none."""
    started_at: UnixNanos
    ended_at: UnixNanos
    request_digest: bytes
    """SHA-256 of the request body as it left the pod; 32 zero bytes when nothing left."""
    response_digest: bytes
    """SHA-256 of the answer body as the upstream sent it, as far as it came; 32 zero bytes when none came."""
    findings: Mapping[str, int]
    """Label -> count of identifiers taken out."""


class AuditTrail(Protocol):
    """Takes one entry per exchange, whatever happened, and makes it a durable leaf elsewhere."""

    @property
    def accepting(self) -> bool:
        """Whether the next entry will be spooled. False (disk full, bound reached): routes with `audit: required`
        refuse new exchanges with 503."""

    def append(self, entry: AuditEntry) -> None:
        """Queue the entry; a plain tuple of its fields will do. Never blocks, never raises; what is lost is counted and
        leaves a gap leaf."""


class Telemetry(Protocol):
    """Metrics and traces, off the path: `record` appends a tuple, a flusher does the rest."""

    begins_traces: bool
    """Whether an exchange that came without a `traceparent` gets one."""

    def trace(self, incoming_traceparent: str) -> tuple[str, str]:
        """(traceparent to send upstream, parent span id or empty) for a new exchange. Bad input starts a new trace."""

    def record(self, record: ExchangeRecord) -> None:
        """Count and remember one finished exchange."""

    def connection_opened(self) -> None:
        """A client connection was accepted."""

    def connection_closed(self) -> None:
        """A client connection is gone."""

    def upstream_connected(self, upstream: str, *, reused: bool) -> None:
        """A request got a connection to `upstream`."""


class Effects(Protocol):
    """Carries out what policies ask for."""

    def carry_out(self, effects: tuple[Effect, ...], exchange: ExchangeId, now: UnixNanos) -> None:
        """Alert, ban, keep as dead letter. Never blocks."""

    def banned(self, peer: str, now: UnixNanos) -> bool:
        """Whether this peer is refused for now."""


class Plugins(Protocol):
    """Task plugins on this machine."""

    def answer(self, asked: Delegate, then: Callable[[str | None], None]) -> None:
        """Calls `then` later with an answer that is valid for its task, or with None."""
