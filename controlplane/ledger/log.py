"""One log and its commit order: read this first.

    1 fold the new leaves into tiles, compute the root
    2 stage every object of the growth in one durable bundle
    3 sign the checkpoint; it does not leave the process
    4 swap the lock from the old to the new checkpoint      <- the commit point
    5 put tiles and bundles, which never change, where everybody reads them
    6 publish the checkpoint; from here the leaves may be acknowledged
    7 seconds later, for many growths at once: make what step 5 put durable, and delete their staging bundles

The order is Sunlight's, but for 7: there every tile is durable before the checkpoint is published. Here lock and
staging bundles are what a power cut leaves, and everything else follows from them (docs/adr/0010).

The lock is the only authority on how far the log goes (I1): whoever cannot swap it from the checkpoint that he built on
is not the writer any more. No tile is written before the lock has moved (I2), because the path of a partial tile
depends on its size and not on its content: a late write of an abandoned growth would poison the log. A crash before 4
leaves nothing but garbage in staging; a crash after 4 is replayed from the bundle.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from controlplane.ledger.errors import ClockError, FatalError, StorageError
from controlplane.ledger.ports import CHECKPOINT, Backend, Lock
from controlplane.ledger.recovery import Bundled, recover
from controlplane.ledger.signed import SignedCheckpoint, Signers
from ledger.checkpoint import Checkpoint
from ledger.staging import pack_staging, staging_key
from ledger.tiles import WIDTH, Bundle, Edge, grow

Clock = Callable[[], int]
"""POSIX seconds."""


class Growth(NamedTuple):
    """What one append would write. Nothing of it is on disk yet."""

    edge: Edge
    tail: list[bytes]
    objects: dict[str, bytes]
    bundle: bytes
    """All objects, as they are staged."""


class Log:
    """The one writer of one log. `append` and `publish` must not run at the same time; one task owns them."""

    def __init__(
        self,
        backend: Backend,
        lock: Lock,
        signers: Signers,
        clock: Clock,
        *,
        committed: SignedCheckpoint,
        edge: Edge,
        tail: list[bytes],
        unsettled: deque[Bundled],
    ) -> None:
        """Use `Log.load`."""
        self._backend = backend
        self._lock = lock
        self._signers = signers
        self._clock = clock
        self._edge = edge
        self._tail = tail
        """Entries of the partial bundle, each behind its length."""
        self._committed = committed
        """What the lock holds."""
        self._unsettled = unsettled
        """Staging bundles whose growth is published and may not be durable in its place, oldest first."""
        self._settling = asyncio.Lock()
        self._broken: FatalError | None = None
        self.published = committed
        """What every reader may see, and the only tree that leaves are acknowledged in (I7)."""

    @property
    def size(self) -> int:
        """Leaves that are committed."""
        return self._edge.size

    async def append(self, entries: Sequence[bytes], hashes: Sequence[bytes]) -> int:
        """Commit entries and return the index of the first: steps 1 to 5. `publish` must follow.

        `entries` are packed, each behind its uint16 length; `hashes` are their leaf hashes. Raises ClockError or
        StorageError when nothing was committed and the same call may be repeated; FatalError when this object must not
        be used again: the next `load` finds out what happened.
        """
        self._check_usable()
        if self.published is not self._committed:
            raise ValueError("publish what was committed before appending more")
        now = self._clock()
        if now < self._committed.time:
            # I6. A checkpoint from before its predecessor would make every witness refuse this log.
            raise ClockError(
                f"the clock says {now}, the last checkpoint was signed at {self._committed.time}: waiting for it"
            )
        growth = await asyncio.to_thread(self._grow, entries, hashes)
        checkpoint = Checkpoint(self._signers.origin, growth.edge.size, growth.edge.root)
        key = _key(checkpoint)
        await self._backend.stage(key, growth.bundle)
        signed = await asyncio.to_thread(self._signers.sign, checkpoint, now)
        try:
            await self._swap(signed.note)
            # From here a crash is recoverable and the growth irrevocable: the lock names it, staging holds it.
            await self._backend.put(growth.objects)
        except BaseException as error:
            # Whatever happened, cancellation included: this object does not know any more what is stored.
            self._broken = (
                error if isinstance(error, FatalError) else FatalError(f"stopped after the commit: {error!r}")
            )
            if isinstance(error, StorageError):
                raise self._broken from error
            raise
        first = self._edge.size
        self._edge, self._tail = growth.edge, growth.tail
        self._committed = signed
        self._unsettled.append(Bundled(key, len(growth.bundle)))
        return first

    async def publish(self) -> None:
        """Let readers see what is committed: step 6. Raises StorageError; then it must be called again."""
        self._check_usable()
        committed = self._committed
        await self._backend.replace(CHECKPOINT, committed.note)
        self.published = committed

    @property
    def unsettled_bytes(self) -> int:
        """How much a start after a power cut would have to replay."""
        return sum(bundle.size for bundle in self._unsettled)

    async def settle(self) -> None:
        """Step 7 for everything that is published. May run beside the other calls. Raises StorageError (call it again
        some time), or FatalError."""
        async with self._settling:
            self._check_usable()
            done = list(self._unsettled)
            if self.published is not self._committed:
                done = done[:-1]
            if not done:
                return
            try:
                await self._backend.settle()
            except FatalError as error:
                self._broken = error
                raise
            await self._backend.delete([bundle.key for bundle in done])
            for _ in done:
                self._unsettled.popleft()

    def _check_usable(self) -> None:
        if self._broken is not None:
            raise self._broken

    def _grow(self, entries: Sequence[bytes], hashes: Sequence[bytes]) -> Growth:
        edge, tiles = grow(self._edge, hashes)
        objects = {tile.path: data for tile, data in tiles}
        held = [*self._tail, *entries]
        number = self._edge.size // WIDTH
        for at in range(0, len(held), WIDTH):
            leaves = held[at : at + WIDTH]
            objects[Bundle(number + at // WIDTH, len(leaves)).path] = b"".join(leaves)
        bundle = pack_staging(_key(self._committed.checkpoint), objects)
        return Growth(edge, held[len(held) - len(held) % WIDTH :], objects, bundle)

    async def _swap(self, note: bytes) -> None:
        try:
            await self._lock.swap(self._committed.note, note)
        except StorageError as error:
            # I3: the swap may have happened although it failed. Ours in the lock means yes. Anything else is not
            # certain even if it is the old value, because the swap may still be under way.
            try:
                held = await self._lock.fetch()
            except StorageError:
                held = None
            if held != note:
                raise FatalError(f"it is not known whether the lock was swapped: {error}") from error

    @classmethod
    async def load(cls, backend: Backend, lock: Lock, signers: Signers, clock: Clock) -> "Log":
        """The log as it stands, after finishing what a crash interrupted.

        Raises NoLogError, DamagedLogError, or StorageError (try again).
        """
        found = await recover(backend, lock, signers)
        return cls(
            *(backend, lock, signers, clock),
            committed=found.head,
            edge=found.edge,
            tail=found.tail,
            unsettled=deque(found.unsettled),
        )


def _key(checkpoint: Checkpoint) -> str:
    return staging_key(checkpoint.size, checkpoint.root)
