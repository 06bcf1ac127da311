"""Handshake messages: strict parsing of what the peer sends, building of what we send (RFC 8446 section 4).

A `body` is a message without its 4-byte header of type and length. Parsers take one whole body, raise TlsError and
nothing else, and return values whose `encode()` gives the body back byte for byte. What extensions *mean* is in
`transport.tls13.extensions`; which of them may stand where is for the state machines to check.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from transport.tls13.alerts import AlertDescription, TlsError, illegal_parameter
from transport.tls13.constants import HELLO_RETRY_RANDOM, TLS12, ExtensionType, HandshakeType
from transport.tls13.wire import Reader, integers, vector

MAX_EXTENSIONS: Final = 128
"""Extensions in one block. Browsers send some 20; the registry has fewer than 70."""
MAX_CERTIFICATES: Final = 10
"""Certificates in one chain."""
_DOWNGRADED: Final = (b"DOWNGRD\1", b"DOWNGRD\0")


@dataclass(frozen=True, slots=True)
class Extension:
    """One extension as it stood in the message."""

    type: int
    data: bytes
    offset: int = field(default=0, compare=False)
    """Where `data` begins in the body that was parsed; 0 in a message of our own."""


Extensions = tuple[Extension, ...]


@dataclass(frozen=True, slots=True)
class ClientHello:
    """RFC 8446 section 4.1.2."""

    random: bytes
    """32 bytes."""
    session_id: bytes
    """0 to 32 bytes: `legacy_session_id`."""
    cipher_suites: tuple[int, ...]
    extensions: Extensions
    """In order, each type once."""
    legacy_version: int = TLS12
    compression_methods: bytes = b"\0"

    @staticmethod
    def parse(body: bytes) -> "ClientHello":
        """The hello in the whole of `body`. Raises TlsError."""
        hello, end = ClientHello.parse_prefix(body)
        if end != len(body):
            raise TlsError(AlertDescription.DECODE_ERROR, "ClientHello has bytes after its end")
        return hello

    @staticmethod
    def parse_prefix(body: bytes) -> tuple["ClientHello", int]:
        """The hello at the start of `body` and where it ends: an EncodedClientHelloInner has padding behind it."""
        reader = Reader(body, "ClientHello")
        version = reader.integer(2)
        random = reader.take(32)
        session_id = reader.vector(1, most=32)
        suites = reader.integers(2, 2)
        compression = reader.vector(1, least=1)
        if not reader.left:
            raise TlsError(AlertDescription.PROTOCOL_VERSION, "ClientHello is of TLS 1.2 or older")
        extensions = _parse_extensions(reader)
        return ClientHello(random, session_id, suites, extensions, version, compression), reader.pos

    def encode(self) -> bytes:
        """The body."""
        return b"".join(
            (
                self.legacy_version.to_bytes(2, "big"),
                self.random,
                vector(1, self.session_id),
                integers(2, 2, self.cipher_suites),
                vector(1, self.compression_methods),
                encode_extensions(self.extensions),
            )
        )

    def extension(self, kind: int) -> Extension | None:
        """The extension of type `kind`, if it is there."""
        return find(self.extensions, kind)


@dataclass(frozen=True, slots=True)
class ServerHello:
    """RFC 8446 section 4.1.3; also a HelloRetryRequest (section 4.1.4), which differs by its random."""

    random: bytes
    """32 bytes."""
    session_id: bytes
    """0 to 32 bytes: `legacy_session_id_echo`."""
    cipher_suite: int
    extensions: Extensions
    legacy_version: int = TLS12
    compression_method: int = 0

    @staticmethod
    def parse(body: bytes) -> "ServerHello":
        """The hello in the whole of `body`. Raises TlsError."""
        reader = Reader(body, "ServerHello")
        version = reader.integer(2)
        random = reader.take(32)
        session_id = reader.vector(1, most=32)
        suite = reader.integer(2)
        compression = reader.integer(1)
        if not reader.left:
            raise older_version(random)
        extensions = _parse_extensions(reader)
        reader.finish()
        return ServerHello(random, session_id, suite, extensions, version, compression)

    def encode(self) -> bytes:
        """The body."""
        return b"".join(
            (
                self.legacy_version.to_bytes(2, "big"),
                self.random,
                vector(1, self.session_id),
                self.cipher_suite.to_bytes(2, "big"),
                self.compression_method.to_bytes(1, "big"),
                encode_extensions(self.extensions),
            )
        )

    @property
    def is_retry_request(self) -> bool:
        """Whether this is a HelloRetryRequest."""
        return self.random == HELLO_RETRY_RANDOM

    def extension(self, kind: int) -> Extension | None:
        """The extension of type `kind`, if it is there."""
        return find(self.extensions, kind)


def parse_encrypted_extensions(body: bytes) -> Extensions:
    """RFC 8446 section 4.3.1. Raises TlsError."""
    reader = Reader(body, "EncryptedExtensions")
    extensions = _parse_extensions(reader)
    reader.finish()
    return extensions


@dataclass(frozen=True, slots=True)
class CertificateEntry:
    """RFC 8446 section 4.4.2."""

    data: bytes
    """DER, 1 to 2^24 - 1 bytes; not parsed here."""
    extensions: Extensions = ()


@dataclass(frozen=True, slots=True)
class Certificate:
    """RFC 8446 section 4.4.2. The leaf comes first; a client without certificates sends no entry."""

    entries: tuple[CertificateEntry, ...]
    context: bytes = b""

    @staticmethod
    def parse(body: bytes) -> "Certificate":
        """Raises TlsError, also for more than MAX_CERTIFICATES entries."""
        reader = Reader(body, "Certificate")
        context = reader.vector(1)
        inner = reader.inside(3)
        entries: list[CertificateEntry] = []
        while inner.left:
            if len(entries) == MAX_CERTIFICATES:
                raise inner.malformed("has too many entries")
            data = inner.vector(3, least=1)
            entries.append(CertificateEntry(data, _parse_extensions(inner)))
        reader.finish()
        return Certificate(tuple(entries), context)

    def encode(self) -> bytes:
        """The body."""
        entries = (vector(3, entry.data) + encode_extensions(entry.extensions) for entry in self.entries)
        return vector(1, self.context) + vector(3, b"".join(entries))


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """RFC 8446 section 4.3.2."""

    context: bytes
    extensions: Extensions

    @staticmethod
    def parse(body: bytes) -> "CertificateRequest":
        """Raises TlsError."""
        reader = Reader(body, "CertificateRequest")
        request = CertificateRequest(reader.vector(1), _parse_extensions(reader))
        reader.finish()
        return request

    def encode(self) -> bytes:
        """The body."""
        return vector(1, self.context) + encode_extensions(self.extensions)


@dataclass(frozen=True, slots=True)
class CertificateVerify:
    """RFC 8446 section 4.4.3."""

    scheme: int
    """A SignatureScheme, or one we do not know."""
    signature: bytes

    @staticmethod
    def parse(body: bytes) -> "CertificateVerify":
        """Raises TlsError."""
        reader = Reader(body, "CertificateVerify")
        verify = CertificateVerify(reader.integer(2), reader.vector(2))
        reader.finish()
        return verify

    def encode(self) -> bytes:
        """The body."""
        return self.scheme.to_bytes(2, "big") + vector(2, self.signature)


@dataclass(frozen=True, slots=True)
class NewSessionTicket:
    """RFC 8446 section 4.6.1. We never resume; a ticket is parsed to hold its sender to the rules, and forgotten."""

    lifetime: int
    """Seconds."""
    age_add: int
    nonce: bytes
    ticket: bytes = field(repr=False)
    extensions: Extensions

    @staticmethod
    def parse(body: bytes) -> "NewSessionTicket":
        """Raises TlsError."""
        reader = Reader(body, "NewSessionTicket")
        lifetime, age_add = reader.integer(4), reader.integer(4)
        nonce, ticket = reader.vector(1), reader.vector(2, least=1)
        extensions = _parse_extensions(reader)
        reader.finish()
        early_data = find(extensions, ExtensionType.EARLY_DATA)
        if early_data is not None and len(early_data.data) != 4:  # max_early_data_size, section 4.2.10
            raise reader.malformed("has early_data that is not a number")
        return NewSessionTicket(lifetime, age_add, nonce, ticket, extensions)

    def encode(self) -> bytes:
        """The body."""
        numbers = self.lifetime.to_bytes(4, "big") + self.age_add.to_bytes(4, "big")
        return numbers + vector(1, self.nonce) + vector(2, self.ticket) + encode_extensions(self.extensions)


def parse_key_update(body: bytes) -> bool:
    """Whether the peer wants our keys updated, too (RFC 8446 section 4.6.3). Raises TlsError."""
    if len(body) != 1:
        raise TlsError(AlertDescription.DECODE_ERROR, "KeyUpdate is not one byte")
    if body[0] > 1:
        raise illegal_parameter("KeyUpdate asks for something unknown")
    return body[0] == 1


def older_version(random: bytes) -> TlsError:
    """The error for a ServerHello of TLS 1.2 or older with this `random`.

    RFC 8446 section 4.1.3: a server whom somebody on the path made negotiate down says so in the last 8 bytes.
    """
    if random[24:] in _DOWNGRADED:
        return TlsError(AlertDescription.ILLEGAL_PARAMETER, "the server speaks TLS 1.3 but was made to negotiate less")
    return TlsError(AlertDescription.PROTOCOL_VERSION, "the server does not speak TLS 1.3")


def handshake_message(kind: HandshakeType, body: bytes) -> bytes:
    """`body` behind its header of type and 24-bit length."""
    return kind.to_bytes(1, "big") + vector(3, body)


def encode_extensions(extensions: Iterable[Extension]) -> bytes:
    """The block with its 2-byte length."""
    return vector(2, b"".join(entry.type.to_bytes(2, "big") + vector(2, entry.data) for entry in extensions))


def find(extensions: Extensions, kind: int) -> Extension | None:
    """The extension of type `kind`, if it is there."""
    for entry in extensions:
        if entry.type == kind:
            return entry
    return None


def _parse_extensions(outer: Reader) -> Extensions:
    """A block with its 2-byte length, in linear time.

    RFC 8446 section 4.2: "There MUST NOT be more than one extension of the same type in a given extension block."
    """
    reader = outer.inside(2)
    data, pos, end = reader.data, reader.pos, reader.end
    found: list[Extension] = []
    types: set[int] = set()
    while pos < end:
        start = pos + 4
        if start > end:
            raise reader.malformed("ends too early")
        kind = int.from_bytes(data[pos : pos + 2], "big")
        pos = start + int.from_bytes(data[pos + 2 : start], "big")
        if pos > end:
            raise reader.malformed("ends too early")
        if kind in types:
            raise reader.malformed("has the same extension twice")
        if len(found) == MAX_EXTENSIONS:
            raise reader.malformed("has too many extensions")
        types.add(kind)
        found.append(Extension(kind, data[start:pos], start))
    return tuple(found)
