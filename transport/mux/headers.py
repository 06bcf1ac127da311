"""The header block that opens a stream: field names and values, each with its length before it.

    ( u8 length of name | name | u16 length of value | value ) *

Names are lower-case tokens and unique; values are printable ASCII. Order is kept. A block fits in one frame by far, so
there is no continuation that could be flooded (CVE-2024-27316 was one), and no compression that could leak.
"""

import re
from collections.abc import Mapping
from typing import Final

from transport.mux.errors import MuxError
from transport.mux.frames import Code

MAX_BLOCK: Final = 8192
"""Bytes."""
MAX_FIELDS: Final = 64

_NAME: Final = re.compile(rb"[a-z0-9:_-]{1,64}")
_VALUE: Final = re.compile(rb"[\x20-\x7e]*")

Headers = Mapping[str, str]


def encode(headers: Headers) -> bytes:
    """The block. Raises ValueError for what `decode` would refuse."""
    block = bytearray()
    for name, value in headers.items():
        raw_name, raw_value = name.encode(), value.encode()
        if not _NAME.fullmatch(raw_name) or not _VALUE.fullmatch(raw_value):
            raise ValueError("header names are lower-case tokens, values printable ASCII")
        block.append(len(raw_name))
        block += raw_name + len(raw_value).to_bytes(2) + raw_value
    if len(block) > MAX_BLOCK or len(headers) > MAX_FIELDS:
        raise ValueError(f"a header block has at most {MAX_BLOCK} bytes and {MAX_FIELDS} fields")
    return bytes(block)


def decode(block: bytes) -> dict[str, str]:
    """The fields in their order. Raises MuxError."""
    if len(block) > MAX_BLOCK:
        raise _bad("is too long")
    headers: dict[str, str] = {}
    at = 0
    while at < len(block):
        value_at = at + 1 + block[at] + 2
        end = value_at + int.from_bytes(block[value_at - 2 : value_at])
        if value_at > len(block) or end > len(block):
            raise _bad("is cut off")
        name, value = block[at + 1 : value_at - 2], block[value_at:end]
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise _bad("has a field that is not lower-case token and printable ASCII")
        if name.decode() in headers or len(headers) == MAX_FIELDS:
            raise _bad("has a field twice, or too many")
        headers[name.decode()] = value.decode()
        at = end
    return headers


def _bad(what: str) -> MuxError:
    return MuxError(Code.PROTOCOL, f"the header block {what}")
