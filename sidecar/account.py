"""What one exchange leaves behind: an entry for the audit trail and a record for telemetry. No text, no keys."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from observability.record import ExchangeRecord
from policies.model import ExchangeId, ResultCode, UnixNanos
from sidecar.dialects.dialect import Observed
from sidecar.plan import Plan
from sidecar.ports import AuditEntry

NOTHING_FOUND: Final[Mapping[str, int]] = {}
_NOTHING_PASSED: Final = bytes(32)
_NOTHING_SEEN: Final = Observed()
# Half the price of calling the named tuple, twice an exchange. Types and order are tests' business.
_new: Final[Callable[..., Any]] = tuple.__new__


class Account:
    """Kept by an exchange while it lives."""

    __slots__ = (
        "_request_hash",
        "_response_hash",
        "findings",
        "first_chunk_at",
        "model",
        "observed",
        "parent_span",
        "request_bytes",
        "response_bytes",
        "sent_at",
        "started_at",
        "status",
        "stream",
        "task",
        "traceparent",
    )

    def __init__(self, started_at: UnixNanos) -> None:
        self.started_at = started_at
        self.sent_at = self.first_chunk_at = UnixNanos(0)
        self.status = 0
        """What the client saw; 0: nothing."""
        self.request_bytes = 0
        """As the client sent it."""
        self.response_bytes = 0
        """As the upstream sent it."""
        self._request_hash: hashlib._Hash | None = None
        self._response_hash: hashlib._Hash | None = None
        self.model = self.traceparent = self.parent_span = ""
        self.stream = False
        self.task = 0
        self.findings = NOTHING_FOUND
        self.observed = _NOTHING_SEEN
        """In the answer, on behalf of metrics."""

    def sent_begins(self, body: bytes) -> None:
        """The beginning of a body leaves the pod; nothing of an answer is there."""
        self._request_hash = hashlib.sha256(body)
        self._response_hash = None
        self.status = self.response_bytes = 0

    def sent_more(self, body: bytes) -> None:
        """More of its body left."""
        if self._request_hash is not None:
            self._request_hash.update(body)

    def received(self, body: bytes) -> None:
        """Some of the answer's body came, as the upstream sent it."""
        self.response_bytes += len(body)
        if self._response_hash is None:
            self._response_hash = hashlib.sha256(body)
        else:
            self._response_hash.update(body)

    def entry(self, exchange: ExchangeId, plan: Plan, result: ResultCode, ended_at: UnixNanos) -> AuditEntry:
        """For the audit trail."""
        entry = (
            exchange,
            plan.dialect.name,
            plan.route_name,
            result,
            self.status,
            plan.revision,
            self.task,
            self.started_at,
            ended_at,
            _NOTHING_PASSED if self._request_hash is None else self._request_hash.digest(),
            _NOTHING_PASSED if self._response_hash is None else self._response_hash.digest(),
            self.findings,
        )
        made: AuditEntry = _new(AuditEntry, entry)
        return made

    def record(self, exchange: ExchangeId, plan: Plan, result: ResultCode, ended_at: UnixNanos) -> ExchangeRecord:
        """For telemetry."""
        seen = self.observed
        record = (
            exchange,
            plan.endpoint,
            self.model,
            seen.response_model,
            seen.response_id,
            seen.finish_reason,
            result,
            self.status,
            self.stream,
            self.started_at,
            self.sent_at,
            self.first_chunk_at,
            ended_at,
            seen.input_tokens,
            seen.output_tokens,
            self.request_bytes,
            self.response_bytes,
            self.findings,
            self.traceparent,
            self.parent_span,
        )
        made: ExchangeRecord = _new(ExchangeRecord, record)
        return made


def ended_as(status: int, observed: Observed | None) -> ResultCode:
    """How an exchange ended whose answer came to its end. `observed`: in the answer; None: it passed unread."""
    if status >= 400:
        return ResultCode.UPSTREAM_REFUSED
    if observed is not None and observed.upstream_error:
        return ResultCode.UPSTREAM_FAILED
    return ResultCode.FORWARDED
