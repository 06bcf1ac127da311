"""What the data path tells of itself: one append for an exchange, one increment for a connection. See sidecar/ports.py.

`record` appends to a list; `run` folds the list into metrics and spans a few dozen records at a time, so that no pause
of the loop is longer than about 100 µs. `snapshot` folds first: a scrape never misses a finished exchange.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from observability import names
from observability.exchanges import ExchangeMetrics
from observability.metrics import Registry
from observability.record import ExchangeRecord
from observability.trace_context import join_trace, new_traces, parse_traceparent

FOLD_EVERY: Final = 0.05
"""Seconds."""
FOLD_AT_ONCE: Final = 32
MAX_PENDING: Final = 4096
"""Records that wait; `record` itself folds when nobody else does."""
_TRACES_AT_ONCE: Final = 128
_SPAN_ID: Final = slice(36, 52)
"""Where the span id stands in a traceparent."""


class SpanSink(Protocol):
    """Takes records whose trace may be sampled."""

    def add(self, record: ExchangeRecord) -> None:
        """Queue the span of this exchange. Never blocks."""


class Telemetry:
    """Metrics and traces of one process. Owned by the thread of the data path's loop."""

    def __init__(
        self,
        registry: Registry,
        *,
        spans: SpanSink | None = None,
        sample_ratio: float = 0.0,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """`sample_ratio`: of the traces that begin here; a caller's decision is followed. Without `spans` the caller's
        context is passed on as it is and no trace begins."""
        self.registry = registry
        self._spans = spans
        self.begins_traces = spans is not None
        """Whether an exchange that came without a `traceparent` gets one."""
        self._sample_ratio = sample_ratio
        self._entropy = entropy
        self._fresh: list[str] = []
        self._pending: deque[ExchangeRecord] = deque()
        self._exchanges = ExchangeMetrics(registry)
        self._connections = registry.counter(names.CONNECTIONS).cell()
        self._connections_open = registry.gauge(names.CONNECTIONS_OPEN).cell()
        self._upstreams = registry.counter(names.UPSTREAM_CONNECTIONS)
        self._reused: dict[str, list[float]] = {}

    def trace(self, incoming_traceparent: str) -> tuple[str, str]:
        """(traceparent to send upstream, parent span id or empty). A caller's `tracestate` is valid only together with
        a parent: when that is empty it must not be passed on."""
        if self._spans is None:
            parent = parse_traceparent(incoming_traceparent) if incoming_traceparent else None
            return (incoming_traceparent, parent.span_id) if parent else ("", "")
        while not self._fresh:
            self._fresh = new_traces(self._entropy(24 * _TRACES_AT_ONCE), self._sample_ratio)
        fresh = self._fresh.pop()
        joined = join_trace(incoming_traceparent, fresh[_SPAN_ID]) if incoming_traceparent else None
        return joined or (fresh, "")

    def record(self, record: ExchangeRecord) -> None:
        """Remember one finished exchange."""
        self._pending.append(record)
        if len(self._pending) >= MAX_PENDING:
            self.fold(MAX_PENDING)

    def connection_opened(self) -> None:
        """A client connection was accepted."""
        self._connections[0] += 1
        self._connections_open[0] += 1

    def connection_closed(self) -> None:
        """A client connection is gone."""
        self._connections_open[0] -= 1

    def upstream_connected(self, upstream: str, *, reused: bool) -> None:
        """A request got a connection to `upstream`."""
        if not reused:
            self._upstreams.add((upstream, "false"))
            return
        cell = self._reused.get(upstream)
        if cell is None:
            cell = self._reused[upstream] = self._upstreams.cell((upstream, "true"))
        cell[0] += 1

    async def run(self) -> None:
        """Fold until cancelled."""
        while True:
            await asyncio.sleep(FOLD_EVERY)
            while self.fold(FOLD_AT_ONCE):  # noqa: ASYNC110 nothing is waited for: other tasks get their turn
                await asyncio.sleep(0)

    def fold(self, at_most: int) -> int:
        """Turn up to `at_most` records into metrics and spans; how many there were."""
        count = min(at_most, len(self._pending))
        for _ in range(count):
            record = self._pending.popleft()
            self._exchanges.fold(record)
            if self._spans is not None and record.traceparent:
                self._spans.add(record)
        return count

    def snapshot(self) -> bytes:
        """All metrics at this moment, for `exposition.render`."""
        self.fold(len(self._pending))
        return self.registry.snapshot()
