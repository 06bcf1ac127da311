"""Signatures of every supported type, and the messages that cosignatures sign (c2sp.org/tlog-cosignature).

    0x01  Ed25519 over the text of a note
    0x04  u64 timestamp || Ed25519 over "cosignature/v1\\ntime <timestamp>\\n" || text
    0x06  u64 timestamp || ML-DSA-44 over a `cosigned_message` that names cosigner and origin and leaves out extensions

A log signs its checkpoints with 0x01, which verifiers of today read, and with 0x06 under its own name, which outlives
quantum computers; a verifier that knows one of the keys ignores the other line.
"""

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.errors import MalformedError, SignatureError
from ledger.keys import SignatureType, SigningKey, VerifierKey
from ledger.note import NoteSignature, Signer, Verifier

_MAX_TIME: Final = (1 << 63) - 1
_SIZES: Final = {
    SignatureType.ED25519: 64,
    SignatureType.ED25519_COSIGNATURE: 8 + 64,
    SignatureType.MLDSA44_COSIGNATURE: 8 + 2420,
}


def verifier(key: VerifierKey) -> Verifier:
    """What checks the signatures of `key`."""
    if key.type is SignatureType.MLDSA44_COSIGNATURE:
        return _MldsaVerifier(key)
    return _Ed25519Verifier(key)


def signer(key: SigningKey) -> Signer:
    """What signs with `key`. Deriving the key pair costs up to a millisecond: keep it."""
    if key.type is SignatureType.MLDSA44_COSIGNATURE:
        return _MldsaSigner(key)
    return _Ed25519Signer(key)


def cosignature_time(signature: bytes) -> int:
    """When a cosignature (0x04, 0x06) says that it was made, in POSIX seconds. Raises MalformedError."""
    timestamp = int.from_bytes(signature[:8], "big")
    if len(signature) <= 8 or timestamp > _MAX_TIME:
        raise MalformedError("a cosignature begins with a time below 2^63 in 8 bytes")
    return timestamp


def ed25519_message(text: str, timestamp: int) -> bytes:
    """What a cosignature of type 0x04 signs."""
    return f"cosignature/v1\ntime {timestamp}\n{text}".encode()


def mldsa_message(cosigner: str, timestamp: int, checkpoint: Checkpoint) -> bytes:
    """What a cosignature of type 0x06 signs: the struct `cosigned_message`, with `start` 0 as for any checkpoint.

    Raises MalformedError when a name does not fit its length byte.
    """
    name, origin = cosigner.encode(), checkpoint.origin.encode()
    if not 1 <= len(name) <= 255 or not 1 <= len(origin) <= 255:
        raise MalformedError("a cosigner's name and a log's origin have 1 to 255 bytes")
    return b"".join(
        (
            b"subtree/v1\n\x00",
            bytes([len(name)]),
            name,
            timestamp.to_bytes(8, "big"),
            bytes([len(origin)]),
            origin,
            bytes(8),
            checkpoint.size.to_bytes(8, "big"),
            checkpoint.root,
        )
    )


class _Ed25519Verifier:
    """Types 0x01 and 0x04."""

    __slots__ = ("_public", "key")

    def __init__(self, key: VerifierKey) -> None:
        self.key = key
        self._public = Ed25519PublicKey.from_public_bytes(key.public_key)

    def verify(self, text: str, signature: bytes) -> None:
        _check_size(self.key, signature)
        message, at = text.encode(), 0
        if self.key.type is SignatureType.ED25519_COSIGNATURE:
            parse_checkpoint(text)
            message, at = ed25519_message(text, cosignature_time(signature)), 8
        try:
            self._public.verify(signature[at:], message)
        except InvalidSignature:
            raise _bad(self.key) from None


class _MldsaVerifier:
    """Type 0x06."""

    __slots__ = ("_public", "key")

    def __init__(self, key: VerifierKey) -> None:
        self.key = key
        self._public = MLDSA44PublicKey.from_public_bytes(key.public_key)

    def verify(self, text: str, signature: bytes) -> None:
        _check_size(self.key, signature)
        message = mldsa_message(self.key.name, cosignature_time(signature), parse_checkpoint(text))
        try:
            self._public.verify(signature[8:], message)
        except InvalidSignature:
            raise _bad(self.key) from None


class _Ed25519Signer:
    """Types 0x01 and 0x04."""

    __slots__ = ("_private", "key")

    def __init__(self, key: SigningKey) -> None:
        self.key = key.verifier_key
        self._private = Ed25519PrivateKey.from_private_bytes(key.seed)

    def sign(self, text: str, now: int) -> NoteSignature:
        if self.key.type is SignatureType.ED25519:
            return NoteSignature(self.key.name, self.key.id, self._private.sign(text.encode()))
        parse_checkpoint(text)
        signature = now.to_bytes(8, "big") + self._private.sign(ed25519_message(text, now))
        return NoteSignature(self.key.name, self.key.id, signature)


class _MldsaSigner:
    """Type 0x06."""

    __slots__ = ("_private", "key")

    def __init__(self, key: SigningKey) -> None:
        self.key = key.verifier_key
        self._private = MLDSA44PrivateKey.from_seed_bytes(key.seed)

    def sign(self, text: str, now: int) -> NoteSignature:
        message = mldsa_message(self.key.name, now, parse_checkpoint(text))
        return NoteSignature(self.key.name, self.key.id, now.to_bytes(8, "big") + self._private.sign(message))


def _check_size(key: VerifierKey, signature: bytes) -> None:
    if len(signature) != _SIZES[key.type]:
        raise SignatureError(f"the signature of {key.name!r} has {len(signature)} bytes, not {_SIZES[key.type]}")


def _bad(key: VerifierKey) -> SignatureError:
    return SignatureError(f"the signature of {key.name!r} does not verify: the note was altered, or never signed")
