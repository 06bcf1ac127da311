"""HPKE in base mode (RFC 9180): contexts that seal and open a sequence of messages and export secrets.

`cryptography` offers HPKE for one message only, and ECH seals two with the same context when the server asks for a
second ClientHello. The modes with a pre-shared key or an authenticated sender are not here: ECH uses neither.

A context belongs to one connection and one direction. Whoever has the ephemeral private key has the context.
"""

import hmac
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

DHKEM_P256: Final = 0x0010
DHKEM_X25519: Final = 0x0020
HKDF_SHA256: Final = 0x0001
HKDF_SHA384: Final = 0x0002
HKDF_SHA512: Final = 0x0003
AES_128_GCM: Final = 0x0001
AES_256_GCM: Final = 0x0002
CHACHA20_POLY1305: Final = 0x0003

PUBLIC_KEY_LENGTH: Final[Mapping[int, int]] = MappingProxyType({DHKEM_P256: 65, DHKEM_X25519: 32})
"""Bytes of a public key and of an encapsulated key, for each KEM that is supported."""
TAG_LENGTH: Final = 16
"""Bytes by which each supported AEAD makes a message longer."""

_NONCE_LENGTH: Final = 12
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_MESSAGE_LIMIT: Final = (1 << 8 * _NONCE_LENGTH) - 1
_DIGEST: Final[Mapping[int, tuple[str, int]]] = MappingProxyType(
    {HKDF_SHA256: ("sha256", 32), HKDF_SHA384: ("sha384", 48), HKDF_SHA512: ("sha512", 64)}
)
_AEAD: Final[Mapping[int, tuple[type[AESGCM] | type[ChaCha20Poly1305], int]]] = MappingProxyType(
    {AES_128_GCM: (AESGCM, 16), AES_256_GCM: (AESGCM, 32), CHACHA20_POLY1305: (ChaCha20Poly1305, 32)}
)

Random = Callable[[int], bytes]
"""Returns as many unpredictable bytes as it is asked for: `os.urandom` or `secrets.token_bytes`."""
PrivateKey = X25519PrivateKey | ec.EllipticCurvePrivateKey
"""A private key of one of the KEMs; the curve of the latter is P-256."""


class HpkeError(Exception):
    """A key that is none of this KEM, or a message that was not sealed by this context in this order."""


class CipherSuite(NamedTuple):
    """HpkeSymmetricCipherSuite of RFC 9849 section 4: the algorithms besides the KEM."""

    kdf_id: int
    aead_id: int

    @property
    def is_supported(self) -> bool:
        """Whether contexts can be set up with it."""
        return self.kdf_id in _DIGEST and self.aead_id in _AEAD


class Context:
    """What both ends derive: the key, the base nonce, the exporter secret, and the number of messages so far."""

    __slots__ = ("_aead", "_base_nonce", "_exporter_secret", "_kdf", "_sequence")

    def __init__(self, kem_id: int, suite: CipherSuite, shared_secret: bytes, info: bytes) -> None:
        """RFC 9180 section 5.1, KeySchedule in mode_base. Raises HpkeError for a suite that is not supported."""
        if not suite.is_supported:
            raise HpkeError(f"no HPKE suite of KDF {suite.kdf_id:#06x} and AEAD {suite.aead_id:#06x}")
        self._kdf = _Kdf(
            suite.kdf_id, b"HPKE" + kem_id.to_bytes(2) + suite.kdf_id.to_bytes(2) + suite.aead_id.to_bytes(2)
        )
        aead, key_length = _AEAD[suite.aead_id]
        psk_id_hash = self._kdf.extract(b"", b"psk_id_hash", b"")
        info_hash = self._kdf.extract(b"", b"info_hash", info)
        schedule = b"\x00" + psk_id_hash + info_hash
        secret = self._kdf.extract(shared_secret, b"secret", b"")
        self._aead = aead(self._kdf.expand(secret, b"key", schedule, key_length))
        self._base_nonce = int.from_bytes(self._kdf.expand(secret, b"base_nonce", schedule, _NONCE_LENGTH))
        self._exporter_secret = self._kdf.expand(secret, b"exp", schedule, self._kdf.length)
        self._sequence = 0

    def export(self, context: bytes, length: int) -> bytes:
        """`length` bytes that only the two ends know (RFC 9180 section 5.3); at most 255 digests long."""
        return self._kdf.expand(self._exporter_secret, b"sec", context, length)

    def _nonce(self) -> bytes:
        """RFC 9180 section 5.2, ComputeNonce. One nonce never serves two messages."""
        if self._sequence >= _MESSAGE_LIMIT:
            raise HpkeError("this HPKE context has sealed all the messages it may")
        return (self._base_nonce ^ self._sequence).to_bytes(_NONCE_LENGTH)


class Sender(Context):
    """The end that has the recipient's public key."""

    __slots__ = ("enc",)

    enc: bytes
    """The encapsulated key, which the recipient needs first."""

    def __init__(self, kem_id: int, public_key: bytes, suite: CipherSuite, info: bytes, ephemeral: PrivateKey) -> None:
        """RFC 9180 section 5.1.1, SetupBaseS. `ephemeral` is used for this context only (see `generate_key`)."""
        self.enc, shared_secret = _encapsulate(kem_id, public_key, ephemeral)
        super().__init__(kem_id, suite, shared_secret, info)

    def seal(self, plaintext: bytes, aad: bytes) -> bytes:
        """The next message: ciphertext and tag."""
        sealed = self._aead.encrypt(self._nonce(), plaintext, aad)
        self._sequence += 1
        return sealed


class Recipient(Context):
    """The end that has the private key."""

    __slots__ = ()

    def __init__(self, private_key: PrivateKey, enc: bytes, suite: CipherSuite, info: bytes) -> None:
        """RFC 9180 section 5.1.1, SetupBaseR. Raises HpkeError if `enc` is no public key of this KEM."""
        super().__init__(kem_of(private_key), suite, _decapsulate(private_key, enc), info)

    def open(self, ciphertext: bytes, aad: bytes) -> bytes:
        """The plaintext of the next message. Raises HpkeError; the same message may then be tried again."""
        try:
            plaintext = self._aead.decrypt(self._nonce(), ciphertext, aad)
        except InvalidTag:
            raise HpkeError("not sealed by this context, or not the next message") from None
        self._sequence += 1
        return plaintext


def generate_key(kem_id: int, random: Random) -> PrivateKey:
    """A new private key. Raises HpkeError for a KEM that is not supported."""
    if kem_id == DHKEM_X25519:
        return X25519PrivateKey.from_private_bytes(random(32))
    if kem_id != DHKEM_P256:
        raise HpkeError(f"no KEM {kem_id:#06x}")
    # FIPS 186-5 appendix A.2.2: uniform below the order, by rejection; once in 2^32 a second draw.
    scalar = 0
    while not 0 < scalar < _P256_ORDER:
        scalar = int.from_bytes(random(32))
    return ec.derive_private_key(scalar, ec.SECP256R1())


def kem_of(key: PrivateKey) -> int:
    """The KEM that a private key belongs to. Raises HpkeError for a curve that is none."""
    if isinstance(key, X25519PrivateKey):
        return DHKEM_X25519
    if isinstance(key.curve, ec.SECP256R1):
        return DHKEM_P256
    raise HpkeError(f"no KEM of the curve {key.curve.name}")


def public_bytes(key: PrivateKey) -> bytes:
    """The public key in the encoding of its KEM (RFC 9180 section 7.1.1, SerializePublicKey)."""
    if isinstance(key, X25519PrivateKey):
        return key.public_key().public_bytes_raw()
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


class _Kdf:
    """LabeledExtract and LabeledExpand of RFC 9180 section 4, for one suite."""

    __slots__ = ("_digest", "_suite_id", "length")

    def __init__(self, kdf_id: int, suite_id: bytes) -> None:
        self._digest, self.length = _DIGEST[kdf_id]
        self._suite_id = b"HPKE-v1" + suite_id

    def extract(self, salt: bytes, label: bytes, ikm: bytes) -> bytes:
        return hmac.digest(salt, self._suite_id + label + ikm, self._digest)

    def expand(self, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
        if not 0 <= length <= 255 * self.length:
            raise ValueError(f"HKDF gives up to {255 * self.length} bytes, not {length}")
        info = length.to_bytes(2) + self._suite_id + label + info
        block, output = b"", b""
        for counter in range(1, -(-length // self.length) + 1):
            block = hmac.digest(prk, block + info + bytes([counter]), self._digest)
            output += block
        return output[:length]


def _encapsulate(kem_id: int, public_key: bytes, ephemeral: PrivateKey) -> tuple[bytes, bytes]:
    """RFC 9180 section 4.1, Encap: the encapsulated key and the shared secret."""
    if kem_of(ephemeral) != kem_id:
        raise HpkeError(f"the ephemeral key is none of KEM {kem_id:#06x}")
    enc = public_bytes(ephemeral)
    return enc, _shared_secret(kem_id, _exchange(ephemeral, public_key), enc + public_key)


def _decapsulate(private_key: PrivateKey, enc: bytes) -> bytes:
    """RFC 9180 section 4.1, Decap."""
    return _shared_secret(kem_of(private_key), _exchange(private_key, enc), enc + public_bytes(private_key))


def _shared_secret(kem_id: int, dh: bytes, kem_context: bytes) -> bytes:
    # Both KEMs use HKDF-SHA256, whatever the KDF of the suite (RFC 9180 section 7.1).
    kdf = _Kdf(HKDF_SHA256, b"KEM" + kem_id.to_bytes(2))
    return kdf.expand(kdf.extract(b"", b"eae_prk", dh), b"shared_secret", kem_context, 32)


def _exchange(private_key: PrivateKey, public_key: bytes) -> bytes:
    """The Diffie-Hellman secret. RFC 9180 section 7.1.4: points are checked, and an all-zero secret is refused."""
    try:
        if isinstance(private_key, X25519PrivateKey):
            return private_key.exchange(X25519PublicKey.from_public_bytes(public_key))
        if public_key[:1] != b"\x04":
            # The library takes compressed points too, and HPKE does not.
            raise HpkeError("the public key is no uncompressed point of P-256")
        peer = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public_key)
        return private_key.exchange(ec.ECDH(), peer)
    except ValueError:
        raise HpkeError("the public key is none of this KEM") from None
