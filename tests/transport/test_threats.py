"""Floods, storms, replays: what is let in, what is reported, and that none of it grows without bound."""

from hypothesis import given
from hypothesis import strategies as st

from transport.decisions import SecurityEvent
from transport.replays import ReplayCache
from transport.threats import MAX_SOURCES, Bucket, Report, ThreatLimits, Watch

LIMITS = ThreatLimits(
    handshakes=10,
    handshake_burst=20,
    source_handshakes=1,
    source_burst=5,
    stale_keys=4,
    window=60,
    quiet=60,
)


def watching(limits: ThreatLimits = LIMITS) -> tuple[Watch, list[Report]]:
    reports: list[Report] = []
    return Watch(limits, ReplayCache(bytes(16), capacity=8), reports.append), reports


def test_a_flood_of_one_source_is_cut_and_leaves_the_others_alone() -> None:
    watch, reports = watching()

    admitted = [watch.admit("10.0.0.1", 0.0) for _ in range(100)]

    assert sum(admitted) == 5
    assert all(watch.admit(f"10.0.1.{number}", 0.0) for number in range(15))
    assert [Report(SecurityEvent.HANDSHAKE_FLOOD, "10.0.0.1", 1)] == reports


def test_all_sources_together_are_bounded_too() -> None:
    watch, reports = watching()

    admitted = sum(watch.admit(f"10.0.{number // 256}.{number % 256}", 0.0) for number in range(1000))

    assert admitted == 20
    assert Report(SecurityEvent.HANDSHAKE_FLOOD, "", 1) in reports


def test_a_source_comes_back_when_it_slows_down() -> None:
    watch, _ = watching()
    for _ in range(10):
        watch.admit("a", 0.0)

    assert watch.admit("a", 1.1)
    assert not watch.admit("a", 1.2)


def test_an_event_is_reported_once_while_it_lasts_and_then_with_its_count() -> None:
    watch, reports = watching()
    for now in (0.0, 1.0, 2.0, 61.0):
        watch.observed(SecurityEvent.UNKNOWN_STATIC, "10.0.0.1", now)

    assert [report.count for report in reports] == [1, 3]
    assert watch.counts[SecurityEvent.UNKNOWN_STATIC] == 4


def test_stale_keys_become_a_storm() -> None:
    watch, reports = watching()
    for now in (0.0, 20.0, 40.0):
        watch.rejected_ech(now)
    assert reports == []

    watch.rejected_ech(59.0)

    assert [report.event for report in reports] == [SecurityEvent.STALE_KEY_STORM]


def test_a_few_stale_keys_a_minute_are_no_storm() -> None:
    watch, reports = watching()
    for number in range(30):
        watch.rejected_ech(number * 25.0)

    assert reports == []
    assert watch.counts[SecurityEvent.ECH_KEY_STALE] == 30


def test_a_replayed_first_flight_is_found_and_reported() -> None:
    watch, reports = watching()

    assert [watch.is_replay(b"enc", "10.0.0.1", now) for now in (0.0, 1.0)] == [False, True]
    assert [Report(SecurityEvent.REPLAYED_FIRST_FLIGHT, "10.0.0.1", 1)] == reports


@given(st.lists(st.tuples(st.integers(0, 12).map(lambda n: bytes([n])), st.floats(0, 50)), max_size=80))
def test_a_replay_is_never_a_false_alarm_and_recent_ones_are_always_found(history: list[tuple[bytes, float]]) -> None:
    cache, now, last = ReplayCache(bytes(range(16)), capacity=8, window=100), 0.0, dict[bytes, tuple[float, int]]()
    for position, (value, wait) in enumerate(history):
        now += wait
        before = last.get(value)

        replay = cache.seen(value, now)

        if before is None:
            assert not replay
        elif now - before[0] < 100 and position - before[1] <= 8:
            assert replay
        last[value] = now, position
        assert len(cache) <= 16


@given(st.lists(st.floats(0, 3), max_size=100))
def test_a_bucket_gives_no_more_than_its_rate_and_burst(waits: list[float]) -> None:
    bucket, now, taken = Bucket(rate=2, burst=3), 0.0, 0
    for wait in waits:
        now += wait
        taken += bucket.take(now)

    assert taken <= 3 + 2 * now + 1e-6


def test_memory_is_bounded_whoever_comes() -> None:
    watch, _ = watching()
    for number in range(3 * MAX_SOURCES):
        watch.admit(f"source {number}", number * 0.1)
        watch.observed(SecurityEvent.UNKNOWN_STATIC, f"source {number}", number * 0.1)

    assert len(watch._sources) == MAX_SOURCES
    assert len(watch._told) == MAX_SOURCES
