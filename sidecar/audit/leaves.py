"""Entries of the audit trail become leaves and openings. No I/O: clock and randomness are arguments."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from ledger.commitment import (
    SALT_SIZE,
    EpochStatement,
    ExchangeStatement,
    GapStatement,
    Statement,
    commit,
    encode_statement,
)
from ledger.leaf import (
    LEAF_SIZE,
    PACKED_SIZE,
    TASK_TOO_LARGE,
    DialectCode,
    LeafFlag,
    LeafKind,
    pack_leaf,
    parse_leaf,
)
from policies.model import DialectName, UnixNanos, identifiers
from sidecar.ports import AuditEntry

TIME_BUCKET_MS: Final = 1000
_LENGTH: Final = LEAF_SIZE.to_bytes(2, "big")
_NO_DIGEST: Final = bytes(32)
_U16: Final = 0xFFFF
_U32: Final = 0xFFFF_FFFF
_U64: Final = 0xFFFF_FFFF_FFFF_FFFF
# Plain numbers: reading `.value` of an enumeration costs more than packing the leaf.
_DIALECT: Final = {name: DialectCode[name.name].value for name in DialectName if name.name in DialectCode.__members__}
_EXCHANGE: Final = LeafKind.EXCHANGE.value
_LEFT_POD: Final = LeafFlag.LEFT_POD.value
_ANSWERED: Final = LeafFlag.ANSWERED.value
_REDACTED: Final = LeafFlag.REDACTED.value


class Gap(NamedTuple):
    """Exchanges that happened here and have no leaf of their own."""

    lost: int
    reason: str
    first: UnixNanos
    """When the first of them ended."""
    last: UnixNanos


class Previous(NamedTuple):
    """The epoch before this one in the same spool."""

    epoch: int
    next_seq: int
    ended: bool
    """Whether it says EPOCH_END."""


class OpeningRow(NamedTuple):
    """What opens one leaf."""

    seq: int
    exchange: str
    """Empty for leaves that are not about an exchange."""
    ended_us: int
    salt: bytes
    payload: bytes


class Group(NamedTuple):
    """Consecutive leaves of one epoch, to be spooled in one commit."""

    epoch: int
    first_seq: int
    packed: bytes
    """`PACKED_SIZE` bytes a leaf."""
    openings: list[OpeningRow]
    """One for each leaf."""
    ends_epoch: bool = False

    @property
    def next_seq(self) -> int:
        """The number after the last leaf."""
        return self.first_seq + len(self.openings)


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
        self._producer_id = producer_id
        self._build = build
        self._entropy = entropy
        self._bucket = time_bucket_ms

    def start(self, previous: Previous, reason: str, now: UnixNanos) -> Group:
        """The EPOCH_START leaf. Must come first."""
        flags = LeafFlag(0) if previous.ended or not previous.epoch else LeafFlag.AFTER_CRASH
        statement = EpochStatement(self._build, previous.epoch, previous.next_seq, reason)
        return self._alone(LeafKind.EPOCH_START, flags, statement, now)

    def end(self, now: UnixNanos) -> Group:
        """The EPOCH_END leaf. Nothing may follow."""
        statement = EpochStatement(self._build, self.epoch, self.next_seq, "stop")
        return self._alone(LeafKind.EPOCH_END, LeafFlag(0), statement, now)._replace(ends_epoch=True)

    def group(self, items: Sequence[AuditEntry | Gap]) -> Group:
        """The leaves of these entries and gaps, in their order. An entry that cannot be written becomes a gap."""
        first_seq = self.next_seq
        try:
            return self._group(items)
        except BaseException:
            # A number that no leaf bears would be a hole.
            self.next_seq = first_seq
            raise

    def _group(self, items: Sequence[AuditEntry | Gap]) -> Group:
        first_seq = self.next_seq
        salts = self._entropy(SALT_SIZE * len(items))
        packed: list[bytes] = []
        openings: list[OpeningRow] = []
        for n, item in enumerate(items):
            salt = salts[n * SALT_SIZE : (n + 1) * SALT_SIZE]
            if isinstance(item, AuditEntry):
                leaf, opening = self._exchange(item, salt)
            else:
                leaf, opening = self._gap(item, salt)
            packed += (_LENGTH, leaf)
            openings.append(opening)
        return Group(self.epoch, first_seq, b"".join(packed), openings)

    def _exchange(self, entry: AuditEntry, salt: bytes) -> tuple[bytes, OpeningRow]:
        statement = ExchangeStatement(
            entry.ended_at // 1000,
            entry.exchange,
            entry.findings,
            entry.request_digest.hex(),
            entry.response_digest.hex(),
            entry.route,
            entry.started_at // 1000,
        )
        try:
            payload = encode_statement(statement)
        except ValueError:
            # A route or id that is not Unicode text. The exchange happened all the same.
            return self._gap(Gap(1, "unwritable", entry.ended_at, entry.ended_at), salt)
        flags = 0
        if entry.request_digest != _NO_DIGEST:
            flags |= _LEFT_POD
        if entry.response_digest != _NO_DIGEST:
            flags |= _ANSWERED
        if identifiers(entry.findings):
            flags |= _REDACTED
        leaf = pack_leaf(
            _EXCHANGE,
            _DIALECT.get(entry.dialect, 0),
            flags,
            entry.task if 0 <= entry.task < TASK_TOO_LARGE else TASK_TOO_LARGE,
            entry.result,
            entry.status if 0 <= entry.status <= _U16 else _U16,
            0,
            self._producer_id,
            self.epoch,
            self.next_seq,
            self._time(entry.ended_at),
            min(max(entry.policy_revision, 0), _U64),
            commit(salt, payload),
        )
        row = OpeningRow(self.next_seq, entry.exchange, statement.ended_us, salt, payload)
        self.next_seq += 1
        return leaf, row

    def _gap(self, gap: Gap, salt: bytes) -> tuple[bytes, OpeningRow]:
        statement = GapStatement(gap.first // 1000, gap.last // 1000, gap.lost, gap.reason)
        return self._leaf(LeafKind.GAP, LeafFlag(0), statement, gap.last, salt, lost=min(gap.lost, _U32))

    def _alone(self, kind: LeafKind, flags: LeafFlag, statement: Statement, now: UnixNanos) -> Group:
        first_seq = self.next_seq
        leaf, opening = self._leaf(kind, flags, statement, now, self._entropy(SALT_SIZE))
        return Group(self.epoch, first_seq, _LENGTH + leaf, [opening])

    def _leaf(
        self, kind: LeafKind, flags: LeafFlag, statement: Statement, now: UnixNanos, salt: bytes, lost: int = 0
    ) -> tuple[bytes, OpeningRow]:
        """A leaf that is not about an exchange."""
        payload = encode_statement(statement)
        leaf = pack_leaf(
            kind, 0, flags, 0, 0, 0, lost, self._producer_id, self.epoch, self.next_seq, self._time(now), 0,
            commit(salt, payload),
        )  # fmt: skip
        row = OpeningRow(self.next_seq, "", now // 1000, salt, payload)
        self.next_seq += 1
        return leaf, row

    def _time(self, at: UnixNanos) -> int:
        milliseconds = max(at, 0) // 1_000_000
        return milliseconds - milliseconds % self._bucket


def renumbered(packed: bytes, epoch: int, first_seq: int) -> bytes:
    """The same leaves under other numbers. Commitments stay, so that a leaf that stands in two logs is recognised."""
    out: list[bytes] = []
    for n, start in enumerate(range(0, len(packed), PACKED_SIZE)):
        leaf = parse_leaf(packed[start + 2 : start + PACKED_SIZE])
        out += (_LENGTH, leaf._replace(epoch=epoch, seq=first_seq + n).pack())
    return b"".join(out)
