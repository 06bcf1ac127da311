"""Cipher suites, the transcript and the key schedule (RFC 8446 sections 4.4.1 and 7).

Secrets are `bytes`: immutable, so they cannot be wiped. References to them are dropped as soon as they are used.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from transport.tls13.constants import CipherSuite, HandshakeType
from transport.tls13.wire import vector

Aead = AESGCM | ChaCha20Poly1305


@dataclass(frozen=True, slots=True)
class Suite:
    """One cipher suite: an AEAD and a hash."""

    id: CipherSuite
    hash: str
    """As `hashlib` and `hmac` name it."""
    hash_length: int
    key_length: int
    aead: type[AESGCM] | type[ChaCha20Poly1305]
    empty_hash: bytes
    """The hash of nothing."""
    no_psk: bytes
    """Derive-Secret(Early Secret, "derived", "") when there is no PSK: the same for every connection."""

    def extract(self, salt: bytes, key: bytes) -> bytes:
        """HKDF-Extract (RFC 5869)."""
        return hmac.digest(salt, key, self.hash)

    def expand_label(self, secret: bytes, label: bytes, context: bytes, length: int) -> bytes:
        """HKDF-Expand-Label: `length` bytes, 1 to 255 times the hash length."""
        info = length.to_bytes(2, "big") + vector(1, b"tls13 " + label) + vector(1, context)
        block = okm = hmac.digest(secret, info + b"\1", self.hash)
        counter = 1
        while len(okm) < length:
            counter += 1
            block = hmac.digest(secret, block + info + counter.to_bytes(1, "big"), self.hash)
            okm += block
        return okm[:length]

    def finished(self, base: bytes, transcript_hash: bytes) -> bytes:
        """`verify_data` under the traffic secret `base` (section 4.4.4)."""
        key = self.expand_label(base, b"finished", b"", self.hash_length)
        return hmac.digest(key, transcript_hash, self.hash)

    def traffic_keys(self, secret: bytes) -> tuple[Aead, int]:
        """The AEAD and the 96-bit IV of a traffic secret (section 7.3)."""
        key = self.expand_label(secret, b"key", b"", self.key_length)
        return self.aead(key), int.from_bytes(self.expand_label(secret, b"iv", b"", 12), "big")

    def next_secret(self, secret: bytes) -> bytes:
        """application_traffic_secret_N+1 (section 7.2)."""
        return self.expand_label(secret, b"traffic upd", b"", self.hash_length)


class Transcript:
    """The running hash of all handshake messages. Holds them as they are until the suite, hence the hash, is known."""

    def __init__(self) -> None:
        self._pending: list[bytes] = []
        self._suite: Suite | None = None
        self._hash = hashlib.sha256()

    def start(self, suite: Suite) -> None:
        """Hash with `suite` what has been added and what will be."""
        self._suite = suite
        self._hash = hashlib.new(suite.hash, b"".join(self._pending))
        self._pending.clear()

    def add(self, message: bytes) -> None:
        """Append one message with its header."""
        if self._suite is None:
            self._pending.append(message)
        else:
            self._hash.update(message)

    def restart(self) -> None:
        """Put a hash in place of the first hello, before the HelloRetryRequest is added (section 4.4.1)."""
        digest = self._hash.digest()
        self._hash = hashlib.new(self._hash.name, HandshakeType.MESSAGE_HASH.to_bytes(1, "big") + vector(3, digest))

    def digest(self) -> bytes:
        """Transcript-Hash of everything so far."""
        return self._hash.digest()

    @property
    def running(self) -> "hashlib._Hash":
        """The hash itself, to be copied: the confirmations of ECH go on from it by themselves."""
        return self._hash


class KeySchedule:
    """From the shared secret to traffic secrets and exporter."""

    def __init__(self, suite: Suite, shared_secret: bytes) -> None:
        self._suite: Final = suite
        self._secret = suite.extract(suite.no_psk, shared_secret)
        self._exporter: bytes | None = None

    def handshake_secrets(self, transcript_hash: bytes) -> tuple[bytes, bytes]:
        """(client, server) handshake traffic secrets; `transcript_hash` ends with ServerHello."""
        suite, secret = self._suite, self._secret
        client = suite.expand_label(secret, b"c hs traffic", transcript_hash, suite.hash_length)
        server = suite.expand_label(secret, b"s hs traffic", transcript_hash, suite.hash_length)
        derived = suite.expand_label(secret, b"derived", suite.empty_hash, suite.hash_length)
        self._secret = suite.extract(derived, bytes(suite.hash_length))
        return client, server

    def application_secrets(self, transcript_hash: bytes) -> tuple[bytes, bytes]:
        """(client, server) first application traffic secrets; `transcript_hash` ends with the server's Finished."""
        suite, secret = self._suite, self._secret
        client = suite.expand_label(secret, b"c ap traffic", transcript_hash, suite.hash_length)
        server = suite.expand_label(secret, b"s ap traffic", transcript_hash, suite.hash_length)
        self._exporter = suite.expand_label(secret, b"exp master", transcript_hash, suite.hash_length)
        self._secret = b""
        return client, server

    def export(self, label: bytes, context: bytes, length: int) -> bytes:
        """TLS-Exporter (section 7.5). Raises RuntimeError before the application secrets are made."""
        if self._exporter is None:
            raise RuntimeError("nothing can be exported before the handshake is complete")
        suite = self._suite
        secret = suite.expand_label(self._exporter, label, suite.empty_hash, suite.hash_length)
        return suite.expand_label(secret, b"exporter", hashlib.new(suite.hash, context).digest(), length)


def _suite(kind: CipherSuite, hash_name: str, key: int, aead: type[AESGCM] | type[ChaCha20Poly1305]) -> Suite:
    empty = hashlib.new(hash_name, b"").digest()
    size = len(empty)
    early = hmac.digest(bytes(size), bytes(size), hash_name)
    unfinished = Suite(kind, hash_name, size, key, aead, empty, b"")
    return Suite(kind, hash_name, size, key, aead, empty, unfinished.expand_label(early, b"derived", empty, size))


SUITES: Final[Mapping[int, Suite]] = MappingProxyType(
    {
        suite.id: suite
        for suite in (
            _suite(CipherSuite.AES_128_GCM_SHA256, "sha256", 16, AESGCM),
            _suite(CipherSuite.AES_256_GCM_SHA384, "sha384", 32, AESGCM),
            _suite(CipherSuite.CHACHA20_POLY1305_SHA256, "sha256", 32, ChaCha20Poly1305),
        )
    }
)
"""Suites by their code point."""
