"""What a sidecar holds and enforces of each type of policy, and its verdict on every Delta. No I/O, no clock.

Everything is replaced, nothing is changed in place: `apply` may run in a thread while the event loop reads versions.
One call that changes something (`apply`, `confirm`, `expire`, `restore`) at a time.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from aegispb.v1 import discovery_pb2 as pb
from aegispb.v1 import lkg_pb2
from google.rpc import code_pb2, status_pb2

from policies import compile as policy_compile
from policies import wire
from policies.compile import Part
from policies.errors import PolicyError, ReferenceMissingError, WireError
from policies.mathprotocol.manifest import PluginTask
from policies.model import UnixNanos
from policies.snapshot import PolicySnapshot
from policies.spec import DocumentKey, Kind, RouteSpec
from policies.strict import stricter
from sidecar import tunnel_keys
from sidecar.tunnel_keys import HeldKey, TunnelView
from transport.keyring import TunnelKeys

MAX_RESOURCES: Final = 4096
"""Resources of all types that a sidecar holds."""
_MAX_REASON: Final = 1000
"""Characters of the reason in a refusal."""
_OF_TUNNELS: Final = frozenset({Kind.TUNNEL, Kind.PEER})


@dataclass(frozen=True, slots=True)
class Held:
    """One resource in force."""

    resource: pb.Resource = field(repr=False)
    part: Part
    """What is enforced: the document's own part, or after its expiry what stands in for it."""
    received_at: UnixNanos
    """Receipt or last renewal."""
    expired: bool = False

    @property
    def expires_at(self) -> UnixNanos | None:
        """When its time to live has passed; None: never, or it has passed already."""
        if self.expired or not self.resource.HasField("ttl"):
            return None
        return UnixNanos(self.received_at + self.resource.ttl.ToNanoseconds())


@dataclass(frozen=True, slots=True)
class _Refusal:
    code: int
    reason: str


class PolicyState:
    """The policies of one sidecar."""

    def __init__(self, tenant_key: bytes, hosted: Mapping[int, PluginTask] | None = None) -> None:
        """`hosted`: prime -> the task that a plugin's code answers here; None: not asked for."""
        self._tenant_key = tenant_key
        self._hosted = hosted
        self._held: Mapping[DocumentKey, Held] = {}
        self._unbuilt: Mapping[str, RouteSpec] = {}
        """New routes that were refused: what they match is blocked, see BlockedRoute."""
        self._keys: Mapping[tuple[str, str], HeldKey] = {}
        """(type_url, name) -> keys of tunnels in force."""
        self._tunnels: TunnelView | None = None
        """What `tunnels` put together last; None: something of it has changed since."""
        self.can_prove: Callable[[str], bool] = _takes_no_tunnels
        """Whether this sidecar has a certificate for a public name. Asked in the thread that applies."""
        self.revisions: Mapping[str, int] = {}
        """type_url -> revision in force."""
        self.generation = 0
        """Grows with every change of what is enforced or of its revision."""

    def versions(self) -> dict[str, dict[str, str]]:
        """type_url -> name -> version in force: what Hello tells. Expired ones are not in force."""
        found: dict[str, dict[str, str]] = {url: {} for url in wire.ORDER}
        for (kind, name), held in self._held.items():
            if not held.expired:
                found[wire.TYPE_URLS[kind]][name] = held.resource.version
        for (url, name), key in self._keys.items():
            found[url][name] = key.resource.version
        return found

    def digests(self) -> dict[str, str]:
        """type_url -> digest of what is in force: what heartbeats tell."""
        return {url: wire.state_digest(versions) for url, versions in self.versions().items()}

    def snapshot(self, source: str) -> PolicySnapshot | None:
        """What exchanges are held to. None when there is no route at all: every exchange is refused."""
        parts = {key: held.part for key, held in self._held.items() if not _is_gone(held)}
        snapshot = policy_compile.assemble(
            parts,
            revision=max(self.revisions.values(), default=0),
            source=source,
            unbuilt=[*self._unbuilt.items(), *self._gone_routes()],
        )
        return snapshot if snapshot.routes or snapshot.blocked else None

    def tunnels(self) -> TunnelView:
        """Who we are to tunnels and who others are, with their keys; the same object until something of it changes.

        The first call after a change costs about 1 µs for each workload of the mesh."""
        if self._tunnels is None:
            documents = [held.part.document for held in self._held.values() if not _is_gone(held)]
            self._tunnels = tunnel_keys.view(self._keys, documents)
        return self._tunnels

    def apply(self, delta: pb.Delta, now: UnixNanos) -> pb.Ack:
        """Take over what can be taken over; the verdict names the rest. Builds policies: keep it off the event loop."""
        ack = pb.Ack(type_url=delta.type_url, nonce=delta.nonce)
        whole = _whole_refusal(delta)
        if whole is not None:
            ack.error_detail.CopyFrom(status_pb2.Status(code=whole.code, message=whole.reason))
            return ack
        if delta.type_url in wire.KEY_TYPES:
            return self._apply_keys(delta, ack)
        kind = wire.KINDS[delta.type_url]
        held, unbuilt = dict(self._held), dict(self._unbuilt)
        for resource in delta.upserts:
            refusal = self._take(kind, resource, now, held, unbuilt)
            if refusal is not None:
                rejected = ack.rejected.add(name=resource.name, version=resource.version)
                rejected.why.CopyFrom(status_pb2.Status(code=refusal.code, message=refusal.reason))
                predecessor = held.get((kind, resource.name))
                rejected.in_force = predecessor.resource.version if predecessor and not predecessor.expired else ""
        for name in _removals(delta, [name for other, name in held if other is kind]):
            held.pop((kind, name), None)
            if kind is Kind.ROUTE:
                unbuilt.pop(name, None)
        _summarise(ack, delta)
        # From here exchanges can see the new state.
        self._held, self._unbuilt = held, unbuilt
        if kind in _OF_TUNNELS:
            self._tunnels = None
        self.revisions = {**self.revisions, delta.type_url: delta.revision}
        self.generation += 1
        return ack

    def _apply_keys(self, delta: pb.Delta, ack: pb.Ack) -> pb.Ack:
        """The same for keys of tunnels, which are no policies: nothing is compiled, and nothing expires."""
        keys = dict(self._keys)
        for resource in delta.upserts:
            key = (delta.type_url, resource.name)
            try:
                read = tunnel_keys.read(delta.type_url, resource, keys)
                self._require_provable(read, keys)
                if delta.type_url in wire.PERSONAL:
                    # A sidecar is one workload: another name means that its certificate has another.
                    keys = {other: each for other, each in keys.items() if other[0] != delta.type_url}
                keys[key] = read
            except (WireError, ReferenceMissingError) as error:
                rejected = ack.rejected.add(name=resource.name, version=resource.version)
                why = status_pb2.Status(code=_code(error), message=str(error)[:_MAX_REASON])
                rejected.why.CopyFrom(why)
                rejected.in_force = keys[key].resource.version if key in keys else ""
        for name in _removals(delta, [name for url, name in keys if url == delta.type_url]):
            keys.pop((delta.type_url, name), None)
        _summarise(ack, delta)
        self._keys, self._tunnels = keys, None
        self.revisions = {**self.revisions, delta.type_url: delta.revision}
        self.generation += 1
        return ack

    def _require_provable(self, new: HeldKey, keys: Mapping[tuple[str, str], HeldKey]) -> None:
        """Raise ReferenceMissingError if keys would come into force under a public name that we cannot prove.

        Refusing them keeps the former, under which tunnels stand, and stops the rotation before any client uses the new
        name; a certificate that was for the new name and is not any more when the key becomes active stops it there.
        Without former keys there is nothing to keep.
        """
        former = next((each.value.ech for each in keys.values() if isinstance(each.value, TunnelKeys)), None)
        if former is None or not isinstance(new.value, TunnelKeys) or new.value.ech is None:
            return
        names = {key.key.config.public_name for key in new.value.ech.keys}
        names -= {key.key.config.public_name for key in former.keys}
        if former.active.config_id != new.value.ech.active.config_id:
            names.add(new.value.ech.active.key.config.public_name)
        for name in sorted(names):
            if not self.can_prove(name):
                raise ReferenceMissingError(f"needs a certificate for the public name {name} in tunnel_identity")

    def confirm(self, in_force: Mapping[str, int]) -> bool:
        """Note which revisions what is held amounts to; whether that is news."""
        newer = {url: number for url, number in in_force.items() if number > self.revisions.get(url, 0)}
        if newer:
            self.revisions = {**self.revisions, **newer}
            self.generation += 1
        return bool(newer)

    def next_expiry(self) -> UnixNanos | None:
        """When `expire` has something to do; None: never."""
        return min((at for held in self._held.values() if (at := held.expires_at) is not None), default=None)

    def expire(self, now: UnixNanos) -> list[DocumentKey]:
        """Put stricter defaults in the place of what has expired, and say what that was. Builds policies."""
        due = [key for key, held in self._held.items() if (at := held.expires_at) is not None and at <= now]
        if due:
            self._held = {**self._held, **{key: self._stricter(self._held[key]) for key in due}}
            self._tunnels = None
            self.generation += 1
        return due

    def last_known_good(self) -> lkg_pb2.LastKnownGood:
        """Everything held, as it was received."""
        entries = [
            lkg_pb2.LastKnownGood.Entry(
                type_url=wire.TYPE_URLS[kind], resource=held.resource, received_at=held.received_at // 1_000_000
            )
            for (kind, _), held in self._held.items()
        ]
        entries += [
            lkg_pb2.LastKnownGood.Entry(type_url=url, resource=key.resource) for (url, _), key in self._keys.items()
        ]
        return lkg_pb2.LastKnownGood(entries=entries, revisions=dict(self.revisions))

    def restore(self, kept: lkg_pb2.LastKnownGood, now: UnixNanos) -> list[str]:
        """Take over what was kept, and say what this build refuses of it. Checks and builds everything anew."""
        refused: list[str] = []
        for type_url in wire.ORDER:  # in the order of distribution: references are there before what refers
            entries = [entry for entry in kept.entries if entry.type_url == type_url]
            if entries and type_url in wire.KEY_TYPES:  # nothing of them expires: all at once
                delta = pb.Delta(type_url=type_url, revision=kept.revisions.get(type_url, 0))
                delta.upserts.extend(entry.resource for entry in entries)
                refused += _refused(type_url, self.apply(delta, now))
                continue
            for entry in entries:
                received_at = UnixNanos(min(entry.received_at * 1_000_000, now))
                delta = pb.Delta(type_url=type_url, upserts=[entry.resource], revision=kept.revisions.get(type_url, 0))
                refused += _refused(type_url, self.apply(delta, received_at))
        self.expire(now)
        return refused

    def _take(
        self,
        kind: Kind,
        resource: pb.Resource,
        now: UnixNanos,
        held: dict[DocumentKey, Held],
        unbuilt: dict[str, RouteSpec],
    ) -> _Refusal | None:
        key = (kind, resource.name)
        if not resource.HasField("body"):
            return _renew(key, resource, now, held)
        if key not in held and len(held) + len(unbuilt) >= MAX_RESOURCES:
            return _Refusal(code_pb2.RESOURCE_EXHAUSTED, f"a sidecar holds at most {MAX_RESOURCES} resources")
        spec: RouteSpec | None = None
        try:
            document = wire.read(wire.TYPE_URLS[kind], resource)
            if isinstance(document.body, RouteSpec):
                spec = document.body
            policy_compile.require_references(document, held)
            if self._hosted is not None:
                policy_compile.require_plugins(document, self._hosted)
            held[key] = Held(resource, policy_compile.build(document, self._tenant_key), now)
            unbuilt.pop(resource.name, None)
            return None
        except PolicyError as error:
            refusal = _Refusal(_code(error), str(error)[:_MAX_REASON])
        except Exception as error:  # noqa: BLE001 boundary: a policy that cannot be built must not stop the others
            refusal = _Refusal(code_pb2.INTERNAL, f"cannot be built: {type(error).__name__}")
        if spec is not None and key not in held:
            unbuilt[resource.name] = spec
        return refusal

    def _stricter(self, held: Held) -> Held:
        strict = stricter(held.part.document)
        part = held.part if strict is None else policy_compile.build(strict, self._tenant_key)
        return replace(held, part=part, expired=True)

    def _gone_routes(self) -> Iterator[tuple[str, RouteSpec]]:
        for (_, name), held in self._held.items():
            if _is_gone(held) and isinstance(held.part.document.body, RouteSpec):
                yield name, held.part.document.body


def _takes_no_tunnels(_public_name: str) -> bool:
    """Whoever takes none need not prove anything."""
    return True


def _refused(type_url: str, ack: pb.Ack) -> list[str]:
    rejected = ack.rejected or ([pb.Rejected(name="all", why=ack.error_detail)] if ack.HasField("error_detail") else [])
    return [f"{wire.name_of(type_url)} {each.name}: {each.why.message}" for each in rejected]


def _is_gone(held: Held) -> bool:
    """Whether it has expired and nothing stands in for it."""
    return held.expired and stricter(held.part.document) is None


def _whole_refusal(delta: pb.Delta) -> _Refusal | None:
    if delta.type_url not in wire.ORDER:
        return _Refusal(code_pb2.UNIMPLEMENTED, f"unknown type {delta.type_url[:200]!r}: this build is too old for it")
    names = [resource.name for resource in delta.upserts] + list(delta.removed)
    if len(set(names)) != len(names):
        return _Refusal(code_pb2.INVALID_ARGUMENT, "a name stands twice in this delta")
    return None


def _renew(key: DocumentKey, resource: pb.Resource, now: UnixNanos, held: dict[DocumentKey, Held]) -> _Refusal | None:
    current = held.get(key)
    if current is None or current.expired or current.resource.version != resource.version:
        return _Refusal(code_pb2.FAILED_PRECONDITION, "renews a version that is not in force")
    held[key] = replace(current, received_at=now)
    return None


def _removals(delta: pb.Delta, held: Iterable[str]) -> list[str]:
    """What of the names `held` of its type is to go."""
    if not delta.complete:
        return list(delta.removed)
    sent = {resource.name for resource in delta.upserts}
    return [name for name in held if name not in sent]


def _summarise(ack: pb.Ack, delta: pb.Delta) -> None:
    if ack.rejected:
        ack.error_detail.code = ack.rejected[0].why.code
        ack.error_detail.message = f"{len(ack.rejected)} of {len(delta.upserts)} refused"


def _code(error: PolicyError) -> int:
    missing = isinstance(error, ReferenceMissingError)
    return int(code_pb2.FAILED_PRECONDITION if missing else code_pb2.INVALID_ARGUMENT)
