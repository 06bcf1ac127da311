"""What a client refuses of a server, message by message, and with which alert (RFC 8446 section 4)."""

from datetime import timedelta
from typing import Any

import pytest

from tests.fakes.tls13 import (
    KEYS,
    NOW,
    Alter,
    Pki,
    Shake,
    encrypted_extension,
    extension,
    random,
    rebuilt,
    second,
    server_hello,
    with_extension,
)
from transport.tls13.alerts import AlertDescription, TlsError
from transport.tls13.certificates import Credential
from transport.tls13.client import ClientHandshake
from transport.tls13.config import POST_QUANTUM_GROUPS, ClientConfig, ServerConfig
from transport.tls13.constants import ExtensionType, HandshakeType, NamedGroup, SignatureScheme
from transport.tls13.messages import (
    Certificate,
    CertificateEntry,
    CertificateRequest,
    CertificateVerify,
    ClientHello,
    Extension,
    ServerHello,
    handshake_message,
)

NAME = "service.internal"
SH, EE = HandshakeType.SERVER_HELLO, HandshakeType.ENCRYPTED_EXTENSIONS
CERT, VERIFY, FIN = HandshakeType.CERTIFICATE, HandshakeType.CERTIFICATE_VERIFY, HandshakeType.FINISHED
X25519 = NamedGroup.X25519


@pytest.fixture
def credential(credentials: dict[str, Credential]) -> Credential:
    return credentials["p256"]


def client_config(pki: Pki, **settings: Any) -> ClientConfig:
    return ClientConfig(NAME, pki.trust, **{"groups": (X25519, NamedGroup.SECP384R1), "alpn": (b"mesh/1",), **settings})


def shake(pki: Pki, credential: Credential, *, retry: bool = False, **settings: Any) -> Shake:
    """A handshake that would succeed; with a HelloRetryRequest if `retry`."""
    groups = (NamedGroup.SECP384R1,) if retry else (X25519, NamedGroup.SECP384R1)
    return Shake(client_config(pki, **settings), ServerConfig((credential,), alpn=(b"mesh/1",), groups=groups))


def alert_of(handshake: Shake, alter: dict[HandshakeType, Alter]) -> int:
    with pytest.raises(TlsError) as caught:
        handshake.run(alter)
    return caught.value.alert


def in_server_hello(kind: int, data: bytes | None) -> Alter:
    return extension(kind, data, hello=ServerHello)


def test_both_ends_agree(pki: Pki, credential: Credential) -> None:
    handshake = shake(pki, credential)

    client, server = handshake.run()

    assert (client.cipher_suite, client.group, client.alpn) == (server.cipher_suite, server.group, b"mesh/1")
    assert client.server_name == server.server_name == NAME
    assert handshake.client_flight.read_secrets == handshake.server_flight.write_secrets
    assert handshake.client_flight.write_secrets == handshake.server_flight.read_secrets


@pytest.mark.parametrize(
    ("alter", "alert"),
    [
        # Section 4.1.3: "A client which receives a legacy_session_id_echo field that does not match what it sent in the
        # ClientHello MUST abort the handshake with an "illegal_parameter" alert."
        (server_hello(session_id=bytes(32)), AlertDescription.ILLEGAL_PARAMETER),
        (server_hello(session_id=b""), AlertDescription.ILLEGAL_PARAMETER),
        (server_hello(session_id=bytes(33)), AlertDescription.DECODE_ERROR),
        # "A client which receives a cipher suite that was not offered MUST abort the handshake".
        (server_hello(cipher_suite=0x1304), AlertDescription.ILLEGAL_PARAMETER),
        (server_hello(compression_method=1), AlertDescription.ILLEGAL_PARAMETER),
        (server_hello(legacy_version=0x0304), AlertDescription.ILLEGAL_PARAMETER),
        # Section 4.2.1: "If the "supported_versions" extension in the ServerHello contains a version not offered by the
        # client or contains a version prior to TLS 1.3, the client MUST abort with an "illegal_parameter" alert."
        (in_server_hello(ExtensionType.SUPPORTED_VERSIONS, b"\x03\x03"), AlertDescription.ILLEGAL_PARAMETER),
        (in_server_hello(ExtensionType.SUPPORTED_VERSIONS, b"\x03\x05"), AlertDescription.ILLEGAL_PARAMETER),
        (in_server_hello(ExtensionType.SUPPORTED_VERSIONS, b"\x03"), AlertDescription.DECODE_ERROR),
        (in_server_hello(ExtensionType.SUPPORTED_VERSIONS, None), AlertDescription.PROTOCOL_VERSION),
        (in_server_hello(ExtensionType.KEY_SHARE, None), AlertDescription.MISSING_EXTENSION),
        # Section 4.2.8: "This value MUST be in the same group as the KeyShareEntry value offered by the client".
        (in_server_hello(ExtensionType.KEY_SHARE, b"\0\x17\0\x01\x04"), AlertDescription.ILLEGAL_PARAMETER),
        (in_server_hello(ExtensionType.KEY_SHARE, b"\0\x18\0\x01\x04"), AlertDescription.ILLEGAL_PARAMETER),
        (in_server_hello(ExtensionType.KEY_SHARE, b"\0\x1d\0\x00"), AlertDescription.DECODE_ERROR),
        (in_server_hello(ExtensionType.KEY_SHARE, b"\0\x1d\0\x1f" + bytes(31)), AlertDescription.ILLEGAL_PARAMETER),
        # Section 7.4.2: an all-zero shared secret
        (in_server_hello(ExtensionType.KEY_SHARE, b"\0\x1d\0\x20" + bytes(32)), AlertDescription.ILLEGAL_PARAMETER),
        # Section 4.2: what we did not ask for, and what we did ask for but not here
        (in_server_hello(ExtensionType.PRE_SHARED_KEY, b"\0\0"), AlertDescription.UNSUPPORTED_EXTENSION),
        (in_server_hello(0x1234, b""), AlertDescription.UNSUPPORTED_EXTENSION),
        (in_server_hello(ExtensionType.ALPN, b"\0\x03\x02h2"), AlertDescription.ILLEGAL_PARAMETER),
        (in_server_hello(ExtensionType.COOKIE, b"\0\x01c"), AlertDescription.ILLEGAL_PARAMETER),
        (lambda body: body + b"\0", AlertDescription.DECODE_ERROR),
    ],
)
def test_a_wrong_server_hello_is_refused(pki: Pki, credential: Credential, alter: Alter, alert: int) -> None:
    assert alert_of(shake(pki, credential), {SH: alter}) == alert


# Section 4.1.3: the last eight bytes of the random of a server that was made to negotiate less
@pytest.mark.parametrize("sentinel", [b"DOWNGRD\0", b"DOWNGRD\1"])
def test_a_downgrade_is_noticed(pki: Pki, credential: Credential, sentinel: bytes) -> None:
    def downgraded(body: bytes) -> bytes:
        return server_hello(random=bytes(24) + sentinel)(in_server_hello(ExtensionType.SUPPORTED_VERSIONS, None)(body))

    assert alert_of(shake(pki, credential), {SH: downgraded}) == AlertDescription.ILLEGAL_PARAMETER


@pytest.mark.parametrize("group", [NamedGroup.SECP256R1, NamedGroup.SECP384R1])
@pytest.mark.parametrize("form", [2, 3, 6])
# Section 4.2.8.2: the legacy form is 4; a compressed point is shorter by one coordinate
def test_a_compressed_point_is_an_illegal_parameter(
    pki: Pki, credential: Credential, group: NamedGroup, form: int
) -> None:
    def compressed(body: bytes) -> bytes:
        share = ServerHello.parse(body).extension(ExtensionType.KEY_SHARE)
        assert share is not None
        point = share.data[4:]
        size = len(point) if form == 6 else len(point) // 2 + 1
        data = share.data[:2] + size.to_bytes(2, "big") + bytes([form]) + point[1:size]
        return in_server_hello(ExtensionType.KEY_SHARE, data)(body)

    handshake = Shake(client_config(pki, groups=(group,)), ServerConfig((credential,)))

    assert alert_of(handshake, {SH: compressed}) == AlertDescription.ILLEGAL_PARAMETER


@pytest.mark.parametrize(
    ("alter", "alert"),
    [
        (encrypted_extension(0x1234, b""), AlertDescription.UNSUPPORTED_EXTENSION),
        (encrypted_extension(ExtensionType.EARLY_DATA, b""), AlertDescription.UNSUPPORTED_EXTENSION),
        (encrypted_extension(ExtensionType.KEY_SHARE, b""), AlertDescription.ILLEGAL_PARAMETER),
        (encrypted_extension(ExtensionType.SUPPORTED_VERSIONS, b"\3\4"), AlertDescription.ILLEGAL_PARAMETER),
        (encrypted_extension(ExtensionType.SIGNATURE_ALGORITHMS, b"\0\2\4\3"), AlertDescription.ILLEGAL_PARAMETER),
        (encrypted_extension(ExtensionType.SERVER_NAME, b"x"), AlertDescription.DECODE_ERROR),
        (encrypted_extension(ExtensionType.SUPPORTED_GROUPS, b"\0\1\0"), AlertDescription.DECODE_ERROR),
        # RFC 7301 section 3.1: the list "MUST contain exactly one ProtocolName"; "Empty strings MUST NOT be included".
        (encrypted_extension(ExtensionType.ALPN, b"\0\x0a\x06mesh/1\x02h2"), AlertDescription.DECODE_ERROR),
        (encrypted_extension(ExtensionType.ALPN, b"\0\x01\0"), AlertDescription.DECODE_ERROR),
        (encrypted_extension(ExtensionType.ALPN, b"\0\0"), AlertDescription.DECODE_ERROR),
        (encrypted_extension(ExtensionType.ALPN, b"\0\x03\x02h3"), AlertDescription.ILLEGAL_PARAMETER),
        (lambda _: b"\0\x08\0\0\0\0\0\0\0\0", AlertDescription.DECODE_ERROR),
        (lambda body: body + b"\0", AlertDescription.DECODE_ERROR),
    ],
)
def test_wrong_encrypted_extensions_are_refused(pki: Pki, credential: Credential, alter: Alter, alert: int) -> None:
    assert alert_of(shake(pki, credential), {EE: alter}) == alert


def test_a_protocol_is_refused_if_none_was_offered(pki: Pki, credential: Credential) -> None:
    alter = encrypted_extension(ExtensionType.ALPN, b"\0\x03\x02h2")

    assert alert_of(shake(pki, credential, alpn=()), {EE: alter}) == AlertDescription.UNSUPPORTED_EXTENSION


def entries(*values: CertificateEntry, context: bytes = b"") -> Alter:
    return lambda _: Certificate(values, context).encode()


@pytest.mark.parametrize(
    ("alter", "alert"),
    [
        # Section 4.4.2.4: "If the server supplies an empty Certificate message, the client MUST abort the handshake
        # with a "decode_error" alert."
        (entries(), AlertDescription.DECODE_ERROR),
        (entries(CertificateEntry(b"")), AlertDescription.DECODE_ERROR),
        (entries(CertificateEntry(b"x"), context=b"c"), AlertDescription.ILLEGAL_PARAMETER),
        (entries(CertificateEntry(b"x", (Extension(5, b""),))), AlertDescription.UNSUPPORTED_EXTENSION),
        (entries(CertificateEntry(b"x", (Extension(0x1234, b""),))), AlertDescription.UNSUPPORTED_EXTENSION),
        (entries(CertificateEntry(b"no certificate")), AlertDescription.BAD_CERTIFICATE),
        (lambda body: body[:-1], AlertDescription.DECODE_ERROR),
    ],
)
def test_a_wrong_certificate_message_is_refused(pki: Pki, credential: Credential, alter: Alter, alert: int) -> None:
    assert alert_of(shake(pki, credential), {CERT: alter}) == alert


@pytest.mark.parametrize(
    ("days", "alert"),
    [(0, None), (5, AlertDescription.CERTIFICATE_EXPIRED), (-5, AlertDescription.CERTIFICATE_EXPIRED)],
)
def test_a_certificate_is_for_a_time(pki: Pki, days: int, alert: int | None) -> None:
    key = KEYS["p256"]()
    leaf = pki.certificate(key, NAME, at=NOW + timedelta(days=days))
    handshake = shake(pki, Credential.of([leaf], key))

    if alert is None:
        handshake.run()
    else:
        assert alert_of(handshake, {}) == alert


# Section 4.4.2.2: "the digitalSignature bit MUST be set if the Key Usage extension is present"
@pytest.mark.parametrize(
    ("usage", "signing", "accepted"), [(False, True, True), (True, True, True), (True, False, False)]
)
def test_a_certificate_that_is_not_for_signing_is_refused(pki: Pki, usage: bool, signing: bool, accepted: bool) -> None:
    key = KEYS["p256"]()
    handshake = shake(pki, Credential.of([pki.certificate(key, NAME, usage=usage, signing=signing)], key))

    if accepted:
        handshake.run()
    else:
        assert alert_of(handshake, {}) == AlertDescription.ILLEGAL_PARAMETER


def signed_as(scheme: int) -> Alter:
    return lambda body: CertificateVerify(scheme, CertificateVerify.parse(body).signature).encode()


# Section 4.4.3: "the signature algorithm MUST be one offered in the client's "signature_algorithms" extension"; section
# 4.2.3: the curve is part of the scheme; rsa_pkcs1 is for certificates only.
@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("scheme", [*SignatureScheme, 0x0401, 0x0203, 0x0603, 0x0809, 0xFFFF])
def test_a_key_signs_only_as_it_can(pki: Pki, credentials: dict[str, Credential], kind: str, scheme: int) -> None:
    credential = credentials[kind]
    if scheme == credential.schemes[0]:
        shake(pki, credential).run({VERIFY: signed_as(scheme)})
        return

    alert = alert_of(shake(pki, credential), {VERIFY: signed_as(scheme)})

    fits = scheme in credential.schemes  # RSA, another hash: the signature itself is wrong
    assert alert == (AlertDescription.DECRYPT_ERROR if fits else AlertDescription.ILLEGAL_PARAMETER)


def flipped(body: bytes) -> bytes:
    return body[:-1] + bytes([body[-1] ^ 1])


@pytest.mark.parametrize(
    ("kind", "alter", "alert"),
    [
        (VERIFY, flipped, AlertDescription.DECRYPT_ERROR),
        (VERIFY, lambda body: CertificateVerify(CertificateVerify.parse(body).scheme, b"").encode(), 51),
        (VERIFY, lambda body: body + b"\0", AlertDescription.DECODE_ERROR),
        # Section 4.4.4: "Recipients of Finished messages MUST verify that the contents are correct and if incorrect
        # MUST terminate the connection with a "decrypt_error" alert."
        (FIN, flipped, AlertDescription.DECRYPT_ERROR),
        (FIN, lambda body: bytes(len(body)), AlertDescription.DECRYPT_ERROR),
        (FIN, lambda body: body[:-1], AlertDescription.DECODE_ERROR),
        (FIN, lambda body: body + b"\0", AlertDescription.DECODE_ERROR),
        (FIN, lambda _: b"", AlertDescription.DECODE_ERROR),
    ],
)
def test_wrong_proofs_are_refused(
    pki: Pki, credential: Credential, kind: HandshakeType, alter: Alter, alert: int
) -> None:
    assert alert_of(shake(pki, credential), {kind: alter}) == alert


def test_another_servers_certificate_does_not_fit_the_signature(pki: Pki, credential: Credential) -> None:
    other = pki.credential(NAME)

    assert alert_of(shake(pki, credential), {CERT: lambda _: other.message}) == AlertDescription.DECRYPT_ERROR


# Order


def server_flight(pki: Pki, credential: Credential) -> tuple[ClientHandshake, list[bytes]]:
    """A client that has sent its hello, and what the server answers, message by message."""
    handshake = shake(pki, credential)
    handshake.client.start()
    (hello,) = handshake.client_flight.take()
    handshake.server.handle(hello[0], hello)
    return handshake.client, handshake.server_flight.take()


def hear(client: ClientHandshake, messages: list[bytes]) -> None:
    for message in messages:
        client.handle(message[0], message)


@pytest.mark.parametrize("skipped", range(5))
def test_a_server_cannot_leave_a_message_out(pki: Pki, credential: Credential, skipped: int) -> None:
    client, flight = server_flight(pki, credential)
    del flight[skipped]

    with pytest.raises(TlsError) as caught:
        hear(client, [*flight, handshake_message(HandshakeType.FINISHED, bytes(32))])

    expected = AlertDescription.DECRYPT_ERROR if skipped == 4 else AlertDescription.UNEXPECTED_MESSAGE
    assert caught.value.alert == expected


@pytest.mark.parametrize("repeated", range(5))
def test_a_server_cannot_say_something_twice(pki: Pki, credential: Credential, repeated: int) -> None:
    client, flight = server_flight(pki, credential)
    for message in flight[: repeated + 1]:
        client.handle(message[0], message)

    with pytest.raises(TlsError) as caught:
        client.handle(flight[repeated][0], flight[repeated])

    assert caught.value.alert == AlertDescription.UNEXPECTED_MESSAGE


@pytest.mark.parametrize(
    "kind", [HandshakeType.CLIENT_HELLO, HandshakeType.KEY_UPDATE, HandshakeType.NEW_SESSION_TICKET, 0, 4, 12, 255]
)
def test_messages_that_have_no_place_are_unexpected(pki: Pki, credential: Credential, kind: int) -> None:
    for after in range(5):
        client, flight = server_flight(pki, credential)
        for message in flight[:after]:
            client.handle(message[0], message)

        with pytest.raises(TlsError) as caught:
            client.handle(kind, bytes([kind]) + b"\0\0\0")
        assert caught.value.alert == AlertDescription.UNEXPECTED_MESSAGE


ALGORITHMS = (Extension(ExtensionType.SIGNATURE_ALGORITHMS, b"\0\2\4\3"),)


@pytest.mark.parametrize(
    ("requests", "alert"),
    [
        # Section 4.3.2: "The "signature_algorithms" extension MUST be specified"; the context is for later requests.
        ([CertificateRequest(b"", ())], AlertDescription.MISSING_EXTENSION),
        ([CertificateRequest(b"c", ALGORITHMS)], AlertDescription.ILLEGAL_PARAMETER),
        ([CertificateRequest(b"", (Extension(ExtensionType.SIGNATURE_ALGORITHMS, b"\0\0"),))], 50),
        ([CertificateRequest(b"", ALGORITHMS)] * 2, AlertDescription.UNEXPECTED_MESSAGE),
    ],
)
def test_a_wrong_certificate_request_is_refused(
    pki: Pki, credential: Credential, requests: list[CertificateRequest], alert: int
) -> None:
    client, flight = server_flight(pki, credential)
    for message in flight[:2]:
        client.handle(message[0], message)

    messages = [handshake_message(HandshakeType.CERTIFICATE_REQUEST, request.encode()) for request in requests]
    with pytest.raises(TlsError) as caught:
        hear(client, messages)

    assert caught.value.alert == alert


# HelloRetryRequest, section 4.1.4


def test_a_retry_request_is_answered_and_both_ends_agree(pki: Pki, credential: Credential) -> None:
    client, server = shake(pki, credential, retry=True).run()

    assert client.group == server.group == NamedGroup.SECP384R1


@pytest.mark.parametrize(
    ("alter", "alert"),
    [
        # Section 4.2.8: "the selected_group field ... corresponds to a group which was provided in the
        # "supported_groups" extension" and "does not correspond to a group which was provided in the "key_share"".
        (in_server_hello(ExtensionType.KEY_SHARE, b"\0\x17"), AlertDescription.ILLEGAL_PARAMETER),
        (in_server_hello(ExtensionType.KEY_SHARE, b"\0\x1d"), AlertDescription.ILLEGAL_PARAMETER),
        (in_server_hello(ExtensionType.KEY_SHARE, b"\0\x1d\0"), AlertDescription.DECODE_ERROR),
        # Section 4.1.4: "if the HelloRetryRequest would not result in any change in the ClientHello".
        (in_server_hello(ExtensionType.KEY_SHARE, None), AlertDescription.ILLEGAL_PARAMETER),
        (in_server_hello(ExtensionType.COOKIE, b"\0\0"), AlertDescription.DECODE_ERROR),
        (in_server_hello(0x1234, b""), AlertDescription.UNSUPPORTED_EXTENSION),
        (in_server_hello(ExtensionType.ALPN, b"\0\x03\x02h2"), AlertDescription.ILLEGAL_PARAMETER),
        (in_server_hello(ExtensionType.SUPPORTED_VERSIONS, None), AlertDescription.PROTOCOL_VERSION),
        (server_hello(session_id=bytes(32)), AlertDescription.ILLEGAL_PARAMETER),
        (server_hello(cipher_suite=0x1304), AlertDescription.ILLEGAL_PARAMETER),
        # and after it: "the client MUST check that the cipher suite ... is the same as that in the HelloRetryRequest"
        (second(server_hello(cipher_suite=0x1303)), AlertDescription.ILLEGAL_PARAMETER),
        (
            second(in_server_hello(ExtensionType.KEY_SHARE, b"\0\x1d\0\x20" + bytes(range(32)))),
            AlertDescription.ILLEGAL_PARAMETER,
        ),
    ],
)
def test_a_wrong_retry_request_is_refused(pki: Pki, credential: Credential, alter: Alter, alert: int) -> None:
    assert alert_of(shake(pki, credential, retry=True), {SH: alter}) == alert


# Section 4.1.4: "If a client receives a second HelloRetryRequest in the same connection ... it MUST abort the handshake
# with an "unexpected_message" alert."
def test_a_second_retry_request_is_unexpected(pki: Pki, credential: Credential) -> None:
    handshake = shake(pki, credential, retry=True)
    handshake.client.start()
    (hello,) = handshake.client_flight.take()
    handshake.server.handle(hello[0], hello)
    (request,) = handshake.server_flight.take()
    handshake.client.handle(request[0], request)

    with pytest.raises(TlsError) as caught:
        handshake.client.handle(request[0], request)

    assert caught.value.alert == AlertDescription.UNEXPECTED_MESSAGE


# Section 4.2.2: "When sending the new ClientHello, the client MUST copy the contents of the extension received in the
# HelloRetryRequest into a "cookie" extension"; section 4.1.2: all else stays the same.
@pytest.mark.parametrize("group", [True, False])
def test_a_cookie_is_returned_and_all_else_stays(pki: Pki, credential: Credential, group: bool) -> None:
    handshake = shake(pki, credential, retry=True)
    handshake.client.start()
    (first,) = handshake.client_flight.take()
    handshake.server.handle(first[0], first)
    (request,) = handshake.server_flight.take()
    request = rebuilt(request, in_server_hello(ExtensionType.COOKIE, b"\0\x05cream"))
    if not group:
        request = rebuilt(request, in_server_hello(ExtensionType.KEY_SHARE, None))

    handshake.client.handle(request[0], request)

    (again,) = handshake.client_flight.take()
    before, after = ClientHello.parse(first[4:]), ClientHello.parse(again[4:])
    cookie, share = after.extension(ExtensionType.COOKIE), after.extension(ExtensionType.KEY_SHARE)
    assert cookie is not None
    assert cookie.data == b"\0\x05cream"
    assert share is not None
    assert (share == before.extension(ExtensionType.KEY_SHARE)) is not group
    changed = with_extension(after.extensions, ExtensionType.COOKIE, None)
    share_type = ExtensionType.KEY_SHARE
    assert with_extension(changed, share_type, b"") == with_extension(before.extensions, share_type, b"")
    assert (after.random, after.session_id, after.cipher_suites) == (
        before.random,
        before.session_id,
        before.cipher_suites,
    )
    assert handshake.client_flight.change_cipher_specs == 1  # appendix D.4: before the second hello


# tunnel rule: `min_pq` holds for HelloRetryRequest, too
def test_a_client_that_demands_post_quantum_keys_cannot_be_talked_out_of_them(pki: Pki, credential: Credential) -> None:
    handshake = Shake(client_config(pki, groups=POST_QUANTUM_GROUPS), ServerConfig((credential,), alpn=(b"mesh/1",)))
    alter = server_hello(random=bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c"))

    def retry(body: bytes) -> bytes:
        return in_server_hello(ExtensionType.KEY_SHARE, b"\0\x1d")(alter(body))

    assert alert_of(handshake, {SH: retry}) == AlertDescription.ILLEGAL_PARAMETER


def test_over_quic_there_is_no_session_id_and_no_change_cipher_spec(pki: Pki, credential: Credential) -> None:
    handshake = shake(pki, credential, retry=True)
    handshake.client = ClientHandshake(client_config(pki), handshake.client_flight, random, NOW, b"")

    handshake.run()

    assert handshake.client_flight.change_cipher_specs == handshake.server_flight.change_cipher_specs == 0


@pytest.mark.parametrize(
    "settings",
    [
        {"cipher_suites": ()},
        {"cipher_suites": (0xC02F,)},
        {"groups": ()},
        {"groups": (0x0019,)},
        {"shares": 0},
        {"shares": 3},
        {"alpn": (b"",)},
        {"alpn": (bytes(256),)},
    ],
)
def test_a_configuration_that_could_never_work_is_refused(pki: Pki, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        client_config(pki, **settings)
    with pytest.raises(ValueError, match="server name"):
        ClientConfig("exämple", pki.trust)
