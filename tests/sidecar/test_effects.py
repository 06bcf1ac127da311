"""What policies ask for is done: alerts, bans, dead letters."""

import logging
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observability import names
from observability.metrics import Registry
from policies.model import Alert, Ban, DeadLetter, ExchangeId, Severity, UnixNanos
from sidecar.effects import LONGEST_BAN, MAX_DEAD_LETTERS, LocalEffects

EXCHANGE = ExchangeId("01JD0000000000000000000000")
NOW = UnixNanos(1_795_132_800_000_000_000)
SECOND = 1_000_000_000


def at(seconds: float) -> UnixNanos:
    return UnixNanos(NOW + round(seconds * SECOND))


def ban(peer: str, seconds: float) -> Ban:
    return Ban(peer, seconds, "honeypot")


@pytest.mark.parametrize(
    ("severity", "level"),
    [(Severity.INFO, "INFO"), (Severity.WARNING, "WARNING"), (Severity.CRITICAL, "ERROR")],
)
def test_an_alert_is_logged_as_urgently_as_it_is_and_counted(
    severity: Severity, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry()
    caplog.set_level(logging.INFO)

    LocalEffects(registry).carry_out((Alert("probe", severity, "three in a row"),), EXCHANGE, NOW)

    (record,) = caplog.records
    assert level == record.levelname
    assert (record.message, vars(record)["code"], vars(record)["exchange"]) == ("policy alert", "probe", EXCHANGE)
    assert {("probe", severity.value): 1} == registry.counter(names.ALERTS).values()


def test_a_banned_peer_is_refused_until_its_time_is_over_and_nobody_else_is() -> None:
    registry = Registry()
    effects = LocalEffects(registry)

    effects.carry_out((ban("mallory", 60),), EXCHANGE, NOW)

    assert effects.banned("mallory", at(59.9))
    assert not effects.banned("mallory", at(60))
    assert not effects.banned("alice", at(1))
    assert effects.bans(NOW) == {"mallory": 60.0}
    assert registry.counter(names.BANS).values() == {("honeypot",): 1}


def test_a_shorter_ban_does_not_shorten_a_longer_one() -> None:
    effects = LocalEffects(Registry())

    effects.carry_out((ban("mallory", 60), ban("mallory", 5), ban("mallory", 90)), EXCHANGE, NOW)

    assert effects.banned("mallory", at(89))
    assert not effects.banned("mallory", at(90))


@pytest.mark.parametrize(
    ("seconds", "lasts"), [(math.inf, LONGEST_BAN), (math.nan, LONGEST_BAN), (1e300, LONGEST_BAN), (-1, 0), (0, 0)]
)
def test_a_ban_of_odd_length_is_bounded(seconds: float, lasts: float) -> None:
    effects = LocalEffects(Registry())

    effects.carry_out((ban("mallory", seconds),), EXCHANGE, NOW)

    assert bool(lasts) == effects.banned("mallory", at(lasts - 1))
    assert not effects.banned("mallory", at(lasts))


def test_the_number_of_bans_is_bounded_and_the_first_to_end_makes_room() -> None:
    registry = Registry()
    effects = LocalEffects(registry, max_bans=3)

    for n, seconds in enumerate([30, 10, 20, 40]):
        effects.carry_out((ban(f"peer-{n}", seconds),), EXCHANGE, NOW)

    assert [peer for peer in map("peer-{}".format, range(4)) if effects.banned(peer, NOW)] == [
        "peer-0",
        "peer-2",
        "peer-3",
    ]
    assert registry.gauge(names.BANNED_PEERS).values() == {(): 3}


def test_a_peer_that_is_banned_again_and_again_takes_no_more_room() -> None:
    effects = LocalEffects(Registry())

    for n in range(1000):
        effects.carry_out((ban("mallory", 3600 + n),), EXCHANGE, NOW)

    assert len(effects._ends) < 100
    assert effects.banned("mallory", at(3600 + 998))


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 20), st.integers(0, 5))))
def test_bans_are_what_a_plain_table_would_say(steps: list[tuple[str, int, int]]) -> None:
    effects = LocalEffects(Registry())
    table: dict[str, int] = {}
    now = 0
    for peer, seconds, passed in steps:
        now += passed
        effects.carry_out((ban(peer, seconds),), EXCHANGE, at(now))
        table[peer] = max(table.get(peer, 0), now + seconds)

        assert {p for p, until in table.items() if now < until} == {p for p in "abcdef" if effects.banned(p, at(now))}


def test_an_exchange_to_replay_is_remembered_by_its_id_and_their_number_is_bounded() -> None:
    registry = Registry()
    effects = LocalEffects(registry)

    for n in range(MAX_DEAD_LETTERS + 5):
        effects.carry_out((DeadLetter("invalid_answer"),), ExchangeId(f"{n:026d}"), NOW)

    assert len(effects.dead_letters) == MAX_DEAD_LETTERS
    assert f"{MAX_DEAD_LETTERS + 4:026d}" == effects.dead_letters[-1].exchange
    assert registry.counter(names.DEAD_LETTERS).values() == {("invalid_answer",): MAX_DEAD_LETTERS + 5}
