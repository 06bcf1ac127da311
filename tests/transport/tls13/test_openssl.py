"""Against OpenSSL, as the standard library has it, in both roles: every suite, group and kind of key."""

import ssl
from typing import Any

import pytest

from tests.fakes.tls13 import KEYS, NOW, Pki, SslPeer, pump, random, received
from transport.tls13 import client, server
from transport.tls13.alerts import AlertDescription, PeerAlertError, TlsError
from transport.tls13.certificates import Credential
from transport.tls13.config import DEFAULT_SUITES, ClientConfig, ServerConfig
from transport.tls13.connection import Connection
from transport.tls13.constants import CipherSuite, NamedGroup
from transport.tls13.events import CloseNotify, EchStatus, HandshakeComplete

GROUPS = {"X25519": NamedGroup.X25519, "prime256v1": NamedGroup.SECP256R1, "secp384r1": NamedGroup.SECP384R1}
NAME = "service.internal"


def our_client(pki: Pki, **settings: Any) -> Connection:
    return client.connect(ClientConfig(NAME, pki.trust, **settings), random=random, now=NOW)


def our_server(*credentials: Credential, **settings: Any) -> Connection:
    return server.accept(ServerConfig(credentials, **settings), random=random)


def exchange_data(ours: Connection, theirs: SslPeer) -> None:
    """Something small, something of many records, and an orderly end, both ways."""
    for size in (1, 100_000):
        ours.send(b"a" * size)
        theirs.send(b"b" * size)
        reported, _ = pump(ours, theirs)
        assert received(reported) == b"b" * size
        assert theirs.received == b"a" * size
        theirs.received = b""


@pytest.fixture(scope="module")
def ssl_servers(pki: Pki) -> dict[str, ssl.SSLContext]:
    return {kind: pki.ssl_server(NAME, kind=kind) for kind in KEYS}


@pytest.mark.parametrize("suite", DEFAULT_SUITES)
@pytest.mark.parametrize("group", GROUPS.values())
def test_our_client_agrees_with_openssl(
    pki: Pki, ssl_servers: dict[str, ssl.SSLContext], suite: CipherSuite, group: NamedGroup
) -> None:
    ours = our_client(pki, cipher_suites=(suite,), groups=(group,))
    theirs = SslPeer(ssl_servers["p256"], server_side=True)

    (complete,), _ = pump(ours, theirs)

    assert isinstance(complete, HandshakeComplete)
    assert (suite, group, NAME) == (complete.cipher_suite, complete.group, complete.server_name)
    assert theirs.connected
    exchange_data(ours, theirs)


@pytest.mark.parametrize("suite", DEFAULT_SUITES)
@pytest.mark.parametrize("group", GROUPS.values())
def test_our_server_agrees_with_openssl(
    pki: Pki, credentials: dict[str, Credential], suite: CipherSuite, group: NamedGroup
) -> None:
    # OpenSSL brings a share for X25519 only: the other groups take a HelloRetryRequest.
    ours = our_server(credentials["p256"], cipher_suites=(suite,), groups=(group,))
    theirs = SslPeer(pki.ssl_client(), server_side=False, name=NAME)

    (complete,), _ = pump(ours, theirs)

    assert isinstance(complete, HandshakeComplete)
    assert (suite, group, NAME) == (complete.cipher_suite, complete.group, complete.server_name)
    assert complete.ech is EchStatus.NOT_OFFERED
    assert theirs.tls.cipher()[0] == f"TLS_{suite.name}"
    exchange_data(ours, theirs)


@pytest.mark.parametrize("curve", ["prime256v1", "secp384r1"])
def test_our_client_answers_the_retry_request_of_openssl(pki: Pki, curve: str) -> None:
    context = pki.ssl_server(NAME)
    context.set_ecdh_curve(curve)
    ours = our_client(pki)
    theirs = SslPeer(context, server_side=True)

    (complete,), _ = pump(ours, theirs)

    assert isinstance(complete, HandshakeComplete)
    assert complete.group == GROUPS[curve]
    exchange_data(ours, theirs)


@pytest.mark.parametrize("kind", KEYS)
def test_every_kind_of_key_is_verified(pki: Pki, ssl_servers: dict[str, ssl.SSLContext], kind: str) -> None:
    ours = our_client(pki)
    theirs = SslPeer(ssl_servers[kind], server_side=True)

    (complete,), _ = pump(ours, theirs)

    assert isinstance(complete, HandshakeComplete)
    assert theirs.connected


@pytest.mark.parametrize("kind", KEYS)
def test_every_kind_of_key_signs(pki: Pki, credentials: dict[str, Credential], kind: str) -> None:
    ours = our_server(credentials[kind])
    theirs = SslPeer(pki.ssl_client(), server_side=False, name=NAME)

    (complete,), _ = pump(ours, theirs)

    assert isinstance(complete, HandshakeComplete)
    assert theirs.connected


@pytest.mark.parametrize("cut", [1, 5, 100, 1000])
def test_records_may_be_cut_anywhere(pki: Pki, credentials: dict[str, Credential], cut: int) -> None:
    ours = our_server(credentials["p256"])
    theirs = SslPeer(pki.ssl_client(), server_side=False, name=NAME)

    (complete,), _ = pump(ours, theirs, cut=cut)
    theirs.send(b"x" * 20_000)
    reported, _ = pump(ours, theirs, cut=cut)

    assert isinstance(complete, HandshakeComplete)
    assert received(reported) == b"x" * 20_000


def test_application_protocols_are_negotiated(pki: Pki, credentials: dict[str, Credential]) -> None:
    context = pki.ssl_client()
    context.set_alpn_protocols(["http/1.1", "mesh/1"])
    ours = our_server(credentials["p256"], alpn=(b"mesh/1", b"h2"))
    theirs = SslPeer(context, server_side=False, name=NAME)

    (complete,), _ = pump(ours, theirs)

    assert isinstance(complete, HandshakeComplete)
    assert complete.alpn == b"mesh/1"
    assert theirs.tls.selected_alpn_protocol() == "mesh/1"


# RFC 7301 section 3.2: the server "SHALL respond with a fatal "no_application_protocol" alert".
def test_no_common_protocol_is_refused(pki: Pki, credentials: dict[str, Credential]) -> None:
    context = pki.ssl_client()
    context.set_alpn_protocols(["http/1.1"])
    ours = our_server(credentials["p256"], alpn=(b"mesh/1",))
    theirs = SslPeer(context, server_side=False, name=NAME)

    with pytest.raises(TlsError) as caught:
        pump(ours, theirs)

    assert caught.value.alert == AlertDescription.NO_APPLICATION_PROTOCOL
    with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
        theirs.receive(ours.data_to_send())


# RFC 8446 section 4.4.2: a client without a certificate "MUST send a Certificate message containing no certificates".
def test_a_request_for_our_certificate_is_answered_with_none(pki: Pki) -> None:
    context = pki.ssl_server(NAME)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=pki.root_pem)
    ours = our_client(pki)
    theirs = SslPeer(context, server_side=True)

    (complete,), _ = pump(ours, theirs)

    assert isinstance(complete, HandshakeComplete)
    assert theirs.connected
    assert theirs.tls.getpeercert() is None
    exchange_data(ours, theirs)


def test_a_server_that_insists_on_a_certificate_ends_the_connection(pki: Pki) -> None:
    context = pki.ssl_server(NAME)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=pki.root_pem)
    ours = our_client(pki)
    theirs = SslPeer(context, server_side=True)

    with pytest.raises(ssl.SSLError, match=r"(?i)peer did not return a certificate"):
        pump(ours, theirs)

    with pytest.raises(PeerAlertError) as caught:
        ours.receive(theirs.data_to_send())
    assert caught.value.alert == AlertDescription.CERTIFICATE_REQUIRED


def test_keys_are_updated_both_ways(pki: Pki, ssl_servers: dict[str, ssl.SSLContext]) -> None:
    ours = our_client(pki)
    theirs = SslPeer(ssl_servers["p256"], server_side=True)
    pump(ours, theirs)

    for _ in range(3):
        ours.update_keys(request=True)
        exchange_data(ours, theirs)


def test_a_certificate_for_another_name_is_refused(pki: Pki) -> None:
    ours = our_client(pki)
    theirs = SslPeer(pki.ssl_server("other.internal"), server_side=True)

    with pytest.raises(TlsError) as caught:
        pump(ours, theirs)

    assert caught.value.alert == AlertDescription.CERTIFICATE_UNKNOWN
    with pytest.raises(ssl.SSLError, match=r"(?i)certificate.unknown"):
        theirs.receive(ours.data_to_send())


def test_a_certificate_of_another_authority_is_refused(pki: Pki) -> None:
    ours = our_client(pki)
    theirs = SslPeer(Pki().ssl_server(NAME), server_side=True)

    with pytest.raises(TlsError) as caught:
        pump(ours, theirs)

    assert caught.value.alert == AlertDescription.CERTIFICATE_UNKNOWN


def test_openssl_refuses_our_certificate_of_another_authority(credentials: dict[str, Credential]) -> None:
    ours = our_server(credentials["p256"])
    theirs = SslPeer(Pki().ssl_client(), server_side=False, name=NAME)

    with pytest.raises(ssl.SSLCertVerificationError):
        pump(ours, theirs)

    with pytest.raises(PeerAlertError) as caught:
        ours.receive(theirs.data_to_send())
    assert caught.value.alert == AlertDescription.UNKNOWN_CA


# RFC 8446 section 6.1
def test_close_notify_ends_both_directions(pki: Pki, credentials: dict[str, Credential]) -> None:
    ours = our_server(credentials["p256"])
    theirs = SslPeer(pki.ssl_client(), server_side=False, name=NAME)
    pump(ours, theirs)

    ours.close()
    theirs.receive(ours.data_to_send())
    theirs.tls.unwrap()

    assert ours.receive(theirs.data_to_send()) == [CloseNotify()]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2])
def test_older_versions_are_refused_in_both_roles(
    pki: Pki, credentials: dict[str, Credential], version: ssl.TLSVersion
) -> None:
    old_client, old_server = pki.ssl_client(), pki.ssl_server(NAME)
    old_client.maximum_version = old_server.maximum_version = version

    with pytest.raises(TlsError) as by_server:
        pump(our_server(credentials["p256"]), SslPeer(old_client, server_side=False, name=NAME))
    ours = our_client(pki)
    theirs = SslPeer(old_server, server_side=True)
    with pytest.raises(ssl.SSLError, match=r"(?i)unsupported protocol"):
        theirs.receive(ours.data_to_send())
    with pytest.raises(PeerAlertError) as by_peer:
        ours.receive(theirs.data_to_send())

    assert by_server.value.alert == AlertDescription.PROTOCOL_VERSION
    assert by_peer.value.alert == AlertDescription.PROTOCOL_VERSION
