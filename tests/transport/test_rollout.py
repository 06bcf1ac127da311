"""Rollout: sticky, monotone, and the kill switch above all (control API, rule 11; tunnel design, section 8.6)."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.decisions import PeerMode, Reason, SecurityEvent, TunnelMode
from transport.rollout import BUCKETS, Rollout, RolloutError, Switches, bucket, choose

names = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=40)
salts = st.binary(min_size=1, max_size=64)
percentages = st.integers(0, BUCKETS).map(lambda hundredths: hundredths / 100)


@given(salts, names, names)
def test_bucket_is_the_formula_of_the_design(salt: bytes, source: str, target: str) -> None:
    # Section 8.6: "u64(HMAC-SHA256(feature_salt, src_workload‖0‖dst_service)[:8]) mod 10000"
    digest = hmac.new(salt, source.encode() + bytes(1) + target.encode(), hashlib.sha256).digest()

    assert int.from_bytes(digest[:8], "big") % 10_000 == bucket(salt, source, target)


def test_bucket_is_what_other_implementations_compute() -> None:
    # printf 'spiffe://mesh/ns/a/sa/b\0llm' | openssl dgst -sha256 -hmac ech, then the first 16 hex digits mod 10000.
    # Fixed for ever: another number moves pods to the other side of a rollout.
    assert bucket(b"ech", "spiffe://mesh/ns/a/sa/b", "llm") == 9030
    assert bucket(b"ech", "a", "bc") != bucket(b"ech", "ab", "c")


def _mode(percentage: float, source: str, target: str, salt: bytes = b"ech") -> TunnelMode:
    return choose(PeerMode.OPPORTUNISTIC, Rollout(True, percentage, salt), Switches(), source, target).mode


@given(salts, names, names, percentages, percentages)
def test_raising_the_percentage_never_takes_a_pair_out(
    salt: bytes, source: str, target: str, one: float, two: float
) -> None:
    low, high = sorted((one, two))

    if _mode(low, source, target, salt) is TunnelMode.ECH:
        assert _mode(high, source, target, salt) is TunnelMode.ECH


@given(salts, names, names, percentages)
def test_a_pair_stays_on_its_side(salt: bytes, source: str, target: str, percentage: float) -> None:
    first = _mode(percentage, source, target, salt)

    assert first is _mode(percentage, source, target, salt)


@given(names, names)
def test_nobody_at_zero_and_everybody_at_a_hundred(source: str, target: str) -> None:
    assert _mode(0, source, target) is TunnelMode.NO_ECH
    assert _mode(100, source, target) is TunnelMode.ECH


def test_the_share_is_the_percentage() -> None:
    pairs = [(f"spiffe://mesh/ns/app/sa/{number}", "llm") for number in range(4000)]

    share = sum(_mode(25, *pair) is TunnelMode.ECH for pair in pairs) / len(pairs)

    assert 0.22 < share < 0.28


@given(st.sampled_from(PeerMode), st.booleans(), percentages, st.none() | percentages, names, names)
def test_the_kill_switch_wins_over_everything_and_is_never_plaintext(
    peer: PeerMode, enabled: bool, percentage: float, local: float | None, source: str, target: str
) -> None:
    decision = choose(peer, Rollout(enabled, percentage), Switches(False, local), source, target)

    assert (decision.mode, decision.reason) == (TunnelMode.NO_ECH, Reason.KILL_SWITCH)
    assert (decision.event is SecurityEvent.REQUIRED_OVERRULED) == (peer is PeerMode.REQUIRED)


@given(st.booleans(), percentages, st.none() | percentages, names, names)
def test_a_peer_that_requires_ech_is_not_subject_to_the_rollout(
    enabled: bool, percentage: float, local: float | None, source: str, target: str
) -> None:
    decision = choose(PeerMode.REQUIRED, Rollout(enabled, percentage), Switches(True, local), source, target)

    assert (decision.mode, decision.reason) == (TunnelMode.ECH, Reason.REQUIRED)


@given(percentages, names, names)
def test_a_peer_that_is_off_gets_the_tunnel_without_ech(percentage: float, source: str, target: str) -> None:
    decision = choose(PeerMode.OFF, Rollout(True, percentage), Switches(), source, target)

    assert (decision.mode, decision.reason) == (TunnelMode.NO_ECH, Reason.PEER_OFF)


def test_the_control_plane_can_switch_off_what_is_opportunistic() -> None:
    decision = choose(PeerMode.OPPORTUNISTIC, Rollout(enabled=False), Switches(), "a", "b")

    assert (decision.mode, decision.reason) == (TunnelMode.NO_ECH, Reason.DISABLED)


def test_the_percentage_of_the_environment_takes_the_place_of_the_control_planes() -> None:
    assert choose(PeerMode.OPPORTUNISTIC, Rollout(True, 100), Switches(True, 0.0), "a", "b").mode is TunnelMode.NO_ECH
    assert choose(PeerMode.OPPORTUNISTIC, Rollout(True, 0), Switches(True, 100.0), "a", "b").mode is TunnelMode.ECH


@pytest.mark.parametrize("text", ["false", "FALSE", " 0 ", "no", "Off"])
def test_environment_kills(text: str) -> None:
    assert Switches(enabled=False) == Switches.of({"ECH_ENABLED": text})


def test_environment_that_says_nothing_kills_nothing() -> None:
    assert Switches() == Switches.of({})
    assert Switches(True, 12.5) == Switches.of({"ECH_ENABLED": "true", "ECH_ROLLOUT_PERCENTAGE": "12.5"})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ECH_ENABLED", "falsch"),
        ("ECH_ENABLED", "2"),
        ("ECH_ROLLOUT_PERCENTAGE", "nan"),
        ("ECH_ROLLOUT_PERCENTAGE", "101"),
        ("ECH_ROLLOUT_PERCENTAGE", "-1"),
        ("ECH_ROLLOUT_PERCENTAGE", "many"),
    ],
)
def test_a_switch_with_a_typing_error_stops_the_start(name: str, text: str) -> None:
    with pytest.raises(RolloutError, match=name):
        Switches.of({name: text})
