"""CertificateVerify: what is signed, by which keys, with which schemes (RFC 8446 sections 4.2.3 and 4.4.3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    SECP384R1,
    EllipticCurve,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm

from transport.tls13.alerts import AlertDescription, TlsError, illegal_parameter
from transport.tls13.constants import SignatureScheme

SigningKey = EllipticCurvePrivateKey | Ed25519PrivateKey | RSAPrivateKey

VERIFIED_SCHEMES: Final = (
    SignatureScheme.ECDSA_SECP256R1_SHA256,
    SignatureScheme.ED25519,
    SignatureScheme.ECDSA_SECP384R1_SHA384,
    SignatureScheme.RSA_PSS_RSAE_SHA256,
    SignatureScheme.RSA_PSS_RSAE_SHA384,
    SignatureScheme.RSA_PSS_RSAE_SHA512,
)
"""What we offer in `signature_algorithms`, in order of preference."""
MIN_RSA_BITS: Final = 2048
_SERVER_CONTEXT: Final = b" " * 64 + b"TLS 1.3, server CertificateVerify\0"


@dataclass(frozen=True, slots=True)
class _Ecdsa:
    curve: type[EllipticCurve]
    hash: HashAlgorithm


@dataclass(frozen=True, slots=True)
class _Pss:
    """RFC 8446 section 4.2.3: MGF1 with the same hash, a salt as long as the hash."""

    hash: HashAlgorithm

    def padding(self) -> PSS:
        return PSS(MGF1(self.hash), self.hash.digest_size)


@dataclass(frozen=True, slots=True)
class _EdDsa:
    pass


_SCHEMES: Final[Mapping[int, _Ecdsa | _Pss | _EdDsa]] = MappingProxyType(
    {
        SignatureScheme.ECDSA_SECP256R1_SHA256: _Ecdsa(SECP256R1, SHA256()),
        SignatureScheme.ECDSA_SECP384R1_SHA384: _Ecdsa(SECP384R1, SHA384()),
        SignatureScheme.ED25519: _EdDsa(),
        SignatureScheme.RSA_PSS_RSAE_SHA256: _Pss(SHA256()),
        SignatureScheme.RSA_PSS_RSAE_SHA384: _Pss(SHA384()),
        SignatureScheme.RSA_PSS_RSAE_SHA512: _Pss(SHA512()),
    }
)


def signed_content(transcript_hash: bytes) -> bytes:
    """What a server signs: 64 spaces, the context string, a zero byte, the hash of all messages up to Certificate."""
    return _SERVER_CONTEXT + transcript_hash


def verify(scheme: int, key: PublicKeyTypes, signature: bytes, content: bytes) -> None:
    """Return if `signature` is the server's over `content`.

    Raises TlsError: illegal_parameter for a scheme that was not offered or that the key is not for ("the signature
    algorithm MUST be one offered", and it binds the curve, section 4.2.3); decrypt_error for a wrong signature.
    """
    try:
        match _SCHEMES.get(scheme), key:
            case _Ecdsa(curve, digest), EllipticCurvePublicKey() if isinstance(key.curve, curve):
                key.verify(signature, content, ECDSA(digest))
            case _Pss() as pss, RSAPublicKey() if key.key_size >= MIN_RSA_BITS:
                key.verify(signature, content, pss.padding(), pss.hash)
            case _EdDsa(), Ed25519PublicKey():
                key.verify(signature, content)
            case _:
                raise illegal_parameter("the key of the certificate cannot have signed so")
    except InvalidSignature:
        raise TlsError(AlertDescription.DECRYPT_ERROR, "the signature of the handshake is wrong") from None


def schemes_of(key: PrivateKeyTypes) -> tuple[SignatureScheme, ...]:
    """How `key` can sign, best first. Raises ValueError if it cannot sign TLS 1.3."""
    match key:
        case Ed25519PrivateKey():
            return (SignatureScheme.ED25519,)
        case EllipticCurvePrivateKey() if isinstance(key.curve, SECP256R1):
            return (SignatureScheme.ECDSA_SECP256R1_SHA256,)
        case EllipticCurvePrivateKey() if isinstance(key.curve, SECP384R1):
            return (SignatureScheme.ECDSA_SECP384R1_SHA384,)
        case RSAPrivateKey() if key.key_size >= MIN_RSA_BITS:
            return (
                SignatureScheme.RSA_PSS_RSAE_SHA256,
                SignatureScheme.RSA_PSS_RSAE_SHA384,
                SignatureScheme.RSA_PSS_RSAE_SHA512,
            )
    raise ValueError("a TLS 1.3 key is ECDSA on P-256 or P-384, Ed25519, or RSA of 2048 bits or more")


def sign(scheme: SignatureScheme, key: SigningKey, content: bytes) -> bytes:
    """The signature over `content`. `scheme` is one of `schemes_of(key)`."""
    match _SCHEMES[scheme], key:
        case _Ecdsa(hash=digest), EllipticCurvePrivateKey():
            return key.sign(content, ECDSA(digest))
        case _Pss() as pss, RSAPrivateKey():
            return key.sign(content, pss.padding(), pss.hash)
        case _EdDsa(), Ed25519PrivateKey():
            return key.sign(content)
        case _:
            raise ValueError("this key does not sign with this scheme")
