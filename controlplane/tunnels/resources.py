"""Keys <-> messages: what each sidecar is sent, and what the vault seals. Deterministic bytes."""

from collections.abc import Collection, Mapping

from aegispb.v1 import discovery_pb2, tunnel_pb2
from google.protobuf.message import DecodeError

from controlplane.tunnels.state import Phase, TunnelState, WorkloadKeys
from policies import wire
from transport.keyring import EchKeyRing, KeyRingError, KeyState, NoiseStatic, RingKey
from transport.peers import SpiffeId

PREFIX = "tunnel/"
"""Before the SPIFFE id in the name of a personal resource."""


def personal(state: TunnelState, servers: Collection[SpiffeId]) -> dict[SpiffeId, discovery_pb2.Resource]:
    """Workload -> its private keys. Only `servers` get ECH keys: a client that holds none cannot lose them."""
    return {
        who: wire.resource_of(PREFIX + who, _encoded(_tunnel_keys(keys, state.ring if who in servers else None)))
        for who, keys in state.workloads.items()
    }


def mesh(state: TunnelState) -> list[discovery_pb2.Resource]:
    """What everybody may encrypt to, and what nobody may accept: one resource, or none in a mesh without keys."""
    if state.ring is None and not state.workloads and not state.revoked:
        return []
    message = tunnel_pb2.MeshKeys(revoked=sorted(state.revoked))
    if state.ring is not None:
        message.ech_configs = state.ring.client_configs
        message.ech_since = _millis(state.ring.active.since)
    return [wire.resource_of("mesh", _encoded(message))]


def workloads(state: TunnelState, foreign: Mapping[SpiffeId, tuple[bytes, ...]]) -> list[discovery_pb2.Resource]:
    """Everybody's public statics: ours, and those of `foreign` peers as their documents say them."""
    known: dict[SpiffeId, tuple[bytes, ...]] = {
        who: tuple(each.public for each in (keys.current, keys.other) if each is not None)
        for who, keys in state.workloads.items()
    }
    return [
        wire.resource_of(who, _encoded(tunnel_pb2.Workload(current=statics[0], other=b"".join(statics[1:]))))
        for who, statics in sorted({**known, **foreign}.items())
        if statics
    ]


def encode_state(state: TunnelState) -> bytes:
    """All keys as bytes, to be sealed."""
    message = tunnel_pb2.TunnelState()
    message.ech.extend(_ech_keys(state.ring))
    for who, keys in sorted(state.workloads.items()):
        each = message.workloads.add(spiffe_id=who, phase=keys.phase.value, since=_millis(keys.since))
        each.current.CopyFrom(_static(keys.current))
        if keys.other is not None:
            each.other.CopyFrom(_static(keys.other))
    for public, since in state.revoked.items():
        message.revoked.add(public_key=public, since=_millis(since))
    return _encoded(message)


def decode_state(data: bytes) -> TunnelState:
    """What `encode_state` encoded. Raises KeyRingError, and nothing else."""
    try:
        message = tunnel_pb2.TunnelState.FromString(data)
        keys = tuple(
            RingKey.of(each.config, each.private_key, KeyState(each.state), each.since / 1000) for each in message.ech
        )
        found = {
            SpiffeId(each.spiffe_id): WorkloadKeys(
                NoiseStatic(each.current.public_key, each.current.private_key),
                Phase(each.phase),
                each.since / 1000,
                NoiseStatic(each.other.public_key, each.other.private_key) if each.HasField("other") else None,
            )
            for each in message.workloads
        }
        revoked = {each.public_key: each.since / 1000 for each in message.revoked}
        return TunnelState(EchKeyRing(keys) if keys else None, found, revoked)
    except (DecodeError, ValueError) as error:
        raise error if isinstance(error, KeyRingError) else KeyRingError("not the keys of a mesh") from None


def _tunnel_keys(keys: WorkloadKeys, ring: EchKeyRing | None) -> tunnel_pb2.TunnelKeys:
    message = tunnel_pb2.TunnelKeys(ech=_ech_keys(ring), current=_static(keys.current))
    if keys.other is not None:
        message.other.CopyFrom(_static(keys.other))
    return message


def _ech_keys(ring: EchKeyRing | None) -> list[tunnel_pb2.EchKey]:
    return [
        tunnel_pb2.EchKey(
            config=key.key.config.encode(),
            private_key=key.private_bytes,
            state=key.state.value,
            since=_millis(key.since),
        )
        for key in (ring.keys if ring is not None else ())
    ]


def _static(static: NoiseStatic) -> tunnel_pb2.NoiseStatic:
    return tunnel_pb2.NoiseStatic(public_key=static.public, private_key=static.private)


def _encoded(
    message: tunnel_pb2.TunnelKeys | tunnel_pb2.MeshKeys | tunnel_pb2.Workload | tunnel_pb2.TunnelState,
) -> bytes:
    return message.SerializeToString(deterministic=True)


def _millis(seconds: float) -> int:
    return round(seconds * 1000)
