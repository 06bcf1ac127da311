"""Counters, gauges, histograms; snapshots of several processes as one page."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families

from observability import names
from observability.exposition import render
from observability.metrics import MAX_SERIES, Registry
from observability.names import FAMILIES, Kind
from tests.fakes.scrape import samples


def test_a_counter_counts_each_combination_of_labels() -> None:
    registry = Registry()
    alerts = registry.counter(names.ALERTS)

    alerts.add(("probe", "warning"))
    alerts.add(("probe", "warning"), 2)
    alerts.add(("flood", "critical"))

    found = samples([registry.snapshot()])
    assert found['aegis_alerts_total{code="probe",severity="warning"}'] == 3
    assert found['aegis_alerts_total{code="flood",severity="critical"}'] == 1


def test_a_counter_without_labels_shows_zero_before_anything_happened() -> None:
    registry = Registry()

    registry.counter(names.AUDIT_ENTRIES)

    assert samples([registry.snapshot()])["aegis_audit_entries_total{}"] == 0


def test_a_gauge_can_be_set_moved_replaced_and_watched() -> None:
    registry = Registry()
    applied, banned = registry.gauge(names.CONFIG_APPLIED), registry.gauge(names.BANNED_PEERS)
    banned.add(2)
    banned.add(-1)
    applied.set(1, ("airlock", "hipaa", "aaaa"))
    applied.replace({("airlock", "hipaa", "bbbb"): 1})
    registry.gauge(names.AUDIT_QUEUE).watch(lambda: {(): 7})
    registry.counter(names.CPU_SECONDS).watch(lambda: {(): 1.5})

    found = samples([registry.snapshot()])

    assert found["aegis_banned_peers{}"] == 1
    assert found["aegis_audit_queue_entries{}"] == 7
    assert found["process_cpu_seconds_total{}"] == 1.5
    assert [name for name in found if name.startswith("sidecar_config_applied")] == [
        'sidecar_config_applied_version_info{name="hipaa",type="airlock",version="bbbb"}'
    ]


def test_buckets_are_cumulative_and_include_their_upper_bound() -> None:
    registry = Registry()
    duration = registry.histogram(names.EXCHANGE_DURATION)
    for value in (0.0005, 0.0006, 1000.0):
        duration.observe(value, ("openai", "openai.chat"))

    found = samples([registry.snapshot()])

    where = 'dialect="openai.chat"', 'route="openai"'
    bucket = 'aegis_exchange_duration_seconds_bucket{{{0},le="{2}",{1}}}'
    assert found[bucket.format(*where, "0.0005")] == 1
    assert found[bucket.format(*where, "0.001")] == 2
    assert found[bucket.format(*where, "120.0")] == 2
    assert found[bucket.format(*where, "+Inf")] == 3
    assert found["aegis_exchange_duration_seconds_count{{{},{}}}".format(*where)] == 3
    assert pytest.approx(found["aegis_exchange_duration_seconds_sum{{{},{}}}".format(*where)]) == 1000.0011


@given(st.lists(st.lists(st.floats(0, 200), max_size=8), min_size=1, max_size=4))
def test_merging_workers_gives_what_one_process_would_have_counted(workers: list[list[float]]) -> None:
    alone = Registry()
    snapshots = []
    for values in workers:
        registry = Registry()
        for value in values:
            for each in (registry, alone):
                each.histogram(names.CP_PUSH_SECONDS).observe(value)
                each.counter(names.BANS).add(("abuse",))
        snapshots.append(registry.snapshot())

    assert samples([alone.snapshot()]) == pytest.approx(samples(snapshots))


def test_gauges_of_workers_merge_as_their_family_says() -> None:
    snapshots = []
    for connected, age in ((1, 3.0), (0, 9.0)):
        registry = Registry()
        registry.gauge(names.AUDIT_CONNECTED).set(connected)
        registry.gauge(names.AUDIT_OLDEST).set(age)
        registry.gauge(names.CONNECTIONS_OPEN).set(5)
        snapshots.append(registry.snapshot())

    found = samples(snapshots)

    assert found["aegis_audit_ledger_connected{}"] == 0
    assert found["aegis_audit_oldest_pending_seconds{}"] == 9
    assert found["aegis_connections_open{}"] == 10


def test_series_beyond_the_bound_become_other() -> None:
    registry = Registry()
    bans = registry.counter(names.BANS)

    for n in range(MAX_SERIES + 10):
        bans.add((f"code-{n}",))

    found = samples([registry.snapshot()])
    assert len(found) == MAX_SERIES + 1
    assert found['aegis_bans_total{code="other"}'] == 10


def test_dropped_series_leave_the_page() -> None:
    registry = Registry()
    duration = registry.histogram(names.EXCHANGE_DURATION)
    duration.observe(1, ("old", "openai.chat"))
    duration.observe(1, ("new", "openai.chat"))

    duration.drop(lambda labels: labels[0] == "old")

    assert not [name for name in samples([registry.snapshot()]) if 'route="old"' in name]


def test_a_scraper_that_asks_for_openmetrics_gets_it() -> None:
    registry = Registry()
    registry.counter(names.ALERTS).add(("probe", "info"))

    content_type, page = render([registry.snapshot()], "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")

    assert content_type.startswith("application/openmetrics-text")
    assert [family.name for family in openmetrics_families(page.decode())] == ["aegis_alerts"]


def test_every_family_is_named_once_and_as_prometheus_wants_it() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    for family in FAMILIES:
        assert not family.name.endswith(("_total", "_bucket", "_sum", "_count")), family.name
        assert bool(family.boundaries) == (family.kind is Kind.HISTOGRAM), family.name
        assert tuple(sorted(family.boundaries)) == family.boundaries, family.name


def test_gen_ai_boundaries_are_those_of_the_semantic_conventions() -> None:
    """llm-wire.md section 6."""
    duration = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
    tokens = [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864]
    first_token = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]
    output_token = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5]

    assert tokens == list(names.GEN_AI_TOKEN_USAGE.boundaries)
    assert duration == list(names.GEN_AI_OPERATION_DURATION.boundaries)
    assert duration == list(names.GEN_AI_TIME_TO_FIRST_CHUNK.boundaries)
    assert duration == list(names.GEN_AI_REQUEST_DURATION.boundaries)
    assert first_token == list(names.GEN_AI_TIME_TO_FIRST_TOKEN.boundaries)
    assert output_token == list(names.GEN_AI_TIME_PER_OUTPUT_TOKEN.boundaries)
