"""The audit trail as the data path sees it, and the thread behind it. See `sidecar.ports.AuditTrail`.

`append` puts the entry in a queue. The thread gathers what came in for `linger` seconds and lets the flusher take a
turn; it is woken only when it found nothing to do, so that the data path makes no system call while there is load.

Whenever `AT_ONCE` entries have gathered, `append` makes leaves of them. The work is Python either way and holds the
interpreter; done by the thread it held up whatever the event loop had to do meanwhile, by 0.2 ms and more at a time.

When something must be lost, the newest is: an attacker who floods the trail cannot push out what it already holds, and
the numbers of spooled leaves stay without a hole. What was lost is counted and becomes one gap leaf at its place in the
order. `accepting` is False from the moment the next entry would be lost.
"""

import logging
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Final

from observability import names
from observability.metrics import Registry
from sidecar.audit.errors import SpoolError
from sidecar.audit.flusher import Flusher, Queue, TrailLimits
from sidecar.audit.leaves import AT_ONCE, Sealed
from sidecar.audit.spool import Placement
from sidecar.audit.statements import Gap, Item
from sidecar.ports import AuditEntry

logger = logging.getLogger(__name__)

_IDLE: Final = 1.0
"""Seconds between two turns while nothing happens."""


class Trail:
    """`start` it, `append` to it, `finish` it, `close` it. The queue's right end belongs to the data path."""

    def __init__(self, flusher: Flusher, registry: Registry, limits: TrailLimits) -> None:
        self._flusher = flusher
        self._limits = limits
        self._seal = flusher.sealer.seal
        self._max_queued = limits.max_queued
        self._entries = registry.counter(names.AUDIT_ENTRIES).cell()
        self._lost = registry.counter(names.AUDIT_LOST)
        registry.gauge(names.AUDIT_QUEUE).watch(lambda: {(): self.queued})
        registry.gauge(names.AUDIT_ACCEPTING).watch(lambda: {(): float(self.accepting)})
        registry.gauge(names.AUDIT_PENDING).watch(lambda: {(): flusher.waiting})
        registry.gauge(names.AUDIT_OLDEST).watch(lambda: {(): flusher.oldest_waiting()})
        self._queue: Queue = deque()
        self._appended = 0
        """Entries and gaps that ever were in the queue."""
        self._loose = 0
        """How many of them came since something was sealed."""
        self._gap: Gap | None = None
        """What was lost since the last entry that was queued. Owned by the data path."""
        self._failing = False
        self._finishing = False
        self._closing = False
        self._idle = False
        """Whether the thread sleeps until `_wake`: spares the data path a system call an exchange."""
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit-flusher", daemon=True)

    @property
    def queued(self) -> int:
        """Entries and gaps in memory that no commit was begun for."""
        return self._appended - self._flusher.taken

    @property
    def accepting(self) -> bool:
        """Whether the next entry will be spooled."""
        return not self._failing and self._refusal() is None

    def append(self, entry: AuditEntry) -> None:
        """Queue the entry. Never blocks, never raises; what is lost is counted and leaves a gap leaf."""
        self._entries[0] += 1
        flusher = self._flusher
        if self._appended - flusher.taken >= self._max_queued or flusher.full or self._finishing:
            self._lose(entry)
            return
        if self._gap is not None:
            self._put_gap()
        self._queue.append(entry)
        self._appended += 1
        self._loose += 1
        if self._loose >= AT_ONCE:
            self._seal_loose()
        if self._idle:
            self._idle = False
            self._wake.set()

    def start(self) -> None:
        """Begin an epoch and flush from now on. Raises SpoolError."""
        self._flusher.begin()
        self._wake.set()
        self._thread.start()

    def finish(self) -> None:
        """Take no more entries; EPOCH_END follows the queue to disk. Called where `append` is called."""
        if self._gap is not None:
            self._put_gap()
        self._finishing = True
        self._wake.set()

    @property
    def finished(self) -> bool:
        """Whether everything up to EPOCH_END is on disk."""
        return self._flusher.ended

    def close(self, timeout: float) -> bool:
        """Save the latest acknowledgements and close the spool; whether that was done within `timeout` seconds."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def acknowledge(self, placement: Placement) -> None:
        """A ledger has these leaves durably; the spool may forget them. Callable from any thread."""
        self._flusher.acknowledge(placement)
        self._wake.set()

    def begin_epoch(self, reason: str) -> None:
        """Give everything that waits to a new epoch and offer it afresh. Callable from any thread; soon, not now."""
        self._flusher.begin_epoch(reason)
        self._wake.set()

    def left_by(self, epoch: int) -> int:
        """How many leaves an earlier life made in this epoch; 0: it is of this life. Callable from any thread."""
        return self._flusher.left_by(epoch)

    def _put_gap(self) -> None:
        assert self._gap is not None  # noqa: S101 asked before
        self._queue.append(self._gap)
        self._gap = None
        self._appended += 1
        self._loose += 1

    def _seal_loose(self) -> None:
        """Make leaves of what the thread has not taken yet of the latest entries."""
        queue = self._queue
        loose: list[Item] = []
        with suppress(IndexError):
            # From the right, where nobody else takes: what the thread takes meanwhile came before all of it.
            while len(loose) < AT_ONCE:
                item = queue.pop()
                if isinstance(item, Sealed):
                    queue.append(item)
                    break
                loose.append(item)
        self._loose = 0
        if not loose:
            return
        loose.reverse()
        try:
            queue.append(self._seal(loose))
        except Exception:  # noqa: BLE001 the flusher meets the same error, tells of it and keeps the entries
            queue.extend(loose)

    def _refusal(self) -> str | None:
        if self.queued >= self._max_queued:
            return "queue_full"
        if self._flusher.full:
            return "spool_full"
        return "finishing" if self._finishing else None

    def _lose(self, entry: AuditEntry) -> None:
        # The other thread may have made room since; then it is still this entry that was turned away.
        reason, ended_at = self._refusal() or "queue_full", AuditEntry._make(entry).ended_at
        self._lost.add((reason,))
        if self._gap is None:
            self._gap = Gap(1, reason, ended_at, ended_at)
        else:
            self._gap = self._gap._replace(lost=self._gap.lost + 1, last=ended_at)

    def _run(self) -> None:
        while not self._closing:
            self._idle = True
            if not self._queue:
                self._wake.wait(_IDLE)
            self._idle = False
            self._wake.clear()
            if not self._finishing:
                # Acknowledgements, too, are gathered: forgetting leaves costs a commit of its own otherwise.
                time.sleep(self._limits.linger)
            self._turn()
        self._turn()
        self._flusher.close()

    def _turn(self) -> None:
        try:
            self._flusher.turn(self._queue, finishing=self._finishing)
        except SpoolError as error:
            logger.error("audit spool failed", extra={"reason": str(error), "queued": self.queued})
            self._failing = True
        except Exception:
            # The thread's root. A flusher that died would end the audit trail without anybody knowing.
            logger.exception("audit flusher failed")
            self._failing = True
        else:
            self._failing = False
            return
        if not self._closing:
            time.sleep(self._limits.retry)
