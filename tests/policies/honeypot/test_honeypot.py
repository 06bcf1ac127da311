"""Specification section 6, Adaptive honeypot: where traps lie, and what they say."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.honeypot.config import HoneypotConfig
from policies.honeypot.decoy import decoy_answer
from policies.honeypot.traps import period_of, traps_of_period
from policies.mathprotocol.codes import PRIMES, V21_TASKS, Kind
from policies.mathprotocol.responses import is_valid_response
from policies.model import UnixNanos

FREE = PRIMES - V21_TASKS
KEY = b"k" * 32


@given(st.integers(0, 2**63), st.integers(0, 10), st.binary(min_size=1, max_size=40))
def test_traps_are_as_many_as_asked_for_and_never_a_task(now: int, count: int, key: bytes) -> None:
    traps = traps_of_period(now, key, HoneypotConfig(rotating_traps=count), FREE)

    assert len(traps) == count
    assert traps <= FREE


def test_sidecars_agree_within_a_day_and_draw_anew_after_it() -> None:
    config = HoneypotConfig(rotating_traps=5)
    day = 86_400 * 10**9

    drawn = [traps_of_period(period_of(UnixNanos(n * day // 2), config), KEY, config, FREE) for n in range(20)]

    assert all(drawn[n] == drawn[n + 1] for n in range(0, 20, 2))
    assert len(set(drawn)) >= 9


def test_rotation_on_demand_draws_anew_at_once() -> None:
    drawn = {traps_of_period(1, KEY, HoneypotConfig(rotating_traps=5, generation=n), FREE) for n in range(10)}

    assert len(drawn) >= 9


def test_without_the_key_traps_cannot_be_foretold() -> None:
    drawn = {traps_of_period(1, bytes([n]), HoneypotConfig(rotating_traps=5), FREE) for n in range(10)}

    assert len(drawn) >= 9


def test_every_free_prime_has_its_turn_and_probed_ones_have_more() -> None:
    config = HoneypotConfig(rotating_traps=3, probed_primes=frozenset({97}))

    turns = Counter(prime for day in range(500) for prime in traps_of_period(day, KEY, config, FREE))

    assert set(turns) == FREE
    others = [count for prime, count in turns.items() if prime != 97]
    assert turns[97] > 1.8 * max(others)


def test_period_follows_the_clock() -> None:
    config = HoneypotConfig(rotation_seconds=60)

    assert [period_of(UnixNanos(s * 10**9), config) for s in (0, 59, 60, 121)] == [0, 0, 1, 2]


@given(st.text(), st.text())
def test_decoy_is_a_valid_answer(peer: str, request: str) -> None:
    answer = decoy_answer(KEY, peer.encode("utf-8", "replace").decode(), request)

    assert any(is_valid_response(answer, kind) for kind in Kind)


def test_prober_gets_the_same_again_and_another_prober_something_else() -> None:
    answers = [decoy_answer(KEY, f"peer {n}", "43-1 | x") for n in range(50)]

    assert answers == [decoy_answer(KEY, f"peer {n}", "43-1 | x") for n in range(50)]
    assert len(set(answers)) > 10


def test_every_wrong_setting_is_named() -> None:
    with pytest.raises(ValueError, match=r"rotating_traps: .*rotation_seconds: .*probed_primes: "):
        HoneypotConfig(rotating_traps=11, rotation_seconds=1, probed_primes=frozenset({101}))
