"""What was offered, sent and acknowledged, without a network."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.leaf import PACKED_SIZE
from sidecar.audit.delivery import MAX_LEAVES, Ack, Delivery
from sidecar.audit.errors import LedgerContradictionError
from sidecar.audit.spool import Batch, Placement


def batch(first_seq: int, count: int, epoch: int = 1) -> Batch:
    packed = b"".join((epoch * 1_000_000 + first_seq + n).to_bytes(PACKED_SIZE, "big") for n in range(count))
    return Batch(first_seq, epoch, first_seq, count, 0, packed)


def sent_leaves(packed: bytes) -> list[int]:
    return [int.from_bytes(packed[n : n + PACKED_SIZE], "big") % 1_000_000 for n in range(0, len(packed), PACKED_SIZE)]


def ack(through_seq: int, count: int, *, epoch: int = 1, first_index: int = 0, tree_size: int = 10**6) -> Ack:
    return Ack(epoch, through_seq, count, first_index, "log", tree_size)


def begun(*batches: Batch) -> Delivery:
    delivery = Delivery()
    delivery.offer(batches)
    delivery.rewind()
    return delivery


def test_nothing_is_sent_without_credit_and_never_more_than_allowed() -> None:
    delivery = begun(batch(0, 10))

    assert delivery.next_chunk(0) is None
    first = delivery.next_chunk(4)
    assert delivery.next_chunk(4) is None
    second = delivery.next_chunk(7)

    assert first is not None
    assert second is not None
    assert sent_leaves(first.packed) == [0, 1, 2, 3]
    assert (second.first_seq, sent_leaves(second.packed)) == (4, [4, 5, 6])
    assert delivery.outstanding == 7


def test_small_batches_travel_in_one_message_and_large_ones_in_several() -> None:
    delivery = begun(*(batch(n * 10, 10) for n in range(30)), batch(300, 3 * MAX_LEAVES))

    sizes = []
    while (chunk := delivery.next_chunk(100_000)) is not None:
        sizes.append(chunk.count)

    assert sizes == [MAX_LEAVES, MAX_LEAVES, MAX_LEAVES, 300]


def test_an_acknowledgement_says_where_the_new_leaves_stand() -> None:
    delivery = begun(batch(0, 10))
    delivery.next_chunk(100)

    assert Placement(1, 0, 4, 70, "log", 80) == delivery.acknowledge(ack(3, 4, first_index=70, tree_size=80))
    assert Placement(1, 4, 2, 90, "log", 92) == delivery.acknowledge(ack(5, 4, first_index=88, tree_size=92))
    assert delivery.acknowledge(ack(5, 6)) is None
    assert delivery.acknowledge(ack(0, 0)) is None
    assert delivery.outstanding == 4


@pytest.mark.parametrize(
    "wrong",
    [
        ack(10, 1),
        ack(2, 4),
        ack(9, 4),
        ack(3, 4, epoch=2),
        ack(3, 4, first_index=7, tree_size=10),
    ],
    ids=["never sent", "before the first leaf", "leaves some out", "another epoch", "outside the tree"],
)
def test_an_acknowledgement_that_cannot_be_is_refused(wrong: Ack) -> None:
    delivery = begun(batch(0, 10))
    delivery.next_chunk(10)

    with pytest.raises(LedgerContradictionError):
        delivery.acknowledge(wrong)

    assert delivery.outstanding == 10


def test_what_was_offered_but_not_sent_cannot_be_acknowledged() -> None:
    delivery = begun(batch(0, 10))
    delivery.next_chunk(5)

    with pytest.raises(LedgerContradictionError, match="sent is up to 4"):
        delivery.acknowledge(ack(5, 6))


def test_a_new_stream_sends_again_from_the_first_leaf_without_an_acknowledgement() -> None:
    delivery = begun(batch(0, 4), batch(4, 4))
    delivery.next_chunk(100)
    delivery.acknowledge(ack(5, 6))

    delivery.rewind()
    chunk = delivery.next_chunk(100)

    assert chunk is not None
    assert (chunk.first_seq, sent_leaves(chunk.packed)) == (6, [6, 7])


def test_one_stream_carries_one_epoch() -> None:
    delivery = begun(batch(7, 3, epoch=1), batch(0, 2, epoch=2))

    chunk = delivery.next_chunk(100)
    assert chunk is not None
    assert (chunk.first_seq, chunk.count) == (7, 3)
    assert delivery.next_chunk(100) is None
    assert not delivery.epoch_done

    delivery.acknowledge(ack(9, 3))
    assert delivery.epoch_done
    delivery.rewind()
    assert (delivery.epoch, delivery.next_unacknowledged) == (2, 0)
    chunk = delivery.next_chunk(100)
    assert chunk is not None
    assert (chunk.first_seq, chunk.count) == (0, 2)


def test_offers_afresh_replace_what_was_offered() -> None:
    delivery = begun(batch(0, 10))
    delivery.next_chunk(5)

    delivery.offer([batch(0, 3, epoch=2)], afresh=True)
    delivery.rewind()

    assert (delivery.epoch, delivery.outstanding, delivery.unsent) == (2, 0, 3)


@given(st.data())
def test_whatever_happens_every_leaf_is_placed_once_and_in_order(data: st.DataObject) -> None:
    """A ledger that dedupes, streams that break anywhere, credit that comes and goes."""
    delivery = Delivery()
    offered = 0
    log: list[int] = []
    placed: list[tuple[int, int]] = []
    unanswered: list[Ack] = []
    delivery.offer([batch(0, 1)])
    offered = 1
    delivery.rewind()

    for step in [*data.draw(st.lists(st.sampled_from(["offer", "send", "answer", "break"]), max_size=60)), "break"]:
        match step:
            case "offer":
                count = data.draw(st.integers(1, 300))
                delivery.offer([batch(offered, count)])
                offered += count
            case "send":
                chunk = delivery.next_chunk(data.draw(st.integers(0, 600)))
                if chunk is not None:
                    assert sent_leaves(chunk.packed) == list(range(chunk.first_seq, chunk.first_seq + chunk.count))
                    log += [seq for seq in sent_leaves(chunk.packed) if seq >= len(log)]
                    unanswered.append(ack(chunk.first_seq + chunk.count - 1, chunk.count, first_index=chunk.first_seq))
            case "answer" if unanswered:
                placement = delivery.acknowledge(unanswered.pop(0))
                if placement is not None:
                    placed.append((placement.first_seq, placement.count))
            case "break":
                unanswered.clear()
                delivery.rewind()
    while (chunk := delivery.next_chunk(1000)) is not None:
        placement = delivery.acknowledge(
            ack(chunk.first_seq + chunk.count - 1, chunk.count, first_index=chunk.first_seq)
        )
        assert placement is not None
        placed.append((placement.first_seq, placement.count))
        log += [seq for seq in sent_leaves(chunk.packed) if seq >= len(log)]

    assert list(range(offered)) == log
    assert list(range(offered)) == [seq for first, count in placed for seq in range(first, first + count)]
    assert (delivery.outstanding, delivery.unsent) == (0, 0)
