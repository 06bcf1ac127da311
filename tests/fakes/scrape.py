"""A Prometheus that reads one page."""

from collections.abc import Iterable

from prometheus_client.parser import text_string_to_metric_families

from observability.exposition import render


def samples(snapshots: Iterable[bytes]) -> dict[str, float]:
    """`name{label="value",...}` -> value, as an independent parser reads the merged page; labels are sorted."""
    _, page = render(snapshots)
    return {
        sample.name + "{" + ",".join(f'{k}="{v}"' for k, v in sorted(sample.labels.items())) + "}": sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }
