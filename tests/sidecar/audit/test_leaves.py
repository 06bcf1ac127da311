"""From what the data path says of an exchange to what stands in the log."""

import hashlib
import os
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.commitment import SALT_SIZE, EpochStatement, ExchangeStatement, GapStatement, Opening, open_leaf
from ledger.leaf import PACKED_SIZE, DialectCode, Leaf, LeafFlag, LeafKind, parse_leaf
from policies.model import ResultCode, UnixNanos
from sidecar.audit.leaves import AT_ONCE, Group, LeafWriter, Previous, renumbered
from sidecar.audit.statements import Gap, Item, payload_of_kept, read_kept
from tests.fakes.entries import BEGAN, audit_entry

PRODUCER = b"producer-16bytes"
NOW = UnixNanos(BEGAN + 999_999_999)


def writer(entropy: Callable[[int], bytes] = os.urandom) -> LeafWriter:
    return LeafWriter(PRODUCER, 5, build="0.1.0", entropy=entropy)


def opened(group: Group) -> list[tuple[Leaf, object]]:
    """Each leaf with the statement that its opening proves."""
    cells = [group.packed[n : n + PACKED_SIZE] for n in range(0, len(group.packed), PACKED_SIZE)]
    assert all(cell[:2] == b"\x00\x60" for cell in cells)
    leaves = [parse_leaf(cell[2:]) for cell in cells]
    kept = read_kept(group.openings.kept)
    assert group.leaves == len(kept)
    return [
        (leaf, open_leaf(leaf, Opening(salt, payload_of_kept(one))))
        for leaf, salt, one in zip(leaves, salts_of(group), kept, strict=True)
    ]


def salts_of(group: Group) -> list[bytes]:
    salts = group.openings.salts
    return [salts[at : at + SALT_SIZE] for at in range(0, len(salts), SALT_SIZE)]


def test_a_leaf_says_in_codes_what_its_opening_says_in_full() -> None:
    entry = audit_entry(3)._replace(task=17, findings={"us_ssn": 1, "email": 2})

    ((leaf, statement),) = opened(writer().group([entry]))

    assert (
        Leaf(
            kind=LeafKind.EXCHANGE,
            dialect=DialectCode.OPENAI_CHAT,
            flags=LeafFlag.LEFT_POD | LeafFlag.ANSWERED | LeafFlag.REDACTED,
            task=17,
            result=0,
            status=200,
            lost=0,
            producer_id=PRODUCER,
            epoch=5,
            seq=0,
            time_ms=BEGAN // 1_000_000,
            policy_revision=7,
            commitment=leaf.commitment,
        )
        == leaf
    )
    assert (
        ExchangeStatement(
            ended_us=BEGAN // 1000 + 253_000,
            exchange="01JD0000000000000000000003",
            findings={"us_ssn": 1, "email": 2},
            request_sha256=hashlib.sha256(b"request 3").hexdigest(),
            response_sha256=hashlib.sha256(b"response 3").hexdigest(),
            route="openai",
            started_us=BEGAN // 1000 + 3000,
        )
        == statement
    )


def test_a_refused_exchange_left_nothing_and_got_no_answer() -> None:
    entry = audit_entry()._replace(
        result=ResultCode.DENIED_AIRLOCK, request_digest=bytes(32), response_digest=bytes(32), findings={}
    )

    ((leaf, _),) = opened(writer().group([entry]))

    assert (leaf.flags, leaf.result) == (0, ResultCode.DENIED_AIRLOCK)


def test_numbers_are_consecutive_over_groups_and_kinds() -> None:
    ours = writer()
    groups = [
        ours.start(Previous(0, 0, ended=True), "start", NOW),
        ours.group([audit_entry(0), Gap(3, "queue_full", NOW, NOW), audit_entry(1)]),
        ours.end(NOW),
    ]

    leaves = [leaf for group in groups for leaf, _ in opened(group)]

    assert [leaf.seq for leaf in leaves] == [0, 1, 2, 3, 4]
    assert [LeafKind.EPOCH_START, *[LeafKind.EXCHANGE, LeafKind.GAP, LeafKind.EXCHANGE], LeafKind.EPOCH_END] == [
        leaf.kind for leaf in leaves
    ]
    assert [group.next_seq for group in groups] == [1, 4, 5]
    assert groups[-1].ends_epoch


def test_a_gap_says_how_many_and_its_opening_why_and_when() -> None:
    gap = Gap(3, "queue_full", UnixNanos(BEGAN), NOW)

    ((leaf, statement),) = opened(writer().group([gap]))

    assert (leaf.kind, leaf.lost) == (LeafKind.GAP, 3)
    assert GapStatement(BEGAN // 1000, NOW // 1000, 3, "queue_full") == statement


@pytest.mark.parametrize(
    ("previous", "flags"),
    [(Previous(0, 0, ended=True), 0), (Previous(4, 9, ended=True), 0), (Previous(4, 9, ended=False), 8)],
)
def test_an_epoch_that_follows_a_crash_says_so_in_public(previous: Previous, flags: int) -> None:
    ((leaf, statement),) = opened(writer().start(previous, "start", NOW))

    assert flags == leaf.flags
    assert EpochStatement("0.1.0", previous.epoch, previous.next_seq, "start") == statement


def test_times_in_leaves_are_rounded_down_to_their_bucket() -> None:
    ours = LeafWriter(PRODUCER, 5, build="", entropy=os.urandom, time_bucket_ms=60_000)

    ((leaf, _),) = opened(ours.group([audit_entry()._replace(ended_at=UnixNanos(BEGAN + 61_500_000_000))]))

    assert leaf.time_ms == BEGAN // 1_000_000 + 60_000


@pytest.mark.parametrize(
    ("change", "field", "shown"),
    [
        ({"task": 70_000}, "task", 65535),
        ({"task": -1}, "task", 65535),
        ({"status": 70_000}, "status", 65535),
        ({"policy_revision": -5}, "policy_revision", 0),
        ({"policy_revision": 2**70}, "policy_revision", 2**64 - 1),
        ({"ended_at": -1}, "time_ms", 0),
    ],
)
def test_a_number_that_does_not_fit_never_costs_the_leaf(change: dict[str, int], field: str, shown: int) -> None:
    ((leaf, _),) = opened(writer().group([audit_entry()._replace(**change)]))

    assert shown == getattr(leaf, field)


def test_an_entry_that_cannot_be_written_down_is_on_record_as_a_gap() -> None:
    (_, (leaf, statement), _) = opened(
        writer().group([audit_entry(0), audit_entry(1)._replace(route="\ud800"), audit_entry(2)])
    )

    assert (leaf.kind, leaf.lost) == (LeafKind.GAP, 1)
    assert isinstance(statement, GapStatement)
    assert statement.reason == "unwritable"


def test_a_bug_on_the_way_leaves_no_hole_in_the_numbers() -> None:
    ours = writer()
    broken = audit_entry(1)._replace(findings=object())

    with pytest.raises(TypeError):
        ours.group([audit_entry(0), broken])

    assert ours.next_seq == 0


def test_every_leaf_has_its_own_salt() -> None:
    salts = salts_of(writer().group([audit_entry(0)] * 150))

    assert len(set(salts)) == 150
    assert {32} == {len(salt) for salt in salts}


@given(st.integers(1, 20), st.integers(0, 2**40), st.integers(0, 2**40))
def test_renumbering_changes_numbers_only(count: int, epoch: int, first_seq: int) -> None:
    group = writer().group([audit_entry(n) for n in range(count)])

    moved = group._replace(packed=renumbered(group.packed, epoch, first_seq))

    for n, ((before, _), (after, _)) in enumerate(zip(opened(group), opened(moved), strict=True)):
        assert before._replace(epoch=epoch, seq=first_seq + n) == after


def test_an_entry_may_come_as_a_plain_tuple() -> None:
    entry = audit_entry()
    kind_of_tuple: Item = tuple(entry)  # type: ignore[assignment]  # what the data path saves time with

    ((leaf, statement),) = opened(writer().group([kind_of_tuple]))

    assert (leaf.kind, getattr(statement, "exchange", None)) == (LeafKind.EXCHANGE, entry.exchange)


def test_a_group_knows_the_range_of_its_exchanges_and_when_the_last_one_ended() -> None:
    entries = [audit_entry(n) for n in (5, 9, 2)]

    openings = writer().group([*entries, Gap(3, "queue_full", NOW, NOW)]).openings

    assert (openings.first_exchange, openings.last_exchange) == (entries[2].exchange, entries[1].exchange)
    assert openings.ended_us == NOW // 1000


def test_others_may_run_between_the_parts_of_a_long_group() -> None:
    breaths = []
    group = writer().group([audit_entry(n) for n in range(3 * AT_ONCE + 1)], lambda: breaths.append(1))

    assert len(breaths) == 3
    assert [leaf.seq for leaf, _ in opened(group)] == list(range(3 * AT_ONCE + 1))


def test_a_leaf_holds_nothing_that_a_guess_could_be_tested_against() -> None:
    """ledger.md decision 8: no plain digest of text, no id, no route; only its opening ties a leaf to an exchange."""
    entry = audit_entry(5)._replace(route="patient-portal")

    packed = writer().group([entry]).packed

    told = (entry.request_digest, entry.response_digest, entry.exchange.encode(), b"patient-portal", b"us_ssn")
    assert [secret for secret in told if secret in packed] == []
