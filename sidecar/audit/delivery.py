"""What was offered, sent and acknowledged: the shipper without its network. No I/O.

Leaves of several epochs may wait (an earlier life of the process left some). One stream carries one epoch; `rewind`
begins a stream with the oldest.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ledger.leaf import PACKED_SIZE
from sidecar.audit.errors import LedgerContradictionError
from sidecar.audit.spool import Batch, Placement

MAX_LEAVES: Final = 1024
"""Leaves in one message: 100 KB."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive leaves to send."""

    first_seq: int
    count: int
    packed: bytes


@dataclass(frozen=True, slots=True)
class Ack:
    """An acknowledgement: leaf `through_seq - count + 1 + n` stands at `first_index + n` of the log `origin`."""

    epoch: int
    through_seq: int
    count: int
    first_index: int
    origin: str
    tree_size: int


class Delivery:
    """Everything that is offered and not acknowledged."""

    def __init__(self) -> None:
        self.epoch = 0
        """What the stream carries."""
        self.next_unacknowledged = 0
        """The oldest leaf of the stream's epoch that is not durable, or the next that will be offered."""
        self.sent_through = 0
        """The number after the last leaf of the stream's epoch that was ever sent, on this or an earlier stream."""
        self._unacknowledged: deque[Batch] = deque()
        self._unsent: deque[Batch] = deque()
        self._unsent_leaves = 0
        self._next_to_send = 0

    @property
    def begun(self) -> bool:
        """Whether anything was ever offered: there is something to begin a stream with."""
        return bool(self.epoch or self._unacknowledged)

    @property
    def outstanding(self) -> int:
        """Leaves sent and not acknowledged."""
        return self._next_to_send - self.next_unacknowledged

    @property
    def unsent(self) -> int:
        """Leaves offered and not sent, of whatever epoch."""
        return self._unsent_leaves

    @property
    def epoch_done(self) -> bool:
        """Whether another epoch waits and nothing of this one does."""
        return bool(self._unacknowledged) and self._unacknowledged[0].epoch != self.epoch

    def offer(self, batches: Iterable[Batch], *, afresh: bool = False) -> None:
        """These are to be sent after all that was offered before; `afresh`: instead of it."""
        if afresh:
            self._unacknowledged.clear()
            self._unsent.clear()
            self._unsent_leaves = 0
        for batch in batches:
            self._unacknowledged.append(batch)
            self._unsent.append(batch)
            self._unsent_leaves += batch.count

    def rewind(self) -> None:
        """A new stream begins: nothing was sent on it."""
        if self._unacknowledged:
            front = self._unacknowledged[0]
            if front.epoch != self.epoch:
                self.epoch, self.next_unacknowledged, self.sent_through = front.epoch, front.first_seq, 0
        self._unsent = deque(self._unacknowledged)
        self._unsent_leaves = sum(batch.count for batch in self._unsent)
        self._next_to_send = self.next_unacknowledged

    def next_chunk(self, credit: int) -> Chunk | None:
        """The next leaves to send with `credit` leaves allowed to be outstanding; None: nothing, or not now."""
        room = min(MAX_LEAVES, credit - self.outstanding)
        first_seq = self._next_to_send
        parts: list[bytes] = []
        while room > 0 and self._unsent and self._unsent[0].epoch == self.epoch:
            batch = self._unsent[0]
            start = self._next_to_send - batch.first_seq
            taken = min(room, batch.count - start)
            parts.append(batch.packed[start * PACKED_SIZE : (start + taken) * PACKED_SIZE])
            room -= taken
            self._next_to_send += taken
            if start + taken == batch.count:
                self._unsent.popleft()
                self._unsent_leaves -= batch.count
        count = self._next_to_send - first_seq
        self.sent_through = max(self.sent_through, self._next_to_send)
        return Chunk(first_seq, count, b"".join(parts)) if count else None

    def acknowledge(self, ack: Ack) -> Placement | None:
        """Where newly acknowledged leaves stand; None when there are none. Raises LedgerContradictionError."""
        if ack.count == 0:
            return None
        first_seq = ack.through_seq - ack.count + 1
        if ack.epoch != self.epoch or first_seq < 0 or ack.through_seq >= self._next_to_send:
            raise LedgerContradictionError(
                f"leaf {ack.through_seq} of epoch {ack.epoch} is acknowledged, sent is up to {self._next_to_send - 1}"
                f" of epoch {self.epoch}"
            )
        if ack.first_index + ack.count > ack.tree_size:
            raise LedgerContradictionError(
                f"leaves are acknowledged at {ack.first_index}..{ack.first_index + ack.count - 1}"
                f" of a tree of {ack.tree_size}"
            )
        if first_seq > self.next_unacknowledged:
            raise LedgerContradictionError(
                f"leaf {first_seq} is acknowledged before leaf {self.next_unacknowledged}, whose index nobody told"
            )
        known = self.next_unacknowledged - first_seq
        if known >= ack.count:
            return None
        self.next_unacknowledged = ack.through_seq + 1
        while self._unacknowledged and self._is_acknowledged(self._unacknowledged[0]):
            self._unacknowledged.popleft()
        return Placement(
            ack.epoch, first_seq + known, ack.count - known, ack.first_index + known, ack.origin, ack.tree_size
        )

    def _is_acknowledged(self, batch: Batch) -> bool:
        return batch.epoch == self.epoch and batch.next_seq <= self.next_unacknowledged
