"""The signal by which a server tells that it speaks to the inner hello (RFC 9849 sections 6.1.4 and 7.2).

To anybody who does not know the random of the inner hello it is eight random bytes. A transcript is the running hash of
the handshake, up to the message in question and without it: of the inner hello alone, or, after a HelloRetryRequest, of
message_hash, HelloRetryRequest and the second inner hello.
"""

import hmac
from typing import Final, Protocol

from transport.tls13.alerts import AlertDescription, TlsError
from transport.tls13.constants import ExtensionType, HandshakeType
from transport.tls13.messages import ServerHello, handshake_message
from transport.tls13.wire import vector

LENGTH: Final = 8
"""Bytes of a confirmation."""
_RANDOM_END: Final = 2 + 32
"""Where the random of a ServerHello ends, in its body."""


class Transcript(Protocol):
    """A running hash: `hashlib.sha256()` and its kind."""

    @property
    def name(self) -> str:
        """As `hashlib.new` takes it."""

    @property
    def digest_size(self) -> int:
        """Bytes."""

    def copy(self) -> "Transcript":
        """A second one that goes on by itself."""

    def update(self, data: bytes, /) -> None:
        """Takes in `data`."""

    def digest(self) -> bytes:
        """The hash of all so far."""


def confirm_server_hello(body: bytes, inner_random: bytes, transcript: Transcript) -> bytes:
    """The ServerHello with the confirmation in the last bytes of its random. Never on a HelloRetryRequest."""
    return _placed(body, _RANDOM_END, inner_random, b"ech accept confirmation", transcript)


def confirm_retry_request(body: bytes, inner_random: bytes, transcript: Transcript) -> bytes:
    """The HelloRetryRequest with the confirmation in its extension, which stands there with any eight bytes.

    Here `transcript` has taken in message_hash, made of the first inner hello, and nothing else.
    """
    end = _extension_end(body)
    if end is None:
        raise ValueError("the HelloRetryRequest has no extension to put the confirmation in")
    return _placed(body, end, inner_random, b"hrr ech accept confirmation", transcript)


def server_hello_accepts(body: bytes, inner_random: bytes, transcript: Transcript) -> bool:
    """Whether the server took the inner hello. If not, the handshake is that of the outer one.

    After a HelloRetryRequest that accepted, False is a reason to abort with illegal_parameter (RFC 9849 section 6.1.5).
    """
    return hmac.compare_digest(body, confirm_server_hello(body, inner_random, transcript))


def retry_request_accepts(body: bytes, inner_random: bytes, transcript: Transcript) -> bool:
    """Whether the server took the inner hello, as its HelloRetryRequest tells.

    Raises TlsError(decode_error) if the extension is there and has not eight bytes (RFC 9849 section 6.1.4).
    """
    if _extension_end(body) is None:
        return False
    return hmac.compare_digest(body, confirm_retry_request(body, inner_random, transcript))


def _placed(body: bytes, end: int, inner_random: bytes, label: bytes, transcript: Transcript) -> bytes:
    """`body` with the confirmation in the eight bytes before `end`, computed over `body` with zeros there."""
    start = end - LENGTH
    zeroed = b"".join((body[:start], bytes(LENGTH), body[end:]))
    heard = transcript.copy()
    heard.update(handshake_message(HandshakeType.SERVER_HELLO, zeroed))
    secret = hmac.digest(bytes(transcript.digest_size), inner_random, transcript.name)
    # HKDF-Expand-Label of RFC 8446 section 7.1; eight bytes are less than one block.
    info = LENGTH.to_bytes(2) + vector(1, b"tls13 " + label) + vector(1, heard.digest())
    confirmation = hmac.digest(secret, info + b"\x01", transcript.name)[:LENGTH]
    return b"".join((body[:start], confirmation, body[end:]))


def _extension_end(body: bytes) -> int | None:
    extension = ServerHello.parse(body).extension(ExtensionType.ENCRYPTED_CLIENT_HELLO)
    if extension is None:
        return None
    if len(extension.data) != LENGTH:
        raise TlsError(AlertDescription.DECODE_ERROR, "the confirmation in a HelloRetryRequest has not eight bytes")
    return extension.offset + LENGTH
