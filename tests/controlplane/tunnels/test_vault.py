"""Keys at rest: sealed, one writer at a time, whole or not at all."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import event, select

from controlplane.store.schema import TUNNEL_KEYS
from controlplane.store.store import PolicyStore, StoreError
from controlplane.tunnels.keeper import COUNTS_FOR, NoSuchWorkloadError, NotNowError, TunnelKeeper
from controlplane.tunnels.resources import encode_state
from controlplane.tunnels.state import TunnelState, Wanted, advance
from controlplane.tunnels.vault import Acknowledged, TunnelVault
from policies import wire
from policies.spec import Document, Kind
from policies.tunnel import MESH, PeerConfig, TunnelConfig
from transport.keyring import KeyState
from transport.peers import SpiffeId

KEY = os.urandom(32)
LLM, BOT = "spiffe://mesh/sidecar/llm", "spiffe://mesh/sidecar/bot"
DOCUMENTS = [
    Document("mesh", TunnelConfig("mesh.example", rotate_every=3600.0)),
    Document("llm", PeerConfig(LLM, "llm.internal", frozenset({"tcp://llm:15008"}), allow=frozenset({BOT}))),
]
RESOURCES = {document.key: wire.resource(document) for document in DOCUMENTS}


@pytest.fixture
def store(url: str) -> Iterator[PolicyStore]:
    opened = PolicyStore.open(url)
    yield opened
    opened.close()


@pytest.fixture
def vault(store: PolicyStore) -> TunnelVault:
    return TunnelVault(store, KEY)


def some_keys() -> TunnelState:
    wanted = Wanted(TunnelConfig("mesh.example"), frozenset({SpiffeId(LLM)}))
    return advance(TunnelState(), wanted, 5.0, os.urandom, confirmed=True)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def keeping(vault: TunnelVault, clock: Clock) -> TunnelKeeper:
    keeper = TunnelKeeper(vault, now=clock, random=os.urandom)
    keeper.want(RESOURCES)
    return keeper


def acked(epoch: int, clock: Clock, *nodes: str) -> list[Acknowledged]:
    return [Acknowledged(LLM, node, epoch, clock.now) for node in nodes]


def test_keys_are_read_back_by_another_process(vault: TunnelVault, store: PolicyStore) -> None:
    state = some_keys()

    assert vault.write(state, base=0)

    kept = TunnelVault(store, KEY).read()
    assert (1, encode_state(state)) == (kept.epoch, encode_state(kept.state))


def test_the_database_holds_no_key(vault: TunnelVault, store: PolicyStore, tmp_path: Path) -> None:
    state = some_keys()
    vault.write(state, base=0)
    with store.engine.connect() as connection:
        rows = b"".join(bytes(value) for value in connection.execute(select(TUNNEL_KEYS.c.sealed)).scalars())
    store.close()

    files = rows + b"".join(path.read_bytes() for path in tmp_path.iterdir())

    assert rows
    assert state.ring is not None
    for secret in (state.ring.active.private_bytes, state.workloads[SpiffeId(LLM)].current.private):
        assert secret not in files


def test_keys_sealed_with_another_key_are_an_error_that_says_what_to_do(vault: TunnelVault, store: PolicyStore) -> None:
    vault.write(some_keys(), base=0)

    with pytest.raises(StoreError, match="tunnel_key_file"):
        TunnelVault(store, os.urandom(32)).read()


def test_an_old_row_is_not_taken_for_the_newest(vault: TunnelVault, store: PolicyStore) -> None:
    vault.write(some_keys(), base=0)
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE tunnel_keys SET epoch = 7")

    with pytest.raises(StoreError):
        vault.read()


def test_of_two_writers_one_is_told_to_decide_again(vault: TunnelVault) -> None:
    with ThreadPoolExecutor(8) as threads:
        written = list(threads.map(lambda _: vault.write(some_keys(), base=0), range(8)))

    assert [each for each in written if each] == [True]
    assert not vault.write(some_keys(), base=0)
    assert vault.write(some_keys(), base=1)


def test_a_crash_before_the_commit_leaves_the_old_keys(vault: TunnelVault, store: PolicyStore) -> None:
    first = some_keys()
    vault.write(first, base=0)

    def crash(_connection: object) -> None:
        raise KeyboardInterrupt

    event.listen(store.engine, "commit", crash)
    with pytest.raises(KeyboardInterrupt):
        vault.write(some_keys(), base=1)
    event.remove(store.engine, "commit", crash)

    kept = vault.read()
    assert (1, encode_state(first)) == (kept.epoch, encode_state(kept.state))


def test_a_rotation_waits_for_every_sidecar(vault: TunnelVault) -> None:
    clock = Clock()
    keeper = keeping(vault, clock)
    epoch = keeper.settle([]).epoch
    keeper.settle(acked(epoch, clock, "one", "two"))
    clock.now += 3601

    announced = keeper.settle(acked(epoch, clock, "one", "two")).epoch
    assert epoch < announced
    for _ in range(3):
        assert announced == keeper.settle([*acked(announced, clock, "one"), *acked(epoch, clock, "two")]).epoch
    states = [key.state for key in keeper.report().kept.state.ring.keys]  # type: ignore[union-attr] # there is one
    assert KeyState.ANNOUNCED in states
    assert [node.node_id for node in keeper.report().waiting_for] == ["two"]

    active = keeper.settle(acked(announced, clock, "one", "two"))
    assert announced < active.epoch


def test_a_restarted_control_plane_does_not_take_absence_for_consent(vault: TunnelVault) -> None:
    clock = Clock()
    keeper = keeping(vault, clock)
    epoch = keeper.settle([]).epoch
    keeper.settle(acked(epoch, clock, "one"))
    clock.now += 3601
    announced = keeper.settle(acked(epoch, clock, "one")).epoch

    restarted = keeping(vault, clock)

    assert announced == restarted.settle([]).epoch
    clock.now += COUNTS_FOR - 60
    assert announced == restarted.settle([]).epoch
    clock.now += 61
    assert announced < restarted.settle([]).epoch, "a pod that is gone must not stop rotation for ever"


def test_nobody_but_servers_gets_ech_keys(vault: TunnelVault) -> None:
    from sidecar.tunnel_keys import read
    from transport.keyring import TunnelKeys

    found = keeping(vault, Clock()).settle([])

    values = {who: read(wire.TUNNEL_KEYS, each, {}).value for who, each in found.personal.items()}
    assert {LLM, BOT} == values.keys()
    server, client = values[LLM], values[BOT]
    assert isinstance(server, TunnelKeys)
    assert isinstance(client, TunnelKeys)
    assert server.ech is not None
    assert client.ech is None


def test_what_operators_ask_for_is_refused_while_something_is_under_way(vault: TunnelVault) -> None:
    clock = Clock()
    keeper = keeping(vault, clock)
    epoch = keeper.settle([]).epoch
    keeper.settle(acked(epoch, clock, "one"))
    keeper.announce(ech=True, statics=[BOT], all_statics=False)

    with pytest.raises(NotNowError, match="not acknowledged yet by 1"):
        keeper.announce(ech=True, statics=[], all_statics=False)
    with pytest.raises(NoSuchWorkloadError):
        keeper.revoke("spiffe://mesh/sidecar/nobody")
    keeper.force()
    assert KeyState.RETIRING in [key.state for key in keeper.report().kept.state.ring.keys]  # type: ignore[union-attr] # there is one


def test_another_public_name_is_not_forced_upon_servers_that_refuse_it(vault: TunnelVault) -> None:
    clock = Clock()
    keeper = keeping(vault, clock)
    epoch = keeper.settle([]).epoch
    keeper.settle(acked(epoch, clock, "one"))
    renamed = wire.resource(Document(MESH, TunnelConfig("other.example")))
    keeper.want({**RESOURCES, (Kind.TUNNEL, MESH): renamed})
    keeper.settle(acked(epoch, clock, "one"))

    with pytest.raises(NotNowError, match=r"other\.example") as refused:
        keeper.force()
    keeper.want(RESOURCES)
    withdrawn = keeper.settle(acked(epoch, clock, "one"))

    assert "spiffe://mesh/sidecar/llm" in str(refused.value)
    ring = keeper.report().kept.state.ring
    assert ring is not None
    assert [(key.state, key.key.config.public_name) for key in ring.keys] == [(KeyState.ACTIVE, "mesh.example")]
    assert withdrawn.epoch > epoch


def test_sidecars_that_change_their_names_do_not_fill_the_store(
    vault: TunnelVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlplane.tunnels.vault.MAX_NODES", 10)
    vault.acknowledge(Acknowledged(LLM, f"pod-{number}", 1, 1000.0 + number) for number in range(25))

    vault.forget(before=1000.0)

    assert {f"pod-{number}" for number in range(15, 25)} == {node.node_id for node in vault.acknowledged()}


def test_a_mesh_without_tunnels_writes_nothing(vault: TunnelVault) -> None:
    keeper = TunnelKeeper(vault, now=Clock(), random=os.urandom)
    keeper.want({key: each for key, each in RESOURCES.items() if key[0] is Kind.AIRLOCK})

    assert keeper.settle(acked(0, Clock(), "one")).epoch == 0
    assert vault.acknowledged() == []


def test_replicas_note_the_same_sidecars_at_once(url: str, store: PolicyStore) -> None:
    """A sidecar that comes to another replica is known to both for a while."""
    nodes = [Acknowledged(LLM, f"pod-{n}", epoch=1, last_seen=float(n)) for n in range(40)]

    def note(replica: int) -> None:
        own = PolicyStore.open(url)
        try:
            for _ in range(5):
                TunnelVault(own, KEY).acknowledge(nodes if replica % 2 else reversed(nodes))
        finally:
            own.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(note, range(4)))

    assert sorted(TunnelVault(store, KEY).acknowledged(), key=lambda node: node.last_seen) == nodes
