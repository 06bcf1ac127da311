"""What a leaf commits to, made from the entry of an exchange: written for the commitment, kept small, made again.

A batch of openings is kept as its salts and, in MessagePack, the entries themselves: 140 bytes an exchange instead of
the 320 of its statement, and one call for many. The statement is a function of the entry, so that an opening that is
asked for is made again, byte for byte.

The order of `AuditEntry` is therefore a format on disk: `sidecar.audit.spool.SCHEMA_VERSION` changes with it.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from ledger.commitment import GapStatement, encode_statement
from policies.model import UnixNanos
from sidecar.audit.errors import SpoolError
from sidecar.ports import AuditEntry


class Gap(NamedTuple):
    """Exchanges that happened here and have no leaf of their own."""

    lost: int
    reason: str
    first: UnixNanos
    """When the first of them ended."""
    last: UnixNanos


Item = AuditEntry | Gap
"""One leaf. Entries may be plain tuples."""

Kept = tuple[str, str, str, int, int, int, int, int, int, bytes, bytes, dict[str, int]] | bytes | None
"""Of one leaf: the fields of its `AuditEntry`, or the payload itself where it is no exchange; None: erased."""

_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(list[Kept])
_ARRAY_16: Final = 0xDC
_STATEMENTS: Final = msgspec.json.Encoder(order="deterministic")


class _Exchange(msgspec.Struct, gc=False):
    """`ledger.commitment.ExchangeStatement` with its fields in the order of canonical JSON: written without sorting
    them, in two thirds of the time of any formatted string."""

    ended_us: int
    exchange: str
    findings: Mapping[str, int]
    request_sha256: str
    response_sha256: str
    route: str
    started_us: int
    type: str = "exchange"


def payloads_of(items: Sequence[Item]) -> list[bytes]:
    """What the leaf of each commits to, the canonical JSON of its statement. Raises ValueError for what is no text."""
    encode = _STATEMENTS.encode
    payloads: list[bytes] = []
    for item in items:
        if isinstance(item, Gap):
            payloads.append(_payload_of_gap(item))
            continue
        exchange, _, route, _, _, _, _, started, ended, request, response, findings = item
        statement = _Exchange(ended // 1000, exchange, findings, request.hex(), response.hex(), route, started // 1000)
        payloads.append(encode(statement))
    return payloads


def keep(items: Sequence[Item]) -> bytes:
    """What `payload_of_kept` makes the payloads from. Raises ValueError for what is no text, and OverflowError."""
    if Gap in map(type, items):
        return keep_payloads([_payload_of_gap(item) if isinstance(item, Gap) else item for item in items])
    return _ENCODER.encode(items)


def join_kept(parts: Sequence[bytes]) -> bytes:
    """What `keep` returns for all items, from what it returned for up to 65,535 of them in parts, one after another."""
    count, bodies = 0, []
    for part in parts:
        # MessagePack: an array of up to 15 begins with a byte 0x90 | its length, a longer one with 0xdc and a u16.
        short = part[0] != _ARRAY_16
        count += part[0] & 0x0F if short else int.from_bytes(part[1:3], "big")
        bodies.append(part[1:] if short else part[3:])
    header = bytes([0x90 | count]) if count <= 0x0F else bytes([_ARRAY_16]) + count.to_bytes(2, "big")
    return header + b"".join(bodies)


def keep_payloads(kept: Sequence[object]) -> bytes:
    """The same of leaves that are already as they are kept."""
    return _ENCODER.encode(kept)


def read_kept(data: bytes) -> list[Kept]:
    """What was kept, leaf by leaf. Raises SpoolError when `data` is not of `keep`."""
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Without the decoder's message: it may quote what it read.
        raise SpoolError("the openings of a batch are damaged") from None


def payload_of_kept(kept: Kept) -> bytes:
    """The payload of one leaf. Raises ValueError when it was erased."""
    if kept is None:
        raise ValueError("the opening was erased")
    if isinstance(kept, bytes):
        return kept
    (payload,) = payloads_of([AuditEntry._make(kept)])
    return payload


def exchange_of_kept(kept: Kept) -> str:
    """The exchange that a leaf is about; empty when it is about none, or erased."""
    return kept[0] if isinstance(kept, tuple) else ""


def ended_us_of_kept(kept: Kept) -> int:
    """When the exchange of a leaf ended; 0 when it is about none, or erased."""
    return kept[8] // 1000 if isinstance(kept, tuple) else 0


def _payload_of_gap(gap: Gap) -> bytes:
    return encode_statement(GapStatement(gap.first // 1000, gap.last // 1000, gap.lost, gap.reason))
