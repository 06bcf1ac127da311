"""Remembers what was found in texts seen before: a chat sends its whole history again with every turn.

Keys are keyed hashes and values are offsets, so that no text outlives its request here.
"""

from typing import Final, NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from policies.airlock.labels import Label


class Span(NamedTuple):
    """An identifier: `text[start:end]`, in code points."""

    start: int
    end: int
    label: Label


_NONCE: Final = bytes(12)
SHORTEST: Final = 256
"""Bytes of a text that is worth remembering; shorter ones are scanned as fast."""
_ENTRY: Final = 240
"""Bytes that an entry costs, about; and each span of it `_SPAN`."""
_SPAN: Final = 112


class SpanMemory:
    """Spans by the texts they were found in, the least recently used forgotten first. Bounded in bytes.

    May be used by several threads: a race loses an entry, never mixes two up.
    """

    __slots__ = ("_bound", "_entries", "_hash", "_used")

    def __init__(self, key: bytes, bound: int) -> None:
        """`key`: 32 secret bytes, else hashes of guessed texts tell what was seen. `bound`: bytes."""
        self._hash = AESGCM(key).encrypt
        self._bound = bound
        self._entries: dict[bytes, list[Span]] = {}
        self._used = 0

    def digest(self, encoded: bytes) -> bytes:
        """The name of a text, 16 bytes.

        GMAC (NIST SP 800-38D) under one nonce, which would not do for a MAC that others see: as a keyed universal hash
        whose results stay here, two texts have one name with a probability of 2^-128 for each 16 bytes of them.
        BLAKE2b takes 20 times as long, SHA-256 14 times: more than it takes to scan a text without identifiers.
        """
        return self._hash(_NONCE, b"", encoded)

    def recall(self, name: bytes) -> list[Span] | None:
        """What was found in the text of this name; None: it was not seen, or is forgotten."""
        spans = self._entries.pop(name, None)
        if spans is not None:
            self._entries[name] = spans  # the last in order is the last that is forgotten
        return spans

    def remember(self, name: bytes, spans: list[Span]) -> None:
        """Keep `spans` as long as there is room."""
        size = _ENTRY + _SPAN * len(spans)
        if size > self._bound:
            return
        if name not in self._entries:
            self._used += size
        self._entries[name] = spans
        while self._used > self._bound:
            oldest = next(iter(self._entries))
            self._used -= _ENTRY + _SPAN * len(self._entries.pop(oldest))
