"""How long an exchange may take where it stands: what it waits for, since when, and how it ends if nothing comes."""

from sidecar import refusals
from sidecar.plan import Plan
from sidecar.refusals import Refusal
from sidecar.sending import Sending
from sidecar.services import Limits
from sidecar.upstream import UpstreamConnection


class Patience:
    """The moments that count, on the clock of `Services.clock`. Written by the exchange."""

    __slots__ = ("_deadline", "_idle_timeout", "moved_at", "queued_at", "stalled_at")

    def __init__(self, began_at: float, plan: Plan) -> None:
        self._deadline = began_at + plan.total_timeout
        self._idle_timeout = plan.idle_timeout
        self.moved_at = began_at
        """When the request last went on."""
        self.queued_at: float | None = None
        """Since when it waits for the inspector's thread or is read by it; None: it does not."""
        self.stalled_at: float | None = None
        """Since when the client leaves its answer unread; None: it does not."""

    def next_end(
        self, limits: Limits, sending: Sending, connection: UpstreamConnection | None
    ) -> tuple[float, Refusal]:
        """When the exchange ends unless something happens, and why."""
        if self.stalled_at is not None:
            due, refusal = self.stalled_at + limits.stall_timeout, refusals.STALLED
        elif not sending.is_whole:
            due, refusal = self.moved_at + limits.body_timeout, refusals.BODY_TIMEOUT
        elif self.queued_at is not None:
            due, refusal = self.queued_at + limits.queue_timeout, refusals.CROWDED
        elif connection is not None:
            due, refusal = connection.last_byte_at + self._idle_timeout, refusals.UPSTREAM_IDLE
        else:
            due, refusal = self._deadline, refusals.DEADLINE
        return (due, refusal) if due < self._deadline else (self._deadline, refusals.DEADLINE)
