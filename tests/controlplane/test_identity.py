"""Who a peer is: the local certificate authority and what it issues."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from hypothesis import given
from hypothesis import strategies as st

from controlplane.identity.ca import LOOPBACK, LocalAuthority
from controlplane.identity.identity import Identity
from controlplane.identity.spiffe import IdentityError, Role, SpiffeId

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def authority(tmp_path: Path) -> LocalAuthority:
    return LocalAuthority.open_or_create(tmp_path / "ca", "test.local", NOW)


def test_second_opening_finds_the_same_authority(tmp_path: Path) -> None:
    first = LocalAuthority.open_or_create(tmp_path, "test.local", NOW)
    second = LocalAuthority.open_or_create(tmp_path, "test.local", NOW + timedelta(days=1))

    assert first.ca_pem == second.ca_pem


def test_processes_that_open_at_once_get_one_authority(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        opened = list(
            pool.map(lambda _: LocalAuthority.open_or_create(tmp_path / "ca", "test.local", NOW).ca_pem, range(8))
        )

    assert len(set(opened)) == 1


def test_issued_server_certificate_verifies_for_its_host_and_no_other(authority: LocalAuthority) -> None:
    identity = authority.issue("controlplane/one", now=NOW, hosts=LOOPBACK)
    store = Store([x509.load_pem_x509_certificate(authority.ca_pem)])
    verifier = PolicyBuilder().store(store).time(NOW)

    chain = verifier.build_server_verifier(x509.DNSName("localhost")).verify(identity.certificate, [])

    assert len(chain) == 2
    with pytest.raises(VerificationError):
        verifier.build_server_verifier(x509.DNSName("example.com")).verify(identity.certificate, [])


def test_sidecar_certificate_names_no_host_so_it_cannot_pose_as_the_control_plane(authority: LocalAuthority) -> None:
    identity = authority.issue("sidecar/one", now=NOW)

    names = identity.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    assert [name.value for name in names] == ["spiffe://test.local/sidecar/one"]
    assert identity.spiffe_id == SpiffeId("test.local", "sidecar/one")


def test_private_keys_are_readable_by_their_owner_only(authority: LocalAuthority, tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        authority.issue("sidecar/one", now=NOW).write(tmp_path / "id")
    finally:
        os.umask(old)

    assert stat.S_IMODE((tmp_path / "id/tls.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "ca/ca.key").stat().st_mode) == 0o600


def test_key_never_shows_in_a_repr(authority: LocalAuthority) -> None:
    assert "PRIVATE" not in repr(authority.issue("sidecar/one", now=NOW))


def test_enrolled_identity_is_reused_until_it_is_due(authority: LocalAuthority, tmp_path: Path) -> None:
    first = authority.enroll(tmp_path / "id", "sidecar/one", now=NOW)

    assert authority.enroll(tmp_path / "id", "sidecar/one", now=NOW + timedelta(hours=16)) == first
    assert authority.enroll(tmp_path / "id", "sidecar/one", now=NOW + timedelta(hours=17)) != first


@pytest.mark.parametrize(("name", "hosts"), [("sidecar/two", ()), ("sidecar/one", ("localhost",))])
def test_enrolling_under_another_name_issues_anew(
    authority: LocalAuthority, tmp_path: Path, name: str, hosts: tuple[str, ...]
) -> None:
    first = authority.enroll(tmp_path / "id", "sidecar/one", now=NOW)

    assert authority.enroll(tmp_path / "id", name, now=NOW, hosts=hosts) != first


@pytest.mark.parametrize("trust_domain", ["test.local", "other.local"])
def test_identity_of_another_authority_is_replaced(
    authority: LocalAuthority, tmp_path: Path, trust_domain: str
) -> None:
    foreign = LocalAuthority.open_or_create(tmp_path / "foreign", trust_domain, NOW)
    foreign.enroll(tmp_path / "id", "sidecar/one", now=NOW)

    assert authority.enroll(tmp_path / "id", "sidecar/one", now=NOW).ca_pem == authority.ca_pem


def test_certificate_beside_a_foreign_key_is_refused(authority: LocalAuthority, tmp_path: Path) -> None:
    authority.issue("sidecar/one", now=NOW).write(tmp_path / "id")
    (tmp_path / "id/tls.key").write_bytes(authority.issue("sidecar/one", now=NOW).key_pem)

    with pytest.raises(IdentityError, match="does not belong"):
        Identity.read(tmp_path / "id")


@pytest.mark.parametrize("name", ["tls.crt", "tls.key", "ca.crt"])
def test_broken_identity_file_is_refused(authority: LocalAuthority, tmp_path: Path, name: str) -> None:
    authority.issue("sidecar/one", now=NOW).write(tmp_path / "id")
    (tmp_path / "id" / name).write_text("garbage")

    with pytest.raises(IdentityError):
        Identity.read(tmp_path / "id")


def test_encrypted_key_is_refused(authority: LocalAuthority, tmp_path: Path) -> None:
    authority.issue("sidecar/one", now=NOW).write(tmp_path / "id")
    key = serialization.load_pem_private_key((tmp_path / "id/tls.key").read_bytes(), None)
    sealed = serialization.BestAvailableEncryption(b"password")
    pkcs8 = serialization.PrivateFormat.PKCS8
    (tmp_path / "id/tls.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, sealed))

    with pytest.raises(IdentityError, match="unencrypted"):
        Identity.read(tmp_path / "id")


@pytest.mark.parametrize("name", ["ca.crt", "ca.key"])
def test_what_is_no_authority_of_ours_is_refused(authority: LocalAuthority, tmp_path: Path, name: str) -> None:
    """A leaf in the place of the authority, or the key of another one."""
    identity = authority.issue("sidecar/one", now=NOW)
    (tmp_path / "ca" / name).write_bytes(identity.cert_pem if name == "ca.crt" else identity.key_pem)
    if name == "ca.crt":
        (tmp_path / "ca/ca.key").write_bytes(identity.key_pem)

    with pytest.raises(IdentityError):
        LocalAuthority.open_or_create(tmp_path / "ca", "test.local", NOW)


def test_authority_without_a_spiffe_id_is_refused(tmp_path: Path) -> None:
    """One that was put there by hand."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mine")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + timedelta(days=1))
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (tmp_path / "ca.crt").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem))
    (tmp_path / "ca.key").write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))

    with pytest.raises(IdentityError, match=r"spiffe://test\.local"):
        LocalAuthority.open_or_create(tmp_path, "test.local", NOW)


def test_authority_of_another_trust_domain_is_refused_and_left_alone(tmp_path: Path) -> None:
    before = LocalAuthority.open_or_create(tmp_path, "one.local", NOW).ca_pem

    with pytest.raises(IdentityError, match=r"one\.local"):
        LocalAuthority.open_or_create(tmp_path, "two.local", NOW)

    assert LocalAuthority.open_or_create(tmp_path, "one.local", NOW).ca_pem == before


def test_expired_authority_is_refused(tmp_path: Path) -> None:
    LocalAuthority.open_or_create(tmp_path, "test.local", NOW)

    with pytest.raises(IdentityError, match="valid until"):
        LocalAuthority.open_or_create(tmp_path, "test.local", NOW + timedelta(days=4000))


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("sidecar/one", Role.SIDECAR),
        ("ns/app/sa/default", Role.SIDECAR),
        ("operator/alice", Role.OPERATOR),
        ("controlplane/one", Role.CONTROL_PLANE),
        ("ledger/one", Role.LEDGER),
        ("operator", Role.OTHER),
        ("operators/alice", Role.OTHER),
        ("ns/app/sa/default/operator", Role.OTHER),
        ("x/operator/alice", Role.OTHER),
    ],
)
def test_role_is_decided_by_the_whole_shape_of_the_path(path: str, role: Role) -> None:
    assert SpiffeId("td", path).role is role


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://td",
        "spiffe://td/",
        "spiffe://td//x",
        "spiffe://td/../x",
        "spiffe://TD/x",
        "spiffe://td/a b",
        "http://td/x",
        "spiffe://td:1/x",
        "spiffe://u@td/x",
        "spiffe://td/" + "x" * 2048,
    ],
)
def test_malformed_spiffe_id_is_refused(uri: str) -> None:
    with pytest.raises(IdentityError):
        SpiffeId.parse(uri)


@given(st.text())
def test_any_text_is_an_id_that_spells_itself_or_an_identity_error(text: str) -> None:
    try:
        parsed = SpiffeId.parse("spiffe://" + text)
    except IdentityError:
        return
    assert str(parsed) == "spiffe://" + text
