"""The ECH key ring: never without an active key, never two keys of one config_id (control API, rule 12)."""

import os
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from transport.ech.config import EchKey, encode_config_list, generate_key
from transport.keyring import MAX_RETIRING, EchKeyRing, KeyRingError, KeyState, NoiseStatic, RingKey, TunnelKeys
from transport.peers import SpiffeId

PAIRS = [generate_key("public.example", os.urandom) for _ in range(3)]


def key(config_id: int, state: KeyState = KeyState.ANNOUNCED, since: float = 0.0) -> RingKey:
    pair = PAIRS[config_id % len(PAIRS)]
    return RingKey(EchKey(replace(pair.config, config_id=config_id), pair.private_key), state, since)


def named(config_id: int, public_name: str) -> RingKey:
    pair = generate_key(public_name, os.urandom)
    return RingKey(EchKey(replace(pair.config, config_id=config_id), pair.private_key), KeyState.ANNOUNCED, 0.0)


def free_id(ring: EchKeyRing) -> int:
    return generate_key("public.example", os.urandom, live_ids=[each.config_id for each in ring.keys]).config.config_id


def test_clients_are_told_of_the_active_key_only() -> None:
    ring = EchKeyRing.begin(key(1)).announce(key(2))

    assert encode_config_list([key(1).key.config]) == ring.client_configs
    assert key(1).key.config == ring.accepted[0].config  # the first is what a server gives as retry_configs
    assert ring.active.config_id == 1


def test_servers_accept_announced_active_and_retiring_keys() -> None:
    ring = EchKeyRing.begin(key(1)).announce(key(2)).activate(1.0).announce(key(3))

    held = {each.config.config_id for each in ring.accepted}

    assert {each.state for each in ring.keys} == {KeyState.RETIRING, KeyState.ACTIVE, KeyState.ANNOUNCED}
    assert held == {1, 2, 3}
    assert ring.accepted[0].config.config_id == 2


def test_the_current_one_and_two_old_ones_are_kept() -> None:
    ring = EchKeyRing.begin(key(0))
    for number in range(1, 6):
        ring = ring.announce(key(number)).activate(float(number))

    assert sorted(each.config_id for each in ring.keys) == [3, 4, 5]
    assert ring.active.config_id == 5


def test_old_keys_retire_and_the_active_one_never_does() -> None:
    ring = EchKeyRing.begin(key(1)).announce(key(2)).activate(10.0)

    assert ring == ring.retire(before=9.0)
    assert [each.config_id for each in ring.retire(before=10.0).keys] == [2]
    assert [each.config_id for each in ring.retire(before=1e12).keys] == [2]


@given(st.lists(st.builds(key, st.integers(0, 5), st.sampled_from(KeyState), st.floats(0, 9)), max_size=6))
def test_no_ring_without_one_active_key_or_with_a_config_id_twice(keys: list[RingKey]) -> None:
    try:
        ring = EchKeyRing(tuple(keys))
    except KeyRingError:
        states = [each.state for each in keys]
        duplicate = len({each.config_id for each in keys}) < len(keys)
        crowded = states.count(KeyState.ANNOUNCED) > 1 or states.count(KeyState.RETIRING) > MAX_RETIRING
        assert duplicate or crowded or states.count(KeyState.ACTIVE) != 1
        return
    assert KeyState.ACTIVE is ring.active.state
    assert {each.config.config_id for each in ring.accepted} == {each.config_id for each in keys}
    assert ring.accepted[0] == ring.active.key


class Rotating(RuleBasedStateMachine):
    """Any order of moves leaves a ring that is whole, or is refused."""

    def __init__(self) -> None:
        super().__init__()
        self.ring = EchKeyRing.begin(key(0))
        self.now = 0.0

    @rule(wait=st.floats(0, 100))
    def wait(self, wait: float) -> None:
        self.now += wait

    @precondition(lambda self: self.ring.announced is None)
    @rule()
    def announce(self) -> None:
        before = self.ring.client_configs
        self.ring = self.ring.announce(key(free_id(self.ring), since=self.now))
        assert before == self.ring.client_configs, "announcing changed what clients use"

    @precondition(lambda self: self.ring.announced is not None)
    @rule()
    def announce_twice(self) -> None:
        with pytest.raises(KeyRingError):
            self.ring.announce(key(200))

    @rule()
    def activate(self) -> None:
        announced, active = self.ring.announced, self.ring.active
        if announced is None:
            with pytest.raises(KeyRingError):
                self.ring.activate(self.now)
            return
        self.ring = self.ring.activate(self.now)
        assert announced.config_id == self.ring.active.config_id
        former = next((each for each in self.ring.keys if each.config_id == active.config_id), None)
        assert former == replace(active, state=KeyState.RETIRING, since=self.now), (
            "servers lost the key of a moment ago"
        )

    @rule(age=st.floats(0, 100))
    def retire(self, age: float) -> None:
        self.ring = self.ring.retire(self.now - age)

    @invariant()
    def is_whole(self) -> None:
        assert sum(each.state is KeyState.ACTIVE for each in self.ring.keys) == 1
        assert len({each.config_id for each in self.ring.keys}) == len(self.ring.keys)
        assert self.ring == EchKeyRing(self.ring.keys)


TestRotating = Rotating.TestCase
TestRotating.settings = settings(max_examples=30, stateful_step_count=25)


def test_no_repr_shows_a_private_key() -> None:
    secret = os.urandom(32)
    held = key(1)
    static = NoiseStatic.of(secret)
    keys = TunnelKeys(SpiffeId("spiffe://mesh/sidecar/a"), EchKeyRing.begin(held), static)

    for shown in (repr(keys), str(keys), f"{held!r}", f"{static}"):
        for private in (secret, held.private_bytes):
            assert repr(private)[2:-1] not in shown
            assert private.hex() not in shown


def test_a_key_is_what_its_bytes_say() -> None:
    held = key(7, KeyState.ACTIVE, 5.0)

    assert held.key.config == RingKey.of(held.key.config.encode(), held.private_bytes, KeyState.ACTIVE, 5.0).key.config


@pytest.mark.parametrize(
    ("config", "private"),
    [
        (b"", bytes(32)),
        (key(1).key.config.encode(), bytes(31)),
        (key(1).key.config.encode(), os.urandom(32)),
        (key(1).key.config.encode() * 2, key(1).private_bytes),
        (bytes(70_000), key(1).private_bytes),
    ],
    ids=["no config", "short key", "another's key", "two configs", "too long"],
)
def test_what_is_no_key_pair_is_refused_without_showing_it(config: bytes, private: bytes) -> None:
    with pytest.raises(KeyRingError) as refused:
        RingKey.of(config, private, KeyState.ACTIVE, 0.0)
    assert private.hex() not in str(refused.value)


@given(st.binary(max_size=200), st.binary(max_size=40))
def test_garbage_gives_our_error_only(config: bytes, private: bytes) -> None:
    with pytest.raises(KeyRingError):
        RingKey.of(config, private, KeyState.ACTIVE, 0.0)


def test_halves_of_different_statics_are_refused() -> None:
    with pytest.raises(KeyRingError, match="belong together"):
        NoiseStatic(NoiseStatic.of(os.urandom(32)).public, os.urandom(32))


def test_a_server_offers_the_active_key_or_else_the_newest_that_it_can_prove() -> None:
    former, present, next_one = (
        named(number, name) for number, name in enumerate(("a.example", "b.example", "c.example"))
    )
    ring = EchKeyRing.begin(former).announce(present).activate(100.0).announce(next_one)

    assert ring.accepted[0] is present.key
    assert ring.offered(lambda _: True) is present.key
    assert ring.offered({"a.example", "c.example"}.__contains__) is former.key
    assert ring.offered({"c.example"}.__contains__) is next_one.key
    assert ring.offered(lambda _: False) is None
    assert ring.withdraw().announced is None
