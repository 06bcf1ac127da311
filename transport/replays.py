"""Whether a first flight was seen before: a bounded memory of ECH `enc` values and Noise ephemerals.

A replayed first flight gets nowhere (message 3 needs the initiator's static and a fresh transcript), but it costs us a
handshake and tells that somebody records and probes. Exact within its bounds: no first flight is called a replay that
is none, and every replay within the last `capacity` first flights that came less than `window` seconds ago is found.
"""

import hashlib


class ReplayCache:
    """Two generations of digests; memory is bounded by twice `capacity` digests of 16 bytes."""

    def __init__(self, key: bytes, *, capacity: int = 65_536, window: float = 600.0) -> None:
        """`key`: 16 to 64 random bytes, so that nobody can choose values that collide. `window`: seconds."""
        if not 16 <= len(key) <= 64 or capacity < 1 or window <= 0:
            raise ValueError("expected a key of 16 to 64 bytes, a capacity and a window")
        self._key = key
        self._capacity = capacity
        self._window = window
        self._young: set[bytes] = set()
        self._old: set[bytes] = set()
        self._turned_at = 0.0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def seen(self, value: bytes, now: float) -> bool:
        """Whether `value` came before; it is remembered either way. Ask once a connection: the second hello after a
        HelloRetryRequest repeats the Noise ephemeral in good faith."""
        self._turn(now)
        digest = hashlib.blake2b(value, digest_size=16, key=self._key).digest()
        known = digest in self._young or digest in self._old
        self._young.add(digest)
        return known

    def _turn(self, now: float) -> None:
        elapsed = now - self._turned_at
        if elapsed < self._window and len(self._young) < self._capacity:
            return
        # After twice the window even the young ones are too old to matter.
        self._old = self._young if elapsed < 2 * self._window else set()
        self._young, self._turned_at = set(), now
