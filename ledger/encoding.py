"""Pieces that several of the text formats share: canonical base64 and canonical decimals."""

import binascii
import re
from base64 import b64decode, b64encode
from typing import Final

from ledger.errors import MalformedError
from ledger.rfc6962 import HASH_SIZE, MAX_SIZE

_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


def canonical_base64(text: str, what: str) -> bytes:
    """The bytes of standard base64 (RFC 4648 section 4) in its one canonical spelling. Raises MalformedError.

    Non-canonical spellings (trailing bits set, missing padding) would be two texts for one signature or hash.
    """
    try:
        data = b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError(f"{what} is not base64") from None
    if b64encode(data).decode() != text:
        raise MalformedError(f"{what} is not canonical base64")
    return data


def base64_hash(text: str, what: str) -> bytes:
    """A hash of 32 bytes out of its base64. Raises MalformedError."""
    value = canonical_base64(text, what)
    if len(value) != HASH_SIZE:
        raise MalformedError(f"{what} has {len(value)} bytes, a hash has {HASH_SIZE}")
    return value


def canonical_decimal(text: str, what: str) -> int:
    """A number below 2^63 in ASCII digits without leading zeros. Raises MalformedError."""
    if not _DECIMAL.fullmatch(text):
        raise MalformedError(f"{what} is not a decimal number without leading zeros")
    value = int(text)
    if value > MAX_SIZE:
        raise MalformedError(f"{what} is larger than 2^63 - 1")
    return value
