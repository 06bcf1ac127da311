"""What a connection tells its user (`Connection.next_event`)."""

from dataclasses import dataclass
from enum import Enum

from transport.tls13.messages import Extensions


class EchStatus(Enum):
    """What became of Encrypted Client Hello. A client whose offer is rejected raises EchRejectedError instead."""

    NOT_OFFERED = "not_offered"
    """No ECH, or GREASE: nobody but the client can tell these two apart."""
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    """At a server only: the client offered ECH that we could not open, and talks to our public name."""


@dataclass(frozen=True, slots=True)
class HandshakeComplete:
    """The peer's Finished is verified and ours is sent or queued. From here data flows, and `export` works."""

    cipher_suite: int
    group: int
    alpn: bytes | None
    server_name: str | None
    """Of the inner hello when ECH was accepted. At a client: the name whose certificate was verified."""
    ech: EchStatus
    extensions: Extensions
    """What the peer said: at a client EncryptedExtensions, at a server the accepted ClientHello's."""
    peer_certificates: tuple[bytes, ...] = ()
    """DER, leaf first; at a client only."""


@dataclass(slots=True)
class ApplicationData:
    """Plaintext of one record, 1 to 16384 bytes."""

    data: memoryview
    """Lies in the receive buffer: valid until the connection's next event, and in no later turn of the event loop."""


@dataclass(frozen=True, slots=True)
class CloseNotify:
    """The peer will send nothing more (RFC 8446 section 6.1). An end of stream without it is a truncation."""


Event = HandshakeComplete | ApplicationData | CloseNotify
