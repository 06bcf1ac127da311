"""What both ends must agree upon before the first Noise message can be read.

The prologue is hashed into the Noise handshake by each end from what it knows by itself. Whoever makes the two ends
see different things - another ECH configuration, another service, fewer versions, a form without post-quantum keys -
makes message 1 unreadable. So a downgrade is not detected somewhere: it does not work.

    "mesh-tunnel/1"
    | SHA-256 of the ECHConfig in use, or 32 zero bytes
    | mode (ech 1, noech 0), carrier (tcp 0, quic 1), form (ext 0, app 1)      one byte each
    | u8 length, TLS versions offered, two bytes each
    | u16 length, groups offered, two bytes each | min_pq (0 or 1)
    | u16 length, service                                                      empty without ECH: it is in message 3
    | u8 length, ALPN | u64 policy epoch
"""

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from transport.ech.config import EchConfig
from transport.tls13.wire import integers, vector

ALPN: Final = b"mesh/1"
_LABEL: Final = b"mesh-tunnel/1"


class Carrier(IntEnum):
    """What carries the records."""

    TCP = 0
    QUIC = 1


class Form(IntEnum):
    """Where the Noise messages travel."""

    EXTENSIONS = 0
    """In the TLS handshake: no round trip more than TLS."""
    APPLICATION = 1
    """As application data, through a front that terminates TLS."""


@dataclass(frozen=True, slots=True)
class Prologue:
    """One end's view."""

    ech: EchConfig | None
    """The configuration in use; None: the tunnel without ECH."""
    versions: tuple[int, ...]
    groups: tuple[int, ...]
    min_pq: bool
    service: str
    """Ignored without ECH."""
    epoch: int
    """Of the dialler's policy, 0 to 2^64 - 1."""
    carrier: Carrier = Carrier.TCP
    form: Form = Form.EXTENSIONS
    alpn: bytes = ALPN

    def encode(self) -> bytes:
        """The bytes that Noise hashes."""
        return b"".join(
            (
                _LABEL,
                bytes(32) if self.ech is None else hashlib.sha256(self.ech.encode()).digest(),
                bytes((self.ech is not None, self.carrier, self.form)),
                integers(1, 2, self.versions),
                integers(2, 2, self.groups),
                bytes((self.min_pq,)),
                vector(2, b"" if self.ech is None else self.service.encode("ascii")),
                vector(1, self.alpn),
                self.epoch.to_bytes(8),
            )
        )
