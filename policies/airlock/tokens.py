"""Tokens: what stands for an identifier in a prompt, and which value a token of an answer stands for.

A token is `[LABEL-XXXXXX]`. Square brackets survive JSON and HTML encoders, hyphens survive markdown. The tag is
Crockford base32 of a BLAKE2b of conversation and value under the tenant's key: the same value gives the same token in
every message and on every turn, on every sidecar of the tenant, and says nothing without the key.

A vault belongs to one request and holds only values that stand in that request. So an answer can restore nothing that
its own caller did not send, whatever tokens a prompt or a model makes up.
"""

import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Collection
from hashlib import blake2b
from typing import Final

from policies.airlock.labels import Label

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base32: no I, L, O and U."""
SHORTEST_TAG: Final = 6
LONGEST_TAG: Final = 13

_NAMES: Final = {label: label.replace("_", "-") + "-" for label in Label}
_KINDS: Final = {label: f"{label}\0" for label in Label}
_LETTERS: Final = bytes(ord(ALPHABET[byte & 31]) for byte in range(256))
"""One letter for each byte: its lower five bits."""
_CALLERS: Final = 1024
"""Callers whose keys are kept."""

# RFC 7693 section 2.8: what keeps one use of the hash apart from all others.
_OF_TENANT: Final = b"aegis airlock v2"
_OF_TOKEN: Final = b"airlock token v2"


class Tenant:
    """What all conversations of a tenant share. May be used by several threads.

    A digest of BLAKE2b (RFC 7693) under the tenant's key says what the token is; what it is fed first says whose it is
    (docs/adr/0024). Copies of a hash that was fed make as many digests as there are values.
    """

    __slots__ = ("_callers", "_keyed")

    def __init__(self, key: bytes) -> None:
        key = blake2b(key, person=_OF_TENANT, digest_size=32).digest()
        self._keyed = blake2b(key=key, person=_OF_TOKEN, digest_size=LONGEST_TAG)
        self._callers: dict[str, blake2b] = {}

    def caller(self, peer: str) -> blake2b:
        """For values that have the same token in all conversations of a caller."""
        tags = self._callers.get(peer)
        if tags is None:
            if len(self._callers) >= _CALLERS:
                self._callers.clear()
            tags = self._callers[peer] = self.scope(peer, b"caller", b"")
        return tags

    def scope(self, peer: str, kind: bytes, name: bytes) -> blake2b:
        """The hash for values of `peer` in the scope of this kind and name, to be copied."""
        # Lengths before what is of any length keep ("a", "bc") and ("ab", "c") apart.
        caller = peer.encode()
        keyed = self._keyed.copy()
        keyed.update(b"%b\0%b%b%b" % (kind, len(caller).to_bytes(8), caller, len(name).to_bytes(8)))
        keyed.update(name)
        return keyed


class Conversation:
    """Whose the tokens of one exchange are, worked out when it is first needed.

    Values that only the parties of the conversation wrote have tokens of the conversation. Values that stand in
    instructions and tool descriptions have tokens of the caller: many conversations share that preamble, and if its
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
        self._own: blake2b | None = None

    def tags(self, *, preamble: bool) -> blake2b:
        """The hash that makes tags, to be copied."""
        if preamble or not (self._id or self._opening is not None):
            return self._tenant.caller(self._peer)
        if self._own is None:
            if self._id:
                self._own = self._tenant.scope(self._peer, b"id", self._id.encode())
            else:
                opening = (self._opening or "").encode("utf-8", "surrogatepass")
                self._own = self._tenant.scope(self._peer, b"opening", opening)
        return self._own


class Vault:
    """The tokens of one request. Cores are tokens without their brackets: `SSN-7K2Q9F`."""

    __slots__ = ("_conversation", "_keyed", "_preamble", "_sorted", "_tokens", "_values", "cores", "value")

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._keyed: dict[bool, blake2b] = {}
        """What makes tags in the preamble, and elsewhere."""
        # Plain strings in plain dictionaries: a vault of 30,000 tokens with a list or a tuple for each made every full
        # garbage collection a third of a second long.
        self._tokens: dict[str, str] = {}
        """By label and value."""
        self._values: dict[str, str] = {}
        self.value: Callable[[str], str | None] = self._values.get
        """What a core stands for; None: it is not a token of this request."""
        self._preamble: set[str] = set()
        self._sorted: list[str] = []
        self.cores: dict[str, tuple[str, ...]] = {}
        """Tag -> the cores that end with it."""

    def __repr__(self) -> str:
        """Never a value, never a token."""
        return f"Vault({len(self._values)} tokens)"

    def token(self, label: Label, value: str, *, preamble: bool) -> str:
        """The token for `value`. All values of the preamble must be asked for before all others: a value that stands
        in both gets its token there, once."""
        named = _KINDS[label] + (value if value.isascii() else unicodedata.normalize("NFC", value))
        token = self._tokens.get(named)
        if token is not None:
            if self._preamble and not preamble:
                self._preamble.discard(token[1:-1])
            return token
        keyed = self._keyed.get(preamble)
        if keyed is None:
            keyed = self._keyed[preamble] = self._conversation.tags(preamble=preamble)
        keyed = keyed.copy()
        keyed.update(named.encode("utf-8", "surrogatepass"))
        letters = keyed.digest().translate(_LETTERS).decode()
        tag = letters[:SHORTEST_TAG]
        core = _NAMES[label] + tag
        # Two values with one tag: the later one gets a longer tag, which is no prefix trouble, since a token ends where
        # its letters and digits end. Document order decides, so every turn of a conversation decides alike.
        values, cores = self._values, self.cores
        while core in values and len(tag) < LONGEST_TAG:
            tag = letters[: len(tag) + 1]
            core = _NAMES[label] + tag
        values[core] = value
        cores[tag] = (*cores[tag], core) if tag in cores else (core,)
        if preamble:
            self._preamble.add(core)
        token = self._tokens[named] = f"[{core}]"
        return token

    def is_preamble_only(self, core: str) -> bool:
        """Whether its value stands only in the system prompt and other text that no user wrote."""
        return core in self._preamble

    def begins(self, start: str) -> bool:
        """Whether some core begins with `start`."""
        if len(self._sorted) != len(self._values):
            self._sorted = sorted(self._values)
        position = bisect_left(self._sorted, start)
        return position < len(self._sorted) and self._sorted[position].startswith(start)

    def values(self) -> Collection[str]:
        """Every value, in the order they were asked for."""
        return self._values.values()
