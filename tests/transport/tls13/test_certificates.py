"""Certificates and keys as files and as bytes of strangers (RFC 5280, RFC 8446 section 4.4.2)."""

from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import x25519
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fakes.tls13 import KEYS, NOW, Pki
from transport.tls13.alerts import AlertDescription, TlsError
from transport.tls13.certificates import MAX_BELIEVED, Credential, Trust
from transport.tls13.constants import SignatureScheme
from transport.tls13.signatures import sign

NAME = "service.internal"


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def pem_of(key: object) -> bytes:
    assert hasattr(key, "private_bytes")
    encoding, kind = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private: bytes = key.private_bytes(encoding, kind, serialization.NoEncryption())
    return private


@pytest.mark.parametrize("kind", KEYS)
def test_a_credential_is_read_from_pem(pki: Pki, kind: str) -> None:
    key = KEYS[kind]()
    leaf = pki.certificate(key, NAME, "*.Wild.internal")

    credential = Credential.from_pem(leaf.public_bytes(serialization.Encoding.PEM), pem_of(key))

    assert credential.names == {NAME, "*.wild.internal"}
    assert der(leaf) in credential.message


@pytest.mark.parametrize(("chain", "key"), [(b"", b""), (b"x", b"x")])
def test_what_is_not_pem_is_refused(chain: bytes, key: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Credential.from_pem(chain, key)
    with pytest.raises(ValueError, match=r"."):
        Trust.from_pem(chain)


def test_a_leaf_without_names_covers_none(pki: Pki) -> None:
    key = KEYS["p256"]()

    assert not Credential.of([pki.root], pki.key).covers(NAME)
    assert not Credential.of([pki.certificate(key, "other.internal")], key).covers(NAME)


def test_roots_are_read_from_pem(pki: Pki) -> None:
    trust = Trust.from_pem(pki.root_pem.encode())
    key = KEYS["p256"]()

    assert trust.verify((der(pki.certificate(key, NAME)),), NAME, NOW) == key.public_key()


def test_a_key_does_not_sign_with_a_scheme_of_another(pki: Pki) -> None:
    with pytest.raises(ValueError, match="does not sign"):
        sign(SignatureScheme.ED25519, KEYS["p256"](), b"content")


def cross_signed(pki: Pki, intermediate: Pki, not_after: datetime) -> bytes:
    """The root of `intermediate` as an intermediate of `pki`."""
    issued = (
        x509.CertificateBuilder()
        .subject_name(intermediate.name)
        .issuer_name(pki.name)
        .public_key(intermediate.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(pki.root.not_valid_before_utc)
        .not_valid_after(not_after)
    )
    for extension in intermediate.root.extensions:
        if extension.oid != x509.AuthorityKeyIdentifier.oid:
            issued = issued.add_extension(extension.value, critical=extension.critical)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(pki.key.public_key())
    return der(issued.add_extension(authority, critical=False).sign(pki.key, hashes.SHA256()))


def test_an_intermediate_leads_to_the_root(pki: Pki) -> None:
    intermediate = Pki()
    certificate = cross_signed(pki, intermediate, pki.root.not_valid_after_utc)
    key = KEYS["p256"]()
    leaf = der(intermediate.certificate(key, NAME))

    assert pki.trust.verify((leaf, certificate), NAME, NOW) == key.public_key()
    with pytest.raises(TlsError):
        pki.trust.verify((leaf,), NAME, NOW)


def test_a_chain_found_good_is_not_verified_again() -> None:
    pki = Pki()
    chain = (der(pki.certificate(KEYS["p256"](), NAME)),)

    key = pki.trust.verify(chain, NAME, NOW)

    assert pki.trust.verify(chain, NAME, NOW + timedelta(seconds=1)) is key


def test_a_chain_found_good_is_refused_once_its_leaf_expires(pki: Pki) -> None:
    leaf = pki.certificate(KEYS["p256"](), NAME)
    last, first = leaf.not_valid_after_utc, leaf.not_valid_before_utc
    pki.trust.verify((der(leaf),), NAME, NOW)

    for at in (last + timedelta(seconds=1), first - timedelta(seconds=1)):
        with pytest.raises(TlsError) as caught:
            pki.trust.verify((der(leaf),), NAME, at)
        assert caught.value.alert == AlertDescription.CERTIFICATE_EXPIRED


def test_a_chain_found_good_is_refused_once_its_intermediate_expires(pki: Pki) -> None:
    intermediate = Pki()
    soon = NOW.replace(microsecond=0) + timedelta(seconds=30)
    chain = der(intermediate.certificate(KEYS["p256"](), NAME)), cross_signed(pki, intermediate, soon)
    pki.trust.verify(chain, NAME, NOW)

    pki.trust.verify(chain, NAME, soon)
    with pytest.raises(TlsError):
        pki.trust.verify(chain, NAME, soon + timedelta(seconds=1))


def test_a_chain_found_good_is_refused_once_its_root_expires(pki: Pki) -> None:
    leaf = der(pki.certificate(KEYS["p256"](), NAME, at=pki.root.not_valid_after_utc))
    last = pki.root.not_valid_after_utc
    pki.trust.verify((leaf,), NAME, last)

    with pytest.raises(TlsError):
        pki.trust.verify((leaf,), NAME, last + timedelta(seconds=1))


def test_a_chain_found_good_is_so_for_no_other_name(pki: Pki) -> None:
    chain = (der(pki.certificate(KEYS["p256"](), NAME)),)
    pki.trust.verify(chain, NAME, NOW)

    with pytest.raises(TlsError):
        pki.trust.verify(chain, "other.internal", NOW)


def test_a_chain_found_good_says_nothing_of_another(pki: Pki) -> None:
    key, stranger = KEYS["p256"](), Pki()
    leaf = der(pki.certificate(key, NAME))
    pki.trust.verify((leaf,), NAME, NOW)

    forged = bytearray(leaf)
    forged[-1] ^= 1  # the last byte of the signature
    for chain in ((bytes(forged),), (der(stranger.certificate(key, NAME)), leaf), (leaf[:100], leaf[100:])):
        with pytest.raises(TlsError):
            pki.trust.verify(chain, NAME, NOW)
    with pytest.raises(TlsError):
        stranger.trust.verify((leaf,), NAME, NOW)


def test_only_so_many_chains_are_remembered_and_none_that_was_refused() -> None:
    pki, stranger = Pki(), Pki()
    chain = (der(pki.certificate(KEYS["p256"](), NAME)),)
    key = pki.trust.verify(chain, NAME, NOW)
    others = [(der(pki.certificate(KEYS["p256"](), NAME)),) for _ in range(MAX_BELIEVED)]

    for _ in range(MAX_BELIEVED + 1):
        with pytest.raises(TlsError):
            pki.trust.verify((der(stranger.certificate(KEYS["p256"](), NAME)),), NAME, NOW)
    assert pki.trust.verify(chain, NAME, NOW) is key
    for other in others:
        pki.trust.verify(other, NAME, NOW)
    assert pki.trust.verify(chain, NAME, NOW) is not key


@settings(deadline=None, max_examples=300)
@given(place=st.integers(0, 4000), value=st.integers(0, 255), of_leaf=st.booleans())
@example(place=12, value=0x70, of_leaf=True)  # the version: the library's own InvalidVersion came through once
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_a_damaged_certificate_raises_only_our_error(pki: Pki, place: int, value: int, of_leaf: bool) -> None:
    key = KEYS["ed25519"]()
    leaf, root = bytearray(der(pki.certificate(key, NAME))), bytearray(der(pki.root))
    target = leaf if of_leaf else root
    target[place % len(target)] = value

    try:
        found = pki.trust.verify((bytes(leaf), bytes(root)), NAME, NOW)
    except TlsError as error:
        assert error.alert in {  # noqa: PT017 which one depends on the place
            AlertDescription.BAD_CERTIFICATE,
            AlertDescription.CERTIFICATE_UNKNOWN,
            AlertDescription.CERTIFICATE_EXPIRED,
        }
    else:
        assert found == key.public_key()


def test_every_version_byte_of_a_certificate_is_judged(pki: Pki) -> None:
    leaf = bytearray(der(pki.certificate(KEYS["p256"](), NAME)))
    place = leaf.index(b"\xa0\x03\x02\x01\x02") + 4

    for version in set(range(256)) - {2}:
        leaf[place] = version
        with pytest.raises(TlsError):
            pki.trust.verify((bytes(leaf),), NAME, NOW)


def test_a_leaf_that_cannot_sign_at_all_is_refused_by_its_owner(pki: Pki) -> None:
    key = x25519.X25519PrivateKey.generate()

    with pytest.raises(ValueError, match=r"TLS 1\.3 key"):
        Credential.of([pki.certificate(key, NAME)], key)  # type: ignore[arg-type] # that is the point


def test_a_refusal_says_what_is_wrong(pki: Pki) -> None:
    """Whoever made the certificates has to find out: another name, another authority, or one that may not sign."""
    leaf = pki.certificate(KEYS["p256"](), NAME)
    unfit = pki.authority_without_usage()

    def refusal(trust: Trust, chain: x509.Certificate, name: str) -> str:
        with pytest.raises(TlsError) as caught:
            trust.verify((der(chain),), name, NOW)
        assert caught.value.alert == AlertDescription.CERTIFICATE_UNKNOWN
        return str(caught.value)

    assert "not for this name" in refusal(pki.trust, leaf, "other.internal")
    assert "not from our authorities" in refusal(Pki().trust, leaf, NAME)
    # RFC 5280 section 4.2.1.3: conforming CAs include keyUsage. `openssl req -x509` does not.
    assert "extension 2.5.29.15" in refusal(Trust([unfit]), leaf, NAME)
