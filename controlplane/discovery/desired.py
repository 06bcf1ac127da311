"""What every sidecar should hold: the newest revision, type by type, and the frames that carry it."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from aegispb.v1 import discovery_pb2 as pb

from policies import wire

MAX_FRAME: Final = 4 * 1024 * 1024
"""Bytes of resources in one Delta, well below the 16 MiB that both ends receive."""
_MAX_CACHED: Final = 64
"""Frames kept. Sidecars that were up to date all need the same few."""


@dataclass(frozen=True, slots=True, eq=False)
class DesiredType:
    """All resources of one type. Immutable, compared by identity: see Publication for how it is kept."""

    revision: int
    """When the type last changed."""
    resources: Mapping[str, pb.Resource] = field(repr=False)
    """Name -> resource. Private keys are in some."""
    ttl: float | None = None
    """Seconds: the shortest time to live among the resources."""

    @classmethod
    def of(cls, revision: int, resources: Iterable[pb.Resource]) -> "DesiredType":
        """The type with these resources."""
        by_name = {resource.name: resource for resource in resources}
        ttls = [r.ttl.ToNanoseconds() / 1e9 for r in by_name.values() if r.HasField("ttl")]
        return cls(revision, by_name, min(ttls, default=None))


@dataclass(frozen=True, slots=True)
class Desired:
    """One revision of everything."""

    revision: int
    types: Mapping[str, DesiredType]
    """type_url -> resources, for every type, in the order of distribution."""
    since: float
    """When this became what is wanted; on the clock of the event loop."""
    keys_epoch: int = 0
    """Which keys of tunnels these are; 0: none. They change without a new revision."""
    personal: Mapping[str, DesiredType] = field(default_factory=dict, repr=False)
    """SPIFFE id -> the private keys of that workload. No stream sees them but its own, by `of`."""

    @classmethod
    def nothing(cls) -> "Desired":
        """Before anything was pushed."""
        return cls(0, {url: DesiredType(0, {}) for url in wire.ORDER}, 0.0)

    def of(self, owner: str) -> "Desired":
        """What the workload with this SPIFFE id should hold: everything that is for all, and its own keys."""
        mine = self.personal.get(owner)
        if mine is None:
            return self
        return replace(self, types={**self.types, wire.TUNNEL_KEYS: mine}, personal={})

    def revisions(self) -> dict[str, int]:
        """type_url -> revision of its last change."""
        return {url: each.revision for url, each in self.types.items()}


@dataclass(frozen=True, slots=True)
class Frame:
    """A Delta as it goes over the wire, and what it carries. Shared by all streams that need the same one."""

    nonce: str
    sent: Mapping[str, str]
    """name -> version."""
    removed: tuple[str, ...]
    complete: bool
    """What is not in it is to be removed."""
    renewal: bool
    """Only times to live are renewed."""
    encoded: bytes = field(repr=False)
    """A serialised Down."""


class Frames:
    """Builds Deltas, each only once. One push means the same bytes for a thousand sidecars."""

    def __init__(self) -> None:
        self._cache: dict[tuple[object, ...], Frame] = {}

    def upserts(self, type_url: str, desired: DesiredType, names: Iterable[str], *, complete: bool = False) -> Frame:
        """The first of these names, as many as one frame holds. A complete frame is never split."""
        names = tuple(names)
        if type_url in wire.PERSONAL:
            return _upserts(type_url, desired, names, complete=complete)  # nobody else needs it, nothing keeps it
        key = ("upserts", type_url, desired, names, complete)
        return self._cached(key) or self._keep(key, _upserts(type_url, desired, names, complete=complete))

    def removals(self, type_url: str, desired: DesiredType, names: Iterable[str]) -> Frame:
        """Removal of these names."""
        names = tuple(names)
        key = ("removals", type_url, desired, names)
        delta = pb.Delta(type_url=type_url, removed=names, last_of_type=True, revision=desired.revision)
        return self._cached(key) or self._keep(key, _frame(delta))

    def renewals(self, type_url: str, desired: DesiredType, names: Iterable[str]) -> Frame:
        """Renewal of these names: control-api.md rule 9, the same version without a body."""
        names = tuple(names)
        key = ("renewals", type_url, desired, names)
        known = self._cached(key)
        if known is not None:
            return known
        delta = pb.Delta(type_url=type_url, last_of_type=True, revision=desired.revision)
        for name in names:
            delta.upserts.add(name=name, version=desired.resources[name].version)
        return self._keep(key, _frame(delta))

    def _cached(self, key: tuple[object, ...]) -> Frame | None:
        return self._cache.get(key)

    def _keep(self, key: tuple[object, ...], frame: Frame) -> Frame:
        if len(self._cache) >= _MAX_CACHED:
            self._cache.clear()
        self._cache[key] = frame
        return frame


def _upserts(type_url: str, desired: DesiredType, names: tuple[str, ...], *, complete: bool) -> Frame:
    delta = pb.Delta(type_url=type_url, revision=desired.revision, complete=complete, last_of_type=True)
    size = 0
    for name in names:
        resource = desired.resources[name]
        size += resource.ByteSize()
        if delta.upserts and size > MAX_FRAME and not complete:
            delta.last_of_type = False
            break
        delta.upserts.append(resource)
    return _frame(delta)


def _frame(delta: pb.Delta) -> Frame:
    # The nonce only correlates, and a stream has one Delta per type in flight: all streams can share it.
    delta.nonce = hashlib.sha256(delta.SerializeToString()).hexdigest()[:12]
    sent = {resource.name: resource.version for resource in delta.upserts}
    renewal = any(not resource.HasField("body") for resource in delta.upserts)
    encoded = pb.Down(delta=delta).SerializeToString()
    return Frame(delta.nonce, sent, tuple(delta.removed), delta.complete, renewal, encoded)
