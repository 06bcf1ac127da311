"""A certificate authority for one machine: for `aegis up`, `aegis identity` and tests, where no cluster has one.

    authority = LocalAuthority.open_or_create(data / "ca", "local", now)
    identity = authority.issue("sidecar/one", now=now)                          # a client: no DNS or IP names
    identity = authority.issue("controlplane/one", now=now, hosts=LOOPBACK)     # a server
    identity = authority.enroll(data / "identity/sidecar", "sidecar/one", now=now)   # reuse from disk, renew when due

The CA key lies unencrypted (0600) on disk: whoever reads it is everyone. That is right for one machine, and the reason
why a cluster gets another issuer.
"""

import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from controlplane.identity.identity import Identity
from controlplane.identity.spiffe import IdentityError, SpiffeId
from settings import private_file

LOOPBACK = ("localhost", "127.0.0.1", "::1")
LEAF_LIFETIME = timedelta(hours=24)
_CA_LIFETIME = timedelta(days=3650)
_CLOCK_SKEW = timedelta(minutes=5)
"""Certificates are valid from this long before `now`: peers' clocks differ."""
_CA_FILE, _CA_KEY_FILE = "ca.crt", "ca.key"


class LocalAuthority:
    """An ECDSA P-256 CA for one trust domain, kept in a directory."""

    def __init__(self, trust_domain: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.trust_domain = trust_domain
        self._certificate = certificate
        self._key = key

    @classmethod
    def open_or_create(cls, directory: Path, trust_domain: str, now: datetime) -> "LocalAuthority":
        """The CA that lives in `directory`; made on the first call, the same one ever after.

        Processes that come at once get the same CA. Raises IdentityError if what lies there is of another trust
        domain, expired, or broken; nothing is ever overwritten.
        """
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (directory / _CA_FILE).exists():
                _create(directory, trust_domain, now)
            return cls._open(directory, trust_domain, now)
        finally:
            os.close(lock)

    @classmethod
    def _open(cls, directory: Path, trust_domain: str, now: datetime) -> "LocalAuthority":
        try:
            certificate = x509.load_pem_x509_certificate((directory / _CA_FILE).read_bytes())
            key = serialization.load_pem_private_key((directory / _CA_KEY_FILE).read_bytes(), None)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
            raise IdentityError(f"{directory} does not hold a readable CA; move it away to start afresh") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise IdentityError(f"{directory}: {_CA_KEY_FILE} does not belong to {_CA_FILE}")
        uris = _uris(certificate)
        if uris != [f"spiffe://{trust_domain}"]:
            raise IdentityError(f"{directory} holds the CA of {uris}, not of spiffe://{trust_domain}")
        if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
            raise IdentityError(f"{directory}: the CA was valid until {certificate.not_valid_after_utc:%Y-%m-%d}")
        return cls(trust_domain, certificate, key)

    @property
    def ca_pem(self) -> bytes:
        """The CA certificate, PEM."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self, name: str, *, now: datetime, hosts: Sequence[str] = (), lifetime: timedelta = LEAF_LIFETIME
    ) -> Identity:
        """A fresh key and certificate for `spiffe://<trust domain>/<name>`.

        `hosts` (DNS names, IP addresses) are for servers only: a client accepts any server whose certificate names
        the host it dialled, so a sidecar with `localhost` in its certificate could pose as the control plane.
        """
        spiffe_id = SpiffeId(self.trust_domain, name)
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(str(spiffe_id))]
        names += [_general_name(host) for host in hosts]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[-64:])]))
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _CLOCK_SKEW)
            .not_valid_after(min(now + lifetime, self._certificate.not_valid_after_utc))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(sign_certificates=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
                critical=False,
            )
            .add_extension(_authority_key(self._certificate), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Identity(certificate.public_bytes(serialization.Encoding.PEM), _pem(key), self.ca_pem)

    def enroll(
        self,
        directory: Path,
        name: str,
        *,
        now: datetime,
        hosts: Sequence[str] = (),
        lifetime: timedelta = LEAF_LIFETIME,
    ) -> Identity:
        """The identity kept in `directory`, issued and written if there is none, it is another's, or it is due."""
        # Whatever is wrong with what lies there, nothing of it is trusted or kept: a fresh one replaces it.
        with suppress(IdentityError, InvalidSignature, ValueError, x509.ExtensionNotFound):
            kept = Identity.read(directory)
            kept.certificate.verify_directly_issued_by(self._certificate)
            if kept.ca_pem == self.ca_pem and now < kept.renew_at and _names(kept) == (name, frozenset(hosts)):
                return kept
        fresh = self.issue(name, now=now, hosts=hosts, lifetime=lifetime)
        fresh.write(directory)
        return fresh


def _create(directory: Path, trust_domain: str, now: datetime) -> None:
    SpiffeId(trust_domain, "ca")  # refuses a malformed trust domain before anything is written
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Aegis Mesh local CA of {trust_domain}"[:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _CA_LIFETIME)
        # X509-SVID section 4.2: a signing certificate names its trust domain, without a path.
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    private_file.replace(directory / _CA_KEY_FILE, _pem(key))
    # From here the CA exists: the certificate is the file that `open_or_create` looks for.
    private_file.replace(directory / _CA_FILE, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def _names(identity: Identity) -> tuple[str, frozenset[str]]:
    names = identity.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts = names.get_values_for_type(x509.DNSName)
    hosts += [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return identity.spiffe_id.path, frozenset(hosts)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key(ca: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    subject_key = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject_key)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
