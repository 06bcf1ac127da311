"""The keys of tunnels that a sidecar was sent: judged one resource at a time, and put together as one view. No I/O.

What cannot be judged good leaves its predecessor in force, as with every resource. What is held here is private: it is
sealed in the last known good, and never shown.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from aegispb.v1 import discovery_pb2 as pb
from aegispb.v1 import tunnel_pb2

from policies import wire
from policies.errors import WireError
from policies.spec import Document
from policies.tunnel import MESH, PeerConfig, TunnelConfig
from transport.decisions import PeerMode
from transport.ech.config import EchConfigError, choose_config, parse_config_list
from transport.keyring import EchKeyRing, KeyRingError, KeyState, NoiseStatic, RingKey, TunnelKeys
from transport.peers import Peer, PeerDirectory, PeerError, SpiffeId, Statics, endpoints
from transport.rollout import Rollout

PERSONAL: Final = "tunnel/"
"""Before the SPIFFE id in the name of a TunnelKeys resource."""
MAX_WORKLOADS: Final = 16_384
MAX_REVOKED: Final = 4096


@dataclass(frozen=True, slots=True)
class MeshKeys:
    """What everybody may encrypt to, and what nobody may accept any more."""

    ech_configs: bytes
    """ECHConfigList; empty: the mesh has no ECH keys."""
    revoked: frozenset[bytes]
    ech_since: float = 0.0
    """Seconds since 1970 at which the key became active."""


@dataclass(frozen=True, slots=True)
class HeldKey:
    """One resource in force."""

    resource: pb.Resource = field(repr=False)
    value: TunnelKeys | MeshKeys | Statics


@dataclass(frozen=True, slots=True)
class TunnelView:
    """Everything that tunnels need to know, at one moment: who we are, who others are, and with which keys. Immutable;
    every push that changes something makes another one."""

    keys: TunnelKeys | None = None
    """Ours. None: no Peer document names this workload, so that it neither opens nor takes tunnels."""
    directory: PeerDirectory = field(default_factory=PeerDirectory)
    ech_configs: bytes = b""
    """ECHConfigList for new tunnels; empty: there is none."""
    rollout: Rollout = field(default_factory=Rollout)
    public_name: str = ""
    """What stands in the clear in every hello: the name of the active key, whatever a TunnelPolicy says that is not in
    force everywhere yet. Empty: there is no TunnelPolicy."""
    ech_since: float = 0.0
    """Seconds since 1970 at which the key of `ech_configs` became active; 0: there is none."""

    @property
    def static(self) -> bytes | None:
        """The public key that we prove; None: we are nobody to tunnels."""
        return self.keys.static.public if self.keys is not None else None

    @property
    def served(self) -> tuple[Peer, ...]:
        """The peers that this sidecar answers for on its tunnel port."""
        return self.directory.peers_served_by(self.keys.spiffe_id) if self.keys is not None else ()


HeldKeys = Mapping[tuple[str, str], HeldKey]
"""(type_url, name) -> what is in force."""


def read(type_url: str, resource: pb.Resource, held: HeldKeys) -> HeldKey:
    """The resource, judged alone and beside what is `held`. Raises WireError, and nothing else."""
    try:
        match type_url:
            case wire.TUNNEL_KEYS:
                value: TunnelKeys | MeshKeys | Statics = _tunnel_keys(resource)
            case wire.MESH_KEYS:
                value = _mesh_keys(resource)
            case wire.WORKLOADS:
                value = _workload(resource, held)
            case _:
                raise WireError("not a type of keys")
    except (KeyRingError, PeerError, EchConfigError) as error:
        raise WireError(str(error)) from None
    return HeldKey(resource, value)


def view(held: HeldKeys, documents: Iterable[Document]) -> TunnelView:
    """What is held, put together with what policy says. Raises nothing: a document that makes no peer is left out, and
    a workload whose static is another's too has none."""
    keys = next((each.value for each in held.values() if isinstance(each.value, TunnelKeys)), None)
    mesh = next((each.value for each in held.values() if isinstance(each.value, MeshKeys)), MeshKeys(b"", frozenset()))
    statics = {SpiffeId(name): each.value for (_, name), each in held.items() if isinstance(each.value, Statics)}
    peers: dict[str, Peer] = {}
    rollout, public_name = Rollout(), ""
    for document in documents:
        match document.body:
            case TunnelConfig() as policy if document.name == MESH:
                rollout = Rollout(policy.enabled, policy.rollout_percentage, policy.salt.encode())
                public_name = policy.public_name
            case PeerConfig() as config:
                peers[document.name] = _peer(document.name, config)
            case _:
                pass
    active = choose_config(parse_config_list(mesh.ech_configs)) if mesh.ech_configs else None
    if active is not None:
        public_name = active.public_name  # what servers have certificates for, see `PolicyState.can_prove`
    directory = PeerDirectory(peers, dict(_unshared(statics)), mesh.revoked)
    return TunnelView(keys, directory, mesh.ech_configs, rollout, public_name, mesh.ech_since)


def _tunnel_keys(resource: pb.Resource) -> TunnelKeys:
    message = tunnel_pb2.TunnelKeys()
    wire.parse(resource, message)
    if not resource.name.startswith(PERSONAL + "spiffe://"):
        raise WireError("expected the name tunnel/<SPIFFE id>")
    try:
        ring = tuple(
            RingKey.of(each.config, each.private_key, KeyState(each.state), each.since / 1000) for each in message.ech
        )
    except ValueError as error:
        raise WireError(str(error) if isinstance(error, KeyRingError) else "unknown state of an ECH key") from None
    return TunnelKeys(
        SpiffeId(resource.name.removeprefix(PERSONAL)),
        EchKeyRing(ring) if ring else None,
        NoiseStatic(message.current.public_key, message.current.private_key),
        NoiseStatic(message.other.public_key, message.other.private_key) if message.HasField("other") else None,
    )


def _mesh_keys(resource: pb.Resource) -> MeshKeys:
    message = tunnel_pb2.MeshKeys()
    wire.parse(resource, message)
    if message.ech_configs and not any(config.is_usable for config in parse_config_list(message.ech_configs)):
        raise WireError("none of the ECH configurations can be used")
    if len(message.revoked) > MAX_REVOKED:
        raise WireError(f"more than {MAX_REVOKED} statics are revoked")
    revoked = frozenset(Statics(key).current for key in message.revoked)
    return MeshKeys(message.ech_configs, revoked, message.ech_since / 1000)


def _workload(resource: pb.Resource, held: HeldKeys) -> Statics:
    message = tunnel_pb2.Workload()
    wire.parse(resource, message)
    if len(held) >= MAX_WORKLOADS and (wire.WORKLOADS, resource.name) not in held:
        raise WireError(f"a sidecar knows at most {MAX_WORKLOADS} workloads")
    return Statics(message.current, message.other or None)


def _peer(name: str, config: PeerConfig) -> Peer:
    return Peer(
        name=name,
        spiffe_id=SpiffeId(config.spiffe_id),
        service=config.service,
        endpoints=endpoints(config.endpoints),
        mode=PeerMode(config.mode.value),
        min_pq=config.min_pq,
        allowed=frozenset(map(SpiffeId, config.allow)),
    )


def _unshared(statics: Mapping[SpiffeId, Statics]) -> Iterator[tuple[SpiffeId, Statics]]:
    """Without every workload that has a static in common with another: neither can be told from the other."""
    owners: dict[bytes, int] = {}
    for each in statics.values():
        for key in each.all:
            owners[key] = owners.get(key, 0) + 1
    for who, each in statics.items():
        if all(owners[key] == 1 for key in each.all):
            yield who, each
