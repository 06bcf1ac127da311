"""What every peer gets: certificates of one authority, ECH keys, and a place for files."""

import os
import shutil
import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from transport.ech.config import encode_config_list, generate_key, parse_config_list

PEERS: Final = Path(os.environ.get("AEGIS_PEERS", Path.home() / ".cache/aegis-peers"))
PUBLIC: Final = "public.example"
SECRET: Final = "secret.internal"


@dataclass(frozen=True)
class Chain:
    """A leaf certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        """Certificate and key in one."""
        pkcs8 = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return (self.certificate.public_bytes(Encoding.PEM) + pkcs8).decode()

    @property
    def der(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(Encoding.DER)


class Lab:
    """Made once for a run of the suite."""

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder
        self._root_key = ec.generate_private_key(ec.SECP256R1())
        self._root_name = _name("interop root")
        self.root: Final = self._certificate(self._root_name, self._root_key, ())
        self.root_file: Final = folder / "ca.pem"
        self.root_file.write_bytes(self.root.public_bytes(Encoding.PEM))
        self.secret: Final = self.chain("inner", SECRET)
        self.public: Final = self.chain("outer", PUBLIC)
        self.both: Final = self.chain("both", SECRET, PUBLIC)
        """For servers that have one certificate only."""
        self.localhost: Final = self.chain("localhost", "localhost")
        """For the DNS server."""
        self.key: Final = generate_key(PUBLIC, os.urandom)
        """What servers open hellos with, and what they offer to whoever comes with another."""
        self.stale: Final = generate_key(PUBLIC, os.urandom, live_ids=[self.key.config.config_id])
        """What no server has any more."""

    @property
    def root_pem(self) -> str:
        return self.root_file.read_text()

    @property
    def config_list(self) -> bytes:
        return encode_config_list([self.key.config])

    @property
    def stale_list(self) -> bytes:
        return encode_config_list([self.stale.config])

    @property
    def chains(self) -> tuple[Chain, ...]:
        """Those of the servers under test."""
        return (self.secret, self.public, self.both)

    def pkcs12(self, chain: Chain, name: str, password: bytes) -> bytes:
        return pkcs12.serialize_key_and_certificates(
            name.encode(), chain.key, chain.certificate, [self.root], _old_encryption(password)
        )

    def chain(self, name: str, *hosts: str) -> Chain:
        """A certificate for these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        return Chain(self._certificate(_name(name), key, hosts), key)

    def _certificate(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, hosts: tuple[str, ...]
    ) -> x509.Certificate:
        now = datetime.now(UTC)  # noqa: TID251 the peers check certificates by the clock of this machine
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._root_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=7))
            .add_extension(x509.BasicConstraints(ca=not hosts, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(_issuer(self._root_key), critical=False)
            .add_extension(_usage(authority=not hosts), critical=True)
        )
        if hosts:
            names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
            server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
            builder = builder.add_extension(names, critical=False).add_extension(server, critical=False)
        return builder.sign(self._root_key, SHA256())


def program(name: str) -> str:
    """The path of somebody else's program. Skips the test if it is not there."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: .ci/install-tls-peers")
    return found


def python_of(peer: str) -> Path:
    """The interpreter of a peer that has an environment of its own. Skips the test if it is not there."""
    python = PEERS / peer / "bin/python"
    if not python.exists():
        pytest.skip(f"{peer} is not installed: .ci/install-tls-peers")
    return python


def first_key(config_list: bytes) -> bytes | None:
    """The public key of the first configuration in a list; None for no list at all."""
    return parse_config_list(config_list)[0].public_key if config_list else None


def wait_until_listening(port: int, seconds: float = 10) -> None:
    """Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise TimeoutError(f"nothing listens on port {port}")


def _name(name: str) -> x509.Name:
    # Distinct subjects: NSS gives certificates of the same subject the same nickname.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _issuer(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _old_encryption(password: bytes) -> KeySerializationEncryption:
    """What pk12util of Debian 12 reads."""
    builder = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(2048)
    return builder.key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC).hmac_hash(SHA256()).build(password)
