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
from collections.abc import Iterator
from typing import Final, NamedTuple

from policies.airlock.labels import Label

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base32: no I, L, O and U."""
SHORTEST_TAG: Final = 6
LONGEST_TAG: Final = 13

_NAMES: Final = {label: label.replace("_", "-") for label in Label}
_PAIRS: Final = [a + b for a in ALPHABET for b in ALPHABET]
_PREFIX: Final = b"aegis airlock token v1\0"


class Conversation:
    """The keys under which the tokens of one exchange are made, derived when they are first needed.

    Values that only the parties of the conversation wrote have a key of the conversation. Values that stand in
    instructions and tool descriptions have a key of the caller: many conversations share that preamble, and if its
    tokens changed from one to the next, the provider's prompt cache would never hit.
    """

    __slots__ = ("_keys", "_peer", "_prk", "_scope")

    def __init__(self, tenant_key: bytes, peer: str, conversation: str, opening: str | None) -> None:
        """Without a `conversation` id, the text that opened it stands for it: it is sent again with every turn.
        Without either, all that the caller sends is one conversation."""
        # RFC 5869: HKDF-Extract without salt, HKDF-Expand to the length of one hash.
        self._prk = hmac.digest(bytes(32), tenant_key, "sha256")
        self._peer = peer.encode()
        self._keys: dict[bool, bytes] = {}
        if conversation:
            self._scope = b"id\0" + conversation.encode()
        elif opening is not None:
            text = opening.encode("utf-8", "surrogatepass")
            self._scope = b"opening\0" + hmac.digest(self._prk, text, "sha256")
        else:
            self._scope = b"caller\0"

    def key(self, *, preamble: bool) -> bytes:
        """32 bytes."""
        key = self._keys.get(preamble)
        if key is None:
            scope = b"caller\0" if preamble else self._scope
            # The length before the peer's name keeps ("a", "bc") and ("ab", "c") apart.
            info = _PREFIX + len(self._peer).to_bytes(4) + self._peer + scope
            key = self._keys[preamble] = hmac.digest(self._prk, info + b"\x01", "sha256")
        return key


class Entry(NamedTuple):
    """A value and where it may go."""

    value: str
    preamble_only: bool
    """Whether it stands only in the system prompt and other text that no user wrote."""

    def __repr__(self) -> str:
        """Never the value."""
        return f"Entry(characters={len(self.value)}, preamble_only={self.preamble_only})"


class Vault:
    """The tokens of one request. Cores are tokens without their brackets: `SSN-7K2Q9F`."""

    __slots__ = ("_conversation", "_cores", "_entries", "_sorted", "names")

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._cores: dict[tuple[str, str], str] = {}
        self._entries: dict[str, Entry] = {}
        self._sorted: list[str] = []
        self.names: dict[str, list[str]] = {}
        """Tag -> the names before it: `7K2Q9F` -> `SSN`."""

    def __repr__(self) -> str:
        """Never a value, never a token."""
        return f"Vault({len(self._entries)} tokens)"

    def __bool__(self) -> bool:
        return bool(self._entries)

    def token(self, label: Label, value: str, *, preamble: bool) -> str:
        """The token for `value`. All values of the preamble must be asked for before all others: a value that stands
        in both gets its token there, once."""
        normal = value if value.isascii() else unicodedata.normalize("NFC", value)
        core = self._cores.get((label, normal))
        if core is None:
            core = self._mint(label, normal, preamble)
            self._cores[label, normal] = core
            self._entries[core] = Entry(value, preamble)
        elif not preamble and self._entries[core].preamble_only:
            self._entries[core] = Entry(value, preamble_only=False)
        return f"[{core}]"

    def _mint(self, label: Label, value: str, preamble: bool) -> str:
        message = (label + "\0" + value).encode("utf-8", "surrogatepass")
        digest = hmac.digest(self._conversation.key(preamble=preamble), message, "sha256")
        name = _NAMES[label]
        tag = short_tag(digest)
        # Two values with one tag: the later one gets a longer tag, which is no prefix trouble, since a token ends where
        # its letters and digits end. Document order decides, so every turn of a conversation decides alike.
        while f"{name}-{tag}" in self._entries and len(tag) < LONGEST_TAG:
            tag = long_tag(digest)[: len(tag) + 1]
        self.names.setdefault(tag, []).append(name)
        self._sorted = []
        return f"{name}-{tag}"

    def entry(self, core: str) -> Entry | None:
        """What a core stands for; None: it is not a token of this request."""
        return self._entries.get(core)

    def begins(self, start: str) -> bool:
        """Whether some core begins with `start`."""
        if not self._sorted:
            self._sorted = sorted(self._entries)
        position = bisect_left(self._sorted, start)
        return position < len(self._sorted) and self._sorted[position].startswith(start)

    def values(self) -> Iterator[str]:
        """Every value, in the order they were asked for."""
        return (entry.value for entry in self._entries.values())


def short_tag(digest: bytes) -> str:
    """The first `SHORTEST_TAG` characters of `long_tag(digest)`, three table look-ups."""
    number = int.from_bytes(digest[:4])
    return _PAIRS[number >> 22] + _PAIRS[number >> 12 & 1023] + _PAIRS[number >> 2 & 1023]


def long_tag(digest: bytes) -> str:
    """The first `LONGEST_TAG` characters of a digest in `ALPHABET`, five bits each."""
    number = int.from_bytes(digest[:9])
    return "".join(ALPHABET[number >> shift & 31] for shift in range(67, 67 - 5 * LONGEST_TAG, -5))
