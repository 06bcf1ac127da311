"""A ledger that takes leaves over real gRPC and keeps them in a list. It can be slow, forgetful, rude or wrong."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
from aegispb.v1 import audit_pb2, audit_pb2_grpc

from ledger.leaf import Leaf, parse_leaf

ORIGIN = "ledger.test/log"
Key = tuple[bytes, int]


class FakeLedger(audit_pb2_grpc.AuditIngestServicer):
    """Behaves as audit.proto demands, except where a test says otherwise."""

    def __init__(self) -> None:
        self.entries: list[bytes] = []
        """The log."""
        self.indices: dict[Key, list[int]] = defaultdict(list)
        """(producer, epoch) -> index of each seq."""
        self.credit = 4096
        self.open = asyncio.Event()
        """Cleared: leaves are taken and not acknowledged."""
        self.open.set()
        self.refuse: grpc.StatusCode | None = None
        """Abort every stream with this."""
        self.cut_after = -1
        """Leaves after which the stream is cut, before they are acknowledged; once."""
        self.most_outstanding = 0
        self.messages = 0
        self.streams = 0
        self.repeated = 0
        """Leaves that came again."""
        self.falsify: Any = None
        """Changes an acknowledgement before it is sent."""
        self.granted = asyncio.Condition()

    @property
    def leaves(self) -> list[Leaf]:
        return [parse_leaf(entry) for entry in self.entries]

    async def grant(self, credit: int) -> None:
        """Tell every stream its new credit."""
        self.credit = credit
        async with self.granted:
            self.granted.notify_all()

    def forget(self, keep: int) -> None:
        """Lose everything after the first `keep` leaves, as from a backup."""
        del self.entries[keep:]
        for indices in self.indices.values():
            while indices and indices[-1] >= keep:
                indices.pop()

    async def Append(self, request_iterator: Any, context: Any) -> AsyncIterator[audit_pb2.LeafAck]:  # noqa: N802 gRPC's name
        self.streams += 1
        acks: asyncio.Queue[audit_pb2.LeafAck] = asyncio.Queue()
        reading = asyncio.ensure_future(self._read(request_iterator, context, acks))  # noqa: TID251 ends with the stream
        granting = asyncio.ensure_future(self._grants(acks))  # noqa: TID251 ends with the stream
        try:
            while True:
                getting = asyncio.ensure_future(acks.get())  # noqa: TID251 awaited at once
                await asyncio.wait({reading, getting}, return_when=asyncio.FIRST_COMPLETED)
                if not getting.done():
                    getting.cancel()
                    await reading
                    return
                ack = getting.result()
                await self.open.wait()
                ack.credit = self.credit
                yield self.falsify(ack) if self.falsify else ack
        finally:
            reading.cancel()
            granting.cancel()

    async def _grants(self, acks: asyncio.Queue[audit_pb2.LeafAck]) -> None:
        while True:
            async with self.granted:
                await self.granted.wait()
            acks.put_nowait(self._ack(self._key, 0, 0))

    async def _read(self, requests: Any, context: Any, acks: asyncio.Queue[audit_pb2.LeafAck]) -> None:
        if self.refuse is not None:
            await context.abort(self.refuse, "not today")
        async for batch in requests:
            self.messages += 1
            key = self._key = (batch.producer_id, batch.epoch)
            indices = self.indices[key]
            if batch.first_seq > len(indices) and batch.count:
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"expected seq {len(indices)}")
            leaves = [batch.packed[n + 2 : n + 98] for n in range(0, len(batch.packed), 98)]
            assert len(leaves) == batch.count
            for seq, leaf in enumerate(leaves, batch.first_seq):
                parsed = parse_leaf(leaf)
                assert (parsed.producer_id, parsed.epoch, parsed.seq) == (*key, seq)
                if seq < len(indices):
                    assert self.entries[indices[seq]] == leaf
                    self.repeated += 1
                    continue
                indices.append(len(self.entries))
                self.entries.append(leaf)
            if 0 <= self.cut_after <= len(self.entries):
                self.cut_after = -1
                await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
            for ack in self._acks(key, batch.first_seq, batch.count):
                acks.put_nowait(ack)

    def _acks(self, key: Key, first_seq: int, count: int) -> list[audit_pb2.LeafAck]:
        """One acknowledgement for each run of consecutive indices."""
        runs: list[audit_pb2.LeafAck] = []
        start = first_seq
        indices = self.indices[key]
        for seq in range(first_seq, first_seq + count):
            if seq + 1 == first_seq + count or indices[seq + 1] != indices[seq] + 1:
                runs.append(self._ack(key, start, seq - start + 1))
                start = seq + 1
        return runs or [self._ack(key, 0, 0)]

    def _ack(self, key: Key, first_seq: int, count: int) -> audit_pb2.LeafAck:
        return audit_pb2.LeafAck(
            producer_id=key[0],
            epoch=key[1],
            through_seq=max(first_seq + count - 1, 0),
            first_index=self.indices[key][first_seq] if count else 0,
            count=count,
            state=audit_pb2.LeafAck.DURABLE,
            origin=ORIGIN,
            tree_size=len(self.entries),
            credit=self.credit,
            next_seq=len(self.indices[key]),
        )


@asynccontextmanager
async def serving(ledger: FakeLedger, port: int = 0) -> AsyncIterator[int]:
    """The port on which `ledger` listens, until the block ends; then every stream is cut."""
    server = grpc.aio.server()
    audit_pb2_grpc.add_AuditIngestServicer_to_server(ledger, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(None)
