"""Spans of exchanges, built from records by whoever folds them, and handed to an exporter's own thread.

A span costs 16-21 µs to make, so none is made on the path of an exchange, and none at all for a trace that is not
sampled. Attributes are OpenTelemetry's `gen_ai.*`; the ones that would hold prompts or answers are never set. Names
that a client or a provider chose go through `redaction.scrub` and must look like names.

Imports the OpenTelemetry SDK (about 10 MB): only import this module when spans are exported.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from observability import names
from observability.cardinality import plain_name
from observability.exchanges import error_type
from observability.metrics import Counter
from observability.names import NONE
from observability.record import ExchangeRecord
from observability.redaction import scrub
from observability.trace_context import TraceContext, parse_traceparent

MAX_QUEUED: Final = 2048
"""Spans that wait for the exporter; the oldest are dropped."""

Attribute = str | bool | int | float | Sequence[str]


class Spans:
    """Builds a span for each sampled record and queues it for export. `close` flushes."""

    def __init__(self, exporter: SpanExporter, resource: Mapping[str, str], dropped: Counter) -> None:
        self._resource = Resource(resource)
        self._scope = InstrumentationScope("aegis-mesh", resource.get("service.version"))
        self._processor = BatchSpanProcessor(_CountingExporter(exporter, dropped), max_queue_size=MAX_QUEUED)

    def add(self, record: ExchangeRecord) -> None:
        """Queue the span of this exchange if its trace is sampled. Never blocks."""
        context = parse_traceparent(record.traceparent)
        if context is not None and context.sampled:
            self._processor.on_end(self._span(record, context))

    def close(self) -> None:
        """Export what is queued and stop. Blocks for at most the exporter's timeout."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]  # theirs has no types

    def _span(self, record: ExchangeRecord, context: TraceContext) -> ReadableSpan:
        trace_id = int(context.trace_id, 16)
        flags = TraceFlags(context.flags)
        parent = None
        if record.parent_span:
            parent = SpanContext(trace_id, int(record.parent_span, 16), is_remote=True, trace_flags=flags)
        error = error_type(record)
        return ReadableSpan(
            name=f"{record.endpoint.operation} {_name(record.request_model)}".rstrip(),
            context=SpanContext(trace_id, int(context.span_id, 16), is_remote=False, trace_flags=flags),
            parent=parent,
            resource=self._resource,
            attributes=attributes(record),
            kind=SpanKind.CLIENT,
            status=Status(StatusCode.UNSET if error == NONE else StatusCode.ERROR),
            start_time=record.started_at,
            end_time=max(record.ended_at, record.started_at),
            instrumentation_scope=self._scope,
        )


def attributes(record: ExchangeRecord) -> dict[str, Attribute]:
    """What a span says of an exchange. No text, no key, no identifier."""
    identifiers = {label: count for label, count in record.findings.items() if "." not in label}
    found: dict[str, Attribute] = {
        "gen_ai.operation.name": record.endpoint.operation,
        "gen_ai.provider.name": record.endpoint.provider,
        "gen_ai.request.stream": record.stream,
        "http.response.status_code": record.status,
        names.SPAN_EXCHANGE: record.exchange,
        names.SPAN_ROUTE: _name(record.endpoint.route),
        names.SPAN_RESULT: record.result.name.lower(),
        names.SPAN_IDENTIFIERS: sum(identifiers.values()),
        names.SPAN_IDENTIFIER_LABELS: tuple(sorted(identifiers)),
    }
    optional: dict[str, Attribute] = {
        "gen_ai.request.model": _name(record.request_model),
        "gen_ai.response.model": _name(record.response_model),
        "gen_ai.response.id": _name(record.response_id),
        "server.address": record.endpoint.server_address,
    }
    found.update({key: value for key, value in optional.items() if value})
    if record.finish_reason:
        found["gen_ai.response.finish_reasons"] = (_name(record.finish_reason),)
    if record.endpoint.server_port:
        found["server.port"] = record.endpoint.server_port
    if record.input_tokens is not None:
        found["gen_ai.usage.input_tokens"] = record.input_tokens
    if record.output_tokens is not None:
        found["gen_ai.usage.output_tokens"] = record.output_tokens
    if record.stream and record.first_chunk_at and record.sent_at:
        found["gen_ai.response.time_to_first_chunk"] = (record.first_chunk_at - record.sent_at) / 1e9
    error = error_type(record)
    if error != NONE:
        found["error.type"] = error
    return found


def _name(text: str) -> str:
    return scrub(plain_name(text)) if text else ""


class _CountingExporter(SpanExporter):
    """Passes spans on and counts those that were not taken."""

    def __init__(self, exporter: SpanExporter, dropped: Counter) -> None:
        self._exporter = exporter
        self._dropped = dropped.cell()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self._dropped[0] += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)
