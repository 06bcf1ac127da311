"""The keys a workload holds: ECH keys by their state, its Noise statics, and what of either was revoked.

    ANNOUNCED ──all servers have it──► ACTIVE ──another became active──► RETIRING ──old enough──► gone

Servers hold all three, so that no client meets a server without its key; clients use ACTIVE only; `retry_configs` name
ACTIVE only. Values: nothing changes in place, a rotation makes another ring.

A private key is an immutable `bytes` of the Python heap and a key object of OpenSSL while it is used. Neither can be
wiped from here (docs/tunnels.md says what is claimed); `repr` never shows one.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from transport.peers import STATIC_BYTES, SpiffeId, Statics

PRIVATE_BYTES: Final = 32
"""Of an X25519 private key (RFC 9180 section 7.1.2: Nsk of DHKEM(X25519))."""
MAX_RETIRING: Final = 2
"""Keys that servers still accept after they were active (the current one and two old ones)."""
CONFIG_IDS: Final = 256
"""RFC 9849 section 4: config_id is one byte."""
MAX_CONFIG: Final = 1024
"""Bytes of one ECHConfig."""


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
class EchKey:
    """One ECH key pair."""

    config_id: int
    """One byte, unique among the keys that live."""
    config: bytes
    """ECHConfig as RFC 9849 section 4 encodes it, version and length included. Public."""
    private_key: bytes = field(repr=False)
    """32 bytes, X25519."""
    state: KeyState
    since: float
    """Seconds since 1970 at which it entered `state`."""

    def __post_init__(self) -> None:
        if not 0 <= self.config_id < CONFIG_IDS:
            raise KeyRingError(f"config_id {self.config_id} is not one byte")
        if len(self.private_key) != PRIVATE_BYTES:
            raise KeyRingError(f"an ECH private key has {PRIVATE_BYTES} bytes")
        if not 4 < len(self.config) <= MAX_CONFIG:
            raise KeyRingError(f"an ECHConfig has 5 to {MAX_CONFIG} bytes")


@dataclass(frozen=True, slots=True)
class EchKeyRing:
    """The ECH keys of an anonymity set. Construction raises KeyRingError unless exactly one key is active and no two
    have one config_id."""

    keys: tuple[EchKey, ...]
    """In the order of their making, oldest first."""
    _by_id: Mapping[int, EchKey] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_id = {key.config_id: key for key in self.keys}
        if len(by_id) != len(self.keys):
            raise KeyRingError("two ECH keys have one config_id")
        counts = {state: sum(key.state is state for key in self.keys) for state in KeyState}
        if counts[KeyState.ACTIVE] != 1:
            raise KeyRingError(f"{counts[KeyState.ACTIVE]} ECH keys are active; one has to be")
        if counts[KeyState.ANNOUNCED] > 1 or counts[KeyState.RETIRING] > MAX_RETIRING:
            raise KeyRingError(f"at most one ECH key is announced and {MAX_RETIRING} are retiring")
        object.__setattr__(self, "_by_id", by_id)

    @property
    def active(self) -> EchKey:
        """The one that clients use."""
        return next(key for key in self.keys if key.state is KeyState.ACTIVE)

    @property
    def announced(self) -> EchKey | None:
        """The one that servers are being given."""
        return next((key for key in self.keys if key.state is KeyState.ANNOUNCED), None)

    def accepting(self, config_id: int) -> EchKey | None:
        """The key that a server tries for this config_id, in whatever state. There is no trial decryption."""
        return self._by_id.get(config_id)

    @property
    def client_configs(self) -> bytes:
        """The ECHConfigList for clients: the active one."""
        return config_list([self.active.config])

    @property
    def retry_configs(self) -> bytes:
        """What a server tells a client whose key it does not have: the active one, and nothing else."""
        return self.client_configs

    # --- the moves of a rotation ---

    @classmethod
    def begin(cls, key: EchKey) -> "EchKeyRing":
        """The first ring: nobody has to be waited for, because no client has a config yet."""
        return cls((replace(key, state=KeyState.ACTIVE),))

    def announce(self, key: EchKey) -> "EchKeyRing":
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

    def retire(self, before: float) -> "EchKeyRing":
        """Without the keys that have been retiring since `before` (seconds since 1970) or earlier."""
        return EchKeyRing(tuple(key for key in self.keys if key.state is not KeyState.RETIRING or key.since > before))


def _moved(key: EchKey, now: float) -> EchKey:
    match key.state:
        case KeyState.ANNOUNCED:
            return replace(key, state=KeyState.ACTIVE, since=now)
        case KeyState.ACTIVE:
            return replace(key, state=KeyState.RETIRING, since=now)
        case KeyState.RETIRING:
            return key


def fresh_config_id(live: Iterable[EchKey], random_byte: Callable[[], int]) -> int:
    """A config_id that no live key has, by rejection sampling: uniform among those that are free."""
    taken = {key.config_id for key in live}
    if len(taken) >= CONFIG_IDS:
        raise KeyRingError("every config_id is taken")
    while (candidate := random_byte() % CONFIG_IDS) in taken:
        pass
    return candidate


def config_list(configs: Iterable[bytes]) -> bytes:
    """ECHConfigList of RFC 9849 section 4: a 16-bit length, then the configs."""
    body = b"".join(configs)
    return len(body).to_bytes(2, "big") + body


@dataclass(frozen=True, slots=True)
class NoiseStatic:
    """One Noise static key pair, X25519."""

    public: bytes
    private: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.public) != STATIC_BYTES or len(self.private) != PRIVATE_BYTES:
            raise KeyRingError(f"a Noise static has two keys of {STATIC_BYTES} bytes")


@dataclass(frozen=True, slots=True)
class TunnelKeys:
    """Everything private that one workload needs for its tunnels, at one moment. Immutable; a push makes another."""

    spiffe_id: SpiffeId
    ech: EchKeyRing
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
