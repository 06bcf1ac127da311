"""`AuditIngest.Append`: the protocol of proto/aegispb/v1/audit.proto, one stream at a time.

One task reads and one writes. Reading stops while the pool is full or acknowledgements pile up, and HTTP/2 flow control
carries that to the sender.
"""

import asyncio
import logging
from collections import deque
from hashlib import sha256
from typing import Any, Final

import grpc
from aegispb.v1 import audit_pb2

from controlplane.identity.peer import peer_of
from controlplane.identity.spiffe import IdentityError, Role
from controlplane.ledger.errors import NodeError
from controlplane.ledger.index import Placed, ProducerKey
from controlplane.ledger.intake import (
    MIN_CREDIT,
    GapError,
    Intake,
    IntakeError,
    NotOwnerError,
    Producer,
    RewrittenError,
)
from controlplane.ledger.log import Log
from controlplane.ledger.records import Records
from ledger.errors import LedgerError
from ledger.leaf import PACKED_SIZE, PRODUCER_ID_SIZE, Position, check_run

logger = logging.getLogger(__name__)

SERVICE: Final = "aegispb.v1.AuditIngest"
MAX_LEAVES: Final = 4096
"""In one message."""
MAX_STREAMS: Final = 10_000
_MAX_NUMBER: Final = 1 << 63
_MAX_UNSENT: Final = 1024
"""Acknowledgements that may wait for a client that does not read them."""

Call = grpc.aio.ServicerContext[audit_pb2.LeafBatch, audit_pb2.LeafAck]
Code = grpc.StatusCode


class RefusedError(Exception):
    """The stream ends with this status."""

    def __init__(self, code: grpc.StatusCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class AuditIngest:
    """Serves streams of leaves."""

    def __init__(self, log: Log, intake: Intake, records: Records, *, trust_domain: str | None) -> None:
        """`trust_domain` None: there is no TLS, and every peer counts as the same one."""
        self._log = log
        self._intake = intake
        self._records = records
        self._trust_domain = trust_domain
        self._streams = 0

    def handler(self) -> grpc.GenericRpcHandler:
        """To be added to a server."""
        method: Any = grpc.stream_stream_rpc_method_handler(
            self._append, audit_pb2.LeafBatch.FromString, audit_pb2.LeafAck.SerializeToString
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"Append": method})

    async def _append(self, _requests: object, call: Call) -> None:
        self._streams += 1
        refused: RefusedError | None = None
        stream = _Stream(call, self._log, self._intake, self._records)
        try:
            if self._streams > MAX_STREAMS:
                raise RefusedError(Code.RESOURCE_EXHAUSTED, f"{MAX_STREAMS} streams stand already")
            await stream.serve(self._admit(call))
        except RefusedError as error:
            refused = error
        finally:
            self._streams -= 1
            stream.leave()
        if refused is not None:
            await call.abort(refused.code, str(refused))

    def _admit(self, call: Call) -> str:
        """The peer's name; nothing else that it says about itself is believed."""
        if self._trust_domain is None:
            return ""
        try:
            peer = peer_of(call, self._trust_domain)
        except IdentityError as error:
            logger.warning("peer refused", extra={"reason": str(error)})
            raise RefusedError(Code.UNAUTHENTICATED, str(error)) from None
        if peer.role is not Role.SIDECAR:
            logger.warning("peer refused", extra={"peer": str(peer), "reason": "not a sidecar"})
            raise RefusedError(Code.PERMISSION_DENIED, f"{peer} is not a sidecar; only sidecars write leaves")
        return str(peer)


class _Stream:
    """One call. A `Sink` of the intake."""

    def __init__(self, call: Call, log: Log, intake: Intake, records: Records) -> None:
        self._call = call
        self._log = log
        self._intake = intake
        self._records = records
        self._producer: Producer | None = None
        self._refused: RefusedError | None = None
        self._unsent: deque[audit_pb2.LeafAck] = deque()
        self._wake = asyncio.Event()
        """Set when there is something to write, or the stream is to end."""
        self._sent = asyncio.Event()
        """Set after something was written."""
        self._outstanding = 0
        """Leaves taken in from this stream and not acknowledged."""
        self._allowance = MIN_CREDIT
        self._is_read = False
        """No more will be read."""

    async def serve(self, peer: str) -> None:
        """Until the client is done and everything is acknowledged, or the node closes. Raises RefusedError."""
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(self._read(peer))
            closing = tasks.create_task(self._stop_reading_at_closing(reading))
            await self._write()
            reading.cancel()
            closing.cancel()
        if self._refused is not None:
            raise self._refused

    def leave(self) -> None:
        """The call is over, however it ended."""
        if self._producer is not None:
            self._intake.detach(self._producer, self)

    # --- Sink ---

    def acknowledge(self, placed: Placed, tree_size: int) -> None:
        self._outstanding = max(0, self._outstanding - placed.length)
        self._send(placed, tree_size)

    def supersede(self) -> None:
        self._end(RefusedError(Code.ABORTED, "another stream speaks for this producer now"))

    def fail(self) -> None:
        self._end(
            RefusedError(Code.UNAVAILABLE, "the node stops; leaves without an acknowledgement must be sent again")
        )

    # --- reading ---

    async def _stop_reading_at_closing(self, reading: "asyncio.Task[None]") -> None:
        await self._intake.closing.wait()
        reading.cancel()

    async def _read(self, peer: str) -> None:
        try:
            while True:
                batch: object = await self._call.read()  # grpc.aio.EOF at the end, which the stubs leave out
                if not isinstance(batch, audit_pb2.LeafBatch):
                    return
                await self._receive(batch, peer)
                while len(self._unsent) > _MAX_UNSENT:
                    self._sent.clear()
                    await self._sent.wait()
                await self._intake.room()
        except (RefusedError, IntakeError, LedgerError, NodeError) as error:
            self._end(_status(error, peer))
        finally:
            self._is_read = True
            self._wake.set()

    async def _receive(self, batch: audit_pb2.LeafBatch, peer: str) -> None:
        producer = await self._speak_for(batch, peer)
        if not batch.count and not batch.packed:
            self._answer()
            return
        entries, hashes = unpack(batch)
        # What is in the log already is compared before anything is taken in: a spool that went back in time must not
        # add leaves to a history that is not its own.
        known = max(0, min(len(hashes), producer.durable - batch.first_seq))
        await self._repeat(producer, batch.first_seq, hashes[:known])
        before = producer.next_seq
        try:
            durable = self._intake.offer(producer, batch.first_seq, entries, hashes)
        except GapError:
            self._answer()
            raise
        await self._repeat(producer, batch.first_seq + known, hashes[known:durable])
        self._outstanding += producer.next_seq - before
        if self._outstanding > self._allowance + MAX_LEAVES:
            raise RefusedError(Code.RESOURCE_EXHAUSTED, f"more than {self._allowance} leaves are outstanding")

    async def _repeat(self, producer: Producer, first_seq: int, hashes: list[bytes]) -> None:
        """Acknowledge leaves that came again with the index that they got the first time."""
        if hashes:
            size = self._log.published.checkpoint.size
            for placed in await self._records.placed(producer.key, first_seq, hashes, size):
                self._send(placed, size)

    async def _speak_for(self, batch: audit_pb2.LeafBatch, peer: str) -> Producer:
        if len(batch.producer_id) != PRODUCER_ID_SIZE:
            raise RefusedError(Code.INVALID_ARGUMENT, f"a producer_id has {PRODUCER_ID_SIZE} bytes")
        if batch.epoch >= _MAX_NUMBER or batch.first_seq + batch.count >= _MAX_NUMBER:
            raise RefusedError(Code.INVALID_ARGUMENT, "epoch and seq are below 2^63")
        key = ProducerKey(batch.producer_id, batch.epoch)
        if self._producer is None:
            self._producer = await self._intake.attach(key, peer, self)
        if self._producer.key != key:
            raise RefusedError(Code.INVALID_ARGUMENT, "one stream is for one producer and epoch; open another")
        return self._producer

    # --- writing ---

    def _answer(self) -> None:
        """Say where to resume: after the last durable leaf. What is on its way is recognised when it comes again."""
        producer = self._producer
        assert producer is not None  # noqa: S101 whoever asks has said who he is
        self._queue(
            producer,
            through_seq=max(0, producer.durable - 1),
            tree_size=self._log.published.checkpoint.size,
            next_seq=producer.durable,
        )

    def _send(self, placed: Placed, tree_size: int) -> None:
        producer = self._producer
        assert producer is not None  # noqa: S101 only a producer's leaves are acknowledged
        self._queue(
            producer,
            through_seq=placed.end_seq - 1,
            first_index=placed.first_index,
            count=placed.length,
            tree_size=tree_size,
            next_seq=producer.next_seq,
        )

    def _queue(self, producer: Producer, **numbers: int) -> None:
        credit = self._intake.credit
        self._allowance = max(self._allowance, credit)
        ack = audit_pb2.LeafAck(
            producer_id=producer.key.producer_id,
            epoch=producer.key.epoch,
            state=audit_pb2.LeafAck.DURABLE,
            origin=self._log.published.checkpoint.origin,
            credit=credit,
            **numbers,
        )
        self._unsent.append(ack)
        self._wake.set()

    def _end(self, refused: RefusedError) -> None:
        self._refused = self._refused or refused
        self._wake.set()

    async def _write(self) -> None:
        """The only writer of this call: concurrent writes on one gRPC call corrupt it."""
        while True:
            while self._unsent:
                await self._call.write(self._unsent.popleft())
                self._sent.set()
            if self._refused is not None or (self._is_read and not self._owes):
                return
            self._wake.clear()
            await self._wake.wait()

    @property
    def _owes(self) -> bool:
        """Whether leaves of this producer are on their way."""
        producer = self._producer
        return producer is not None and producer.sink is self and producer.next_seq > producer.durable


def unpack(batch: audit_pb2.LeafBatch) -> tuple[list[bytes], list[bytes]]:
    """The leaves of a batch, each behind its length, and their hashes. Raises LedgerError.

    Every leaf must say itself what the batch says of it: what stands in the log is then all that is needed to know
    which leaf of which producer it is.
    """
    packed, count = batch.packed, batch.count
    if count > MAX_LEAVES or len(packed) != count * PACKED_SIZE:
        raise LedgerError(f"a batch has at most {MAX_LEAVES} leaves of {PACKED_SIZE} bytes, and says how many")
    check_run(packed, Position(batch.producer_id, batch.epoch, batch.first_seq))
    entries = [packed[at : at + PACKED_SIZE] for at in range(0, len(packed), PACKED_SIZE)]
    return entries, [sha256(b"\x00" + entry[2:]).digest() for entry in entries]  # RFC 6962 section 2.1


def _status(error: RefusedError | IntakeError | LedgerError | NodeError, peer: str) -> RefusedError:
    match error:
        case RefusedError():
            return error
        case GapError():
            return RefusedError(Code.FAILED_PRECONDITION, str(error))
        case RewrittenError():
            logger.error("a leaf came again with another content", extra={"peer": peer, "reason": str(error)})
            return RefusedError(Code.ALREADY_EXISTS, str(error))
        case NotOwnerError():
            logger.error("a producer id was used by another peer", extra={"peer": peer})
            return RefusedError(Code.PERMISSION_DENIED, str(error))
        case NodeError():
            logger.error("a producer cannot be answered", extra={"peer": peer, "reason": str(error)})
            return RefusedError(Code.UNAVAILABLE, "the log cannot be read now")
        case _:
            return RefusedError(Code.INVALID_ARGUMENT, str(error))
