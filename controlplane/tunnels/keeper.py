"""Keeps the keys of tunnels: makes them for whom policy names, and takes a rotation as far as it was acknowledged.

The sidecars that count are those that take keys and were seen within the last ten minutes, by this replica or another,
before this start or after: they are rows of the store, so that a restarted control plane does not take the absence of
sidecars for their consent.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from aegispb.v1 import discovery_pb2 as pb

from controlplane.discovery.roster import Node
from controlplane.store.store import Resources, StoreError
from controlplane.tunnels import resources as encoded
from controlplane.tunnels import state as tunnel_state
from controlplane.tunnels.state import RandomBytes, TunnelState, Wanted
from controlplane.tunnels.vault import Acknowledged, Kept, TunnelVault
from observability import names
from observability.metrics import Registry
from policies import wire
from policies.errors import PolicyError
from policies.spec import Kind
from policies.tunnel import MESH, PeerConfig, TunnelConfig
from transport.peers import SpiffeId

logger = logging.getLogger(__name__)

COUNTS_FOR: Final = 600.0
"""Seconds after it was last seen that a sidecar is waited for; then it is taken for gone, as pods are. One that lives
on unseen rejects hellos to the newer key, and its clients come again with the key that it names."""
SEEN_EVERY: Final = 30.0
"""Seconds between two notes that a connected sidecar was seen."""
_ATTEMPTS: Final = 5


class NotNowError(Exception):
    """What was asked for cannot be done at this moment. Says why."""


class NoSuchWorkloadError(Exception):
    """There are no keys of that workload."""


@dataclass(frozen=True, slots=True)
class KeyResources:
    """What is distributed of one epoch."""

    epoch: int
    shared: Mapping[str, tuple[pb.Resource, ...]] = field(default_factory=dict, repr=False)
    """type_url -> resources, for the types that everybody gets."""
    personal: Mapping[str, pb.Resource] = field(default_factory=dict, repr=False)
    """SPIFFE id -> its private keys."""


@dataclass(frozen=True, slots=True)
class Report:
    """Where everything is, without a private key."""

    kept: Kept
    nodes: tuple[Acknowledged, ...]
    """Those that count."""

    @property
    def waiting_for(self) -> tuple[Acknowledged, ...]:
        """Sidecars that have not acknowledged the newest epoch."""
        return tuple(node for node in self.nodes if node.epoch < self.kept.epoch)


class TunnelKeeper:
    """Every method blocks on the database and may raise StoreError: keep it off an event loop. From any thread."""

    def __init__(self, vault: TunnelVault, *, now: Callable[[], float], random: RandomBytes) -> None:
        """`now`: seconds since 1970."""
        self._vault = vault
        self._now = now
        self._random = random
        self._wanted = Wanted(None, frozenset())
        self._servers: frozenset[SpiffeId] = frozenset()
        self._foreign: Mapping[SpiffeId, tuple[bytes, ...]] = {}
        self._noted: dict[tuple[str, str], Acknowledged] = {}
        """What this replica wrote of each connected sidecar last."""
        self._kept: Kept | None = None
        self._encoded: tuple[object, KeyResources] | None = None
        """What is distributed, and what it was made from."""
        self._waiting = 0
        """Sidecars that had not acknowledged the newest epoch when it was looked at last."""
        self._lock = threading.Lock()
        """Held by every public method: operators' calls come beside those of the publication."""

    def watch(self, registry: Registry) -> None:
        """Show epoch, ages and who is waited for, as this replica knows them."""
        registry.gauge(names.CP_TUNNEL_EPOCH).watch(lambda: {(): self._kept.epoch if self._kept is not None else 0})
        registry.gauge(names.CP_TUNNEL_WAITING).watch(lambda: {(): self._waiting})
        registry.gauge(names.CP_TUNNEL_KEY_AGE).watch(self._ages)

    def _ages(self) -> Mapping[tuple[str, ...], float]:
        if self._kept is None:
            return {}
        state = self._kept.state
        since = [("static", keys.since) for keys in state.workloads.values()]
        since += [(key.state.value.lower(), key.since) for key in (state.ring.keys if state.ring is not None else ())]
        return {(name,): self._now() - min(at for other, at in since if other == name) for name, _ in since}

    def want(self, documents: Resources) -> None:
        """Take over what policy says of tunnels. Documents that this build cannot read say nothing."""
        policy: TunnelConfig | None = None
        peers: list[PeerConfig] = []
        for (kind, name), resource in documents.items():
            if kind not in (Kind.TUNNEL, Kind.PEER):
                continue
            try:
                body = wire.read(wire.TYPE_URLS[kind], resource).body
            except PolicyError as error:
                logger.error("tunnel document unreadable", extra={"kind": kind, "reason": str(error)})
                continue
            if isinstance(body, PeerConfig):
                peers.append(body)
            elif isinstance(body, TunnelConfig) and name == MESH:
                policy = body
        foreign = {SpiffeId(peer.spiffe_id): peer.statics for peer in peers if peer.statics}
        named = {SpiffeId(who) for peer in peers for who in (peer.spiffe_id, *peer.allow)}
        with self._lock:
            self._foreign = foreign
            self._wanted = Wanted(policy, frozenset(named - foreign.keys()))
            self._servers = frozenset(SpiffeId(peer.spiffe_id) for peer in peers)

    def settle(self, connected: Iterable[Acknowledged]) -> KeyResources:
        """Note what was acknowledged, move as far as that allows, and say what is to be distributed now."""
        with self._lock:
            return self._settle(connected)

    def _settle(self, connected: Iterable[Acknowledged]) -> KeyResources:
        idle = self._wanted.policy is None and not self._wanted.workloads
        if idle and self._vault.epoch() == 0:
            return KeyResources(0)
        self._note(connected)
        kept = self._current()
        moved = self._moved(kept)
        for _ in range(_ATTEMPTS):
            if moved is kept.state:
                break
            if self._write(kept, moved, "tunnel keys moved"):
                kept = self._current()
                break
            kept = self._current()
            moved = self._moved(kept)
        return self._distributed(kept)

    def announce(self, *, ech: bool, statics: Iterable[str], all_statics: bool) -> None:
        """Begin a rotation. Raises NotNowError while one is under way, and NoSuchWorkloadError."""

        def change(state: TunnelState) -> TunnelState:
            whose = {SpiffeId(who) for who in statics}
            if unknown := sorted(whose - state.workloads.keys()):
                raise NoSuchWorkloadError(f"no Peer document names {unknown[0]}, or it has keys of its own")
            self._require_quiet()
            if ech:
                if self._wanted.policy is None or state.ring is None:
                    raise NotNowError("the mesh has no ECH keys: push a TunnelPolicy first")
                state = tunnel_state.announce_ech(state, self._wanted.policy, self._now(), self._random)
            whose = set(state.workloads) if all_statics else whose
            return tunnel_state.announce_statics(state, whose, self._now(), self._random)

        self._change(change, "rotation begun")

    def force(self) -> None:
        """Take what is under way one step further without those who have not acknowledged.

        Raises NotNowError if that would bring another public name: a server without a certificate for it, which has
        refused the key for that reason, could not even reject a client.
        """

        def change(state: TunnelState) -> TunnelState:
            waiting = self._report().waiting_for
            if waiting and (name := tunnel_state.name_to_come(state)):
                raise NotNowError(
                    f"{len(waiting)} sidecars have not acknowledged the key for {name}, the first is "
                    f"{waiting[0].spiffe_id} ({waiting[0].node_id}): without a certificate for that name their clients "
                    "would be turned away. `aegis policy status` says what they refuse; renew certificates, or push "
                    "the former publicName, which withdraws the key"
                )
            return tunnel_state.force(state, self._now())

        self._change(change, "rotation forced")

    def revoke(self, whose: str) -> None:
        """Give a workload another static at once. Raises NoSuchWorkloadError."""

        def change(state: TunnelState) -> TunnelState:
            if SpiffeId(whose) not in state.workloads:
                raise NoSuchWorkloadError(f"no Peer document names {whose}, or it has keys of its own")
            return tunnel_state.revoke(state, SpiffeId(whose), self._now(), self._random)

        self._change(change, "static revoked")

    def report(self) -> Report:
        """Where everything is."""
        with self._lock:
            return self._report()

    def _report(self) -> Report:
        return Report(self._current(), tuple(self._counting()))

    def _change(self, change: Callable[[TunnelState], TunnelState], what: str) -> None:
        with self._lock:
            for _ in range(_ATTEMPTS):
                kept = self._current()
                if self._write(kept, change(kept.state), what):
                    return
        raise StoreError("the tunnel keys are changed by others at this moment; try again")

    def _write(self, kept: Kept, state: TunnelState, what: str) -> bool:
        written = self._vault.write(state, base=kept.epoch)
        if written:
            logger.info(what, extra={"epoch": kept.epoch + 1})
        return written

    def _moved(self, kept: Kept) -> TunnelState:
        self._waiting = sum(node.epoch < kept.epoch for node in self._counting())
        confirmed = self._waiting == 0
        return tunnel_state.advance(kept.state, self._wanted, self._now(), self._random, confirmed=confirmed)

    def _require_quiet(self) -> None:
        waiting = self._report().waiting_for
        if waiting:
            first = f"{waiting[0].spiffe_id} ({waiting[0].node_id})"
            raise NotNowError(
                f"the last change is not acknowledged yet by {len(waiting)} sidecars, the first is {first}"
            )

    def _current(self) -> Kept:
        """The newest keys; opened again only when somebody changed them."""
        if self._kept is None or self._kept.epoch != self._vault.epoch():
            self._kept = self._vault.read()
        return self._kept

    def _counting(self) -> list[Acknowledged]:
        since = self._now() - COUNTS_FOR
        return [node for node in self._vault.acknowledged() if node.last_seen >= since]

    def _note(self, connected: Iterable[Acknowledged]) -> None:
        current = {(node.spiffe_id, node.node_id): node for node in connected}
        news = [
            node
            for key, node in current.items()
            if key not in self._noted
            or self._noted[key].epoch < node.epoch
            or node.last_seen - self._noted[key].last_seen > SEEN_EVERY
        ]
        # An epoch that was confirmed stays confirmed while a later one is under way.
        news = [replace(node, epoch=max(node.epoch, self._epoch_noted(node))) for node in news]
        if news:
            self._vault.acknowledge(news)
            self._vault.forget(self._now() - 2 * COUNTS_FOR)
        self._noted = {key: self._noted.get(key, node) for key, node in current.items()}
        self._noted.update({(node.spiffe_id, node.node_id): node for node in news})

    def _epoch_noted(self, node: Acknowledged) -> int:
        noted = self._noted.get((node.spiffe_id, node.node_id))
        return noted.epoch if noted is not None else 0

    def _distributed(self, kept: Kept) -> KeyResources:
        """Encoded once for each change: this is asked every second."""
        asked = kept.epoch, self._foreign, self._servers
        if self._encoded is None or self._encoded[0] != asked:
            self._encoded = asked, self._encode(kept)
        return self._encoded[1]

    def _encode(self, kept: Kept) -> KeyResources:
        state = kept.state
        return KeyResources(
            kept.epoch,
            {
                wire.MESH_KEYS: tuple(encoded.mesh(state)),
                wire.WORKLOADS: tuple(encoded.workloads(state, self._foreign)),
            },
            {str(who): each for who, each in encoded.personal(state, self._servers).items()},
        )


def acknowledgements(nodes: Iterable[Node], now: float) -> list[Acknowledged]:
    """What the connected sidecars that take keys have acknowledged. On the event loop. `now`: seconds since 1970."""
    found = []
    for node in nodes:
        session = node.session
        if not node.connected or wire.TUNNEL_KEYS not in session.types:
            continue
        held = [(session.types[url], session.desired.types[url]) for url in wire.KEY_TYPES if url in session.types]
        complete = all(each.settled is desired and not each.refused for each, desired in held)
        epoch = session.desired.keys_epoch if complete else 0
        found.append(Acknowledged(str(node.peer), session.node_id, epoch, now))
    return found
