r"""Commitments: a leaf says that something definite happened without saying what; its opening proves what it was.

    c = SHA-256("airlock-commit-v1\0" || salt || u64be(len(padded)) || padded)
    padded = u32be(len(payload)) || payload || zeros up to a bucket of 256 B, 1 KiB, 4 KiB, ... (times 4)

The salt has 32 random bytes and belongs to one leaf: without it nobody can test a guess against `c`, and when salt and
payload are deleted (GDPR Art. 17) the leaf left in the log says nothing about anybody. Padding goes into buckets so
that not even the length of what was found shows through the cost of a guess.

The payload is the *statement* of what happened, as canonical JSON (RFC 8785: sorted keys, no spaces; all numbers are
integers below 2^53): a reader needs no tool of ours. An opening travels as text in the manner of C2SP:

    airlock-opening@v1
    salt <base64 of 32 bytes>
    payload <base64>
"""

import binascii
import hashlib
import hmac
import struct
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from ledger.errors import OpeningError
from ledger.leaf import Leaf, LeafKind

DOMAIN: Final = b"airlock-commit-v1\0"
SALT_SIZE: Final = 32
MAX_PAYLOAD: Final = (1 << 20) - 4
"""Bytes. The largest bucket is 1 MiB; statements are a few hundred bytes."""
_SMALLEST_BUCKET: Final = 256
_USUAL_BUCKET: Final = 1024
_USUAL: Final = struct.Struct(f">{len(DOMAIN)}s{SALT_SIZE}sQI{_USUAL_BUCKET - 4}s")
"""What is hashed for a payload in the usual bucket: domain, salt, length of the bucket, length of the payload, and the
payload, which `struct` fills up with zeros."""
_HEADER: Final = "airlock-opening@v1"
_MAX_OPENING: Final = 2 << 20


def commit(salt: bytes, payload: bytes) -> bytes:
    """The 32-byte commitment to `payload` under `salt`. Raises ValueError for a wrong salt or too long a payload."""
    if len(salt) != SALT_SIZE:
        raise ValueError(f"a salt has {SALT_SIZE} bytes, this one has {len(salt)}")
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"a payload has at most {MAX_PAYLOAD} bytes, this one has {len(payload)}")
    size = _SMALLEST_BUCKET
    while size < len(payload) + 4:
        size *= 4
    padded = (len(payload).to_bytes(4, "big") + payload).ljust(size, b"\0")
    return hashlib.sha256(DOMAIN + salt + size.to_bytes(8, "big") + padded).digest()


def commit_each(salts: bytes, payloads: Sequence[bytes]) -> list[bytes]:
    """`commit` of every payload under its salt, the nth `SALT_SIZE` bytes of `salts`. Raises ValueError.

    1.1 us each, of which 0.8 is SHA-256 over a bucket of 1 KiB.
    """
    if len(salts) != SALT_SIZE * len(payloads):
        raise ValueError(f"{len(payloads)} payloads need as many salts of {SALT_SIZE} bytes")
    sha256, usual = hashlib.sha256, _USUAL.pack
    commitments, at = [], 0
    for payload in payloads:
        salt, at = salts[at : at + SALT_SIZE], at + SALT_SIZE
        length = len(payload)
        if _SMALLEST_BUCKET - 4 < length <= _USUAL_BUCKET - 4:
            commitments.append(sha256(usual(DOMAIN, salt, _USUAL_BUCKET, length, payload)).digest())
        else:
            commitments.append(commit(salt, payload))
    return commitments


@dataclass(frozen=True, slots=True)
class Opening:
    """What turns a commitment back into a fact. Secret towards everybody but an auditor: neither field is shown."""

    salt: bytes = field(repr=False)
    payload: bytes = field(repr=False)

    @property
    def commitment(self) -> bytes:
        """The commitment that this opens."""
        return commit(self.salt, self.payload)

    def encode(self) -> bytes:
        """The text form, the same for every writer."""
        salt, payload = b64encode(self.salt).decode(), b64encode(self.payload).decode()
        return f"{_HEADER}\nsalt {salt}\npayload {payload}\n".encode()


def parse_opening(data: bytes) -> Opening:
    """The opening that `data` is: `parse_opening(data).encode() == data` for all it accepts. Raises OpeningError."""
    if len(data) > _MAX_OPENING:
        raise OpeningError(f"an opening has at most {_MAX_OPENING} bytes, this one has {len(data)}")
    lines = data.split(b"\n")
    if len(lines) != 4 or lines[0] != _HEADER.encode() or lines[3] != b"":
        raise OpeningError(f"an opening has three lines, the first of them {_HEADER!r}")
    salt, payload = _field(lines[1], b"salt "), _field(lines[2], b"payload ")
    if len(salt) != SALT_SIZE:
        raise OpeningError(f"a salt has {SALT_SIZE} bytes, this one has {len(salt)}")
    if len(payload) > MAX_PAYLOAD:
        raise OpeningError(f"a payload has at most {MAX_PAYLOAD} bytes, this one has {len(payload)}")
    return Opening(salt, payload)


def open_leaf(leaf: Leaf, opening: Opening) -> "Statement":
    """The statement that `leaf` commits to. Raises OpeningError when this is not the leaf's opening."""
    if not hmac.compare_digest(opening.commitment, leaf.commitment):
        raise OpeningError("the opening does not fit: its commitment is not the one in the leaf")
    statement = parse_statement(opening.payload)
    expected = _STATEMENT_OF_KIND.get(leaf.kind)
    if expected is not None and type(statement) is not expected:
        raise OpeningError("the opening does not fit: its statement is of another kind than the leaf")
    return statement


# --- statements ---


class ExchangeStatement(msgspec.Struct, frozen=True, tag_field="type", tag="exchange"):
    """What happened in one exchange, beyond what its leaf says. Digests are of bytes outside the pod."""

    ended_us: int
    """Microseconds since 1970 UTC; the leaf only says the bucket."""
    exchange: str
    """The request id that the client saw."""
    findings: Mapping[str, int]
    """Label -> how many identifiers of it were taken out."""
    request_sha256: str
    """Hex digest of the request body that left the pod; 64 zeros when nothing left."""
    response_sha256: str
    """Hex digest of the answer body that the upstream sent, as far as it came; 64 zeros when none came."""
    route: str
    started_us: int


class GapStatement(msgspec.Struct, frozen=True, tag_field="type", tag="gap"):
    """Why exchanges have no leaf of their own."""

    first_us: int
    """When the first of them ended, microseconds since 1970 UTC."""
    last_us: int
    lost: int
    reason: str
    """A bounded name: `queue_full`, `spool_full`, `spool_error`."""


class EpochStatement(msgspec.Struct, frozen=True, tag_field="type", tag="epoch"):
    """The start or end of an epoch."""

    build: str
    """Version of the program that produces."""
    previous_epoch: int
    """0: this spool is new."""
    previous_seq: int
    """How many leaves the previous epoch has: one more than its last sequence number."""
    reason: str
    """A bounded name: `start`, `stop`, `ledger_behind`, `ledger_ahead`."""


Statement = ExchangeStatement | GapStatement | EpochStatement

_STATEMENT_OF_KIND: Final[Mapping[int, type[Statement]]] = {
    LeafKind.EXCHANGE: ExchangeStatement,
    LeafKind.GAP: GapStatement,
    LeafKind.EPOCH_START: EpochStatement,
    LeafKind.EPOCH_END: EpochStatement,
}
_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_DECODER: Final = msgspec.json.Decoder(Statement)


def encode_statement(statement: Statement) -> bytes:
    """The canonical JSON of `statement`."""
    return _ENCODER.encode(statement)


def parse_statement(payload: bytes) -> Statement:
    """The statement that `payload` is. Raises OpeningError, also for JSON in another than the canonical form."""
    try:
        statement: Statement = _DECODER.decode(payload)
    except (msgspec.DecodeError, RecursionError):
        # Without the decoder's message: it may quote the payload.
        raise OpeningError("the payload of the opening is not a statement known to this version") from None
    # Two spellings of one statement would be two commitments to it, and an unknown field would go unseen.
    if _ENCODER.encode(statement) != payload:
        raise OpeningError("the payload of the opening is not in canonical form")
    return statement


def _field(line: bytes, name: bytes) -> bytes:
    if not line.startswith(name):
        raise OpeningError(f"a line of the opening should begin with {name.decode()!r}")
    encoded = line[len(name) :]
    try:
        value = b64decode(encoded, validate=True)
    except binascii.Error:
        raise OpeningError(f"the {name.decode().strip()} of the opening is not base64") from None
    if b64encode(value) != encoded:
        raise OpeningError(f"the {name.decode().strip()} of the opening is not canonical base64")
    return value
