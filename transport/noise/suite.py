"""Names of the Noise protocols that we speak, and what a handshake promises."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

MAX_MESSAGE: Final = 65535
"""Bytes of a Noise message (revision 34, section 3)."""
KEY_LENGTH: Final = 32
"""Bytes of a key of Curve25519, of an AEAD, and of a psk."""
TAG_LENGTH: Final = 16


class Pattern(StrEnum):
    """Revision 34, sections 7.5 and 9. The initiator knows the responder's static key beforehand."""

    XK = "XK"
    XKPSK3 = "XKpsk3"
    """A psk is mixed in at the end of message 3: it may be known as late as that."""


class Aead(StrEnum):
    """Revision 34, section 12."""

    AESGCM = "AESGCM"
    CHACHAPOLY = "ChaChaPoly"


class Hash(StrEnum):
    """Revision 34, section 12."""

    SHA256 = "SHA256"
    SHA512 = "SHA512"
    BLAKE2S = "BLAKE2s"
    BLAKE2B = "BLAKE2b"


@dataclass(frozen=True, slots=True)
class Suite:
    """One Noise protocol over Curve25519."""

    pattern: Pattern = Pattern.XKPSK3
    aead: Aead = Aead.AESGCM
    hash: Hash = Hash.SHA256

    @property
    def name(self) -> str:
        """As in revision 34, section 8."""
        return f"Noise_{self.pattern}_25519_{self.aead}_{self.hash}"


@dataclass(frozen=True, slots=True)
class StaticKey:
    """A workload's long-term key pair."""

    private: X25519PrivateKey = field(repr=False)
    public: bytes
    """32 bytes."""

    @classmethod
    def of(cls, private: X25519PrivateKey) -> "StaticKey":
        """With its public half, which costs 30 us: keep the result."""
        return cls(private, private.public_key().public_bytes_raw())


class SessionKeys(NamedTuple):
    """What a finished handshake leaves (revision 34, section 5.2, Split)."""

    handshake_hash: bytes
    """Both sides have the same; 32 or 64 bytes. Not secret."""
    send: bytes
    """32 bytes; the other side's `receive`."""
    receive: bytes

    def __repr__(self) -> str:
        return "SessionKeys(...)"


class Handshake(Protocol):
    """One side of one handshake: three messages in turn, the initiator begins.

    NoiseError is the end: every later call raises it again. Calling out of turn is a ValueError.
    """

    def write_message(self, payload: bytes = b"") -> bytes:
        """The next message, with `payload` as much protected as the pattern allows at that point."""

    def read_message(self, message: bytes) -> bytes:
        """The payload of the peer's message. Raises NoiseError."""

    def set_psk(self, psk: bytes) -> None:
        """32 bytes, before message 3 is written or read."""

    @property
    def remote_static(self) -> bytes | None:
        """The peer's static public key, 32 bytes. A responder knows it from message 3 on."""

    def split(self) -> SessionKeys:
        """After message 3."""
