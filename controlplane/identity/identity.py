"""An X.509 SVID on disk: certificate chain, private key, and the CAs to believe.

The files are named as in a Kubernetes TLS secret (`tls.crt`, `tls.key`, `ca.crt`), so that a mounted cert-manager
secret serves as well as what `aegis up` writes.
"""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from controlplane.identity.spiffe import IdentityError, SpiffeId
from settings import private_file

CERTIFICATE_FILE = "tls.crt"
KEY_FILE = "tls.key"
CA_FILE = "ca.crt"


@dataclass(frozen=True, slots=True)
class Identity:
    """One workload's certificate and key."""

    cert_pem: bytes
    """Leaf first, then intermediates."""
    key_pem: bytes = field(repr=False)
    """PKCS #8, unencrypted."""
    ca_pem: bytes
    """The trust bundle that verifies peers."""

    @property
    def certificate(self) -> x509.Certificate:
        """The leaf certificate."""
        return x509.load_pem_x509_certificate(self.cert_pem)

    @property
    def spiffe_id(self) -> SpiffeId:
        """The one URI SAN. Raises IdentityError: X509-SVID section 2 allows exactly one."""
        return spiffe_id_of(self.certificate)

    @property
    def renew_at(self) -> datetime:
        """When 70 % of the lifetime have passed."""
        leaf = self.certificate
        return leaf.not_valid_before_utc + (leaf.not_valid_after_utc - leaf.not_valid_before_utc) * 0.7

    def write(self, directory: Path) -> None:
        """Put the three files into `directory` (0700), the key 0600, each by rename.

        A reader that comes between two renames sees a certificate that does not match its key; `read` refuses that.
        """
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        private_file.replace(directory / KEY_FILE, self.key_pem)
        private_file.replace(directory / CA_FILE, self.ca_pem, mode=0o644)
        private_file.replace(directory / CERTIFICATE_FILE, self.cert_pem, mode=0o644)

    @classmethod
    def read(cls, directory: Path) -> "Identity":
        """What `write` wrote. Raises IdentityError if a file is missing, malformed, or key and certificate differ."""
        try:
            files = [(directory / name).read_bytes() for name in (CERTIFICATE_FILE, KEY_FILE, CA_FILE)]
        except OSError as error:
            raise IdentityError(f"cannot read {error.filename}: {error.strerror}") from None
        identity = cls(*files)
        try:
            public = serialization.load_pem_private_key(identity.key_pem, None).public_key()
            matching = public == identity.certificate.public_key()
            x509.load_pem_x509_certificates(identity.ca_pem)
        except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: the key is encrypted
            raise IdentityError(f"{directory} holds no PEM certificate, unencrypted key and CA") from None
        if not matching:
            raise IdentityError(f"{directory}: {KEY_FILE} does not belong to {CERTIFICATE_FILE}")
        return identity


def spiffe_id_of(certificate: x509.Certificate) -> SpiffeId:
    """The one URI SAN of `certificate` as SPIFFE id. Raises IdentityError."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise IdentityError("the certificate has no subject alternative name") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise IdentityError(f"the certificate names {len(uris)} URIs; an SVID names exactly one")
    return SpiffeId.parse(uris[0])
