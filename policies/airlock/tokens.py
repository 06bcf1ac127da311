"""Tokens: what stands for an identifier in a prompt, and which value a token of an answer stands for.

A token is `[LABEL-XXXXXX]`. Square brackets survive JSON and HTML encoders, hyphens survive markdown. The tag is
Crockford base32 of HMAC-SHA256 under a key of the conversation: the same value gives the same token in every message
and on every turn, on every sidecar of the tenant, and says nothing without the key.

A vault belongs to one request and holds only values that stand in that request. So an answer can restore nothing that
its own caller did not send, whatever tokens a prompt or a model makes up.
"""

import hmac
import unicodedata
from bisect import bisect_left
from collections.abc import Collection
from hashlib import sha256
from typing import Final

from policies.airlock.labels import Label

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base32: no I, L, O and U."""
SHORTEST_TAG: Final = 6
LONGEST_TAG: Final = 13

_NAMES: Final = {label: label.replace("_", "-") for label in Label}
_PAIRS: Final = [a + b for a in ALPHABET for b in ALPHABET]
_PREFIX: Final = b"aegis airlock token v1\0"
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))
_CALLERS: Final = 1024
"""Callers whose keys are kept."""


class Prf:
    """HMAC-SHA256 (RFC 2104) under one key, whose two blocks are hashed once: three times as fast as `hmac.digest`."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        """`key`: at most 64 bytes."""
        block = key.ljust(64, b"\0")
        self._inner = sha256(block.translate(_INNER))
        self._outer = sha256(block.translate(_OUTER))

    def digest(self, message: bytes) -> bytes:
        """32 bytes."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()


class Tenant:
    """What all conversations of a tenant share. May be used by several threads."""

    __slots__ = ("_callers", "prk")

    def __init__(self, key: bytes) -> None:
        # RFC 5869: HKDF-Extract without salt, HKDF-Expand to the length of one hash.
        self.prk = Prf(hmac.digest(bytes(32), key, "sha256"))
        self._callers: dict[str, Prf] = {}

    def caller(self, peer: str) -> Prf:
        """For values that have the same token in all conversations of a caller."""
        prf = self._callers.get(peer)
        if prf is None:
            if len(self._callers) >= _CALLERS:
                self._callers.clear()
            prf = self._callers[peer] = self.expand(peer, b"caller\0")
        return prf

    def expand(self, peer: str, scope: bytes) -> Prf:
        """HKDF-Expand for values of `scope` from `peer`."""
        # The length before the peer's name keeps ("a", "bc") and ("ab", "c") apart.
        name = peer.encode()
        return Prf(self.prk.digest(_PREFIX + len(name).to_bytes(4) + name + scope + b"\x01"))


class Conversation:
    """The keys under which the tokens of one exchange are made, derived when they are first needed.

    Values that only the parties of the conversation wrote have a key of the conversation. Values that stand in
    instructions and tool descriptions have a key of the caller: many conversations share that preamble, and if its
    tokens changed from one to the next, the provider's prompt cache would never hit.
    """

    __slots__ = ("_id", "_opening", "_own", "_peer", "_tenant")

    def __init__(self, tenant: Tenant, peer: str, conversation: str, opening: str | None) -> None:
        """Without a `conversation` id, the text that opened it stands for it: it is sent again with every turn.
        Without either, all that the caller sends is one conversation."""
        self._tenant = tenant
        self._peer = peer
        self._id = conversation
        self._opening = opening
        self._own: Prf | None = None

    def prf(self, *, preamble: bool) -> Prf:
        """Makes tags."""
        if preamble or not (self._id or self._opening is not None):
            return self._tenant.caller(self._peer)
        if self._own is None:
            self._own = self._tenant.expand(self._peer, self._scope())
        return self._own

    def _scope(self) -> bytes:
        if self._id:
            return b"id\0" + self._id.encode()
        opening = (self._opening or "").encode("utf-8", "surrogatepass")
        return b"opening\0" + self._tenant.prk.digest(opening)


class Vault:
    """The tokens of one request. Cores are tokens without their brackets: `SSN-7K2Q9F`."""

    __slots__ = ("_conversation", "_preamble", "_sorted", "_tokens", "_values", "cores")

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        # Plain strings in plain dictionaries: a vault of 30,000 tokens with a list or a tuple for each made every full
        # garbage collection a third of a second long.
        self._tokens: dict[str, dict[str, str]] = {}
        self._values: dict[str, str] = {}
        self._preamble: set[str] = set()
        self._sorted: list[str] = []
        self.cores: dict[str, tuple[str, ...]] = {}
        """Tag -> the cores that end with it."""

    def __repr__(self) -> str:
        """Never a value, never a token."""
        return f"Vault({len(self._values)} tokens)"

    def __bool__(self) -> bool:
        return bool(self._values)

    def token(self, label: Label, value: str, *, preamble: bool) -> str:
        """The token for `value`. All values of the preamble must be asked for before all others: a value that stands
        in both gets its token there, once."""
        normal = value if value.isascii() else unicodedata.normalize("NFC", value)
        tokens = self._tokens.get(label)
        if tokens is None:
            tokens = self._tokens[label] = {}
        token = tokens.get(normal)
        if token is not None:
            if self._preamble and not preamble:
                self._preamble.discard(token[1:-1])
            return token
        message = f"{label}\0{normal}".encode("utf-8", "surrogatepass")
        digest = self._conversation.prf(preamble=preamble).digest(message)
        name, tag = _NAMES[label], short_tag(digest)
        core = f"{name}-{tag}"
        # Two values with one tag: the later one gets a longer tag, which is no prefix trouble, since a token ends where
        # its letters and digits end. Document order decides, so every turn of a conversation decides alike.
        while core in self._values and len(tag) < LONGEST_TAG:
            tag = long_tag(digest)[: len(tag) + 1]
            core = f"{name}-{tag}"
        self._values[core] = value
        cores = self.cores.get(tag)
        self.cores[tag] = (core,) if cores is None else (*cores, core)
        if preamble:
            self._preamble.add(core)
        if self._sorted:
            self._sorted = []
        token = tokens[normal] = f"[{core}]"
        return token

    def value(self, core: str) -> str | None:
        """What a core stands for; None: it is not a token of this request."""
        return self._values.get(core)

    def is_preamble_only(self, core: str) -> bool:
        """Whether its value stands only in the system prompt and other text that no user wrote."""
        return core in self._preamble

    def begins(self, start: str) -> bool:
        """Whether some core begins with `start`."""
        if not self._sorted:
            self._sorted = sorted(self._values)
        position = bisect_left(self._sorted, start)
        return position < len(self._sorted) and self._sorted[position].startswith(start)

    def values(self) -> Collection[str]:
        """Every value, in the order they were asked for."""
        return self._values.values()


def short_tag(digest: bytes) -> str:
    """The first `SHORTEST_TAG` characters of `long_tag(digest)`, three table look-ups."""
    number = int.from_bytes(digest[:4])
    return _PAIRS[number >> 22] + _PAIRS[number >> 12 & 1023] + _PAIRS[number >> 2 & 1023]


def long_tag(digest: bytes) -> str:
    """The first `LONGEST_TAG` characters of a digest in `ALPHABET`, five bits each."""
    number = int.from_bytes(digest[:9])
    return "".join(ALPHABET[number >> shift & 31] for shift in range(67, 67 - 5 * LONGEST_TAG, -5))
