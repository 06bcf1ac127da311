"""Fallback as the design's section 8.6 lists it; every sentence is quoted above the rows that it demands."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.decisions import PeerMode, SecurityEvent, TunnelMode
from transport.fallback import TABLE, Action, Attempt, Counts, Outcome, after

ECH = Attempt(TunnelMode.ECH)
NO_ECH = Attempt(TunnelMode.NO_ECH)
RETRIED = Attempt(TunnelMode.ECH, with_retry_configs=True)
attempts = st.sampled_from([ECH, NO_ECH, RETRIED])
REQUIRED, OPPORTUNISTIC, OFF = PeerMode.REQUIRED, PeerMode.OPPORTUNISTIC, PeerMode.OFF

# "NEVER silently fall back on: ..." Each sentence with the outcomes it is about.
NEVER = {
    "Noise AEAD/static-key failure": [Outcome.NOISE_AUTHENTICATION],
    "TLS cert/signature/Finished failure": [Outcome.TLS_AUTHENTICATION],
    "accept_confirmation inconsistency (HRR yes, SH no → illegal_parameter)": [Outcome.CONFIRMATION],
    "timeouts/RST/alerts (attacker-producible → retry same mode, other endpoint, backoff, breaker)": [
        Outcome.TIMEOUT,
        Outcome.RESET,
        Outcome.ALERT,
    ],
    "rejection where the public_name cert did not verify": [Outcome.REJECTED_UNAUTHENTICATED],
    "min_pq violation": [Outcome.MIN_PQ],
    "a second retry_configs after a retry": [Outcome.REJECTED_AGAIN],
}


@pytest.mark.parametrize("peer", PeerMode)
@pytest.mark.parametrize(
    ("sentence", "outcome"), [(sentence, outcome) for sentence, outcomes in NEVER.items() for outcome in outcomes]
)
@pytest.mark.parametrize("attempt", [ECH, NO_ECH, RETRIED])
def test_never_falls_back_on(sentence: str, outcome: Outcome, peer: PeerMode, attempt: Attempt) -> None:
    step = after(outcome, peer, attempt)

    assert step.action in (Action.FAIL, Action.RETRY_SAME_MODE), sentence
    assert step.decision.mode in (TunnelMode.REFUSED, attempt.mode), sentence


def test_unusable_configs_are_an_error_where_ech_is_required() -> None:
    # "unparsable/unusable ECHConfigList in `required`"
    for outcome in (Outcome.CONFIG_UNUSABLE, Outcome.NO_CONFIG):
        step = after(outcome, REQUIRED, ECH)

        assert (step.action, step.decision.mode) == (Action.FAIL, TunnelMode.REFUSED)
        assert step.decision.event is not None


def test_unusable_configs_are_no_secret_where_ech_is_opportunistic() -> None:
    step = after(Outcome.CONFIG_UNUSABLE, OPPORTUNISTIC, ECH)

    assert (step.action, step.decision.mode) == (Action.RETRY_WITHOUT_ECH, TunnelMode.NO_ECH)
    assert step.decision.event is SecurityEvent.ECH_CONFIG_UNUSABLE


@pytest.mark.parametrize("outcome", [Outcome.TIMEOUT, Outcome.RESET, Outcome.ALERT])
@pytest.mark.parametrize("peer", PeerMode)
def test_what_an_attacker_can_produce_is_tried_again_in_the_same_mode(outcome: Outcome, peer: PeerMode) -> None:
    for attempt in (ECH, NO_ECH):
        step = after(outcome, peer, attempt)

        assert (step.action, step.counts) == (Action.RETRY_SAME_MODE, Counts.TRANSPORT)
        assert step.decision.mode is attempt.mode


@pytest.mark.parametrize("peer", [REQUIRED, OPPORTUNISTIC])
def test_retry_configs_of_an_authenticated_server_are_tried_once(peer: PeerMode) -> None:
    # Section 8.6: "ECH rejected and public_name authenticated: retry_configs present → one retry on a new
    # connection, report to control plane"
    first = after(Outcome.REJECTED_WITH_CONFIGS, peer, ECH)
    second = after(Outcome.REJECTED_WITH_CONFIGS, peer, RETRIED)

    assert (first.action, first.decision.mode) == (Action.RETRY_WITH_CONFIGS, TunnelMode.ECH)
    assert first.decision.event is SecurityEvent.ECH_KEY_STALE
    assert (second.action, second.decision.mode) == (Action.FAIL, TunnelMode.REFUSED)
    assert second.decision.event is SecurityEvent.ECH_REJECTED_AGAIN


def test_securely_disabled_is_an_error_where_ech_is_required() -> None:
    # "absent ("securely disabled") → `required`: error"
    step = after(Outcome.SECURELY_DISABLED, REQUIRED, ECH)

    assert (step.action, step.decision.mode) == (Action.FAIL, TunnelMode.REFUSED)
    assert step.decision.event is SecurityEvent.ECH_DISABLED_BY_SERVER


def test_securely_disabled_is_an_event_where_ech_is_opportunistic() -> None:
    # Section 8.6: "`opportunistic`: no-ECH tunnel + security event"
    step = after(Outcome.SECURELY_DISABLED, OPPORTUNISTIC, ECH)

    assert (step.action, step.decision.mode) == (Action.RETRY_WITHOUT_ECH, TunnelMode.NO_ECH)
    assert step.decision.event is SecurityEvent.ECH_DISABLED_BY_SERVER


@pytest.mark.parametrize(
    "outcome", [Outcome.REJECTED_WITH_CONFIGS, Outcome.SECURELY_DISABLED, Outcome.REJECTED_UNAUTHENTICATED]
)
@pytest.mark.parametrize("peer", PeerMode)
def test_nothing_that_answers_grease_is_believed(outcome: Outcome, peer: PeerMode) -> None:
    step = after(outcome, peer, NO_ECH)

    assert Action.FAIL is step.action
    assert step.decision.event is SecurityEvent.STRAY_REJECTION


@pytest.mark.parametrize("outcome", [Outcome.NOISE_AUTHENTICATION, Outcome.TLS_AUTHENTICATION, Outcome.CONFIRMATION])
def test_authentication_failures_trip_the_breaker_and_are_events(outcome: Outcome) -> None:
    # Section 8.6: "Auth failures trip the peer's breaker at once and raise an event"
    for peer in PeerMode:
        step = after(outcome, peer, ECH)

        assert Counts.AUTHENTICATION is step.counts
        assert step.decision.event is not None


def test_ech_rejections_have_their_own_counter() -> None:
    for outcome in (Outcome.REJECTED_WITH_CONFIGS, Outcome.SECURELY_DISABLED, Outcome.REJECTED_AGAIN):
        assert Counts.REJECTION is after(outcome, REQUIRED, ECH).counts


def test_the_table_has_a_row_for_every_outcome_and_mode() -> None:
    assert set(Outcome) == set(TABLE)
    assert all(set(PeerMode) == set(rows) for rows in TABLE.values())


@given(st.sampled_from(Outcome), st.sampled_from(PeerMode), attempts)
def test_without_ech_is_only_ever_an_open_decision(outcome: Outcome, peer: PeerMode, attempt: Attempt) -> None:
    """Whatever happens: a tunnel that leaves ECH out after an attempt with it is opportunistic, and an event."""
    step = after(outcome, peer, attempt)

    if attempt.mode is TunnelMode.ECH and step.decision.mode is TunnelMode.NO_ECH:
        assert peer is OPPORTUNISTIC
        assert step.decision.event is not None
    if step.action is Action.FAIL:
        assert step.decision.event is not None
    if step.action is Action.RETRY_WITH_CONFIGS:
        assert not attempt.with_retry_configs
