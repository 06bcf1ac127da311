"""The keys a workload holds: ECH keys by their state, its Noise statics, and what of either was revoked.

    ANNOUNCED ──all servers have it──► ACTIVE ──another became active──► RETIRING ──old enough──► gone

Servers hold all three, so that no client meets a server without its key; clients use ACTIVE only, and are told of
ACTIVE only. Values: nothing changes in place, a rotation makes another ring.

A private key is an immutable `bytes` of the Python heap and a key object of OpenSSL while it is used. Neither can be
wiped from here (docs/tunnels.md says what is claimed); `repr` never shows one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from transport.ech.config import EchConfigError, EchKey, encode_config_list, parse_config_list
from transport.peers import STATIC_BYTES, SpiffeId, Statics

MAX_RETIRING: Final = 2
"""Keys that servers still accept after they were active (the current one and two old ones)."""


class KeyRingError(ValueError):
    """Keys that cannot be together. Never holds key material."""


class KeyState(StrEnum):
    """Where a key is in its life."""

    ANNOUNCED = "ANNOUNCED"
    """Servers accept it; no client uses it yet."""
    ACTIVE = "ACTIVE"
    """Clients use it. Exactly one."""
    RETIRING = "RETIRING"
    """Servers still accept it: clients that have not heard yet, and tunnels being made."""


@dataclass(frozen=True, slots=True)
class RingKey:
    """One ECH key pair (X25519) and where it is in its life."""

    key: EchKey
    state: KeyState
    since: float
    """Seconds since 1970 at which it entered `state`."""

    def __post_init__(self) -> None:
        if not isinstance(self.key.private_key, X25519PrivateKey):
            raise KeyRingError("the key ring holds X25519 keys only")
        if not self.key.config.is_usable:
            raise KeyRingError("no client would use this ECHConfig")

    @property
    def config_id(self) -> int:
        """One byte, unique among the keys that live."""
        return self.key.config.config_id

    @property
    def private_bytes(self) -> bytes:
        """32 bytes, to be sealed or sent to the workload that needs them."""
        assert isinstance(self.key.private_key, X25519PrivateKey)  # noqa: S101 construction looked
        return self.key.private_key.private_bytes_raw()

    @classmethod
    def of(cls, config: bytes, private_key: bytes, state: KeyState, since: float) -> "RingKey":
        """From an ECHConfig and the 32 bytes of its private key. Raises KeyRingError, and nothing else."""
        try:
            configs = parse_config_list(len(config).to_bytes(2) + config)
            if len(configs) != 1:
                raise KeyRingError("expected one ECHConfig of version 0xfe0d")
            return cls(EchKey(configs[0], X25519PrivateKey.from_private_bytes(private_key)), state, since)
        except (EchConfigError, ValueError, OverflowError) as error:
            raise error if isinstance(error, KeyRingError) else KeyRingError("not an ECH key pair") from None


@dataclass(frozen=True, slots=True)
class EchKeyRing:
    """The ECH keys of an anonymity set. Construction raises KeyRingError unless exactly one key is active and no two
    have one config_id."""

    keys: tuple[RingKey, ...]
    """In the order of their making, oldest first."""

    def __post_init__(self) -> None:
        if len({key.config_id for key in self.keys}) != len(self.keys):
            raise KeyRingError("two ECH keys have one config_id")
        counts = {state: sum(key.state is state for key in self.keys) for state in KeyState}
        if counts[KeyState.ACTIVE] != 1:
            raise KeyRingError(f"{counts[KeyState.ACTIVE]} ECH keys are active; one has to be")
        if counts[KeyState.ANNOUNCED] > 1 or counts[KeyState.RETIRING] > MAX_RETIRING:
            raise KeyRingError(f"at most one ECH key is announced and {MAX_RETIRING} are retiring")

    @property
    def active(self) -> RingKey:
        """The one that clients use."""
        return next(key for key in self.keys if key.state is KeyState.ACTIVE)

    @property
    def announced(self) -> RingKey | None:
        """The one that servers are being given."""
        return next((key for key in self.keys if key.state is KeyState.ANNOUNCED), None)

    @property
    def accepted(self) -> tuple[EchKey, ...]:
        """What a server opens hellos with, whatever the state: the active one first."""
        ours = sorted(self.keys, key=lambda key: key.state is not KeyState.ACTIVE)
        return tuple(each.key for each in ours)

    def offered(self, can_prove: Callable[[str], bool]) -> EchKey | None:
        """What a server tells a client whose key it does not have (`retry_configs`): the active one. None: it can prove
        no public name of ours, so that nobody would believe it.

        A server whose certificate is not for the name of the active one, or not any more, offers the newest that it can
        prove instead: it opens hellos to it, and can tell the same client the next one. To offer nothing would say that
        it has no ECH.
        """
        order = (KeyState.ACTIVE, KeyState.RETIRING, KeyState.ANNOUNCED)
        best = [key for state in order for key in reversed(self.keys) if key.state is state]
        return next((each.key for each in best if can_prove(each.key.config.public_name)), None)

    @property
    def client_configs(self) -> bytes:
        """The ECHConfigList for clients: the active one."""
        return encode_config_list([self.active.key.config])

    # --- the moves of a rotation ---

    @classmethod
    def begin(cls, key: RingKey) -> "EchKeyRing":
        """The first ring: nobody has to be waited for, because no client has a config yet."""
        return cls((replace(key, state=KeyState.ACTIVE),))

    def announce(self, key: RingKey) -> "EchKeyRing":
        """Add a key that nobody uses yet. Raises KeyRingError if one is announced already."""
        return EchKeyRing((*self.keys, replace(key, state=KeyState.ANNOUNCED)))

    def activate(self, now: float) -> "EchKeyRing":
        """Make the announced key the active one; the active one retires, and the oldest goes if there are too many.

        Only after every server holds the announced key. Raises KeyRingError if none is announced.
        """
        if self.announced is None:
            raise KeyRingError("no ECH key is announced")
        moved = [_moved(key, now) for key in self.keys]
        retiring = [key for key in moved if key.state is KeyState.RETIRING]
        dropped = sorted(retiring, key=lambda key: key.since)[:-MAX_RETIRING]
        return EchKeyRing(tuple(key for key in moved if key not in dropped))

    def withdraw(self) -> "EchKeyRing":
        """Without the announced key, which no client was ever told of."""
        return EchKeyRing(tuple(key for key in self.keys if key.state is not KeyState.ANNOUNCED))

    def retire(self, before: float) -> "EchKeyRing":
        """Without the keys that have been retiring since `before` (seconds since 1970) or earlier."""
        return EchKeyRing(tuple(key for key in self.keys if key.state is not KeyState.RETIRING or key.since > before))


def _moved(key: RingKey, now: float) -> RingKey:
    match key.state:
        case KeyState.ANNOUNCED:
            return replace(key, state=KeyState.ACTIVE, since=now)
        case KeyState.ACTIVE:
            return replace(key, state=KeyState.RETIRING, since=now)
        case KeyState.RETIRING:
            return key


@dataclass(frozen=True, slots=True)
class NoiseStatic:
    """One Noise static key pair, X25519."""

    public: bytes
    private: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.public) != STATIC_BYTES or len(self.private) != STATIC_BYTES:
            raise KeyRingError(f"a Noise static has two keys of {STATIC_BYTES} bytes")
        if X25519PrivateKey.from_private_bytes(self.private).public_key() != X25519PublicKey.from_public_bytes(
            self.public
        ):
            raise KeyRingError("the two keys of a Noise static do not belong together")

    @classmethod
    def of(cls, private: bytes) -> "NoiseStatic":
        """From 32 random bytes."""
        if len(private) != STATIC_BYTES:
            raise KeyRingError(f"a Noise static has {STATIC_BYTES} bytes")
        return cls(X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw(), private)


@dataclass(frozen=True, slots=True)
class TunnelKeys:
    """Everything private that one workload needs for its tunnels, at one moment. Immutable; a push makes another."""

    spiffe_id: SpiffeId
    ech: EchKeyRing | None
    """None: it serves no peer, or the mesh has no ECH keys."""
    static: NoiseStatic
    """What it proves as initiator."""
    other_static: NoiseStatic | None = None
    """What it answers to as well, as responder, while a rotation of its static is under way."""

    def __post_init__(self) -> None:
        if self.other_static is not None and self.other_static.public == self.static.public:
            raise KeyRingError("both Noise statics are one")

    @property
    def statics(self) -> tuple[NoiseStatic, ...]:
        """The current one first."""
        return (self.static,) if self.other_static is None else (self.static, self.other_static)

    @property
    def public(self) -> Statics:
        """What others may know."""
        return Statics(*(each.public for each in self.statics))
