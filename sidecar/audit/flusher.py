"""Moves entries from memory to the spool and from the spool to the shipper. No thread, no waiting: see `trail`.

A *turn* commits what is queued together with what was acknowledged meanwhile: one transaction, one fsync. A commit that
failed is repeated with the same bytes before anything else happens, so that a number is never given twice, whether or
not the failed one took effect.
"""

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from observability import names
from observability.metrics import Registry
from policies.model import UnixNanos
from sidecar.audit.leaves import AT_ONCE, TIME_BUCKET_MS, Group, LeafWriter, Previous, Sealed, Sealer
from sidecar.audit.spool import Batch, Placement, Spool
from sidecar.audit.statements import Item

Queue = deque[Item | Sealed]
"""What is on its way to disk. The right end belongs to the data path, the left one to the flusher."""

MAX_GROUP: Final = 1024
"""Leaves in one commit."""
_YIELD: Final = 0.000_05
"""Seconds that the data path may have the interpreter, between two parts that are sealed here."""
_READ_AT_ONCE: Final = 64
"""Batches read from disk when the shipper catches up."""
_ROOM_AGAIN: Final = 0.9
"""A full spool takes entries again below this share of its bound."""
_RETAIN_EVERY: Final = 60 * 1_000_000
"""Microseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailLimits:
    """What the trail may hold."""

    linger: float = 0.05
    """Seconds that entries are gathered before a commit: what a crash of the process may cost."""
    retry: float = 0.5
    """Seconds after which a commit that failed is tried again."""
    max_queued: int = 10_000
    """Entries in memory."""
    max_waiting: int = 1_000_000
    """Leaves on disk that no ledger has acknowledged; 98 bytes each, and their openings."""
    max_openings: int = 1_000_000
    """Openings kept, about 200 bytes each; the oldest are deleted."""
    keep_openings: float = 90 * 86400.0
    """Seconds after which an opening is deleted."""
    window: int = 16_384
    """Leaves handed to the shipper ahead of their acknowledgement."""
    time_bucket_ms: int = TIME_BUCKET_MS
    """What times in leaves are rounded down to."""


class Outlet(Protocol):
    """Where committed leaves go. Called on the flusher's thread; must not block."""

    def offer(self, batches: list[Batch], *, afresh: bool) -> None:
        """Send these after all that was offered before; `afresh`: forget what was offered before."""


class Flusher:
    """The spool's only user. All methods on one thread but `acknowledge`, `begin_epoch`, `left_by` and the numbers."""

    def __init__(
        self,
        spool: Spool,
        outlet: Outlet,
        registry: Registry,
        limits: TrailLimits,
        *,
        build: str,
        clock: Callable[[], int],
        entropy: Callable[[int], bytes],
    ) -> None:
        self.full = False
        """Whether the spool may take nothing more."""
        self.waiting = 0
        """Leaves on disk that are not durable elsewhere."""
        self.ended = False
        """Whether EPOCH_END is on disk: nothing more will come."""
        self.taken = 0
        """How many entries and gaps left the queue for good."""
        self.sealer = Sealer(spool.producer_id, entropy=entropy, time_bucket_ms=limits.time_bucket_ms)
        """For the data path."""
        self._spool = spool
        self._outlet = outlet
        self._limits = limits
        self._build = build
        self._clock = clock
        self._entropy = entropy
        self._spooled = registry.counter(names.AUDIT_SPOOLED).cell()
        self._commits = registry.counter(names.AUDIT_COMMITS).cell()
        self._epochs = registry.counter(names.AUDIT_EPOCHS)
        self._openings = registry.gauge(names.AUDIT_OPENINGS)
        self._acknowledged: deque[Placement] = deque()
        """Appended to by the shipper."""
        self._restart = ""
        """Set by the shipper: why another epoch must begin."""
        self._writer = LeafWriter(spool.producer_id, 0, build=build, entropy=entropy)
        self._prepared: Group | None = None
        """Leaves that have numbers and are not on disk, or not surely."""
        self._placements: list[Placement] = []
        self._durable_through: int | None = None
        """Acknowledged and not yet forgotten by the spool: placements, and the last batch they cover."""
        self._window: deque[Batch] = deque()
        """Offered and not durable."""
        self._in_window = 0
        self._offered_through: int | None = None
        self._more_on_disk = False
        self._afresh = False
        self._left: dict[int, int] = {}
        self._retain_at = 0

    def begin(self) -> None:
        """Prepare the EPOCH_START leaf and learn what earlier epochs left. Raises SpoolError."""
        previous = self._spool.previous()
        self._left = self._spool.next_seqs()
        self._learn()
        self._prepared = self._open_epoch(previous, "start")

    def turn(self, queue: Queue, *, finishing: bool) -> None:
        """Commit and offer what there is; one group, or all that is queued when `finishing`. Raises SpoolError."""
        self._take_acknowledgements()
        if self._prepared is not None or self._restart or not queue:
            self._commit()
        if self._restart:
            self._begin_again()
        while queue:
            self._prepare(queue)
            self._commit()
            if len(queue) * AT_ONCE < MAX_GROUP and not finishing:
                break
        if finishing and not self.ended:
            self._prepared = self._writer.end(self._now())
            self._commit()
            self.ended = True
        self._retain()

    def close(self) -> None:
        """Close the spool."""
        self._spool.close()

    # --- callable from any thread ---

    def acknowledge(self, placement: Placement) -> None:
        """A ledger has these leaves durably; the spool may forget them."""
        self._acknowledged.append(placement)

    def begin_epoch(self, reason: str) -> None:
        """Give everything that waits to a new epoch and offer it afresh, in the next turn."""
        self._restart = reason

    def left_by(self, epoch: int) -> int:
        """How many leaves an earlier life made in this epoch; 0: the epoch is of this life."""
        return self._left.get(epoch, 0)

    def oldest_waiting(self) -> float:
        """Age in seconds of the oldest leaf that is not durable; 0 when there is none."""
        try:
            spooled_us = self._window[0].spooled_us
        except IndexError:
            return 0.0
        return max(0.0, self._clock() / 1e9 - spooled_us / 1e6)

    # --- to disk ---

    def _prepare(self, queue: Queue) -> None:
        """Make up to `MAX_GROUP` leaves. What cannot be made leaves of goes back to where it was."""
        items: list[Item | Sealed] = []
        count = 0
        # The data path may take the last entries away, to seal them, between two lines of this thread.
        with suppress(IndexError):
            while count < MAX_GROUP:
                item = queue.popleft()
                leaves = item.leaves if isinstance(item, Sealed) else 1
                if count + leaves > MAX_GROUP:
                    queue.appendleft(item)
                    break
                items.append(item)
                count += leaves
        if not items:
            return
        try:
            self._prepared = self._writer.group(items, _breathe)
        except BaseException:
            queue.extendleft(reversed(items))
            raise
        self.taken += count

    def _commit(self) -> None:
        """Put on disk what is prepared, together with what was acknowledged."""
        if self._prepared is None and not self._placements:
            self._refill()
            return
        batch = self._spool.commit(
            self._prepared,
            now_us=self._now() // 1000,
            durable_through=self._durable_through,
            placements=self._placements,
        )
        self._prepared, self._placements, self._durable_through = None, [], None
        self._commits[0] += 1
        if batch is not None:
            self._spooled[0] += batch.count
            self.waiting += batch.count
            self._openings.add(batch.count)
            self._offer(batch)
        self._refill()
        self._set_full()

    def _open_epoch(self, previous: Previous, reason: str) -> Group:
        # Above every epoch of this spool, and of what this spool was before somebody restored it from a backup.
        epoch = max(self._now() // 1_000_000, previous.epoch + 1)
        self._writer = LeafWriter(
            self._spool.producer_id,
            epoch,
            build=self._build,
            entropy=self._entropy,
            time_bucket_ms=self._limits.time_bucket_ms,
        )
        self._epochs.add((reason,))
        return self._writer.start(previous, reason, self._now())

    def _begin_again(self) -> None:
        previous = self._spool.previous()._replace(ended=True)
        start = self._open_epoch(previous, self._restart)
        self._spool.begin_again(start, now_us=self._now() // 1000)
        self._restart = ""
        self._acknowledged.clear()
        self._window.clear()
        self._in_window = 0
        self._offered_through = None
        self._afresh = True
        self._learn()
        current = self._spool.previous()
        self._writer.next_seq, self.ended = current.next_seq, current.ended
        self._refill()

    def _learn(self) -> None:
        self.waiting = self._spool.waiting()
        self._more_on_disk = self.waiting > 0
        self._set_full()

    def _set_full(self) -> None:
        bound = self._limits.max_waiting * (_ROOM_AGAIN if self.full else 1)
        self.full = self.waiting >= bound

    def _retain(self) -> None:
        now_us = self._now() // 1000
        if now_us >= self._retain_at:
            since_us = now_us - round(self._limits.keep_openings * 1e6)
            more, kept = self._spool.keep_openings(at_most=self._limits.max_openings, since_us=since_us)
            self._openings.set(kept)
            self._retain_at = now_us + (0 if more else _RETAIN_EVERY)

    # --- to the shipper ---

    def _offer(self, batch: Batch) -> None:
        """Offer what was just committed, unless older leaves must come from disk first."""
        if self._more_on_disk or self._in_window >= self._limits.window:
            self._more_on_disk = True
        else:
            self._give([batch])

    def _refill(self) -> None:
        while self._more_on_disk and self._in_window < self._limits.window:
            batches = self._spool.batches(self._offered_through, _READ_AT_ONCE)
            self._more_on_disk = len(batches) == _READ_AT_ONCE
            if batches:
                self._give(batches)

    def _give(self, batches: list[Batch]) -> None:
        self._window.extend(batches)
        self._in_window += sum(batch.count for batch in batches)
        self._offered_through = batches[-1].id
        self._outlet.offer(batches, afresh=self._afresh)
        self._afresh = False

    def _take_acknowledgements(self) -> None:
        while self._acknowledged:
            placement = self._acknowledged.popleft()
            self._placements.append(placement)
            next_seq = placement.first_seq + placement.count
            while self._window and _covers(placement.epoch, next_seq, self._window[0]):
                batch = self._window.popleft()
                self._in_window -= batch.count
                self.waiting -= batch.count
                self._durable_through = batch.id

    def _now(self) -> UnixNanos:
        return UnixNanos(self._clock())


def _breathe() -> None:
    time.sleep(_YIELD)


def _covers(epoch: int, next_seq: int, batch: Batch) -> bool:
    return batch.epoch == epoch and batch.next_seq <= next_seq
