"""Snapshots of one or more worker processes as one Prometheus page."""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from prometheus_client import exposition as prometheus
from prometheus_client import openmetrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from observability.metrics import Labels, Snapshot
from observability.names import FAMILIES, Family, Kind, Merge

_DECODER: Final = msgspec.msgpack.Decoder(Snapshot)
_OPENMETRICS: Final = "application/openmetrics-text"


def render(snapshots: Iterable[bytes], accept: str = "") -> tuple[str, bytes]:
    """(content type, page): the snapshots merged, in the format that the scraper's Accept header asks for.

    Raises msgspec.DecodeError for bytes that `Registry.snapshot` did not write.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Merged(_DECODER.decode(snapshot) for snapshot in snapshots))
    if _OPENMETRICS in accept:
        page: bytes = openmetrics.exposition.generate_latest(registry)  # type: ignore[no-untyped-call]  # as it is
        return openmetrics.exposition.CONTENT_TYPE_LATEST, page
    return prometheus.CONTENT_TYPE_PLAIN_0_0_4, prometheus.generate_latest(registry)


class Merged(Collector):
    """Several snapshots as one: counters and histograms added up, gauges as their family says."""

    def __init__(self, snapshots: Iterable[Snapshot]) -> None:
        self._snapshots = tuple(snapshots)

    def collect(self) -> Iterator[Metric]:
        """Every family that has a value, in the order of `names`."""
        for family in FAMILIES:
            if family.kind is Kind.HISTOGRAM:
                series = self._histogram(family)
                if series:
                    yield _histogram_metric(family, series)
                continue
            values = self._number(family)
            if values:
                yield _number_metric(family, values)

    def _number(self, family: Family) -> dict[Labels, float]:
        merged: dict[Labels, float] = {}
        for snapshot in self._snapshots:
            for labels, value in snapshot.numbers.get(family.name, ()):
                merged[labels] = _merge(family.merge, merged[labels], value) if labels in merged else value
        return merged

    def _histogram(self, family: Family) -> dict[Labels, list[float]]:
        merged: dict[Labels, list[float]] = {}
        for snapshot in self._snapshots:
            for labels, series in snapshot.histograms.get(family.name, ()):
                earlier = merged.get(labels)
                merged[labels] = [a + b for a, b in zip(earlier, series, strict=True)] if earlier else series
        return merged


def _merge(how: Merge, one: float, other: float) -> float:
    match how:
        case Merge.SUM:
            return one + other
        case Merge.MIN:
            return min(one, other)
        case Merge.MAX:
            return max(one, other)


def _number_metric(family: Family, values: dict[Labels, float]) -> Metric:
    kind = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
    metric = kind(family.name, family.help, labels=family.labels)
    for labels, value in sorted(values.items()):
        metric.add_metric(labels, value)
    return metric


def _histogram_metric(family: Family, series: dict[Labels, list[float]]) -> Metric:
    metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    bounds = [*(f"{bound:.12g}" if bound % 1 else f"{bound:.1f}" for bound in family.boundaries), "+Inf"]
    for labels, counts in sorted(series.items()):
        below = 0.0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip(bounds, counts, strict=False):
            below += count
            buckets.append((bound, below))
        metric.add_metric(labels, buckets, sum_value=counts[-1])
    return metric
