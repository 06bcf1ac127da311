"""Sends leaves to a ledger: the client of `AuditIngest.Append`, proto/aegispb/v1/audit.proto.

A stream begins with an empty batch, which asks where the ledger stands, then carries everything of one epoch that is
not acknowledged, from the oldest on. What the ledger has already it recognises and acknowledges with the index it gave
the first time; so a leaf whose acknowledgement was lost still learns where it stands.

The ledger's answer to the empty batch is checked against our numbers. It expects a number that we know to be durable:
it lost leaves (restored from a backup) or is another ledger. It expects a number that we never gave: our spool was
restored from a backup. Either way the old numbers are spoilt, and everything unacknowledged moves to a new epoch.

Runs on the sidecar's event loop; everything here belongs to it but `offer`.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn, Protocol, TypeVar

import grpc.aio
from aegispb.v1 import audit_pb2, audit_pb2_grpc

from observability import names
from observability.metrics import Registry
from sidecar.audit.delivery import MAX_LEAVES, Ack, Delivery
from sidecar.audit.errors import AuditError, LedgerContradictionError
from sidecar.audit.spool import Batch, Placement

logger = logging.getLogger(__name__)

CHANNEL_OPTIONS: Final = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)
"""For the channel to a ledger: a dead peer is noticed within 40 s."""

Stream = grpc.aio.StreamStreamCall[audit_pb2.LeafBatch, audit_pb2.LeafAck]

_E = TypeVar("_E", bound=BaseException)

_DURABLE_STATES: Final = frozenset({audit_pb2.LeafAck.DURABLE, audit_pb2.LeafAck.FINAL})
_SPOILT: Final = frozenset({"ledger_behind", "ledger_ahead", "already_exists"})
"""Why the numbers of an epoch cannot be used any more. `already_exists`: the ledger has another leaf under a number."""
_OURS_TO_FIX: Final = frozenset({
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNIMPLEMENTED,
})  # fmt: skip
"""What trying again does not mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipperPace:
    """How patient the shipper is. All in seconds."""

    linger: float = 0.1
    """How long a message waits for more leaves, when it has fewer than `MAX_LEAVES`."""
    hello_timeout: float = 10.0
    """For the ledger's first answer."""
    ack_timeout: float = 30.0
    """Without an acknowledgement while leaves are outstanding; then the stream is given up."""
    first_backoff: float = 0.5
    longest_backoff: float = 30.0


class Accounts(Protocol):
    """What the trail does for the shipper. See `sidecar.audit.trail.Trail`."""

    def acknowledge(self, placement: Placement) -> None:
        """A ledger has these leaves durably."""

    def begin_epoch(self, reason: str) -> None:
        """Offer everything afresh under a new epoch, soon."""

    def left_by(self, epoch: int) -> int:
        """How many leaves an earlier life made in this epoch; 0: the epoch is of this life."""


class _StreamEndedError(AuditError):
    """The stream ended; `reason` is a bounded name."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Shipper:
    """Offers go in on one side, acknowledgements come out on the other. Made on the loop that runs it."""

    def __init__(
        self,
        producer_id: bytes,
        registry: Registry,
        pace: ShipperPace | None = None,
        *,
        jitter: Callable[[], float] | None = None,
    ) -> None:
        self._producer_id = producer_id
        self._pace = pace or ShipperPace()
        self._jitter = jitter or secrets.SystemRandom().random
        self._loop = asyncio.get_running_loop()
        self._delivery = Delivery()
        self._credit = 0
        self._afresh = False
        """Whether the numbers of the stream were taken back since it began."""
        self._changed = asyncio.Event()
        """Something was offered, acknowledged or granted."""
        self._last_ack = 0.0
        self._durable = registry.counter(names.AUDIT_DURABLE).cell()
        self._reconnects = registry.counter(names.AUDIT_RECONNECTS)
        self._connected = registry.gauge(names.AUDIT_CONNECTED).cell()

    def offer(self, batches: list[Batch], *, afresh: bool) -> None:
        """See `sidecar.audit.flusher.Outlet`. Callable from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._offered, batches, afresh)
        except RuntimeError:
            # The loop is closed. The spool has the leaves; the next life of this process sends them.
            return

    async def run(self, channel: grpc.aio.Channel, accounts: Accounts) -> NoReturn:
        """Ship until cancelled."""
        append = audit_pb2_grpc.AuditIngestStub(channel).Append
        backoff = self._pace.first_backoff
        while True:
            began, durable = self._loop.time(), self._durable[0]
            while not self._delivery.begun:
                await self._change()
            self._delivery.rewind()
            self._afresh = False
            self._credit = 0
            # In a task of its own: a group that fails in the moment in which it is cancelled forgets that it was
            # cancelled (Python 3.11), and this loop would go on for ever. The outer group never fails.
            async with asyncio.TaskGroup() as tasks:
                session = tasks.create_task(self._session(append(), accounts))
            reason = session.result()
            self._reconnects.add((reason,))
            if reason in _SPOILT:
                accounts.begin_epoch(reason)
                while not self._afresh:
                    await self._change()
            elif reason in {"epoch_done", "afresh"}:
                continue
            if self._durable[0] != durable or self._loop.time() - began > self._pace.longest_backoff:
                backoff = self._pace.first_backoff
            await asyncio.sleep(backoff * self._jitter())
            backoff = min(backoff * 1.6, self._pace.longest_backoff)

    async def _session(self, stream: Stream, accounts: Accounts) -> str:
        """One stream from beginning to end; why it ended, as a bounded name."""
        reason = "complete"
        try:
            async with asyncio.TaskGroup() as tasks:
                await self._hello(stream, accounts)
                self._connected[0] = 1
                tasks.create_task(self._read(stream, accounts))
                tasks.create_task(self._write(stream))
                tasks.create_task(self._watch())
        except* _StreamEndedError as over:
            reason = _first(over).reason
        except* LedgerContradictionError as wrong:
            reason = "contradiction"
            logger.error("ledger contradicts itself", extra={"reason": str(_first(wrong))})
        except* grpc.aio.AioRpcError as error:
            reason = _failed(_first(error))
        except* asyncio.InvalidStateError:
            reason = "error"  # grpc.aio raises it when the call had ended before we wrote to it
        except* TimeoutError:
            reason = "silent"
            logger.warning("ledger does not answer", extra={"seconds": self._pace.hello_timeout})
        finally:
            self._connected[0] = 0
            stream.cancel()
        return reason

    async def _hello(self, stream: Stream, accounts: Accounts) -> None:
        delivery = self._delivery
        ours = delivery.next_unacknowledged
        await stream.write(
            audit_pb2.LeafBatch(producer_id=self._producer_id, epoch=delivery.epoch, first_seq=ours, count=0)
        )
        async with asyncio.timeout(self._pace.hello_timeout):
            answer = await stream.read()
        if not isinstance(answer, audit_pb2.LeafAck):
            raise _StreamEndedError("complete")
        if answer.producer_id != self._producer_id or answer.epoch != delivery.epoch:
            raise LedgerContradictionError("the ledger answered about another producer or epoch")
        # Of an epoch of this life it can have what we sent, of an earlier one whatever that life may have sent.
        most = accounts.left_by(delivery.epoch) or delivery.sent_through
        if ours <= answer.next_seq <= most:
            self._credit = answer.credit
            self._last_ack = self._loop.time()
            return
        reason = "ledger_behind" if answer.next_seq < ours else "ledger_ahead"
        logger.error(
            "ledger disagrees about what it has; beginning a new epoch",
            extra={"reason": reason, "epoch": delivery.epoch, "expected_seq": answer.next_seq, "our_seq": ours},
        )
        raise _StreamEndedError(reason)

    async def _read(self, stream: Stream, accounts: Accounts) -> None:
        while True:
            answer = await stream.read()
            if not isinstance(answer, audit_pb2.LeafAck):
                raise _StreamEndedError("complete")
            if answer.producer_id != self._producer_id:
                raise LedgerContradictionError("the ledger acknowledged leaves of another producer")
            self._last_ack = self._loop.time()
            self._credit = answer.credit
            placement = self._delivery.acknowledge(
                Ack(
                    answer.epoch,
                    answer.through_seq,
                    answer.count if answer.state in _DURABLE_STATES else 0,
                    answer.first_index,
                    answer.origin,
                    answer.tree_size,
                )
            )
            if placement is not None:
                self._durable[0] += placement.count
                accounts.acknowledge(placement)
            self._changed.set()

    async def _write(self, stream: Stream) -> None:
        delivery = self._delivery
        lingered = False
        while True:
            if self._afresh:
                raise _StreamEndedError("afresh")
            if delivery.epoch_done:
                raise _StreamEndedError("epoch_done")
            if 0 < delivery.unsent < MAX_LEAVES and not lingered:
                lingered = True
                await asyncio.sleep(self._pace.linger)
                continue
            lingered = False
            chunk = delivery.next_chunk(self._credit)
            if chunk is None:
                await self._change()
                continue
            if delivery.outstanding == chunk.count:
                self._last_ack = self._loop.time()
            try:
                await stream.write(
                    audit_pb2.LeafBatch(
                        producer_id=self._producer_id,
                        epoch=delivery.epoch,
                        first_seq=chunk.first_seq,
                        packed=chunk.packed,
                        count=chunk.count,
                    )
                )
            except asyncio.InvalidStateError:
                # The call is over; `_read` says why.
                return

    async def _watch(self) -> None:
        """Give up a ledger that takes leaves and never acknowledges: keepalive does not notice a stuck process."""
        while True:
            await asyncio.sleep(self._pace.ack_timeout / 4)
            waited = self._loop.time() - self._last_ack
            if self._delivery.outstanding and waited > self._pace.ack_timeout:
                logger.warning("ledger does not acknowledge", extra={"outstanding": self._delivery.outstanding})
                raise _StreamEndedError("stalled")

    def _offered(self, batches: list[Batch], afresh: bool) -> None:
        self._delivery.offer(batches, afresh=afresh)
        self._afresh = self._afresh or afresh
        self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


def _failed(error: grpc.aio.AioRpcError) -> str:
    code: grpc.StatusCode = error.code()
    extra = {"code": code.name, "details": error.details()}
    if code in _OURS_TO_FIX:
        logger.error("ledger refuses our leaves", extra=extra)
    else:
        logger.warning("ledger unreachable", extra=extra)
    return code.name.lower()


def _first(group: BaseExceptionGroup[_E]) -> _E:
    """One of the errors; a stream ends for one reason nearly always."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
