"""Frames of `mesh/1`.

    0               1               2                               6               8
    +---------------+---------------+-------------------------------+---------------+=========+
    | type          | flags         | stream                        | length        | payload |
    +---------------+---------------+-------------------------------+---------------+=========+

All numbers are big-endian. The payload has at most 16,376 bytes, so that a frame fills one TLS record and never
needs two; several small frames may share a record. Stream 0 is the tunnel itself.

    type    stream  flags  payload
    OPEN    > 0     END    the header block (headers.py); only the end that dialled opens streams: 1, 2, 3 ...
    DATA    > 0     END    bytes; counted against the windows of its stream and of the tunnel
    WINDOW  any     -      u32: that many more bytes may be sent, 1 or more
    RESET   > 0     -      u8: code; the stream is gone in both directions
    PING    0       ACK    8 bytes, sent back with ACK
    GOAWAY  0       -      u32: last stream that was or will be served, u8: code

END means: nothing more in this direction. Anything else - an unknown type or flag, a wrong length, a stream that was
never opened - ends the tunnel: both ends speak the same version, ALPN saw to that.
"""

from enum import IntEnum
from struct import Struct
from typing import Final

HEADER: Final = Struct("!BBIH")
MAX_RECORD: Final = 16384
"""Bytes of a TLS record's plaintext (RFC 8446 section 5.1)."""
MAX_PAYLOAD: Final = MAX_RECORD - HEADER.size
END: Final = 0x01
ACK: Final = 0x01
MAX_STREAM: Final = 2**32 - 1


class Type(IntEnum):
    """What a frame is."""

    OPEN = 1
    DATA = 2
    WINDOW = 3
    RESET = 4
    PING = 5
    GOAWAY = 6


class Code(IntEnum):
    """Why a stream or a tunnel ended."""

    NO_ERROR = 0
    PROTOCOL = 1
    FLOW_CONTROL = 2
    REFUSED = 3
    """The stream was not served at all: it may be sent again elsewhere."""
    CANCELLED = 4
    ENHANCE_YOUR_CALM = 5
    """Too many frames that cost us work and the peer nothing."""
    INTERNAL = 6
    UNAVAILABLE = 7
    """What the stream was for cannot be reached."""

    @classmethod
    def _missing_(cls, _value: object) -> "Code":
        return cls.INTERNAL


U32: Final = Struct("!I")
GOAWAY: Final = Struct("!IB")


def frame(kind: Type, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame. Raises struct.error when the payload is too long for any frame."""
    return HEADER.pack(kind, flags, stream, len(payload)) + payload
