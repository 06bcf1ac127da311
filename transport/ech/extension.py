"""The encrypted_client_hello extension of a ClientHello (RFC 9849 section 5), and what it authenticates."""

from dataclasses import dataclass
from typing import Final

from transport.ech.hpke import CipherSuite
from transport.tls13.alerts import AlertDescription, TlsError
from transport.tls13.constants import ExtensionType
from transport.tls13.messages import ClientHello, Extension
from transport.tls13.wire import Reader, vector

INNER: Final = Extension(ExtensionType.ENCRYPTED_CLIENT_HELLO, b"\x01")
"""What a ClientHelloInner carries, so that the server may answer with this extension."""
_OUTER_TYPE: Final = 0
_INNER_TYPE: Final = 1


@dataclass(frozen=True, slots=True)
class OuterExtension:
    """ECHClientHello of type outer."""

    suite: CipherSuite
    config_id: int
    enc: bytes
    """The encapsulated key; empty in a second hello."""
    payload: bytes
    """The sealed EncodedClientHelloInner."""

    def encode(self) -> Extension:
        """The extension. Its last bytes are the payload."""
        head = bytes([_OUTER_TYPE]) + self.suite.kdf_id.to_bytes(2) + self.suite.aead_id.to_bytes(2)
        data = head + bytes([self.config_id]) + vector(2, self.enc) + vector(2, self.payload)
        return Extension(ExtensionType.ENCRYPTED_CLIENT_HELLO, data)


def parse_outer(extension: Extension) -> OuterExtension:
    """The extension of a hello that came from the network.

    Raises TlsError: illegal_parameter for another type, decode_error for what is malformed. RFC 9849 section 7: "A
    shared mode server which receives a ClientHello with ECHClientHello.type of inner MUST abort".
    """
    reader = Reader(extension.data, "encrypted_client_hello")
    if reader.integer(1) != _OUTER_TYPE:
        raise TlsError(AlertDescription.ILLEGAL_PARAMETER, "the ECHClientHello is not of type outer")
    suite = CipherSuite(reader.integer(2), reader.integer(2))
    found = OuterExtension(suite, reader.integer(1), reader.vector(2), reader.vector(2, least=1))
    reader.finish()
    return found


def outer_aad(body: bytes, extension: Extension, payload_length: int) -> bytes:
    """ClientHelloOuterAAD: the hello as it was received, with the payload zeroed in place (RFC 9849 section 5.2).

    The payload is found by the offset at which the extension was parsed. A search for its bytes could be led to another
    place by whoever wrote them, and a hello that is parsed and written again may differ from the one that was sealed.
    """
    end = extension.offset + len(extension.data)
    return b"".join((body[: end - payload_length], bytes(payload_length), body[end:]))


def is_inner(hello: ClientHello) -> bool:
    """Whether the hello carries a well-formed extension of type inner."""
    return hello.extension(ExtensionType.ENCRYPTED_CLIENT_HELLO) == INNER
