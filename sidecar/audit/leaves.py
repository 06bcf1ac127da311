"""Entries of the audit trail become leaves and openings. No I/O: clock and randomness are arguments.

In two steps: a `Sealer` makes leaves that lack only their numbers, where and when it suits; the `LeafWriter` of an
epoch numbers what is about to be spooled.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from ledger.commitment import SALT_SIZE, EpochStatement, commit_each, encode_statement
from ledger.leaf import (
    FORMAT,
    LEAF_SIZE,
    PACKED_LEAF,
    TASK_TOO_LARGE,
    DialectCode,
    LeafFlag,
    LeafKind,
    number_leaves,
)
from policies.model import DialectName, UnixNanos, identifiers
from sidecar.audit.statements import Gap, Item, join_kept, keep, keep_payloads, payloads_of
from sidecar.ports import AuditEntry

TIME_BUCKET_MS: Final = 1000
AT_ONCE: Final = 16
"""Leaves that are sealed together: 40 us of work. Of fewer, each costs more."""
_NO_DIGEST: Final = bytes(32)
_U16: Final = 0xFFFF
_U32: Final = 0xFFFF_FFFF
_U64: Final = 0xFFFF_FFFF_FFFF_FFFF
# Plain numbers: reading `.value` of an enumeration costs more than packing the leaf.
_DIALECT: Final = {name: DialectCode[name.name].value for name in DialectName if name.name in DialectCode.__members__}
_EXCHANGE: Final = LeafKind.EXCHANGE.value
_GAP: Final = LeafKind.GAP.value
_LEFT_POD: Final = LeafFlag.LEFT_POD.value
_ANSWERED: Final = LeafFlag.ANSWERED.value
_REDACTED: Final = LeafFlag.REDACTED.value


class Previous(NamedTuple):
    """The epoch before this one in the same spool."""

    epoch: int
    next_seq: int
    ended: bool
    """Whether it says EPOCH_END."""


class Openings(NamedTuple):
    """What opens the leaves of one group."""

    first_exchange: str
    """The least of the ids of its exchanges; they grow with time. Empty when there is none."""
    last_exchange: str
    """The greatest."""
    ended_us: int
    """When the last of them ended."""
    salts: bytes
    """`SALT_SIZE` bytes a leaf."""
    kept: bytes
    """See `sidecar.audit.statements`."""


class Sealed(NamedTuple):
    """Up to `AT_ONCE` leaves that are whole but for epoch and seq."""

    leaves: int
    """How many."""
    packed: bytes
    """`PACKED_SIZE` bytes each."""
    openings: Openings


class Group(NamedTuple):
    """Consecutive leaves of one epoch, to be spooled in one commit."""

    epoch: int
    first_seq: int
    leaves: int
    """How many."""
    packed: bytes
    """`PACKED_SIZE` bytes each."""
    openings: Openings
    ends_epoch: bool = False

    @property
    def next_seq(self) -> int:
        """The number after the last leaf."""
        return self.first_seq + self.leaves


def _nothing() -> None:
    pass


class Sealer:
    """Makes leaves and openings of one producer. Keeps nothing between two calls: any thread may seal."""

    def __init__(
        self, producer_id: bytes, *, entropy: Callable[[int], bytes], time_bucket_ms: int = TIME_BUCKET_MS
    ) -> None:
        """`entropy(n)`: n secret random bytes."""
        self._producer_id = producer_id
        self._entropy = entropy
        self._bucket = time_bucket_ms

    def seal(self, items: Sequence[Item]) -> Sealed:
        """The leaves of these entries and gaps, in their order; one at least, `AT_ONCE` at most.

        An entry that cannot be written becomes a gap.
        """
        try:
            return self._sealed(items)
        except (ValueError, OverflowError, struct.error):
            # Slower, and only if there is an entry with a number that does not fit or text that is none.
            return self._sealed([_tamed(item) for item in items])

    def _sealed(self, items: Sequence[Item]) -> Sealed:
        salts, kept = self._entropy(SALT_SIZE * len(items)), keep(items)
        packed = self._packed(items, commit_each(salts, payloads_of(items)))
        exchanges: list[str] = [item[0] for item in items if not isinstance(item, Gap)] or [""]
        last = items[-1]
        ended = last.last if isinstance(last, Gap) else last[8]
        openings = Openings(min(exchanges), max(exchanges), ended // 1000, salts, kept)
        return Sealed(len(items), b"".join(packed), openings)

    def _packed(self, items: Sequence[Item], commitments: Sequence[bytes]) -> list[bytes]:
        """Packed leaves. Raises struct.error when a number does not fit."""
        pack, dialects, bucket, producer_id = PACKED_LEAF.pack, _DIALECT, self._bucket, self._producer_id
        packed: list[bytes] = []
        for item, commitment in zip(items, commitments, strict=True):
            if isinstance(item, Gap):
                packed.append(self.leaf(_GAP, 0, item.last, commitment, lost=item.lost))
            else:
                _, dialect, _, result, status, revision, task, _, ended, request, response, findings = item
                flags = 0 if request == _NO_DIGEST else _LEFT_POD
                if response != _NO_DIGEST:
                    flags |= _ANSWERED
                if findings and identifiers(findings):
                    flags |= _REDACTED
                ms = ended // 1_000_000
                leaf = pack(
                    LEAF_SIZE, FORMAT, _EXCHANGE, dialects.get(dialect, 0), flags, task, result, status, 0,
                    producer_id, 0, 0, ms - ms % bucket, revision, commitment,
                )  # fmt: skip
                packed.append(leaf)
        return packed

    def leaf(self, kind: int, flags: int, at: UnixNanos, commitment: bytes, *, lost: int = 0) -> bytes:
        """A packed leaf that is not about an exchange."""
        ms = max(at, 0) // 1_000_000
        return PACKED_LEAF.pack(
            *(LEAF_SIZE, FORMAT, kind, 0, flags, 0, 0, 0, min(lost, _U32)),
            *(self._producer_id, 0, 0, ms - ms % self._bucket, 0, commitment),
        )


class LeafWriter:
    """Numbers the leaves of one epoch. Not thread-safe."""

    def __init__(
        self,
        producer_id: bytes,
        epoch: int,
        *,
        build: str,
        entropy: Callable[[int], bytes],
        time_bucket_ms: int = TIME_BUCKET_MS,
    ) -> None:
        """`build`: version of this program, for the EPOCH statements. `entropy(n)`: n secret random bytes."""
        self.epoch = epoch
        self.next_seq = 0
        self._build = build
        self._entropy = entropy
        self._sealer = Sealer(producer_id, entropy=entropy, time_bucket_ms=time_bucket_ms)

    def start(self, previous: Previous, reason: str, now: UnixNanos) -> Group:
        """The EPOCH_START leaf. Must come first."""
        flags = LeafFlag(0) if previous.ended or not previous.epoch else LeafFlag.AFTER_CRASH
        statement = EpochStatement(self._build, previous.epoch, previous.next_seq, reason)
        return self._alone(LeafKind.EPOCH_START, flags, statement, now)

    def end(self, now: UnixNanos) -> Group:
        """The EPOCH_END leaf. Nothing may follow."""
        statement = EpochStatement(self._build, self.epoch, self.next_seq, "stop")
        return self._alone(LeafKind.EPOCH_END, LeafFlag(0), statement, now)._replace(ends_epoch=True)

    def group(self, items: Sequence[Item | Sealed], breathe: Callable[[], None] = _nothing) -> Group:
        """The leaves of these, in their order; at least one. `breathe` is called between parts that are sealed here.

        No number is used up if anything is raised.
        """
        parts: list[Sealed] = []
        loose: list[Item] = []
        for item in items:
            if isinstance(item, Sealed):
                if loose:
                    parts.append(self._sealer.seal(loose))
                    loose = []
                parts.append(item)
                continue
            if len(loose) == AT_ONCE:
                parts.append(self._sealer.seal(loose))
                loose = []
                breathe()
            loose.append(item)
        if loose:
            parts.append(self._sealer.seal(loose))
        return self._numbered(parts)

    def _numbered(self, parts: Sequence[Sealed]) -> Group:
        packed = bytearray().join([part.packed for part in parts])
        number_leaves(packed, self.epoch, self.next_seq)
        openings = [part.openings for part in parts]
        with_exchanges = [each for each in openings if each.last_exchange]
        group = Group(
            self.epoch,
            self.next_seq,
            sum(part.leaves for part in parts),
            bytes(packed),
            Openings(
                min((each.first_exchange for each in with_exchanges), default=""),
                max((each.last_exchange for each in with_exchanges), default=""),
                openings[-1].ended_us,
                b"".join([each.salts for each in openings]),
                join_kept([each.kept for each in openings]),
            ),
        )
        self.next_seq = group.next_seq
        return group

    def _alone(self, kind: LeafKind, flags: LeafFlag, statement: EpochStatement, now: UnixNanos) -> Group:
        seq, payload, salt = self.next_seq, encode_statement(statement), self._entropy(SALT_SIZE)
        (commitment,) = commit_each(salt, [payload])
        packed = bytearray(self._sealer.leaf(kind, flags, now, commitment))
        number_leaves(packed, self.epoch, seq)
        self.next_seq += 1
        return Group(self.epoch, seq, 1, bytes(packed), Openings("", "", now // 1000, salt, keep_payloads([payload])))


def _tamed(item: Item) -> Item:
    """The item with every number in its field's range, or a gap in its place when its text cannot be written."""
    if isinstance(item, Gap):
        return item
    entry = AuditEntry._make(item)
    entry = entry._replace(
        task=entry.task if 0 <= entry.task < TASK_TOO_LARGE else TASK_TOO_LARGE,
        status=entry.status if 0 <= entry.status <= _U16 else _U16,
        policy_revision=min(max(entry.policy_revision, 0), _U64),
        ended_at=UnixNanos(max(entry.ended_at, 0)),
    )
    try:
        payloads_of([entry])
    except ValueError:
        # A route or id that is not Unicode text. The exchange happened all the same.
        return Gap(1, "unwritable", entry.ended_at, entry.ended_at)
    return entry


def renumbered(packed: bytes, epoch: int, first_seq: int) -> bytes:
    """The same leaves under other numbers. Commitments stay, so that a leaf that stands in two logs is recognised."""
    moved = bytearray(packed)
    number_leaves(moved, epoch, first_seq)
    return bytes(moved)
