"""Key agreement: our share, the peer's share, the secret (RFC 8446 section 4.2.8, draft-ietf-tls-ecdhe-mlkem).

A client makes a `KeyShare` and later calls `agree`; a server calls `respond` and has share and secret at once, because
a KEM needs the client's share to make its own. Every share is checked for its exact form: `cryptography` by itself
would take compressed points, which TLS 1.3 forbids.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDH,
    SECP256R1,
    SECP384R1,
    EllipticCurve,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from transport.tls13.alerts import AlertDescription, TlsError
from transport.tls13.constants import NamedGroup

_MLKEM_KEY: Final = 1184
"""Bytes of an ML-KEM-768 encapsulation key (FIPS 203)."""
_MLKEM_CIPHERTEXT: Final = 1088


class KeyShare(Protocol):
    """A client's half of an agreement; holds the private key, used once."""

    @property
    def public(self) -> bytes:
        """`key_exchange` of the KeyShareEntry."""

    def agree(self, peer: bytes) -> bytes:
        """The shared secret with the server's `key_exchange`. Raises TlsError(illegal_parameter)."""


def is_known_group(group: int) -> bool:
    """Whether we can agree on keys in `group`."""
    return group in _GROUPS


def generate(group: int) -> KeyShare:
    """A fresh share of `group`. Raises KeyError for a group we do not have."""
    return _GROUPS[group].generate()


def respond(group: int, peer: bytes) -> tuple[bytes, bytes]:
    """(our `key_exchange`, shared secret) for the client's `peer`. Raises TlsError(illegal_parameter)."""
    return _GROUPS[group].respond(peer)


class _Group(Protocol):
    def generate(self) -> KeyShare: ...

    def respond(self, peer: bytes) -> tuple[bytes, bytes]: ...


class _X25519:
    def generate(self) -> "_X25519Share":
        return _X25519Share()

    def respond(self, peer: bytes) -> tuple[bytes, bytes]:
        share = _X25519Share()
        return share.public, share.agree(peer)


class _X25519Share:
    def __init__(self) -> None:
        self._key = X25519PrivateKey.generate()
        self.public = self._key.public_key().public_bytes_raw()

    def agree(self, peer: bytes) -> bytes:
        """RFC 8446 section 7.4.2: the all-zero secret MUST be refused; `exchange` raises ValueError for it."""
        try:
            return self._key.exchange(X25519PublicKey.from_public_bytes(peer))
        except ValueError:
            raise _bad_share("X25519") from None


@dataclass(frozen=True, slots=True)
class _Nist:
    curve: EllipticCurve
    size: int
    """Bytes of an uncompressed point."""

    def generate(self) -> "_NistShare":
        return _NistShare(self, generate_private_key(self.curve))

    def respond(self, peer: bytes) -> tuple[bytes, bytes]:
        share = self.generate()
        return share.public, share.agree(peer)


class _NistShare:
    def __init__(self, group: _Nist, key: EllipticCurvePrivateKey) -> None:
        self._group = group
        self._key = key
        self.public = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def agree(self, peer: bytes) -> bytes:
        """RFC 8446 section 4.2.8.2: legacy_form is 4, the uncompressed form; anything else is refused."""
        if len(peer) != self._group.size or peer[0] != 4:
            raise _bad_share("EC")
        try:  # from_encoded_point checks that the point is on the curve
            return self._key.exchange(ECDH(), EllipticCurvePublicKey.from_encoded_point(self._group.curve, peer))
        except ValueError:
            raise _bad_share("EC") from None


class _X25519MLKEM768:
    """ML-KEM comes first in both shares and in the secret."""

    def generate(self) -> "_HybridShare":
        return _HybridShare()

    def respond(self, peer: bytes) -> tuple[bytes, bytes]:
        if len(peer) != _MLKEM_KEY + 32:
            raise _bad_share("X25519MLKEM768")
        try:
            post_quantum, ciphertext = MLKEM768PublicKey.from_public_bytes(peer[:_MLKEM_KEY]).encapsulate()
        except ValueError:  # FIPS 203 section 7.2, modulus check
            raise _bad_share("X25519MLKEM768") from None
        classical = _X25519Share()
        return ciphertext + classical.public, post_quantum + classical.agree(peer[_MLKEM_KEY:])


class _HybridShare:
    def __init__(self) -> None:
        self._post_quantum = MLKEM768PrivateKey.generate()
        self._classical = _X25519Share()
        self.public = self._post_quantum.public_key().public_bytes_raw() + self._classical.public

    def agree(self, peer: bytes) -> bytes:
        if len(peer) != _MLKEM_CIPHERTEXT + 32:
            raise _bad_share("X25519MLKEM768")
        return self._post_quantum.decapsulate(peer[:_MLKEM_CIPHERTEXT]) + self._classical.agree(
            peer[_MLKEM_CIPHERTEXT:]
        )


_GROUPS: Final[Mapping[int, _Group]] = MappingProxyType(
    {
        NamedGroup.X25519MLKEM768: _X25519MLKEM768(),
        NamedGroup.X25519: _X25519(),
        NamedGroup.SECP256R1: _Nist(SECP256R1(), 65),
        NamedGroup.SECP384R1: _Nist(SECP384R1(), 97),
    }
)


def _bad_share(group: str) -> TlsError:
    return TlsError(AlertDescription.ILLEGAL_PARAMETER, f"the {group} key share is not valid")
