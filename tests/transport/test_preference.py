"""Fastest first, but only among equals."""

from hypothesis import given
from hypothesis import strategies as st

from transport.peers import Carrier, Endpoint
from transport.preference import FADE_AFTER, MAX_KNOWN, HandshakeTimes, Option, in_order

E = [Endpoint(Carrier.TCP, f"10.0.0.{number}", 15008) for number in range(6)]
options = st.lists(st.builds(Option, st.sampled_from(E), st.integers(0, 2)), max_size=8)
observed = st.lists(st.tuples(st.sampled_from(E), st.floats(0.0001, 5), st.floats(0, 50)), max_size=20)


def measured(history: list[tuple[Endpoint, float, float]]) -> tuple[HandshakeTimes, float]:
    times, now = HandshakeTimes(), 0.0
    for endpoint, seconds, wait in history:
        now += wait
        times.observe(endpoint, seconds, now)
    return times, now


@given(options, observed, st.frozensets(st.sampled_from(E)))
def test_speed_never_buys_safety(
    given_options: list[Option], history: list[tuple[Endpoint, float, float]], shut: frozenset[Endpoint]
) -> None:
    times, now = measured(history)

    chosen = in_order(given_options, times, lambda endpoint: endpoint not in shut, now)

    safest = max((option.safety for option in given_options), default=0)
    assert {option.endpoint for option in given_options if option.safety == safest} - shut == set(chosen)


def test_the_fastest_comes_first_and_the_unknown_is_tried() -> None:
    times, now = measured([(E[0], 0.02, 0), (E[1], 0.01, 0)])

    assert [E[1], E[0]] == in_order(map(Option, E[:2]), times, lambda _: True, now)
    assert E[2] == in_order(map(Option, E[:3]), times, lambda _: True, now)[0]


def test_a_resetting_safe_endpoint_does_not_open_the_way_to_a_weaker_one() -> None:
    weak, safe = Option(E[0], 0), Option(E[1], 1)

    assert in_order([weak, safe], HandshakeTimes(), lambda endpoint: endpoint != safe.endpoint, 0.0) == []


def test_what_was_slow_once_gets_another_chance() -> None:
    times, _ = measured([(E[0], 2.0, 0), (E[1], 0.5, 0)])
    later = FADE_AFTER * 10
    times.observe(E[1], 0.5, later)

    assert E[0] == in_order(map(Option, E[:2]), times, lambda _: True, later)[0]


def test_a_failure_counts_more_than_a_slow_handshake() -> None:
    times, now = measured([(E[0], 0.01, 0), (E[1], 0.9, 0)])
    times.observe_failure(E[0], now)

    assert E[1] == in_order(map(Option, E[:2]), times, lambda _: True, now)[0]


def test_memory_is_bounded() -> None:
    times = HandshakeTimes()
    for number in range(2 * MAX_KNOWN):
        times.observe(Endpoint(Carrier.TCP, f"h{number}", 1), 0.1, float(number))
        times.observe_failure(Endpoint(Carrier.QUIC, f"h{number}", 1), float(number))

    assert len(times._known) == MAX_KNOWN
