"""How TLS and Noise become one: keys that need both.

    psk           TLS-Exporter("EXPORTER-mesh-noise-xk v1", "", 32), mixed in at the end of Noise message 3
    record keys   HMAC-SHA256(TLS-Exporter("EXPORTER-mesh-record v1", handshake hash of Noise, 32), Noise key)

The psk makes message 3 unreadable unless both ends look at one and the same TLS connection: whoever terminates TLS in
between, with the fleet's ECH key and a certificate that the dialler believes, has two connections and two exporters.
The record keys make every byte need both handshakes: the post-quantum secret of TLS, and the static keys of Noise.
"""

import hmac
from dataclasses import dataclass
from typing import Final

from transport.decisions import TunnelMode
from transport.noise.suite import SessionKeys
from transport.tunnel.channel import Channel

_PSK: Final = b"EXPORTER-mesh-noise-xk v1"
_RECORD: Final = b"EXPORTER-mesh-record v1"


@dataclass(frozen=True, slots=True)
class Established:
    """A tunnel that stands."""

    mode: TunnelMode
    service: str
    peer_static: bytes
    """32 bytes; proved."""
    identity: str
    """Whose key that is: a SPIFFE ID, as the control plane says."""
    group: int
    """Key exchange of TLS, a code point."""
    cipher_suite: int
    epoch: int
    """Of the dialler's policy."""
    handshake_hash: bytes
    """Of Noise: 32 bytes, the same at both ends, unique to this tunnel; not secret."""


def psk(connection: Channel) -> bytes:
    """32 bytes. Only after Finished has been verified."""
    return connection.export(_PSK, b"", 32)


def record_secrets(connection: Channel, keys: SessionKeys) -> tuple[bytes, bytes]:
    """(to send, to receive) traffic secrets of 32 bytes for TLS 1.3 records."""
    exported = connection.export(_RECORD, keys.handshake_hash, 32)
    return hmac.digest(exported, keys.send, "sha256"), hmac.digest(exported, keys.receive, "sha256")
