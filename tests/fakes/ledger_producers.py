"""Producers of leaves, without a sidecar: numbered leaves, packed as they travel."""

from aegispb.v1 import audit_pb2

from ledger.leaf import Leaf, LeafKind
from ledger.tiles import pack_entries

PRODUCER = b"p" * 16
OTHER = b"o" * 16


def leaf(seq: int, *, producer_id: bytes = PRODUCER, epoch: int = 1, content: int = 0) -> bytes:
    """A leaf of 96 bytes; another `content` makes another leaf of the same number."""
    commitment = content.to_bytes(32, "big")
    return Leaf(LeafKind.EXCHANGE, 1, 0, 0, 0, 200, 0, producer_id, epoch, seq, 0, 1, commitment).pack()


def batch(
    first_seq: int, count: int, *, producer_id: bytes = PRODUCER, epoch: int = 1, content: int = 0
) -> audit_pb2.LeafBatch:
    """A message with leaves `first_seq`, ..."""
    leaves = [
        leaf(seq, producer_id=producer_id, epoch=epoch, content=content) for seq in range(first_seq, first_seq + count)
    ]
    return audit_pb2.LeafBatch(
        producer_id=producer_id, epoch=epoch, first_seq=first_seq, packed=pack_entries(leaves), count=count
    )
