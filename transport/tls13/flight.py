"""Handshake messages in and out of records: reassembly, its bounds, and where keys may change (RFC 8446 section 5.1).

The handshakes know this through the Protocol `Flight` only, so that they can run over something else than records.
"""

from typing import Final, Protocol

from transport.tls13.alerts import illegal_parameter, unexpected_message
from transport.tls13.constants import ContentType
from transport.tls13.key_schedule import Suite
from transport.tls13.record import RecordReader, RecordWriter

MAX_MESSAGE: Final = 1 << 16
"""Bytes of one handshake message with its header; a hello of a browser has two thousand, a chain some ten thousand."""
_CHANGE_CIPHER_SPEC: Final = b"\x14\3\3\0\1\1"


class Flight(Protocol):
    """What a handshake does to the connection it is for."""

    def send(self, message: bytes, *, pad_to: int = 1) -> None:
        """Send one or more whole messages under the current write keys, padded to a multiple of `pad_to` bytes."""

    def send_change_cipher_spec(self) -> None:
        """Send ChangeCipherSpec for middleboxes, at the first call only (RFC 8446 appendix D.4)."""

    def expect_silence(self) -> None:
        """Raise TlsError(unexpected_message) if the peer has sent more than the message that is being handled."""

    def read_with(self, suite: Suite, secret: bytes) -> None:
        """Change the read keys. Raises like `expect_silence`: a message never spans keys (RFC 8446 section 5.1)."""

    def write_with(self, suite: Suite, secret: bytes) -> None:
        """Change the write keys."""


class RecordedFlight:
    """A Flight over TCP."""

    def __init__(self, reader: RecordReader, writer: RecordWriter) -> None:
        self._reader: Final = reader
        self._writer: Final = writer
        self._buffer = bytearray()
        self._change_cipher_spec_sent = False

    @property
    def partial(self) -> bool:
        """Whether bytes wait for the rest of their message."""
        return bool(self._buffer)

    def feed(self, fragment: memoryview) -> None:
        """Take the content of one handshake record."""
        self._buffer += fragment

    def take(self) -> tuple[int, bytes] | None:
        """Type and bytes, with the header, of the next whole message. Raises TlsError if it is to be too long."""
        if len(self._buffer) < 4:
            return None
        size = 4 + int.from_bytes(self._buffer[1:4], "big")
        if size > MAX_MESSAGE:
            raise illegal_parameter("a handshake message is too long")
        if len(self._buffer) < size:
            return None
        message = bytes(self._buffer[:size])
        del self._buffer[:size]
        return message[0], message

    def send(self, message: bytes, *, pad_to: int = 1) -> None:
        self._writer.write(ContentType.HANDSHAKE, message, multiple=pad_to)

    def send_change_cipher_spec(self) -> None:
        if not self._change_cipher_spec_sent:
            self._change_cipher_spec_sent = True
            self._writer.write_raw(_CHANGE_CIPHER_SPEC)

    def expect_silence(self) -> None:
        if self._buffer:
            raise unexpected_message("handshake bytes go on where they must end")

    def read_with(self, suite: Suite, secret: bytes) -> None:
        self.expect_silence()
        self._reader.rekey(suite, secret)

    def write_with(self, suite: Suite, secret: bytes) -> None:
        self._writer.rekey(suite, secret)
