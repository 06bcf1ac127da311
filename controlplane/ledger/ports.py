"""What a log needs from storage: objects that are written once, one that is replaced, and a lock that is swapped.

Tiles and bundles need no more than a bucket; the lock needs compare-and-swap and nothing else, and is the only
authority on how far the log goes. An implementation may fail in any way at any moment, as long as it tells so with
the errors below. *Durable* means that a power cut does not undo it.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Protocol

CHECKPOINT: Final = "checkpoint"
"""Key of the one object that is replaced: the published checkpoint."""


class Backend(Protocol):
    """Objects by key. Keys are relative paths, as in `tile/0/x001/067` and `checkpoint`."""

    async def get(self, key: str) -> bytes | None:
        """The object, or None. Raises StorageError."""

    async def stage(self, key: str, data: bytes) -> None:
        """Store an object that never changes, durably. Raises like `put`."""

    async def put(self, objects: Mapping[str, bytes]) -> None:
        """Store objects that never change, for everybody to read. They are durable after the next `settle`.

        An object that is there already is accepted if it is byte-identical. Raises ConflictError if it is not, or
        StorageError: then any subset may be stored, now or later.
        """

    async def repair(self, objects: Mapping[str, bytes]) -> None:
        """As `put`, but what is there and differs is replaced: half a file that a power cut left."""

    async def settle(self) -> None:
        """Return when everything that was `put` before is durable. May take long, and may run beside other calls.

        Raises StorageError, or LostWritesError: then some of it never will be.
        """

    async def replace(self, key: str, data: bytes) -> None:
        """Store an object that changes, durably and atomically. Raises StorageError or LostWritesError."""

    async def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; one that is not there is no error. Not durable. Raises StorageError."""

    async def keys(self, prefix: str) -> list[str]:
        """Keys that begin with `prefix`, which ends in a slash, in no order. Raises StorageError."""


class Lock(Protocol):
    """One small value that is only ever swapped: the last signed checkpoint of one log."""

    async def fetch(self) -> bytes | None:
        """The value, or None if it was never created. Raises StorageError."""

    async def swap(self, old: bytes, new: bytes) -> None:
        """Put `new` in place of exactly `old`, durably: the commit point of a log.

        Raises ConflictError if the value is not `old`, and StorageError when it is not known whether it was swapped.
        """
