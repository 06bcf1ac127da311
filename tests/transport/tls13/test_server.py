"""What a server refuses of a client, and how it chooses (RFC 8446 sections 4.1, 4.2 and 9.2)."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.tls13 import KEYS, Alter, Messages, Pki, Shake, client_hello, extension, random, second
from transport.tls13.alerts import AlertDescription, TlsError
from transport.tls13.certificates import Credential
from transport.tls13.config import (
    DEFAULT_GROUPS,
    POST_QUANTUM_GROUPS,
    ClientConfig,
    ClientOffer,
    ServerChoice,
    ServerConfig,
)
from transport.tls13.constants import CipherSuite, ExtensionType, HandshakeType, NamedGroup
from transport.tls13.events import EchStatus
from transport.tls13.messages import ClientHello, Extension, handshake_message
from transport.tls13.server import ServerHandshake

NAME = "service.internal"
CH, FIN = HandshakeType.CLIENT_HELLO, HandshakeType.FINISHED
X25519, P256, P384, HYBRID = NamedGroup.X25519, NamedGroup.SECP256R1, NamedGroup.SECP384R1, NamedGroup.X25519MLKEM768
VERSIONS, GROUPS, SHARE = ExtensionType.SUPPORTED_VERSIONS, ExtensionType.SUPPORTED_GROUPS, ExtensionType.KEY_SHARE
ILLEGAL, DECODE = AlertDescription.ILLEGAL_PARAMETER, AlertDescription.DECODE_ERROR
MISSING, FAILURE = AlertDescription.MISSING_EXTENSION, AlertDescription.HANDSHAKE_FAILURE


@pytest.fixture
def credential(credentials: dict[str, Credential]) -> Credential:
    return credentials["p256"]


def shake(pki: Pki, *credentials: Credential, client: dict[str, Any] | None = None, **server: Any) -> Shake:
    """A handshake that would succeed: X25519, or with a HelloRetryRequest P-384."""
    ours = {"groups": (X25519, P384), "alpn": (b"mesh/1",), "grease_ech": False, **(client or {})}
    return Shake(ClientConfig(NAME, pki.trust, **ours), ServerConfig(credentials, **{"alpn": (b"mesh/1",), **server}))


def alert_of(handshake: Shake, alter: dict[HandshakeType, Alter]) -> int:
    with pytest.raises(TlsError) as caught:
        handshake.run(alter)
    return caught.value.alert


def both(*changes: Alter) -> Alter:
    def alter(body: bytes) -> bytes:
        for change in changes:
            body = change(body)
        return body

    return alter


WRONG_HELLOS: list[tuple[Alter, int]] = [
    # Section 4.2.1: without the extension the client speaks TLS 1.2 or older; section 4.1.2: exactly the null method.
    (extension(VERSIONS, None), AlertDescription.PROTOCOL_VERSION),
    (extension(VERSIONS, b"\x04\x03\x03\x03\x02"), AlertDescription.PROTOCOL_VERSION),
    (extension(VERSIONS, b"\x00"), DECODE),
    (extension(VERSIONS, b"\x03\x03\x04\x03"), DECODE),
    (extension(VERSIONS, b"\x02\x03\x04\x00"), DECODE),
    (client_hello(compression_methods=b"\1\0"), ILLEGAL),
    (client_hello(compression_methods=b"\1"), ILLEGAL),
    (client_hello(compression_methods=b""), DECODE),
    (client_hello(cipher_suites=(0xC02F, 0x1304)), FAILURE),
    (client_hello(session_id=bytes(33)), DECODE),
    # Section 9.2: "MUST contain" supported_groups, key_share and signature_algorithms
    (extension(GROUPS, None), MISSING),
    (extension(SHARE, None), MISSING),
    (extension(ExtensionType.SIGNATURE_ALGORITHMS, None), MISSING),
    (extension(ExtensionType.SIGNATURE_ALGORITHMS, b"\0\2\x08\x07"), FAILURE),
    (extension(ExtensionType.SIGNATURE_ALGORITHMS, b"\0\0"), DECODE),
    (both(extension(GROUPS, b"\0\2\x99\x99"), extension(SHARE, b"\0\0")), FAILURE),
    (extension(GROUPS, b"\0\3\0\x1d\0"), DECODE),
    # Section 4.2.8: "Clients MUST NOT offer any KeyShareEntry values for groups not listed in the client's
    # "supported_groups" extension", nor "multiple KeyShareEntry values for the same group".
    (extension(GROUPS, b"\0\2\0\x18"), ILLEGAL),
    (extension(SHARE, b"\0\x0a" + b"\0\x1d\0\1x" * 2), ILLEGAL),
    (extension(SHARE, b"\0\x05\0\x1d\0\1x"), ILLEGAL),
    (extension(SHARE, b"\0\x24\0\x1d\0\x20" + bytes(32)), ILLEGAL),
    (extension(SHARE, b"\0\x04\0\x1d\0\0"), DECODE),
    (extension(SHARE, b"\0\x06\0\x1d\0\1x"), DECODE),
    # RFC 6066 section 3 and RFC 7301 section 3.1
    (extension(ExtensionType.SERVER_NAME, b""), DECODE),
    (extension(ExtensionType.SERVER_NAME, b"\0\0"), DECODE),
    (extension(ExtensionType.SERVER_NAME, b"\0\x03\0\0\0"), DECODE),
    (extension(ExtensionType.SERVER_NAME, b"\0\x04\1\0\1a"), DECODE),
    (extension(ExtensionType.SERVER_NAME, b"\0\x04\0\0\1\xff"), DECODE),
    (extension(ExtensionType.SERVER_NAME, b"\0\x04\0\0\1\0"), DECODE),
    (extension(ExtensionType.SERVER_NAME, b"\0\x05\0\0\2a."), DECODE),
    (extension(ExtensionType.SERVER_NAME, b"\0\x08" + b"\0\0\1a" * 2), DECODE),
    (extension(ExtensionType.ALPN, b""), DECODE),
    (extension(ExtensionType.ALPN, b"\0\0"), DECODE),
    (extension(ExtensionType.ALPN, b"\0\1\0"), DECODE),
    (extension(ExtensionType.ALPN, b"\0\4\2h2\0"), DECODE),
    (extension(ExtensionType.ALPN, b"\0\3\2h2"), AlertDescription.NO_APPLICATION_PROTOCOL),
    # Section 4.2.11: "The "pre_shared_key" extension MUST be the last extension in the ClientHello ... Servers MUST
    # check"; section 4.2.9: "If clients offer "pre_shared_key" without a "psk_key_exchange_modes" extension, servers
    # MUST abort the handshake."
    (both(extension(ExtensionType.PRE_SHARED_KEY, b""), extension(0x1234, b"")), ILLEGAL),
    (extension(ExtensionType.PRE_SHARED_KEY, b""), MISSING),
    (lambda body: body + b"\0", DECODE),
    (lambda body: body[:-1], DECODE),
]


@pytest.mark.parametrize(("alter", "alert"), WRONG_HELLOS)
def test_a_wrong_hello_is_refused(pki: Pki, credential: Credential, alter: Alter, alert: int) -> None:
    assert alert_of(shake(pki, credential), {CH: alter}) == alert


@settings(deadline=None)
@given(kind=st.sampled_from(list(ExtensionType)), data=st.binary(max_size=60))
def test_any_body_of_any_extension_raises_only_our_error(
    pki: Pki, credentials: dict[str, Credential], kind: ExtensionType, data: bytes
) -> None:
    """The client's hello with one extension replaced, to a server that would accept it."""
    handshake = shake(pki, credentials["p256"])
    handshake.client.start()
    (message,) = handshake.client_flight.take()
    changed = handshake_message(CH, extension(kind, data)(message[4:]))

    try:
        handshake.server.handle(changed[0], changed)
    except TlsError as error:
        assert error.alert != AlertDescription.INTERNAL_ERROR  # noqa: PT017 any other alert is right


@pytest.mark.parametrize("group", [P256, P384])
@pytest.mark.parametrize("form", [2, 3, 5, 6])
def test_a_point_that_is_not_uncompressed_is_refused(
    pki: Pki, credential: Credential, group: NamedGroup, form: int
) -> None:
    def compressed(body: bytes) -> bytes:
        share = ClientHello.parse(body).extension(SHARE)
        assert share is not None
        point = share.data[6:]
        size = len(point) // 2 + 1 if form < 4 else len(point)
        entry = group.to_bytes(2, "big") + size.to_bytes(2, "big") + bytes([form]) + point[1:size]
        return extension(SHARE, len(entry).to_bytes(2, "big") + entry)(body)

    assert alert_of(shake(pki, credential, client={"groups": (group,)}), {CH: compressed}) == ILLEGAL


def test_a_point_that_is_not_on_the_curve_is_refused(pki: Pki, credential: Credential) -> None:
    entry = b"\0\x17\0\x41\x04" + bytes(range(64))
    alter = extension(SHARE, len(entry).to_bytes(2, "big") + entry)

    assert alert_of(shake(pki, credential, client={"groups": (P256,)}), {CH: alter}) == ILLEGAL


@pytest.mark.parametrize(
    "key",
    [
        bytes(1184 + 31),
        bytes(1184 + 33),
        b"\xff" * 1184 + bytes(range(32)),  # FIPS 203 section 7.2: coefficients over the modulus
        bytes(1184) + bytes(32),  # the X25519 half is zero
    ],
)
def test_a_wrong_hybrid_share_is_refused(pki: Pki, credential: Credential, key: bytes) -> None:
    entry = HYBRID.to_bytes(2, "big") + len(key).to_bytes(2, "big") + key
    alter = extension(SHARE, len(entry).to_bytes(2, "big") + entry)

    assert alert_of(shake(pki, credential, client={"groups": (HYBRID,)}), {CH: alter}) == ILLEGAL


@pytest.mark.parametrize(
    ("body", "alert"),
    [
        (bytes(32), AlertDescription.DECRYPT_ERROR),
        (bytes(31), DECODE),
        (bytes(48), DECODE),
        (b"", DECODE),
    ],
)
def test_a_wrong_finished_is_refused(pki: Pki, credential: Credential, body: bytes, alert: int) -> None:
    handshake = shake(pki, credential)
    handshake.client.start()
    (hello,) = handshake.client_flight.take()
    handshake.server.handle(hello[0], hello)

    with pytest.raises(TlsError) as caught:
        handshake.server.handle(FIN, handshake_message(FIN, body))

    assert caught.value.alert == alert


@pytest.mark.parametrize("kind", [*(set(HandshakeType) - {CH}), 0, 3, 5, 255])
def test_messages_out_of_turn_are_unexpected(pki: Pki, credential: Credential, kind: int) -> None:
    first = shake(pki, credential)
    later = shake(pki, credential)
    later.client.start()
    (hello,) = later.client_flight.take()
    later.server.handle(hello[0], hello)

    for server in (first.server, later.server):
        with pytest.raises(TlsError) as caught:
            server.handle(kind, bytes([kind]) + b"\0\0\0")
        expected = DECODE if (server, kind) == (later.server, FIN) else AlertDescription.UNEXPECTED_MESSAGE
        assert caught.value.alert == expected


# How it chooses


@pytest.mark.parametrize("group", DEFAULT_GROUPS)
@pytest.mark.parametrize("suite", CipherSuite)
def test_both_ends_agree_on_every_suite_and_group(
    pki: Pki, credential: Credential, suite: CipherSuite, group: NamedGroup
) -> None:
    client, server = shake(pki, credential, client={"groups": (group,), "cipher_suites": (suite,)}).run()

    assert (client.cipher_suite, client.group) == (server.cipher_suite, server.group) == (suite, group)


def test_the_server_prefers_a_share_that_is_there_and_its_own_order(pki: Pki, credential: Credential) -> None:
    preferred = shake(
        pki, credential, client={"groups": (X25519, P256, P384), "shares": 2}, groups=(P384, P256, X25519)
    )

    client, server = preferred.run()

    assert client.group == server.group == P256
    assert len(preferred.server_flight.read_secrets) == 2


def test_the_server_prefers_its_own_suites(pki: Pki, credential: Credential) -> None:
    ours = (CipherSuite.CHACHA20_POLY1305_SHA256, CipherSuite.AES_128_GCM_SHA256)
    client, _ = shake(pki, credential, client={"cipher_suites": ours[::-1]}, cipher_suites=ours).run()

    assert client.cipher_suite == ours[0]


def test_a_server_that_demands_post_quantum_keys_asks_for_them_or_refuses(pki: Pki, credential: Credential) -> None:
    classical = shake(pki, credential, groups=POST_QUANTUM_GROUPS)
    able = shake(pki, credential, client={"groups": (X25519, HYBRID)}, groups=POST_QUANTUM_GROUPS)

    assert alert_of(classical, {}) == FAILURE
    client, server = able.run()
    assert client.group == server.group == HYBRID


def test_the_certificate_is_the_one_for_the_name(pki: Pki) -> None:
    default, named, wild = (pki.credential(name) for name in ("other.internal", NAME, "*.wild.internal"))
    config = ServerConfig((default, named, wild))

    assert config.credential_for(NAME) is named
    assert config.credential_for(NAME.upper()) is named
    assert config.credential_for("a.wild.internal") is wild
    for unknown in (None, "nobody", "wild.internal", "a.b.wild.internal", ".wild.internal.x"):
        assert config.credential_for(unknown) is default
    client, _ = shake(pki, default, named).run()
    assert client.server_name == NAME


def test_a_hook_decides_with_what_the_client_asked_for(pki: Pki, credential: Credential) -> None:
    offers: list[ClientOffer] = []

    def choose(offer: ClientOffer) -> ServerChoice:
        offers.append(offer)
        return ServerChoice(credential, b"mesh/1", (Extension(ExtensionType.MESH_NOISE, b"answer"),))

    asked = (Extension(ExtensionType.MESH_NOISE, b"question"),)
    client, server = shake(pki, credential, client={"extensions": asked}, choose=choose).run()

    (offer,) = offers
    assert (offer.server_name, offer.alpn, offer.ech) == (NAME, (b"mesh/1",), EchStatus.NOT_OFFERED)
    assert [e.data for e in offer.extensions if e.type == ExtensionType.MESH_NOISE] == [b"question"]
    assert [e.data for e in client.extensions if e.type == ExtensionType.MESH_NOISE] == [b"answer"]
    assert client.alpn == server.alpn == b"mesh/1"


def test_a_hook_can_refuse(pki: Pki, credential: Credential) -> None:
    def choose(offer: ClientOffer) -> ServerChoice:
        raise TlsError(AlertDescription.ACCESS_DENIED, "not today")

    handshake = shake(pki, credential, choose=choose)

    assert alert_of(handshake, {}) == AlertDescription.ACCESS_DENIED
    assert handshake.server_flight.sent == []


def test_an_answer_to_nothing_is_our_own_fault(pki: Pki, credential: Credential) -> None:
    def choose(offer: ClientOffer) -> ServerChoice:
        return ServerChoice(credential, extensions=(Extension(ExtensionType.MESH_NOISE, b""),))

    assert alert_of(shake(pki, credential, choose=choose), {}) == AlertDescription.INTERNAL_ERROR


def test_without_protocols_of_its_own_a_server_takes_none(pki: Pki, credential: Credential) -> None:
    client, server = shake(pki, credential, alpn=()).run()

    assert client.alpn is server.alpn is None


# The second hello, section 4.1.2: "the client MUST send the same ClientHello without modification, except as follows"


def retried(pki: Pki, credential: Credential) -> Shake:
    return shake(pki, credential, groups=(P384,))


@pytest.mark.parametrize(
    ("alter", "alert"),
    [
        (client_hello(random=bytes(32)), ILLEGAL),
        (client_hello(session_id=b""), ILLEGAL),
        (client_hello(cipher_suites=(0x1301,)), ILLEGAL),
        (client_hello(legacy_version=0x0301), ILLEGAL),
        (extension(ExtensionType.ALPN, b"\0\x0a\6mesh/1\2h2"), ILLEGAL),
        (extension(ExtensionType.ALPN, None), ILLEGAL),
        (extension(0x1234, b""), ILLEGAL),
        (extension(GROUPS, b"\0\2\0\x18"), ILLEGAL),
        (extension(SHARE, None), MISSING),
        (extension(SHARE, b"\0\0"), ILLEGAL),
        (extension(SHARE, b"\0\5\0\x1d\0\1x"), ILLEGAL),
        (extension(SHARE, b"\0\x0a\0\x18\0\1x\0\x1d\0\1x"), ILLEGAL),
        (extension(SHARE, b"\0\5\0\x18\0\1x"), ILLEGAL),
        # Section 4.2.10: the client "MUST NOT" offer early data again
        (extension(ExtensionType.EARLY_DATA, b""), ILLEGAL),
        (extension(VERSIONS, None), AlertDescription.PROTOCOL_VERSION),
    ],
)
def test_a_second_hello_that_differs_is_refused(pki: Pki, credential: Credential, alter: Alter, alert: int) -> None:
    assert alert_of(retried(pki, credential), {CH: second(alter)}) == alert


# RFC 9849 section 10.12.2: to compare the names would make the server an oracle for the hidden one.
@pytest.mark.parametrize(
    "alter",
    [
        extension(ExtensionType.SERVER_NAME, b"\0\x0c\0\0\x09elsewhere"),
        extension(ExtensionType.COOKIE, b"\0\1c"),
        extension(ExtensionType.PADDING, bytes(9)),
    ],
)
def test_what_may_differ_in_a_second_hello_is_not_compared(pki: Pki, credential: Credential, alter: Alter) -> None:
    handshake = retried(pki, credential)
    handshake.client.start()
    for message in handshake.client_flight.take():
        handshake.server.handle(message[0], message)
    for message in handshake.server_flight.take():
        handshake.client.handle(message[0], message)
    (message,) = handshake.client_flight.take()
    changed = handshake_message(CH, alter(message[4:]))

    handshake.server.handle(CH, changed)

    assert [message[0] for message in handshake.server_flight.take()] == [2, 8, 11, 15, 20]


def test_a_third_hello_is_unexpected(pki: Pki, credential: Credential) -> None:
    handshake = retried(pki, credential)
    handshake.client.start()
    (message,) = handshake.client_flight.take()
    handshake.server.handle(CH, message)
    (request,) = handshake.server_flight.take()
    handshake.client.handle(request[0], request)
    (again,) = handshake.client_flight.take()
    handshake.server.handle(CH, again)

    with pytest.raises(TlsError) as caught:
        handshake.server.handle(CH, again)

    assert caught.value.alert == AlertDescription.UNEXPECTED_MESSAGE


# What a server is made of


def test_a_server_without_a_certificate_is_refused(credential: Credential) -> None:
    with pytest.raises(ValueError, match="certificate"):
        ServerConfig(())
    with pytest.raises(ValueError, match="application protocol"):
        ServerConfig((credential,), alpn=(b"",))
    with pytest.raises(ValueError, match="groups"):
        ServerConfig((credential,), groups=(1,))


def test_a_key_of_another_certificate_is_refused(pki: Pki) -> None:
    with pytest.raises(ValueError, match="not that of the certificate"):
        Credential.of([pki.certificate(KEYS["p256"](), NAME)], KEYS["p256"]())


@pytest.mark.parametrize(
    "key",
    [
        lambda: rsa.generate_private_key(65537, 1024),  # noqa: S505 it is to be refused
        lambda: ec.generate_private_key(ec.SECP521R1()),
        lambda: ec.generate_private_key(ec.SECP256K1()),
    ],
)
def test_a_key_that_cannot_sign_tls13_is_refused(pki: Pki, key: Any) -> None:
    private = key()

    with pytest.raises(ValueError, match=r"TLS 1\.3 key"):
        Credential.of([pki.certificate(private, NAME)], private)


def test_secrets_are_not_in_representations(pki: Pki) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    credential = Credential.of([pki.certificate(key, NAME)], key)

    assert "PrivateKey" not in repr(ServerConfig((credential,)))


def test_a_server_waits_for_the_client(pki: Pki, credential: Credential) -> None:
    flight = Messages()
    server = ServerHandshake(ServerConfig((credential,)), flight, random)

    server.start()

    assert flight.sent == []
    with pytest.raises(RuntimeError):
        server.export(b"x", b"", 32)
