"""The staging bundle: every object of one growth in a single file, so that one fsync makes a growth recoverable.

    text: key of the bundle before it || LF
    repeated: u16 length of key || key || u32 length of object || object
    then: SHA-256 over all that comes before

It is written before the lock moves, and deleted when every object is durable in its place. Until then whatever a crash
or a power cut takes away is put back from it. Each names the one before it: those from the lock backwards belong to
the log, any other was never committed.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Final, NamedTuple

from ledger.errors import MalformedError

PREFIX: Final = ".state/staging/"
_DIGEST: Final = 32
_MAX_KEY: Final = 200


def staging_key(size: int, root: bytes) -> str:
    """Where the growth to this tree is staged."""
    return f"{PREFIX}{size}-{root.hex()}"


def staged_size(key: str) -> int:
    """The size of the tree that a staging key names; 0 for a name that this module never wrote."""
    size = key.removeprefix(PREFIX).partition("-")[0]
    return int(size) if size.isascii() and size.isdigit() else 0


class Staged(NamedTuple):
    """One growth."""

    before: str
    """Key of the bundle that the growth before it had. That one may be gone: its objects are durable."""
    objects: dict[str, bytes]


def pack_staging(before: str, objects: Mapping[str, bytes]) -> bytes:
    """The bundle of a growth."""
    parts = [before.encode(), b"\n"]
    for key, data in objects.items():
        encoded = key.encode()
        parts += (len(encoded).to_bytes(2, "big"), encoded, len(data).to_bytes(4, "big"), data)
    packed = b"".join(parts)
    return packed + sha256(packed).digest()


def unpack_staging(data: bytes) -> Staged:
    """The growth that a bundle holds. Raises MalformedError unless every byte is as it was written."""
    packed, digest = data[:-_DIGEST], data[-_DIGEST:]
    if sha256(packed).digest() != digest:
        raise MalformedError("the staging bundle is damaged: its checksum is wrong")
    before, line_feed, _ = packed[:_MAX_KEY].partition(b"\n")
    if not line_feed or not before.isascii():
        raise MalformedError("the staging bundle does not name the one before it")
    objects: dict[str, bytes] = {}
    at = len(before) + 1
    while at < len(packed):
        key_end = at + 2 + int.from_bytes(packed[at : at + 2], "big")
        data_at = key_end + 4
        data_end = data_at + int.from_bytes(packed[key_end:data_at], "big")
        key = packed[at + 2 : key_end]
        if data_end > len(packed) or not key.isascii() or key.decode() in objects:
            raise MalformedError("the staging bundle is no bundle: an object ends beyond it, or has no key of its own")
        objects[key.decode()] = packed[data_at:data_end]
        at = data_end
    return Staged(before.decode(), objects)
