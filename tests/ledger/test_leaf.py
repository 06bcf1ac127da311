"""Leaves: 96 bytes at documented offsets, the same for ever."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import LeafError
from ledger.leaf import LEAF_SIZE, DialectCode, Leaf, LeafFlag, LeafKind, Position, leaf_position, parse_leaf
from policies.model import DialectName

GOLDEN = Path(__file__).with_name("leaf_vectors.json")

u16 = st.integers(0, 2**16 - 1)
u64 = st.integers(0, 2**64 - 1)
leaves = st.builds(
    Leaf,
    kind=st.integers(0, 255),
    dialect=u16,
    flags=u16,
    task=u16,
    result=u16,
    status=u16,
    lost=st.integers(0, 2**32 - 1),
    producer_id=st.binary(min_size=16, max_size=16),
    epoch=u64,
    seq=u64,
    time_ms=u64,
    policy_revision=u64,
    commitment=st.binary(min_size=32, max_size=32),
)

EXAMPLES = {
    "an exchange that was redacted and answered": Leaf(
        LeafKind.EXCHANGE,
        DialectCode.OPENAI_CHAT,
        LeafFlag.LEFT_POD | LeafFlag.ANSWERED | LeafFlag.REDACTED,
        task=17,
        result=0,
        status=200,
        lost=0,
        producer_id=bytes(range(16)),
        epoch=1_795_132_800_123,
        seq=1,
        time_ms=1_795_132_801_000,
        policy_revision=42,
        commitment=bytes(range(32, 64)),
    ),
    "the start of an epoch after a crash": Leaf(
        LeafKind.EPOCH_START, 0, LeafFlag.AFTER_CRASH, 0, 0, 0, 0, b"\xff" * 16, 2**63, 0, 0, 0, b"\x00" * 32
    ),
    "a gap of three": Leaf(LeafKind.GAP, 0, 0, 0, 0, 0, 3, b"\x01" * 16, 1, 7, 1_000, 9, b"\xaa" * 32),
    "every field at its end": Leaf(
        255, 65535, 65535, 65535, 65535, 65535, 2**32 - 1, b"\xff" * 16, *[2**64 - 1] * 4, b"\xff" * 32
    ),
}


def by_the_table(leaf: Leaf) -> bytes:
    """The bytes as the table in the docstring of ledger/leaf.py says, written a second time without struct."""
    cells: list[tuple[int, int, int | bytes]] = [
        (0, 1, 1),
        (1, 1, leaf.kind),
        (2, 2, leaf.dialect),
        (4, 2, leaf.flags),
        (6, 2, leaf.task),
        (8, 2, leaf.result),
        (10, 2, leaf.status),
        (12, 4, leaf.lost),
        (16, 16, leaf.producer_id),
        (32, 8, leaf.epoch),
        (40, 8, leaf.seq),
        (48, 8, leaf.time_ms),
        (56, 8, leaf.policy_revision),
        (64, 32, leaf.commitment),
    ]
    out = bytearray(96)
    for offset, size, value in cells:
        out[offset : offset + size] = value if isinstance(value, bytes) else value.to_bytes(size, "big")
    return bytes(out)


@given(leaves)
def test_packed_leaf_stands_at_the_documented_offsets(leaf: Leaf) -> None:
    assert by_the_table(leaf) == leaf.pack()


@given(leaves)
def test_parsing_gives_back_what_was_packed(leaf: Leaf) -> None:
    assert leaf == parse_leaf(leaf.pack())
    assert Position(leaf.producer_id, leaf.epoch, leaf.seq) == leaf_position(leaf.pack())


@given(st.binary(max_size=200) | st.binary(min_size=95, max_size=95).map(lambda tail: b"\x01" + tail))
def test_garbage_gives_only_a_leaf_error_and_accepted_bytes_are_kept(data: bytes) -> None:
    try:
        leaf = parse_leaf(data)
    except LeafError:
        with pytest.raises(LeafError):
            leaf_position(data)
    else:
        assert data == leaf.pack()


@pytest.mark.parametrize("cut", [0, 1, 95, 97])
def test_a_leaf_of_another_length_is_refused(cut: int) -> None:
    data = (EXAMPLES["a gap of three"].pack() * 2)[:cut]

    with pytest.raises(LeafError, match=str(LEAF_SIZE)):
        parse_leaf(data)


def test_an_unknown_format_is_refused() -> None:
    data = b"\x02" + EXAMPLES["a gap of three"].pack()[1:]

    with pytest.raises(LeafError, match="format 2"):
        parse_leaf(data)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": 256},
        {"status": -1},
        {"seq": 2**64},
        {"lost": 2**32},
        {"producer_id": b"short"},
        {"commitment": b"x" * 33},
    ],
)
def test_a_value_that_does_not_fit_is_refused_instead_of_cut(change: dict[str, int | bytes]) -> None:
    leaf = EXAMPLES["a gap of three"]._replace(**change)

    with pytest.raises(ValueError, match=r"a leaf needs|out of range"):
        leaf.pack()


def test_leaves_of_the_golden_file_never_change(*, regenerate: bool) -> None:
    now = {
        name: {
            "fields": {k: v.hex() if isinstance(v, bytes) else int(v) for k, v in leaf._asdict().items()},
            "packed": leaf.pack().hex(),
        }
        for name, leaf in EXAMPLES.items()
    }
    if regenerate:
        GOLDEN.write_text(json.dumps(now, indent=2) + "\n")

    golden = json.loads(GOLDEN.read_text())

    assert golden == now


def test_every_dialect_has_a_code() -> None:
    assert {name.name for name in DialectName} <= {code.name for code in DialectCode}
