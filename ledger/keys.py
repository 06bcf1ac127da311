"""Keys as text: verifier keys of c2sp.org/signed-note, and signing keys in the form that Go's note package reads.

<name>+<hex key id>+<base64(type || public key)>
PRIVATE+KEY+<name>+<hex key id>+<base64(type || seed)>
"""

import re
from base64 import b64encode
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from ledger.encoding import canonical_base64
from ledger.errors import MalformedError

SEED_SIZE: Final = 32
"""Bytes of a seed, for Ed25519 (RFC 8032 section 5.1.5) as for ML-DSA-44 (FIPS 204 section 5.1)."""
_MAX_KEY: Final = 8192
_HEX_ID: Final = re.compile(r"[0-9a-f]{8}", re.ASCII)
_PRIVATE: Final = "PRIVATE+KEY+"


class SignatureType(IntEnum):
    """The signature types of c2sp.org/signed-note that are verified here."""

    ED25519 = 0x01
    """Over the text of the note."""
    ED25519_COSIGNATURE = 0x04
    """Timestamped, over a checkpoint (c2sp.org/tlog-cosignature)."""
    MLDSA44_COSIGNATURE = 0x06
    """Timestamped and post-quantum, over a checkpoint (c2sp.org/tlog-cosignature)."""


KEY_SIZES: Final = {
    SignatureType.ED25519: 32,
    SignatureType.ED25519_COSIGNATURE: 32,
    SignatureType.MLDSA44_COSIGNATURE: 1312,
}


def is_key_name(name: str) -> bool:
    """Whether signed-note allows this key name: not empty, no Unicode space, no plus sign, no control character."""
    return bool(name) and not any(c <= " " or c == "+" or c.isspace() or "\ud800" <= c <= "\udfff" for c in name)


def key_id(name: str, signature_type: int, public_key: bytes) -> bytes:
    """signed-note, "Signatures": SHA-256(name || 0x0A || type || public key)[:4]."""
    return sha256(name.encode() + b"\n" + bytes([signature_type]) + public_key).digest()[:4]


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key under a name, for one type of signature."""

    name: str
    type: SignatureType
    public_key: bytes

    @property
    def id(self) -> bytes:
        """4 bytes that stand before every signature of this key. Not a secret and not collision resistant."""
        return key_id(self.name, self.type, self.public_key)

    def __str__(self) -> str:
        """The vkey text."""
        return f"{self.name}+{self.id.hex()}+{b64encode(bytes([self.type]) + self.public_key).decode()}"


def parse_vkey(text: str) -> VerifierKey:
    """The verifier key that `text` is: `str(parse_vkey(text)) == text`. Raises MalformedError."""
    name, id_hex, blob = _parts(text, "verifier key")
    signature_type = _signature_type(blob)
    public_key = blob[1:]
    if len(public_key) != KEY_SIZES[signature_type]:
        raise MalformedError(
            f"a key of type {signature_type:#04x} has {KEY_SIZES[signature_type]} bytes, this one has {len(public_key)}"
        )
    key = VerifierKey(name, signature_type, public_key)
    _check_id(key, id_hex)
    return key


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A seed under a name, for one type of signature."""

    name: str
    type: SignatureType
    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.seed) != SEED_SIZE or not is_key_name(self.name):
            raise ValueError("a signing key needs a seed of 32 bytes and a name without spaces and '+'")

    @property
    def verifier_key(self) -> VerifierKey:
        """What others need to verify."""
        private = (
            MLDSA44PrivateKey.from_seed_bytes(self.seed)
            if self.type is SignatureType.MLDSA44_COSIGNATURE
            else Ed25519PrivateKey.from_private_bytes(self.seed)
        )
        return VerifierKey(self.name, self.type, private.public_key().public_bytes_raw())

    def encode(self) -> str:
        """The private text form. Secret."""
        blob = b64encode(bytes([self.type]) + self.seed).decode()
        return f"{_PRIVATE}{self.name}+{self.verifier_key.id.hex()}+{blob}"


def parse_signing_key(text: str) -> SigningKey:
    """The signing key that `text` is. Raises MalformedError, whose message never holds a part of the text."""
    if not text.startswith(_PRIVATE):
        raise MalformedError("a signing key begins with PRIVATE+KEY+")
    name, id_hex, blob = _parts(text[len(_PRIVATE) :], "signing key")
    signature_type, seed = _signature_type(blob), blob[1:]
    if len(seed) != SEED_SIZE:
        raise MalformedError(f"a signing key holds a seed of {SEED_SIZE} bytes, this one holds {len(seed)}")
    key = SigningKey(name, signature_type, seed)
    _check_id(key.verifier_key, id_hex)
    return key


def _parts(text: str, what: str) -> tuple[str, str, bytes]:
    if len(text) > _MAX_KEY:
        raise MalformedError(f"a {what} has at most {_MAX_KEY} characters, this one has {len(text)}")
    parts = text.split("+", 2)
    if len(parts) != 3 or not is_key_name(parts[0]) or not _HEX_ID.fullmatch(parts[1]):
        raise MalformedError(f"a {what} reads name+8 hex digits+base64, and the name has no spaces")
    blob = canonical_base64(parts[2], f"the last part of a {what}")
    return parts[0], parts[1], blob


def _signature_type(blob: bytes) -> SignatureType:
    try:
        return SignatureType(blob[0])
    except (IndexError, ValueError):
        known = ", ".join(f"{t:#04x}" for t in SignatureType)
        raise MalformedError(f"the signature type of the key is not supported; supported: {known}") from None


def _check_id(key: VerifierKey, id_hex: str) -> None:
    if key.id.hex() != id_hex:
        raise MalformedError(f"the key id of {key.name!r} should be {key.id.hex()}: name or key were altered")
