"""All keys of the mesh at one moment, and the next moment: rotations as a pure function. No I/O, no clock.

ECH, one ring for the mesh:

    ACTIVE ──due──► + ANNOUNCED ──confirmed──► the new one ACTIVE, the former RETIRING ──rotate_every──► gone

Noise statics, a pair for each workload:

    STEADY ──due──► ANNOUNCED (other = next) ──confirmed──► SWITCHED (other = former) ──confirmed──► STEADY

*Confirmed* means that every sidecar that counts has acknowledged all keys as they are now. One move at a time: nothing
is announced while something else is not confirmed, so that no step is ever taken on old acknowledgements.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from policies.tunnel import TunnelConfig
from transport.ech.config import generate_key
from transport.keyring import EchKeyRing, KeyState, NoiseStatic, RingKey
from transport.peers import SpiffeId

MAX_WORKLOADS: Final = 10_000
MAX_REVOKED: Final = 1024
"""Statics that are named as revoked; they are in no directory either way, and the oldest go first."""

RandomBytes = Callable[[int], bytes]


class Phase(StrEnum):
    """Where a workload's static is in its rotation."""

    STEADY = "STEADY"
    ANNOUNCED = "ANNOUNCED"
    """`other` is the next one."""
    SWITCHED = "SWITCHED"
    """`other` is the former one."""


@dataclass(frozen=True, slots=True)
class WorkloadKeys:
    """The Noise statics of one workload."""

    current: NoiseStatic
    phase: Phase
    since: float
    """Seconds since 1970 at which it entered `phase`."""
    other: NoiseStatic | None = None
    """None in STEADY, and only there."""

    def __post_init__(self) -> None:
        if (self.other is None) != (self.phase is Phase.STEADY):
            raise ValueError(f"a workload in {self.phase} has {'no' if self.other is None else 'an'} other static")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What policy wants of keys."""

    policy: TunnelConfig | None
    """None: the mesh has no ECH."""
    workloads: frozenset[SpiffeId]
    """Everybody who opens or takes tunnels and whose keys we make."""


@dataclass(frozen=True, slots=True)
class TunnelState:
    """All keys. Nothing changes in place."""

    ring: EchKeyRing | None = None
    workloads: Mapping[SpiffeId, WorkloadKeys] = field(default_factory=dict)
    revoked: Mapping[bytes, float] = field(default_factory=dict)
    """Noise static -> when it was revoked, seconds since 1970; oldest first."""


def advance(state: TunnelState, wanted: Wanted, now: float, random: RandomBytes, *, confirmed: bool) -> TunnelState:
    """The next moment; the same object if nothing moves."""
    enrolled = _enrol(state, wanted, now, random)
    if enrolled is not state:
        return enrolled  # what is new has to be acknowledged before anything that waits for confirmation moves
    ring = _advance_ring(state.ring, wanted.policy, now, random, confirmed=confirmed)
    every = (
        wanted.policy.rotate_statics_every if wanted.policy is not None else TunnelConfig("x.y").rotate_statics_every
    )
    workloads = _advance_statics(state.workloads, every, now, random, confirmed=confirmed)
    if ring is state.ring and workloads is state.workloads:
        return state
    return replace(state, ring=ring, workloads=workloads)


def announce_ech(state: TunnelState, policy: TunnelConfig, now: float, random: RandomBytes) -> TunnelState:
    """With a new ECH key announced. Raises KeyRingError if one is already, ValueError if there is no ring yet."""
    if state.ring is None:
        raise ValueError("the mesh has no ECH keys yet")
    return replace(state, ring=state.ring.announce(_ech_key(state.ring, policy, now, random)))


def announce_statics(state: TunnelState, whose: Iterable[SpiffeId], now: float, random: RandomBytes) -> TunnelState:
    """With new statics announced for these workloads; those whose rotation is under way are left alone."""
    due = {each for each in whose if each in state.workloads and state.workloads[each].phase is Phase.STEADY}
    return replace(state, workloads=_announced(state.workloads, due, now, random))


def name_to_come(state: TunnelState) -> str:
    """The public name that the next step brings; empty: it stays as it is."""
    ring = state.ring
    if ring is None or ring.announced is None:
        return ""
    name = ring.announced.key.config.public_name
    return "" if name == ring.active.key.config.public_name else name


def force(state: TunnelState, now: float) -> TunnelState:
    """With every rotation that is under way taken one step further, confirmed or not."""
    ring = state.ring.activate(now) if state.ring is not None and state.ring.announced is not None else state.ring
    return replace(state, ring=ring, workloads={who: _stepped(keys, now) for who, keys in state.workloads.items()})


def revoke(state: TunnelState, whose: SpiffeId, now: float, random: RandomBytes) -> TunnelState:
    """With a new static for a workload at once, and its former ones revoked. Nobody is waited for: whoever holds the
    stolen key must lose it now, and tunnels of that workload break until both ends have heard. KeyError: unknown."""
    former = state.workloads[whose]
    revoked = {**state.revoked, former.current.public: now}
    if former.other is not None:
        revoked[former.other.public] = now
    kept = dict(sorted(revoked.items(), key=lambda item: item[1])[-MAX_REVOKED:])
    fresh = WorkloadKeys(NoiseStatic.of(random(32)), Phase.STEADY, now)
    return replace(state, workloads={**state.workloads, whose: fresh}, revoked=kept)


def _enrol(state: TunnelState, wanted: Wanted, now: float, random: RandomBytes) -> TunnelState:
    """Keys for those who came, none for those who left."""
    workloads = state.workloads
    whose = sorted(wanted.workloads)[:MAX_WORKLOADS]
    if workloads.keys() != set(whose):
        workloads = {
            who: workloads.get(who) or WorkloadKeys(NoiseStatic.of(random(32)), Phase.STEADY, now) for who in whose
        }
    ring = state.ring
    if wanted.policy is None:
        ring = None
    elif ring is None:
        ring = EchKeyRing.begin(_ech_key(None, wanted.policy, now, random))
    if ring is state.ring and workloads is state.workloads:
        return state
    return replace(state, ring=ring, workloads=workloads)


def _advance_ring(
    ring: EchKeyRing | None, policy: TunnelConfig | None, now: float, random: RandomBytes, *, confirmed: bool
) -> EchKeyRing | None:
    if ring is None or policy is None:
        return ring
    if ring.announced is not None and ring.announced.key.config.public_name != policy.public_name:
        return ring.withdraw()  # policy has another name by now; whoever refused this one is waited for no longer
    if not confirmed:
        return ring
    if ring.announced is not None:
        return ring.activate(now)
    active = ring.active
    if now - active.since >= policy.rotate_every or active.key.config.public_name != policy.public_name:
        return ring.announce(_ech_key(ring, policy, now, random))
    old = now - policy.rotate_every
    is_over = any(key.state is KeyState.RETIRING and key.since <= old for key in ring.keys)
    return ring.retire(old) if is_over else ring


def _advance_statics(
    workloads: Mapping[SpiffeId, WorkloadKeys], every: float, now: float, random: RandomBytes, *, confirmed: bool
) -> Mapping[SpiffeId, WorkloadKeys]:
    if not confirmed:
        return workloads
    if any(keys.phase is not Phase.STEADY for keys in workloads.values()):
        return {who: _stepped(keys, now) for who, keys in workloads.items()}
    due = {who for who, keys in workloads.items() if now - keys.since >= every}
    return _announced(workloads, due, now, random) if due else workloads


def _stepped(keys: WorkloadKeys, now: float) -> WorkloadKeys:
    match keys.phase:
        case Phase.STEADY:
            return keys
        case Phase.ANNOUNCED:
            assert keys.other is not None  # noqa: S101 construction looked
            return WorkloadKeys(keys.other, Phase.SWITCHED, now, keys.current)
        case Phase.SWITCHED:
            return WorkloadKeys(keys.current, Phase.STEADY, now)


def _announced(
    workloads: Mapping[SpiffeId, WorkloadKeys], due: Iterable[SpiffeId], now: float, random: RandomBytes
) -> Mapping[SpiffeId, WorkloadKeys]:
    fresh = {
        who: replace(workloads[who], phase=Phase.ANNOUNCED, since=now, other=NoiseStatic.of(random(32))) for who in due
    }
    return {**workloads, **fresh}


def _ech_key(ring: EchKeyRing | None, policy: TunnelConfig, now: float, random: RandomBytes) -> RingKey:
    live = [key.config_id for key in ring.keys] if ring is not None else []
    key = generate_key(policy.public_name, random, live_ids=live, maximum_name_length=policy.max_name_length)
    return RingKey(key, KeyState.ANNOUNCED, now)
