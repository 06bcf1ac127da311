"""The circuit breaker, with the clock as an argument."""

from hypothesis import given
from hypothesis import strategies as st

from transport.breaker import Breaker, BreakerLimits, State, Trip
from transport.fallback import Counts

LIMITS = BreakerLimits(window=30, transport_failures=3, rejections=4, hold=1, authentication_hold=60, probe_within=30)
failures = st.sampled_from([Counts.AUTHENTICATION, Counts.TRANSPORT, Counts.REJECTION, Counts.NOTHING])
steps = st.lists(st.tuples(st.floats(0, 100), failures | st.just("success") | st.just("ask")), max_size=60)


def test_an_authentication_failure_trips_at_once() -> None:
    breaker = Breaker(LIMITS)

    tripped = breaker.failed(Counts.AUTHENTICATION, 0.0)

    assert Trip.AUTHENTICATION is tripped
    assert not breaker.allow(59.9)
    assert breaker.allow(60.1)


def test_transport_failures_trip_when_enough_fall_into_the_window() -> None:
    breaker = Breaker(LIMITS)

    tripped = [breaker.failed(Counts.TRANSPORT, now) for now in (0.0, 1.0, 31.5, 32.0, 33.0)]

    assert tripped == [None, None, None, None, Trip.TRANSPORT]


def test_ech_rejections_have_a_counter_of_their_own() -> None:
    breaker = Breaker(LIMITS)

    for now in (0.0, 0.1, 0.2):
        assert breaker.failed(Counts.REJECTION, now) is None
    for now in (0.3, 0.4):
        assert breaker.failed(Counts.TRANSPORT, now) is None

    assert breaker.allow(0.5)
    assert breaker.rejected == 3
    assert Trip.REJECTION is breaker.failed(Counts.REJECTION, 0.6)


def test_what_was_never_sent_counts_for_nothing() -> None:
    breaker = Breaker(LIMITS)

    for now in range(100):
        assert breaker.failed(Counts.NOTHING, float(now)) is None

    assert State.CLOSED is breaker.state(100.0)


def test_half_open_lets_one_through() -> None:
    breaker = Breaker(LIMITS)
    breaker.failed(Counts.AUTHENTICATION, 0.0)

    assert [breaker.allow(now) for now in (61.0, 61.1, 90.0)] == [True, False, False]
    assert breaker.allow(91.1), "a probe that was never answered must not shut the peer for ever"


def test_a_failed_probe_opens_again_for_longer() -> None:
    breaker = Breaker(LIMITS)
    for now in (0.0, 0.0, 0.0):
        breaker.failed(Counts.TRANSPORT, now)
    assert breaker.allow(1.1)

    assert Trip.TRANSPORT is breaker.failed(Counts.TRANSPORT, 1.2)
    assert not breaker.allow(3.1)
    assert breaker.allow(3.3)


def test_an_attempt_that_tells_nothing_lets_another_one_be_made() -> None:
    breaker = Breaker(LIMITS)
    breaker.failed(Counts.AUTHENTICATION, 0.0)
    assert breaker.allow(60.0)
    assert not breaker.allow(60.0)

    breaker.inconclusive()

    assert State.HALF_OPEN is breaker.state(60.0)
    assert breaker.retry_at(60.0) == 60.0
    assert breaker.allow(60.0)


def test_a_success_forgets() -> None:
    breaker = Breaker(LIMITS)
    breaker.failed(Counts.AUTHENTICATION, 0.0)
    assert breaker.allow(60.0)

    breaker.succeeded()

    assert State.CLOSED is breaker.state(60.0)
    assert breaker.failed(Counts.TRANSPORT, 60.0) is None


@given(steps)
def test_a_lesser_failure_never_shortens_the_hold(history: list[tuple[float, object]]) -> None:
    breaker, now, held_until = Breaker(LIMITS), 0.0, 0.0
    for wait, what in history:
        now += wait
        if what == "ask":
            allowed = breaker.allow(now)
            assert not (allowed and now < held_until)
        elif what == "success":
            breaker.succeeded()
            held_until = 0.0
        elif isinstance(what, Counts):
            breaker.failed(what, now)
            if what is Counts.AUTHENTICATION:
                held_until = max(held_until, now + 60)
                assert State.OPEN is breaker.state(now)
        assert breaker.retry_at(now) >= now
        assert breaker.retry_at(now) > now or breaker.state(now) is not State.OPEN
        assert len(breaker._transport) < 3
        assert len(breaker._rejections) < 4


@given(steps)
def test_a_peer_is_never_shut_for_ever(history: list[tuple[float, object]]) -> None:
    breaker, now = Breaker(LIMITS), 0.0
    for wait, what in history:
        now += wait
        if isinstance(what, Counts):
            breaker.failed(what, now)
        elif what == "ask":
            breaker.allow(now)

    assert breaker.allow(breaker.retry_at(now) + 0.001)
