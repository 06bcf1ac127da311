"""Takes leaves in: each producer's in order and once, no more at a time than memory allows.

A leaf is in one of three places: in the pool that fills, in the growth that is being sequenced, or in the log. A
producer's next number counts all three, so that a leaf that is sent again is recognised wherever it is. Everything here
belongs to the event loop and is changed between two awaits only; no lock is needed, except where the index is asked.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from controlplane.ledger.index import Placed, ProducerKey

MIN_CREDIT: Final = 4096
"""Leaves that any stream may have outstanding, also before it was told so."""


class IntakeError(Exception):
    """Root of what intake refuses."""


class GapError(IntakeError):
    """A sequence number was left out."""

    def __init__(self, expected: int) -> None:
        super().__init__(f"expected seq {expected}")
        self.expected = expected


class RewrittenError(IntakeError):
    """A sequence number came again with another leaf: somebody's spool went back in time, or somebody forges."""

    def __init__(self, seq: int) -> None:
        super().__init__(f"seq {seq} was recorded with another leaf; begin a new epoch")


class NotOwnerError(IntakeError):
    """The producer id belongs to another peer."""


class Sink(Protocol):
    """Who is told what became of a producer's leaves. Must not block or raise."""

    def acknowledge(self, placed: Placed, tree_size: int) -> None:
        """These leaves stand in a published tree."""

    def supersede(self) -> None:
        """Another stream speaks for this producer now."""

    def fail(self) -> None:
        """The node stops; nothing more will be acknowledged."""


class Known(Protocol):
    """What the log remembers of producers."""

    async def next_seq(self, key: ProducerKey) -> int: ...

    async def owner(self, producer_id: bytes) -> str: ...


@dataclass(slots=True)
class Run:
    """Leaves of one producer with consecutive numbers, on their way into the log."""

    first_seq: int
    entries: list[bytes] = field(default_factory=list)
    """Packed: each behind its uint16 length."""
    hashes: list[bytes] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Producer:
    """What is known of one producer in one epoch while a stream speaks for it or leaves of it are on their way."""

    key: ProducerKey
    owner: str
    durable: int
    """Numbers below this are in the published log."""
    sink: Sink | None = None
    pending: Run | None = None
    """In the pool."""
    sequencing: Run | None = None
    """In the growth that is being committed."""

    @property
    def next_seq(self) -> int:
        """The number that the next new leaf must have."""
        return self.durable + sum(len(run.entries) for run in (self.sequencing, self.pending) if run is not None)

    def hash_at(self, seq: int) -> bytes:
        """The hash of a leaf that was taken in and is not durable."""
        run = self.pending if self.pending is not None and seq >= self.pending.first_seq else self.sequencing
        assert run is not None  # noqa: S101 seq is between durable and next_seq
        return run.hashes[seq - run.first_seq]


class Taken(NamedTuple):
    """One run of a growth, in the order in which it enters the log."""

    producer: Producer
    run: Run


class Intake:
    """The pool and the producers."""

    def __init__(
        self, known: Known, *, max_leaves: int = 131_072, max_bytes: int = 64 << 20, max_credit: int = MIN_CREDIT
    ) -> None:
        self._known = known
        self._max_leaves = max_leaves
        self._max_bytes = max_bytes
        self._max_credit = max(MIN_CREDIT, max_credit)
        self._producers: dict[ProducerKey, Producer] = {}
        self._waiting: dict[ProducerKey, Producer] = {}
        """With leaves in the pool, the one that waits longest first."""
        self._leaves = 0
        """In the pool."""
        self._bytes = 0
        self._attaching = asyncio.Lock()
        self._room = asyncio.Event()
        self._room.set()
        self.filled = asyncio.Event()
        """Set while the pool is not empty, and for good once `closing` is."""
        self.closing = asyncio.Event()
        """Set when no stream should be read any more."""
        self.streams = 0

    @property
    def leaves(self) -> int:
        """Leaves in the pool."""
        return self._leaves

    @property
    def credit(self) -> int:
        """Leaves that one stream may have outstanding: its share of the pool."""
        return max(MIN_CREDIT, min(self._max_credit, self._max_leaves // max(1, self.streams)))

    async def attach(self, key: ProducerKey, peer: str, sink: Sink) -> Producer:
        """The state of a producer, whose acknowledgements go to `sink` from now on. Raises NotOwnerError."""
        # One at a time: what the index says must still hold when it is written down here.
        async with self._attaching:
            producer = self._producers.get(key)
            if producer is None:
                producer = Producer(key, await self._known.owner(key.producer_id), await self._known.next_seq(key))
            # Leaves are public, so everybody can learn an id and the number that comes next: without this check any
            # sidecar could put its leaf in another one's place.
            if peer and producer.owner and producer.owner != peer:
                raise NotOwnerError("this producer id belongs to another peer")
            producer.owner = producer.owner or peer
            self._producers[key] = producer
        if producer.sink is not None:
            producer.sink.supersede()
        else:
            self.streams += 1
        producer.sink = sink
        return producer

    def detach(self, producer: Producer, sink: Sink) -> None:
        """The stream is gone. What it brought stays on its way."""
        if producer.sink is sink:
            producer.sink = None
            self.streams -= 1
            self._forget(producer)

    async def room(self) -> None:
        """Return when the pool takes leaves. A reader that waits here makes its sender wait."""
        await self._room.wait()

    def offer(self, producer: Producer, first_seq: int, entries: Sequence[bytes], hashes: Sequence[bytes]) -> int:
        """Take the leaves that are new; how many at the front were durable already. The caller answers for those.

        Raises GapError, and RewrittenError for a leaf that differs from the one on its way under the same number.
        """
        expected, end = producer.next_seq, first_seq + len(entries)
        if first_seq > expected:
            raise GapError(expected)
        durable = min(len(entries), max(0, producer.durable - first_seq))
        for seq in range(first_seq + durable, min(end, expected)):
            if producer.hash_at(seq) != hashes[seq - first_seq]:
                raise RewrittenError(seq)
        fresh = expected - first_seq
        if fresh < len(entries):
            self._take_in(producer, expected, entries[fresh:], hashes[fresh:])
        return durable

    def take(self) -> list[Taken]:
        """Empty the pool for the next growth. The one before must be `placed`."""
        taken = []
        for producer in self._waiting.values():
            assert producer.sequencing is None and producer.pending is not None  # noqa: PT018, S101 see the docstring
            producer.sequencing, producer.pending = producer.pending, None
            taken.append(Taken(producer, producer.sequencing))
        self._waiting = {}
        self._leaves = self._bytes = 0
        self._room.set()
        if not self.closing.is_set():
            self.filled.clear()
        return taken

    def placed(self, taken: Taken, first_index: int, tree_size: int) -> None:
        """A run of the growth is published."""
        producer, run = taken
        producer.sequencing = None
        producer.durable += len(run.entries)
        if producer.sink is not None:
            producer.sink.acknowledge(Placed(run.first_seq, len(run.entries), first_index), tree_size)
        self._forget(producer)

    def close(self) -> None:
        """Take nothing more in. What is in the pool is still sequenced."""
        self.closing.set()
        self.filled.set()

    def fail(self) -> None:
        """The log cannot be written any more: tell everybody who waits."""
        self.close()
        for producer in self._producers.values():
            if producer.sink is not None:
                producer.sink.fail()

    def _take_in(self, producer: Producer, first_seq: int, entries: Sequence[bytes], hashes: Sequence[bytes]) -> None:
        if producer.pending is None:
            producer.pending = Run(first_seq)
            self._waiting[producer.key] = producer
        producer.pending.entries += entries
        producer.pending.hashes += hashes
        self._leaves += len(entries)
        self._bytes += sum(map(len, entries))
        self.filled.set()
        if self._leaves >= self._max_leaves or self._bytes >= self._max_bytes:
            self._room.clear()

    def _forget(self, producer: Producer) -> None:
        """Drop the state that nobody needs and the index has: memory is bounded by streams and pool."""
        if producer.sink is None and producer.pending is None and producer.sequencing is None:
            self._producers.pop(producer.key, None)
