"""Spans as an OpenTelemetry backend gets them."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from opentelemetry.trace.status import StatusCode

from observability import names
from observability.metrics import Registry
from observability.otlp import ExporterMissingError, otlp_exporter
from observability.record import ExchangeRecord
from observability.telemetry import Telemetry
from observability.tracing import Spans
from policies.model import ResultCode, UnixNanos
from tests.fakes.records import DENIED, STARTED, STREAMED
from tests.fakes.scrape import samples

RESOURCE = {"service.name": "aegis-sidecar", "service.version": "0.1.0"}


def exported(*records: ExchangeRecord) -> list[ReadableSpan]:
    """What reaches the backend after these exchanges."""
    registry, exporter = Registry(), InMemorySpanExporter()
    spans = Spans(exporter, RESOURCE, registry.counter(names.SPANS_DROPPED))
    telemetry = Telemetry(registry, spans=spans)
    for record in records:
        telemetry.record(record)
    telemetry.fold(len(records))
    spans.close()
    return list(exporter.get_finished_spans())


def test_a_span_follows_the_semantic_conventions_for_generative_ai() -> None:
    """llm-wire.md section 6."""
    (span,) = exported(STREAMED)

    assert span.name == "chat gpt-4o"
    assert SpanKind.CLIENT is span.kind
    assert StatusCode.UNSET is span.status.status_code
    assert (STARTED, STREAMED.ended_at) == (span.start_time, span.end_time)
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.stream": True,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.id": "chatcmpl-123",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.response.time_to_first_chunk": 0.1,
        "gen_ai.usage.input_tokens": 30,
        "gen_ai.usage.output_tokens": 11,
        "http.response.status_code": 200,
        "server.address": "api.openai.com",
        "server.port": 443,
        "aegis.exchange.id": "01JD0000000000000000000000",
        "aegis.route": "openai",
        "aegis.result": "forwarded",
        "aegis.identifiers": 2,
        "aegis.identifiers.labels": ("us_ssn",),
    }


def test_a_span_stands_in_its_callers_trace_under_the_id_that_went_upstream() -> None:
    (span,) = exported(STREAMED)

    assert span.context is not None
    assert span.parent is not None
    assert STREAMED.traceparent == f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-01"
    assert STREAMED.parent_span == f"{span.parent.span_id:016x}"
    assert span.parent.is_remote


def test_a_root_has_no_parent_and_an_unsampled_trace_no_span() -> None:
    root = STREAMED._replace(parent_span="")
    unsampled = STREAMED._replace(traceparent=STREAMED.traceparent[:-2] + "00")

    spans = exported(root, unsampled, STREAMED._replace(traceparent="garbage-01"))

    assert [span.parent for span in spans] == [None]


def test_a_refused_exchange_is_an_error_without_provider_attributes() -> None:
    (span,) = exported(DENIED)

    assert StatusCode.ERROR is span.status.status_code
    assert span.attributes is not None
    assert span.attributes["error.type"] == "denied_airlock"
    assert not [name for name in span.attributes if name.startswith(("gen_ai.response", "gen_ai.usage"))]


def test_names_chosen_by_others_cannot_carry_text_or_keys() -> None:
    record = STREAMED._replace(
        request_model="call me at 555-0100",
        response_model="sk-proj-CANARYCANARY",
        response_id="x\ny",
        finish_reason="because the patient said so",
    )

    (span,) = exported(record)

    assert span.name == "chat other"
    shown = repr(dict(span.attributes or {}))
    for canary in ("555", "CANARY", "x\\ny", "patient"):
        assert canary not in shown


def test_a_clock_that_went_back_makes_no_negative_span() -> None:
    (span,) = exported(STREAMED._replace(ended_at=UnixNanos(STARTED - 5)))

    assert span.start_time == span.end_time


def test_spans_that_the_backend_does_not_take_are_counted() -> None:
    class Refusing(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            return SpanExportResult.FAILURE

    registry = Registry()
    spans = Spans(Refusing(), RESOURCE, registry.counter(names.SPANS_DROPPED))
    spans.add(STREAMED)
    spans.add(STREAMED._replace(result=ResultCode.CLIENT_GONE))

    spans.close()

    assert samples([registry.snapshot()])["aegis_spans_dropped_total{}"] == 2


@pytest.mark.skipif(
    importlib.util.find_spec("opentelemetry.exporter") is not None, reason="the extra otlp is installed"
)
def test_an_endpoint_without_the_exporter_is_an_error_and_not_silence() -> None:
    with pytest.raises(ExporterMissingError, match=r"aegis-mesh\[otlp\]"):
        otlp_exporter("http://127.0.0.1:4317")


@pytest.mark.peers
def test_spans_reach_a_collector_over_otlp(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc")
    from concurrent.futures import ThreadPoolExecutor

    import grpc
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

    received = []

    class Collector(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request, context):  # noqa: N802 their name
            received.append(request)
            return trace_service_pb2.ExportTraceServiceResponse()

    server = grpc.server(ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Collector(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    registry = Registry()
    spans = Spans(otlp_exporter(f"http://127.0.0.1:{port}"), RESOURCE, registry.counter(names.SPANS_DROPPED))

    spans.add(STREAMED)
    spans.close()
    server.stop(0)

    (span,) = received[0].resource_spans[0].scope_spans[0].spans
    assert span.name == "chat gpt-4o"
    assert samples([registry.snapshot()])["aegis_spans_dropped_total{}"] == 0
