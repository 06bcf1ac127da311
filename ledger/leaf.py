"""The leaf: what stands in the log for one exchange, as 96 bytes that all can read and none can trace to a person.

Everything in a leaf is public for ever and cannot be erased. So a leaf holds numbers from closed lists and one keyed
commitment: no text, no user, no address, and no plain digest of text (short texts can be guessed from their digest).
What happened is in the opening of the commitment (`ledger.commitment`), which the sidecar keeps and can delete.

Format 1. All numbers are unsigned and big-endian; every field stands at a fixed offset, so that a predicate over a
field can be proven in zero knowledge about bytes [a, b) of the leaf, and any mirror can recompute every statistic.

| offset | size | field           | meaning                                                                           |
| ------ | ---- | --------------- | --------------------------------------------------------------------------------- |
| 0      | 1    | format          | 1                                                                                 |
| 1      | 1    | kind            | `LeafKind`: what the leaf records                                                 |
| 2      | 2    | dialect         | `DialectCode`: whose wire format; 0 when there is none                            |
| 4      | 2    | flags           | `LeafFlag`: bits                                                                  |
| 6      | 2    | task            | MathProtocol task code; 0: none; 65535: larger than the field                     |
| 8      | 2    | result          | how the exchange ended: `policies.model.ResultCode`                               |
| 10     | 2    | status          | HTTP status that the client saw; 0 when it was gone before                        |
| 12     | 4    | lost            | GAP: how many exchanges have no leaf of their own; otherwise 0                    |
| 16     | 16   | producer_id     | random; made once for each spool of a sidecar                                     |
| 32     | 8    | epoch           | incarnation of the producer: grows, starts again with every process               |
| 40     | 8    | seq             | 0, 1, 2, ... within (producer_id, epoch), without a hole                          |
| 48     | 8    | time_ms         | end of the exchange, milliseconds since 1970 UTC, rounded down to a whole bucket  |
| 56     | 8    | policy_revision | of the snapshot that was in force; grows with every change                        |
| 64     | 32   | commitment      | `ledger.commitment.commit` over the statement of what happened                    |

Numbers in closed lists are never reused or renumbered, only appended. A reader keeps kinds, dialects, flags and results
that it does not know: a log outlives the version of the program that reads it. The byte at offset 0 changes only when
the layout does.
"""

import struct
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

from ledger.errors import LeafError

FORMAT: Final = 1
LEAF_SIZE: Final = 96
PRODUCER_ID_SIZE: Final = 16
COMMITMENT_SIZE: Final = 32
TASK_TOO_LARGE: Final = 0xFFFF


class LeafKind(IntEnum):
    """What a leaf records. Append only."""

    EXCHANGE = 1
    """One request and its answer, however it ended."""
    GAP = 2
    """`lost` exchanges happened here whose own leaves could not be kept: the loss itself is on record."""
    EPOCH_START = 3
    """A producer begins to count: always seq 0. `LeafFlag.AFTER_CRASH` says that its predecessor never said END."""
    EPOCH_END = 4
    """The producer stopped in good order: every exchange of this epoch stands before this leaf."""


class DialectCode(IntEnum):
    """Whose wire format an exchange spoke. Append only."""

    NONE = 0
    OPENAI_CHAT = 1
    OPENAI_EMBEDDINGS = 2
    ANTHROPIC_MESSAGES = 3
    GENERIC = 4
    OPENAI_COMPLETIONS = 5
    OPENAI_RESPONSES = 6


class LeafFlag(IntFlag):
    """Facts about an exchange that a statistic may want without any opening. Append only."""

    LEFT_POD = 1 << 0
    """A request body was sent to the upstream."""
    ANSWERED = 1 << 1
    """The upstream sent at least a part of an answer."""
    REDACTED = 1 << 2
    """The airlock took at least one identifier out of the prompt."""
    AFTER_CRASH = 1 << 3
    """EPOCH_START only: the epoch before this one has no EPOCH_END; its last exchanges may be missing."""


_LAYOUT: Final = struct.Struct(">BBHHHHHI16sQQQQ32s")
_POSITION: Final = struct.Struct(">16sQQ")
_POSITION_OFFSET: Final = 16
PACKED_SIZE: Final = 2 + LEAF_SIZE
"""Bytes of a leaf in an entry bundle (c2sp.org/tlog-tiles, "Log entries"): a length of two bytes and the leaf."""
PACKED_LEAF: Final = struct.Struct(">HBBHHHHHI16sQQQQ32s")
"""A packed leaf: length, format and the fields of `Leaf`. For producers, who pack one for every exchange."""
_NUMBERS: Final = struct.Struct(">QQ")
_NUMBERS_OFFSET: Final = 2 + 32
"""Epoch and seq of a packed leaf."""
_PACKED: Final = struct.Struct(">HB15x24sQ48x")
"""Of a packed leaf: length, format, producer_id and epoch in one, seq."""


class Leaf(NamedTuple):
    """One leaf. The fields stand in the order of the bytes; ranges are those of the table above."""

    kind: int
    dialect: int
    flags: int
    task: int
    result: int
    status: int
    lost: int
    producer_id: bytes
    epoch: int
    seq: int
    time_ms: int
    policy_revision: int
    commitment: bytes

    def pack(self) -> bytes:
        """The 96 bytes of this leaf. Raises ValueError when a field does not fit its place."""
        if len(self.producer_id) != PRODUCER_ID_SIZE or len(self.commitment) != COMMITMENT_SIZE:
            raise ValueError("a leaf needs a producer_id of 16 bytes and a commitment of 32 bytes")
        try:
            return _LAYOUT.pack(FORMAT, *self)
        except struct.error as error:
            raise ValueError(f"a field of the leaf is out of range: {error}") from None


class Position(NamedTuple):
    """Where a leaf stands in the life of its producer; unique over all logs."""

    producer_id: bytes
    epoch: int
    seq: int


def parse_leaf(data: bytes) -> Leaf:
    """The leaf that `data` is: `parse_leaf(data).pack() == data` for all that it accepts. Raises LeafError."""
    _check_frame(data)
    return Leaf._make(_LAYOUT.unpack(data)[1:])


def leaf_position(data: bytes) -> Position:
    """Producer, epoch and sequence number of a packed leaf, without reading the rest. Raises LeafError."""
    _check_frame(data)
    return Position._make(_POSITION.unpack_from(data, _POSITION_OFFSET))


def check_run(packed: bytes, first: Position) -> None:
    """Return if `packed` is leaves of one producer and epoch with consecutive numbers, the first of them `first`.

    In the encoding of an entry bundle, as producers send them. 0.15 us a leaf. Raises LeafError.
    """
    if len(packed) % PACKED_SIZE:
        raise LeafError(f"packed leaves have {PACKED_SIZE} bytes each, these are {len(packed)} bytes in all")
    source, expected = first.producer_id + first.epoch.to_bytes(8, "big"), first.seq
    for size, layout, found, seq in _PACKED.iter_unpack(packed):
        if seq != expected or found != source or size != LEAF_SIZE or layout != FORMAT:
            raise LeafError(f"leaf {expected} of the batch is of another producer, epoch, number or format")
        expected += 1


def number_leaves(packed: bytearray, epoch: int, first_seq: int) -> None:
    """Give packed leaves consecutive numbers of this epoch, whatever stood there. 0.1 us a leaf."""
    number = _NUMBERS.pack_into
    for seq, at in enumerate(range(_NUMBERS_OFFSET, len(packed), PACKED_SIZE), first_seq):
        number(packed, at, epoch, seq)


def _check_frame(data: bytes) -> None:
    if len(data) != LEAF_SIZE:
        raise LeafError(f"a leaf has {LEAF_SIZE} bytes, these are {len(data)}")
    if data[0] != FORMAT:
        raise LeafError(f"leaf format {data[0]} is not known here; this version reads format {FORMAT}")
