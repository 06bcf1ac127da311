"""What travels beside the Noise messages: the extension 0xff77, and the payload of message 3.

    ClientHello           u8 version | u8 flags | u64 policy epoch | Noise message 1
    EncryptedExtensions   u8 version | Noise message 2
    payload of message 3  u8 length | service | zeros, 256 bytes in all

What stands before a Noise message is not encrypted by it, but both ends put it into the prologue. The payload has one
length for all services: without ECH the length of its record would tell which one is asked for.
"""

from dataclasses import dataclass
from struct import Struct
from typing import Final

from transport.noise.errors import NoiseError

VERSION: Final = 1
PAYLOAD: Final = 256
"""Bytes of message 3's payload."""
MAX_GREETING: Final = 256
"""Bytes of the extension; the Noise messages in it have 48."""
_MIN_PQ: Final = 1
_HEAD: Final = Struct("!BBQ")


@dataclass(frozen=True, slots=True)
class Greeting:
    """A dialler's extension."""

    min_pq: bool
    """It refuses key exchanges that are not post-quantum, and so must we."""
    epoch: int
    """Of its policy."""
    message: bytes
    """Noise message 1."""

    def encode(self) -> bytes:
        """The extension's body."""
        return _HEAD.pack(VERSION, _MIN_PQ if self.min_pq else 0, self.epoch) + self.message

    @classmethod
    def parse(cls, data: bytes) -> "Greeting":
        """Raises NoiseError."""
        if not _HEAD.size < len(data) <= MAX_GREETING:
            raise NoiseError("the greeting has a wrong length")
        version, flags, epoch = _HEAD.unpack_from(data)
        if version != VERSION or flags & ~_MIN_PQ:
            raise NoiseError("the greeting is of another version")
        return cls(flags == _MIN_PQ, epoch, data[_HEAD.size :])


def encode_reply(message: bytes) -> bytes:
    """The body of an acceptor's extension around Noise message 2."""
    return bytes((VERSION,)) + message


def parse_reply(data: bytes) -> bytes:
    """Noise message 2. Raises NoiseError."""
    if not 1 < len(data) <= MAX_GREETING or data[0] != VERSION:
        raise NoiseError("the reply to the greeting is malformed or of another version")
    return data[1:]


def encode_service(service: str) -> bytes:
    """The payload of message 3. Raises ValueError for a name that is too long or not ASCII."""
    name = service.encode("ascii")
    if not 1 <= len(name) < PAYLOAD:
        raise ValueError(f"a service name has 1 to {PAYLOAD - 1} characters")
    return (bytes((len(name),)) + name).ljust(PAYLOAD, b"\0")


def parse_service(payload: bytes) -> str:
    """The service asked for. Raises NoiseError."""
    if len(payload) != PAYLOAD or not payload[0] or any(payload[1 + payload[0] :]):
        raise NoiseError("the payload of message 3 is malformed")
    name = payload[1 : 1 + payload[0]]
    if not all(0x21 <= byte <= 0x7E for byte in name):
        raise NoiseError("the service's name is not ASCII")
    return name.decode("ascii").lower()
