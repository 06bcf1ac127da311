"""A server's certificate and key, and a client's trust (RFC 8446 section 4.4.2, RFC 5280, RFC 9525)."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Self, cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from transport.tls13.alerts import AlertDescription, TlsError, illegal_parameter
from transport.tls13.constants import SignatureScheme
from transport.tls13.messages import Certificate, CertificateEntry
from transport.tls13.signatures import SigningKey, schemes_of, sign

MAX_CHAIN_DEPTH: Final = 4
"""Intermediates between leaf and root."""
MAX_BELIEVED: Final = 64
"""Chains that a `Trust` remembers, some 500 bytes each."""

_BROKEN_RULE: Final = re.compile(r"invalid extension: ([0-9.]{3,40}): ([A-Za-z ]{1,80})")
"""What the library says of a path, without what strangers wrote into their certificates."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate chain with the private key of its leaf."""

    names: frozenset[str]
    """DNS names of the leaf, in lower case; a wildcard stands as it is written."""
    message: bytes
    """Body of the Certificate message."""
    schemes: tuple[SignatureScheme, ...]
    """How the key can sign, best first."""
    key: SigningKey = field(repr=False)

    @classmethod
    def from_pem(cls, chain: bytes, key: bytes) -> Self:
        """A leaf first, then its intermediates, and an unencrypted private key.

        Raises ValueError for what is not PEM, for a key of another leaf and for one that cannot sign TLS 1.3.
        """
        certificates = x509.load_pem_x509_certificates(chain)
        return cls.of(certificates, cast("SigningKey", load_pem_private_key(key, password=None)))

    @classmethod
    def of(cls, chain: Sequence[x509.Certificate], key: SigningKey) -> Self:
        """As `from_pem`, from what is loaded already."""
        leaf = chain[0]
        schemes = schemes_of(key)
        if _spki(leaf.public_key()) != _spki(key.public_key()):
            raise ValueError("the private key is not that of the certificate")
        entries = tuple(CertificateEntry(certificate.public_bytes(Encoding.DER)) for certificate in chain)
        return cls(frozenset(_dns_names(leaf)), Certificate(entries).encode(), schemes, key)

    def covers(self, name: str) -> bool:
        """Whether the leaf is for the host `name` (RFC 9525 section 6.3: a wildcard is one whole leftmost label)."""
        return _covers(self.names, name)

    def sign(self, scheme: SignatureScheme, content: bytes) -> bytes:
        """The signature over `content`. `scheme` is one of `schemes`."""
        return sign(scheme, self.key, content)


@dataclass(frozen=True, slots=True)
class _Belief:
    """A chain that was verified, and the only time in which it would be again."""

    key: PublicKeyTypes
    not_before: datetime
    not_after: datetime


class Trust:
    """The authorities whose certificates a client believes. Used by one thread.

    A mesh dials the same few peers again and again, and the verdict on a chain depends on nothing but its bytes, the
    name, the roots and the time. So a chain that was found good is not verified again while every certificate on its
    path, root included, is valid. What was refused is never remembered: strangers cannot push anything out.
    """

    def __init__(self, roots: Iterable[x509.Certificate]) -> None:
        """Raises ValueError for no root at all."""
        self._store: Final = Store(list(roots))
        self._believed: Final[dict[tuple[bytes, str], _Belief]] = {}
        """By digest of the chain and name, oldest first. Goes with its roots: other roots are another Trust."""

    @classmethod
    def from_pem(cls, roots: bytes) -> Self:
        """Roots in PEM. Raises ValueError."""
        return cls(x509.load_pem_x509_certificates(roots))

    def verify(self, chain: tuple[bytes, ...], name: str, now: datetime) -> PublicKeyTypes:
        """The public key of the leaf of `chain` (DER, leaf first) if it is valid for the host `name` at `now` (UTC).

        Raises TlsError: bad_certificate, certificate_expired or certificate_unknown.
        """
        which = _digest(chain), name
        belief = self._believed.get(which)
        if belief is not None and belief.not_before <= now <= belief.not_after:
            return belief.key
        try:
            belief = self._verify(chain, name, now)
        except TlsError:
            raise
        except Exception:  # noqa: BLE001 the library parses lazily what strangers wrote, and not all it raises is named
            raise TlsError(AlertDescription.BAD_CERTIFICATE, "the certificate cannot be read") from None
        if len(self._believed) >= MAX_BELIEVED:
            del self._believed[next(iter(self._believed))]
        self._believed[which] = belief
        return belief.key

    def _verify(self, chain: tuple[bytes, ...], name: str, now: datetime) -> _Belief:
        leaf, *rest = [x509.load_der_x509_certificate(der) for der in chain]
        builder = PolicyBuilder().store(self._store).time(now).max_chain_depth(MAX_CHAIN_DEPTH)
        try:
            path = builder.build_server_verifier(x509.DNSName(name)).verify(leaf, rest)
        except VerificationError as error:
            raise TlsError(*_reason(leaf, name, now, error)) from None
        _require_signing(leaf)
        return _Belief(
            leaf.public_key(),
            max(certificate.not_valid_before_utc for certificate in path),
            min(certificate.not_valid_after_utc for certificate in path),
        )


def _digest(chain: tuple[bytes, ...]) -> bytes:
    """SHA-256 of all certificates and where each ends."""
    hashed = hashlib.sha256()
    for der in chain:
        hashed.update(len(der).to_bytes(4, "big"))
        hashed.update(der)
    return hashed.digest()


def _require_signing(leaf: x509.Certificate) -> None:
    """RFC 8446 section 4.4.2.2: if keyUsage is there, digitalSignature MUST be set."""
    try:
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not usage.digital_signature:
        raise illegal_parameter("the key of the certificate is not for signing")


def _reason(leaf: x509.Certificate, name: str, now: datetime, error: VerificationError) -> tuple[AlertDescription, str]:
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        return AlertDescription.CERTIFICATE_EXPIRED, "the certificate is not valid at this time"
    if not _covers(_dns_names(leaf), name):
        return AlertDescription.CERTIFICATE_UNKNOWN, "the certificate is not for this name"
    if found := _BROKEN_RULE.search(str(error)):
        return (
            AlertDescription.CERTIFICATE_UNKNOWN,
            f"the certificate or its authority breaks a rule of RFC 5280: extension {found[1]}: {found[2]}",
        )
    return AlertDescription.CERTIFICATE_UNKNOWN, "the certificate is not from our authorities"


def _covers(names: Iterable[str], name: str) -> bool:
    name = name.lower()
    return any(each in (name, "*." + name.partition(".")[2]) for each in names)


def _dns_names(leaf: x509.Certificate) -> list[str]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in names.get_values_for_type(x509.DNSName)]


def _spki(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
