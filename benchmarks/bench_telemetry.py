"""What observability costs an exchange: CPU time on the path and off it, beside prometheus_client and OpenTelemetry.

    python benchmarks/bench_telemetry.py

Budget: at most 1 µs on the path of an exchange (specs: telemetry off the path, performance section 4). Medians of
interleaved rounds of CPU time on one thread; the ratios are the figures to trust.
"""

import statistics
import time
from collections.abc import Callable

import prometheus_client
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from observability import names
from observability.exchanges import ExchangeMetrics
from observability.exposition import render
from observability.metrics import Registry
from observability.record import ExchangeRecord
from observability.telemetry import Telemetry
from tests.fakes.records import STREAMED

ROUNDS = 15
CALLS = 4000


class Nowhere(SpanExporter):
    """Takes every span."""

    def export(self, spans: object) -> SpanExportResult:  # noqa: ARG002 their signature
        return SpanExportResult.SUCCESS


class Dropped:
    """A span sink that does nothing: isolates the cost of ours."""

    def add(self, record: ExchangeRecord) -> None:
        pass


def main() -> None:
    """Measure and print."""
    registry = Registry()
    off = Telemetry(Registry())
    on = Telemetry(registry, spans=Dropped(), sample_ratio=0.01)
    exchanges = ExchangeMetrics(registry)
    alerts = registry.counter(names.ALERTS)
    duration = registry.histogram(names.EXCHANGE_DURATION)
    caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"

    theirs = prometheus_client.CollectorRegistry()
    counter = prometheus_client.Counter("c", "c", ["a", "b"], registry=theirs)
    histogram = prometheus_client.Histogram("h", "h", ["a", "b"], registry=theirs)
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Nowhere()))
    tracer = provider.get_tracer("t")
    unsampled = TracerProvider(sampler=ALWAYS_OFF).get_tracer("t")

    def path(telemetry: Telemetry, incoming: str) -> Callable[[], object]:
        def exchange() -> None:
            telemetry.trace(incoming)
            telemetry.upstream_connected("openai", reused=True)
            telemetry._pending.append(STREAMED)  # `record` without the fold that it does when nobody folds

        return exchange

    def clear(telemetry: Telemetry) -> None:
        telemetry._pending.clear()

    def span() -> None:
        with tracer.start_as_current_span("chat gpt-4o") as current:
            current.set_attribute("gen_ai.operation.name", "chat")

    subjects: dict[str, Callable[[], object]] = {
        "on the path: tracing off": path(off, ""),
        "on the path: tracing on, new trace": path(on, ""),
        "on the path: tracing on, caller's trace": path(on, caller),
        "off the path: fold one record": lambda: exchanges.fold(STREAMED),
        "count (ours)": lambda: alerts.add(("code", "warning")),
        "observe (ours)": lambda: duration.observe(0.01, ("openai", "openai.chat")),
        "count (prometheus_client)": lambda: counter.labels("code", "warning").inc(),
        "observe (prometheus_client)": lambda: histogram.labels("openai", "openai.chat").observe(0.01),
        "span (OpenTelemetry SDK)": span,
        "span, unsampled (OpenTelemetry SDK)": lambda: unsampled.start_span("chat").end(),
    }
    rounds: dict[str, list[float]] = {name: [] for name in subjects}
    empty: list[float] = []
    for _ in range(ROUNDS):
        empty.append(_cpu(lambda: None))
        for name, subject in subjects.items():
            rounds[name].append(_cpu(subject))
            clear(off)
            clear(on)
    base = statistics.median(empty)
    print(f"{'':45}{'CPU µs':>8}")
    for name, taken in rounds.items():
        print(f"{name:45}{statistics.median(taken) - base:8.3f}")
    snapshot = registry.snapshot()
    page = min(_cpu(lambda: render([snapshot]), 20) for _ in range(3))
    print(f"{'a scrape (off the path)':45}{page:8.0f}")


def _cpu(call: Callable[[], object], calls: int = CALLS) -> float:
    """CPU µs of one call."""
    before = time.process_time_ns()
    for _ in range(calls):
        call()
    return (time.process_time_ns() - before) / calls / 1000


if __name__ == "__main__":
    main()
