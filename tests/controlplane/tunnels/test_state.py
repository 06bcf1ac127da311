"""Rotations as a pure function: every step waits for confirmation, and nobody is ever without a key."""

import os

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from controlplane.tunnels import state as tunnel_state
from controlplane.tunnels.state import Phase, TunnelState, Wanted, advance
from policies.tunnel import TunnelConfig
from transport.keyring import KeyRingError, KeyState
from transport.peers import SpiffeId

HOUR = 3600.0
POLICY = TunnelConfig("mesh.example", rotate_every=6 * HOUR, rotate_statics_every=48 * HOUR)
A, B, C = (SpiffeId(f"spiffe://mesh/sidecar/{name}") for name in "abc")
WANTED = Wanted(POLICY, frozenset({A, B}))


def begun(now: float = 0.0) -> TunnelState:
    return advance(TunnelState(), WANTED, now, os.urandom, confirmed=True)


def step(state: TunnelState, now: float, wanted: Wanted = WANTED, *, confirmed: bool = True) -> TunnelState:
    return advance(state, wanted, now, os.urandom, confirmed=confirmed)


def ids(state: TunnelState) -> dict[int, KeyState]:
    return {key.config_id: key.state for key in state.ring.keys} if state.ring is not None else {}


def test_keys_are_made_for_whom_policy_names() -> None:
    state = begun()

    assert {A, B} == state.workloads.keys()
    assert list(ids(state).values()) == [KeyState.ACTIVE]
    assert state is step(state, 1.0), "nothing moves when nothing is due"


def test_without_a_policy_there_are_statics_and_no_ech() -> None:
    state = step(TunnelState(), 0.0, Wanted(None, frozenset({A})))

    assert state.ring is None
    assert list(state.workloads) == [A]


def test_who_is_not_named_any_more_loses_its_keys() -> None:
    state = step(begun(), 1.0, Wanted(POLICY, frozenset({B, C})))

    assert {B, C} == state.workloads.keys()
    assert begun().workloads.keys() != state.workloads.keys()


def test_an_announced_key_of_a_name_that_policy_has_left_is_withdrawn_without_waiting() -> None:
    """It was refused for want of a certificate, and would be waited for until there is one."""
    renamed = Wanted(TunnelConfig("other.example"), WANTED.workloads)
    announced = step(begun(), 1.0, renamed)
    assert tunnel_state.name_to_come(announced) == "other.example"

    back = step(announced, 2.0, confirmed=False)

    assert list(ids(back).values()) == [KeyState.ACTIVE]
    assert tunnel_state.name_to_come(back) == ""
    assert step(announced, 2.0, renamed, confirmed=False) is announced


def test_a_new_ech_key_is_announced_and_becomes_active_only_when_confirmed() -> None:
    state = begun()
    first = next(iter(ids(state)))
    announced = step(state, 6 * HOUR)
    second = next(config_id for config_id in ids(announced) if config_id != first)

    assert {first: KeyState.ACTIVE, second: KeyState.ANNOUNCED} == ids(announced)
    assert announced is step(announced, 100 * HOUR, confirmed=False), "it was activated without acknowledgement"
    active = step(announced, 7 * HOUR)
    assert {first: KeyState.RETIRING, second: KeyState.ACTIVE} == ids(active)


def test_nothing_new_is_announced_before_the_last_change_is_confirmed() -> None:
    state = step(step(begun(), 6 * HOUR), 6 * HOUR + 1)

    assert state is step(state, 100 * HOUR, confirmed=False)


def test_a_retired_key_is_dropped_after_as_long_as_it_was_used() -> None:
    state = step(step(begun(), 6 * HOUR), 6 * HOUR + 1)
    fresh = step(state, 13 * HOUR)

    assert len(ids(state)) == 2
    assert KeyState.ANNOUNCED in ids(fresh).values(), "the next rotation comes first"
    settled = step(step(fresh, 13 * HOUR + 1), 13 * HOUR + 2)
    assert sorted(ids(settled).values()) == [KeyState.ACTIVE, KeyState.RETIRING]


def test_another_public_name_is_a_reason_for_another_key() -> None:
    renamed = Wanted(TunnelConfig("other.example"), WANTED.workloads)

    state = step(begun(), 1.0, renamed)

    assert state.ring is not None
    assert state.ring.announced is not None
    assert state.ring.announced.key.config.public_name == "other.example"
    assert state.ring.active.key.config.public_name == "mesh.example"


def test_a_static_is_announced_switched_and_dropped_each_when_confirmed() -> None:
    state = begun()
    old = state.workloads[A].current.public
    announced = tunnel_state.announce_statics(state, {A}, 1.0, os.urandom)
    new = announced.workloads[A].other
    assert new is not None

    assert announced is step(announced, 2.0, confirmed=False)
    switched = step(announced, 2.0)
    assert (new.public, old) == (switched.workloads[A].current.public, (switched.workloads[A].other or new).public)
    assert switched is step(switched, 3.0, confirmed=False)
    settled = step(switched, 3.0)
    assert (new, None) == (settled.workloads[A].current, settled.workloads[A].other)
    assert state.workloads[B] == settled.workloads[B]


def test_statics_rotate_by_themselves_when_they_are_old() -> None:
    state = step(begun(), 1.0)
    # the ring rotates first and often; go on until the statics' turn comes
    moved = step(state, 48 * HOUR)

    assert {Phase.ANNOUNCED} == {keys.phase for keys in moved.workloads.values()}


def test_a_revocation_waits_for_nobody() -> None:
    state = tunnel_state.announce_statics(begun(), {A}, 1.0, os.urandom)
    former = {state.workloads[A].current.public, (state.workloads[A].other or state.workloads[A].current).public}

    revoked = tunnel_state.revoke(state, A, 2.0, os.urandom)

    assert former == revoked.revoked.keys()
    assert revoked.workloads[A].phase is Phase.STEADY
    assert revoked.workloads[A].current.public not in former
    with pytest.raises(KeyError):
        tunnel_state.revoke(state, C, 2.0, os.urandom)


def test_revoked_statics_are_bounded_and_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel_state, "MAX_REVOKED", 16)
    state = begun()
    for number in range(21):
        state = tunnel_state.revoke(state, A, float(number), os.urandom)

    assert len(state.revoked) == 16
    assert min(state.revoked.values()) == 5.0


def test_two_rotations_of_ech_at_once_are_refused() -> None:
    announced = tunnel_state.announce_ech(begun(), POLICY, 1.0, os.urandom)

    with pytest.raises(KeyRingError):
        tunnel_state.announce_ech(announced, POLICY, 2.0, os.urandom)
    with pytest.raises(ValueError, match="no ECH keys"):
        tunnel_state.announce_ech(TunnelState(), POLICY, 2.0, os.urandom)


class Sidecars(RuleBasedStateMachine):
    """Servers and clients that hear of each epoch late, in any order: no hello ever meets a server without its key,
    and no initiator ever expects or proves a static that the other end does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.epochs = [begun()]
        self.held = [0, 0, 0]
        """Epoch that each of three sidecars holds."""

    @rule(hours=st.floats(0, 12))
    def tick(self, hours: float) -> None:
        self.now += hours * HOUR
        confirmed = all(epoch == len(self.epochs) - 1 for epoch in self.held)
        moved = step(self.epochs[-1], self.now, confirmed=confirmed)
        if moved is not self.epochs[-1]:
            self.epochs.append(moved)

    @rule()
    def rotate_by_hand(self) -> None:
        if any(epoch < len(self.epochs) - 1 for epoch in self.held):
            return  # refused, see TunnelKeeper.announce
        state = tunnel_state.announce_statics(self.epochs[-1], {A, B}, self.now, os.urandom)
        if state.ring is not None and state.ring.announced is None:
            state = tunnel_state.announce_ech(state, POLICY, self.now, os.urandom)
        self.epochs.append(state)

    @rule(sidecar=st.integers(0, 2))
    def hear(self, sidecar: int) -> None:
        self.held[sidecar] = len(self.epochs) - 1

    @invariant()
    def everybody_can_talk_to_everybody(self) -> None:
        states = [self.epochs[epoch] for epoch in self.held]
        for client in states:
            for server in states:
                assert client.ring is not None
                assert server.ring is not None
                assert client.ring.active.key.config in [key.config for key in server.ring.accepted]
                self._statics_meet(client, server)

    def _statics_meet(self, client: TunnelState, server: TunnelState) -> None:
        expected = client.workloads[B].current.public
        held = server.workloads[B]
        assert expected in {each.public for each in (held.current, held.other) if each is not None}
        proved = client.workloads[A].current.public
        known = server.workloads[A]
        assert proved in {each.public for each in (known.current, known.other) if each is not None}


TestSidecars = Sidecars.TestCase
TestSidecars.settings = settings(max_examples=30, stateful_step_count=30)
