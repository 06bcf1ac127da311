"""What a sidecar makes of the keys it is sent: refused alone, kept when refused, sealed, and shown nowhere."""

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from aegispb.v1 import discovery_pb2 as pb
from google.rpc import code_pb2
from hypothesis import given
from hypothesis import strategies as st

from controlplane.tunnels import resources, state
from controlplane.tunnels.state import TunnelState, Wanted
from policies import wire
from policies.errors import WireError
from policies.model import UnixNanos
from policies.spec import Document
from policies.tunnel import PeerConfig, TunnelConfig
from sidecar import tunnel_keys
from sidecar.lkg import LastKnownGoodFile
from sidecar.policy_state import PolicyState
from transport.decisions import PeerMode
from transport.keyring import KeyRingError
from transport.peers import SpiffeId

NOW = UnixNanos(1_800_000_000 * 10**9)
LLM, BOT = SpiffeId("spiffe://mesh/ns/models/sa/llm"), SpiffeId("spiffe://mesh/ns/app/sa/bot")
POLICY = TunnelConfig("mesh.example", rollout_percentage=25.0)
PEER = PeerConfig(LLM, "llm.internal", frozenset({"tcp://10.0.0.1:15008"}), allow=frozenset({BOT}))
WANTED = Wanted(POLICY, frozenset({LLM, BOT}))


def mesh_keys() -> TunnelState:
    return state.advance(TunnelState(), WANTED, 1000.0, os.urandom, confirmed=True)


def deltas(keys: TunnelState, whose: SpiffeId) -> list[pb.Delta]:
    return [
        pb.Delta(type_url=wire.TUNNEL_KEYS, upserts=[resources.personal(keys, {LLM})[whose]], revision=1),
        pb.Delta(type_url=wire.MESH_KEYS, upserts=resources.mesh(keys), revision=1),
        pb.Delta(type_url=wire.WORKLOADS, upserts=resources.workloads(keys, {}), revision=1),
    ]


def fed(keys: TunnelState, whose: SpiffeId) -> PolicyState:
    sidecar = PolicyState(bytes(32))
    for document in (Document("mesh", POLICY), Document("llm", PEER)):
        delta = pb.Delta(type_url=wire.TYPE_URLS[document.kind], upserts=[wire.resource(document)], revision=1)
        assert not sidecar.apply(delta, NOW).HasField("error_detail")
    for delta in deltas(keys, whose):
        assert not sidecar.apply(delta, NOW).HasField("error_detail")
    return sidecar


def test_a_server_and_its_client_see_each_other() -> None:
    keys = mesh_keys()

    server, client = fed(keys, LLM).tunnels(), fed(keys, BOT).tunnels()

    assert server.keys is not None
    assert client.keys is not None
    assert keys.ring == server.keys.ech
    assert client.keys.ech is None, "a client got the private keys of the mesh"
    (peer,) = client.directory.peers.values()
    assert (server.keys.static.public,) == client.directory.responder_statics(peer)
    assert server.directory.owner_of(client.keys.static.public) == BOT
    assert server.served == (peer,)
    assert client.served == ()
    assert PeerMode.REQUIRED is peer.mode
    assert client.ech_configs == keys.ring.client_configs if keys.ring else False
    assert client.rollout.percentage == 25.0


def test_rotation_reaches_servers_before_clients() -> None:
    keys = state.announce_ech(mesh_keys(), POLICY, 2000.0, os.urandom)

    server, client = fed(keys, LLM).tunnels(), fed(keys, BOT).tunnels()

    assert server.keys is not None
    assert server.keys.ech is not None
    assert server.keys.ech.announced is not None
    assert client.ech_configs == server.keys.ech.client_configs


def test_keys_that_cannot_be_leave_those_before_in_force() -> None:
    keys = mesh_keys()
    sidecar = fed(keys, LLM)
    held = sidecar.tunnels()
    name = resources.PREFIX + LLM

    for body in (b"", b"\xff\xff", b"\x0a\x02\x0a\x00"):
        ack = sidecar.apply(pb.Delta(type_url=wire.TUNNEL_KEYS, upserts=[wire.resource_of(name, body)]), NOW)
        assert [name] == [each.name for each in ack.rejected]
        assert ack.rejected[0].in_force == sidecar.versions()[wire.TUNNEL_KEYS][name]

    assert held == sidecar.tunnels()


def test_mesh_keys_that_no_client_can_use_are_refused() -> None:
    sidecar = fed(mesh_keys(), BOT)

    ack = sidecar.apply(pb.Delta(type_url=wire.MESH_KEYS, upserts=[wire.resource_of("mesh", b"\x0a\x03abc")]), NOW)

    assert ack.rejected
    assert sidecar.tunnels().ech_configs != b"abc"


def test_a_workload_that_shares_a_static_is_nobody() -> None:
    keys = mesh_keys()
    sidecar = fed(keys, BOT)
    stolen = resources.workloads(keys, {})[0]
    impostor = wire.resource_of("spiffe://mesh/ns/evil/sa/x", stolen.body)

    sidecar.apply(pb.Delta(type_url=wire.WORKLOADS, upserts=[impostor]), NOW)

    directory = sidecar.tunnels().directory
    assert len(directory.statics) == 1
    assert SpiffeId("spiffe://mesh/ns/evil/sa/x") not in directory.statics


def test_a_revoked_static_is_lost() -> None:
    keys = mesh_keys()
    sidecar = fed(keys, LLM)
    former = keys.workloads[BOT].current.public

    after_revocation = state.revoke(keys, BOT, 3000.0, os.urandom)
    for delta in deltas(after_revocation, LLM)[1:]:
        sidecar.apply(delta, NOW)

    after = sidecar.tunnels().directory
    assert after.revoked == {former}
    assert after.owner_of(former) is None
    assert after.owner_of(after_revocation.workloads[BOT].current.public) == BOT


def test_keys_come_back_from_the_sealed_file_and_stand_nowhere_else(tmp_path: Path) -> None:
    keys = mesh_keys()
    sidecar = fed(keys, LLM)
    file = LastKnownGoodFile(tmp_path / "lkg", os.urandom(32), "llm")

    file.write(sidecar.last_known_good(), os.urandom(12))
    kept = file.read()
    assert kept is not None
    restarted = PolicyState(bytes(32))
    refused = restarted.restore(kept, NOW)

    assert refused == []
    assert sidecar.tunnels() == restarted.tunnels()
    assert sidecar.versions() == restarted.versions()
    sealed = (tmp_path / "lkg").read_bytes()
    for secret in secrets_of(keys):
        assert secret not in sealed


def test_nothing_that_is_shown_holds_a_private_key() -> None:
    keys = mesh_keys()
    sidecar = fed(keys, LLM)
    view = sidecar.tunnels()

    shown = "".join(map(repr, (view, keys, sidecar._keys, sidecar._held, list(sidecar._keys.values()))))

    for secret in secrets_of(keys):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown


def secrets_of(keys: TunnelState) -> list[bytes]:
    found = [each.current.private for each in keys.workloads.values()]
    return found + [key.private_bytes for key in (keys.ring.keys if keys.ring else ())]


@given(st.sampled_from(wire.KEY_TYPES), st.binary(max_size=300), st.text(max_size=40))
def test_garbage_is_refused_with_our_error_only(type_url: str, body: bytes, name: str) -> None:
    with suppress(WireError):
        tunnel_keys.read(type_url, wire.resource_of(name, body), {})


@given(st.binary(max_size=200))
def test_what_the_vault_holds_is_read_or_refused(data: bytes) -> None:
    with suppress(KeyRingError):
        resources.decode_state(data)


def test_state_survives_its_encoding() -> None:
    keys = state.announce_statics(mesh_keys(), {BOT}, 5000.0, os.urandom)
    keys = replace(state.revoke(keys, LLM, 6000.0, os.urandom))

    decoded = resources.decode_state(resources.encode_state(keys))

    assert resources.encode_state(decoded) == resources.encode_state(keys)
    assert decoded.workloads == keys.workloads
    assert decoded.revoked == keys.revoked


@pytest.mark.parametrize("whose", [LLM, BOT])
def test_equal_keys_have_equal_bytes(whose: SpiffeId) -> None:
    keys = mesh_keys()

    assert deltas(keys, whose) == deltas(resources.decode_state(resources.encode_state(keys)), whose)


def test_keys_under_a_public_name_that_cannot_be_proved_are_refused_and_the_former_stay() -> None:
    keys = mesh_keys()
    sidecar = fed(keys, LLM)
    sidecar.can_prove = {"mesh.example"}.__contains__
    former = sidecar.tunnels()
    same = state.announce_ech(keys, POLICY, 2000.0, os.urandom)
    renamed = state.announce_ech(keys, TunnelConfig("other.example"), 2000.0, os.urandom)

    refused = sidecar.apply(deltas(renamed, LLM)[0], NOW)
    kept = sidecar.tunnels()
    taken = sidecar.apply(deltas(same, LLM)[0], NOW)

    assert refused.error_detail.code == code_pb2.FAILED_PRECONDITION
    assert "other.example" in refused.rejected[0].why.message
    assert kept == former
    assert not taken.HasField("error_detail")


def test_a_key_that_becomes_active_when_its_name_cannot_be_proved_any_more_is_refused() -> None:
    """A certificate was renewed without the new name while the rotation went on."""
    keys = mesh_keys()
    renamed = state.announce_ech(keys, TunnelConfig("other.example"), 2000.0, os.urandom)
    sidecar = fed(renamed, LLM)
    former = sidecar.tunnels()
    sidecar.can_prove = {"mesh.example"}.__contains__

    ack = sidecar.apply(deltas(state.force(renamed, 3000.0), LLM)[0], NOW)

    assert "other.example" in ack.rejected[0].why.message
    assert sidecar.tunnels() == former
    sidecar.can_prove = {"mesh.example", "other.example"}.__contains__
    assert not sidecar.apply(deltas(state.force(renamed, 3000.0), LLM)[0], NOW).rejected
