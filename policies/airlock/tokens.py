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

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from policies.airlock.labels import Label

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base32: no I, L, O and U."""
SHORTEST_TAG: Final = 6
LONGEST_TAG: Final = 13


class Conversation(NamedTuple):
    """The two keys under which the tokens of one exchange are made."""

    key: bytes
    """For values that only the parties of the conversation wrote."""
    preamble_key: bytes
    """For values that stand in instructions and tool descriptions, which many conversations of a caller share: their
    tokens must not change from one to the next, or the provider's prompt cache never hits."""


def conversation_keys(tenant_key: bytes, peer: str, conversation: str, opening: str | None) -> Conversation:
    """Keys of an exchange of `peer`. Without a `conversation` id, the text that opened it stands for it: it is sent
    again with every turn. Without either, the caller is one conversation."""
    if conversation:
        scope = b"id\0" + conversation.encode()
    elif opening is not None:
        scope = b"opening\0" + hmac.digest(tenant_key, opening.encode("utf-8", "surrogatepass"), "sha256")
    else:
        scope = b"caller\0"
    return Conversation(_derive(tenant_key, peer, scope), _derive(tenant_key, peer, b"caller\0"))


def _derive(tenant_key: bytes, peer: str, scope: bytes) -> bytes:
    # RFC 5869; the length before the peer's name keeps ("a", "bc") and ("ab", "c") apart.
    name = peer.encode()
    info = b"aegis airlock token v1\0" + len(name).to_bytes(4) + name + scope
    return HKDF(SHA256(), length=32, salt=None, info=info).derive(tenant_key)


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

    __slots__ = ("_conversation", "_cores", "_entries", "_sorted", "tags")

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._cores: dict[tuple[Label, str], str] = {}
        self._entries: dict[str, Entry] = {}
        self._sorted: list[str] = []
        self.tags: set[str] = set()
        """The last parts of all cores."""

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
            self.tags.add(core.rpartition("-")[2])
            self._sorted = []
        elif not preamble and self._entries[core].preamble_only:
            self._entries[core] = Entry(value, preamble_only=False)
        return f"[{core}]"

    def _mint(self, label: Label, value: str, preamble: bool) -> str:
        key = self._conversation.preamble_key if preamble else self._conversation.key
        message = f"{label}\0{value}".encode("utf-8", "surrogatepass")
        tag = base32(hmac.digest(key, message, "sha256"))
        name = label.replace("_", "-")
        length = SHORTEST_TAG
        # Two values with one tag: the later one gets a longer tag, which is no prefix trouble, since a token ends where
        # its letters and digits end. Document order decides, so every turn of a conversation decides alike.
        while f"{name}-{tag[:length]}" in self._entries and length < LONGEST_TAG:
            length += 1
        return f"{name}-{tag[:length]}"

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


def base32(digest: bytes) -> str:
    """The first `LONGEST_TAG` characters of a digest in `ALPHABET`, five bits each."""
    number = int.from_bytes(digest[:9])
    return "".join(ALPHABET[number >> shift & 31] for shift in range(67, 67 - 5 * LONGEST_TAG, -5))
