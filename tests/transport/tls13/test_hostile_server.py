"""What a client of ours says to a server that breaks the rules: each row is one rule, in four states of ECH.

The server is ours, but for the messages that a row alters on their way out: it has all the keys, so that a breach under
protection is found for what it is and not for a broken record. No row ends in a completed handshake, and none in
EchRejectedError: only a rejection that is flawless to its end may be believed (RFC 9849 section 6.1.6).
"""

import os
from dataclasses import replace

import pytest

from tests.fakes.tls13 import NOW, Pki
from tests.transport.tls13.hostile_flights import (
    ALPN,
    CERT,
    COOKIE,
    CR,
    CV,
    ECH,
    EE,
    FIN,
    KEY,
    NAME,
    SH,
    SHARE,
    UNKNOWN,
    VERSION,
    Row,
    State,
    add,
    before,
    cut,
    drop,
    encrypted,
    entries,
    flipped,
    hello,
    hello_extensions,
    hostile_server,
    meet,
    request,
    set_to,
    signed,
    with_sentinel,
)
from transport.tls13 import extensions as ext
from transport.tls13.alerts import AlertDescription, EchRejectedError, TlsError
from transport.tls13.certificates import Credential
from transport.tls13.client import connect
from transport.tls13.config import ClientConfig, ServerConfig
from transport.tls13.constants import ExtensionType, HandshakeType, NamedGroup
from transport.tls13.events import EchStatus, HandshakeComplete
from transport.tls13.groups import generate
from transport.tls13.messages import CertificateEntry, Extension
from transport.tls13.wire import vector

DECODE = AlertDescription.DECODE_ERROR
ILLEGAL = AlertDescription.ILLEGAL_PARAMETER
MISSING = AlertDescription.MISSING_EXTENSION
UNSUPPORTED = AlertDescription.UNSUPPORTED_EXTENSION
UNEXPECTED = AlertDescription.UNEXPECTED_MESSAGE
DECRYPT = AlertDescription.DECRYPT_ERROR

SCHEMES = Extension(ExtensionType.SIGNATURE_ALGORITHMS, ext.code_points((0x0403,)))
NOT_ASKED = {State.PLAIN: UNSUPPORTED, State.ACCEPTED: UNSUPPORTED}
NOT_OFFERED = {State.PLAIN: UNSUPPORTED}

HELLO_ROWS: dict[str, Row] = {
    **{f"ServerHello cut at {end}": Row(SH, cut(end), DECODE) for end in (0, 1, 33, 66, 69, 71, -1)},
    "a byte behind ServerHello": Row(SH, lambda body: body + b"\0", DECODE),
    "legacy version 1.3": Row(SH, hello(legacy_version=0x0304), ILLEGAL),
    "legacy version 1.1": Row(SH, hello(legacy_version=0x0302), ILLEGAL),
    "another session id": Row(SH, hello(session_id=b"x" * 32), ILLEGAL),
    "no session id": Row(SH, hello(session_id=b""), ILLEGAL),
    "a suite that was not offered": Row(SH, hello(cipher_suite=0x1304), ILLEGAL),
    "a suite of TLS 1.2": Row(SH, hello(cipher_suite=0xC02F), ILLEGAL),
    "compression": Row(SH, hello(compression_method=1), ILLEGAL),
    "TLS 1.2": Row(SH, hello_extensions(drop(VERSION)), AlertDescription.PROTOCOL_VERSION),
    # RFC 8446 section 4.1.3: "TLS 1.3 clients ... MUST check that the last 8 bytes are not equal to either".
    "downgraded to TLS 1.2": Row(SH, with_sentinel(b"DOWNGRD\1"), ILLEGAL),
    "downgraded to TLS 1.1": Row(SH, with_sentinel(b"DOWNGRD\0"), ILLEGAL),
    "selected TLS 1.2": Row(SH, hello_extensions(set_to(VERSION, b"\3\3")), ILLEGAL),
    "selected a version to come": Row(SH, hello_extensions(set_to(VERSION, b"\3\5")), ILLEGAL),
    "selected half a version": Row(SH, hello_extensions(set_to(VERSION, b"\3")), DECODE),
    "selected two versions": Row(SH, hello_extensions(set_to(VERSION, b"\3\4\3\4")), DECODE),
    "no share": Row(SH, hello_extensions(drop(SHARE)), MISSING),
    "share of a group without ours": Row(
        SH,
        hello_extensions(set_to(SHARE, ext.key_share(NamedGroup.SECP256R1, generate(NamedGroup.SECP256R1).public))),
        ILLEGAL,
    ),
    "share of an unknown group": Row(SH, hello_extensions(set_to(SHARE, ext.key_share(0x1E, bytes(56)))), ILLEGAL),
    "share of zeros": Row(SH, hello_extensions(set_to(SHARE, ext.key_share(0x1D, bytes(32)))), ILLEGAL),
    "share too short": Row(SH, hello_extensions(set_to(SHARE, ext.key_share(0x1D, bytes(31)))), ILLEGAL),
    "share without a key": Row(SH, hello_extensions(set_to(SHARE, ext.key_share(0x1D, b""))), DECODE),
    "share and a byte": Row(SH, hello_extensions(set_to(SHARE, ext.key_share(0x1D, bytes(32)) + b"\0")), DECODE),
    "group without a share": Row(SH, hello_extensions(set_to(SHARE, b"\0\x1d")), DECODE),
    "share twice": Row(SH, hello_extensions(add(Extension(SHARE, b""))), DECODE),
    "unknown extension": Row(SH, hello_extensions(add(UNKNOWN)), UNSUPPORTED),
    "protocol in the clear": Row(SH, hello_extensions(add(Extension(ALPN, ext.alpn((b"mesh/1",))))), ILLEGAL),
    "groups in the clear": Row(
        SH, hello_extensions(add(Extension(ExtensionType.SUPPORTED_GROUPS, b"\0\2\0\x1d"))), ILLEGAL
    ),
    "a session that was not offered": Row(
        SH, hello_extensions(add(Extension(ExtensionType.PRE_SHARED_KEY, b"\0\0"))), UNSUPPORTED
    ),
    "ech in ServerHello": Row(SH, hello_extensions(add(Extension(ECH, bytes(8)))), ILLEGAL, NOT_OFFERED),
    "cookie in ServerHello": Row(SH, hello_extensions(add(Extension(COOKIE, ext.cookie(b"x")))), ILLEGAL),
    "something else than a hello": Row(SH, lambda _: [(EE, b"\0\0")], UNEXPECTED),
    "a message of no known type": Row(SH, lambda _: [(HandshakeType.MESSAGE_HASH, bytes(32))], UNEXPECTED),
    # Either is an attack on the confirmation of ECH at worst: the keys do not fit, for the random is in the transcript.
    "a random with another end": Row(SH, flipped(33), AlertDescription.BAD_RECORD_MAC),
    "a random with another start": Row(SH, flipped(2), AlertDescription.BAD_RECORD_MAC),
}
RETRY_ROWS: dict[str, Row] = {
    name: replace(row, retries=True)
    for name, row in {
        "retry cut": Row(SH, cut(-1), DECODE),
        "retry for a group not offered": Row(SH, hello_extensions(set_to(SHARE, b"\0\x1e")), ILLEGAL),
        "retry for the group of our share": Row(SH, hello_extensions(set_to(SHARE, b"\0\x1d")), ILLEGAL),
        "retry with a share": Row(SH, hello_extensions(set_to(SHARE, ext.key_share(0x18, bytes(97)))), DECODE),
        "retry that changes nothing": Row(SH, hello_extensions(drop(SHARE)), ILLEGAL),
        "retry with an empty cookie": Row(SH, hello_extensions(add(Extension(COOKIE, b"\0\0"))), DECODE),
        "retry with half a cookie": Row(SH, hello_extensions(add(Extension(COOKIE, b"\0\2x"))), DECODE),
        "retry with an unknown extension": Row(SH, hello_extensions(add(UNKNOWN)), UNSUPPORTED),
        "retry with a protocol": Row(SH, hello_extensions(add(Extension(ALPN, ext.alpn((b"mesh/1",))))), ILLEGAL),
        "retry for TLS 1.2": Row(SH, hello_extensions(drop(VERSION)), AlertDescription.PROTOCOL_VERSION),
        "retry with another session id": Row(SH, hello(session_id=b""), ILLEGAL),
        "retry with a suite not offered": Row(SH, hello(cipher_suite=0x1304), ILLEGAL),
        # RFC 9849 section 6.1.4: "if it has a length other than 8, the client aborts with a decode_error alert".
        **{
            f"retry with a confirmation of {length} bytes": Row(
                SH, hello_extensions(set_to(ECH, bytes(length))), DECODE, NOT_OFFERED
            )
            for length in (0, 7, 9)
        },
        "retry twice": Row(SH, lambda body: [(SH, body), (SH, body)], UNEXPECTED),
        "another suite after the retry": Row(SH, hello(cipher_suite=0x1303), ILLEGAL, after=1),
        "another group after the retry": Row(
            SH,
            hello_extensions(set_to(SHARE, ext.key_share(0x1D, generate(0x1D).public))),
            ILLEGAL,
            after=1,
        ),
        "share of a compressed point": Row(
            SH, hello_extensions(set_to(SHARE, ext.key_share(0x18, b"\2" + bytes(48)))), ILLEGAL, after=1
        ),
        "share of a point off the curve": Row(
            SH, hello_extensions(set_to(SHARE, ext.key_share(0x18, b"\4" + bytes(95) + b"\1"))), ILLEGAL, after=1
        ),
        # RFC 9849 section 6.1.5: "If the ServerHello does not also indicate ECH acceptance, the client MUST terminate
        # the connection with an illegal_parameter alert."
        "accepted in the retry only": Row(
            SH,
            flipped(33),
            AlertDescription.BAD_RECORD_MAC,
            {State.ACCEPTED: ILLEGAL},
            after=1,
        ),
    }.items()
}
EXTENSION_ROWS: dict[str, Row] = {
    "EncryptedExtensions cut": Row(EE, cut(-1), DECODE),
    "nothing in EncryptedExtensions": Row(EE, lambda _: b"", DECODE),
    "a byte behind EncryptedExtensions": Row(EE, lambda body: body + b"\0", DECODE),
    "protocol twice": Row(EE, encrypted(add(Extension(ALPN, b""))), DECODE),
    "unknown encrypted extension": Row(EE, encrypted(add(UNKNOWN)), UNSUPPORTED),
    "share under protection": Row(EE, encrypted(add(Extension(SHARE, b""))), ILLEGAL),
    "version under protection": Row(EE, encrypted(add(Extension(VERSION, b"\3\4"))), ILLEGAL),
    "cookie under protection": Row(EE, encrypted(add(Extension(COOKIE, b""))), ILLEGAL),
    "schemes under protection": Row(EE, encrypted(add(SCHEMES)), ILLEGAL),
    "a protocol that was not offered": Row(EE, encrypted(set_to(ALPN, ext.alpn((b"h3",)))), ILLEGAL),
    "two protocols": Row(EE, encrypted(set_to(ALPN, ext.alpn((b"mesh/1", b"h2")))), DECODE),
    "no protocol": Row(EE, encrypted(set_to(ALPN, b"\0\0")), DECODE),
    "an empty protocol": Row(EE, encrypted(set_to(ALPN, b"\0\1\0")), DECODE),
    "a protocol and a byte": Row(EE, encrypted(set_to(ALPN, ext.alpn((b"mesh/1",)) + b"\0")), DECODE),
    "a server name that is not empty": Row(EE, encrypted(set_to(NAME, ext.server_name("a.example"))), DECODE),
    "groups of odd length": Row(EE, encrypted(add(Extension(ExtensionType.SUPPORTED_GROUPS, b"\0\1\0"))), DECODE),
    "early data": Row(EE, encrypted(add(Extension(ExtensionType.EARLY_DATA, b""))), UNSUPPORTED),
    # RFC 9849 section 5: "If the server sent this extension in response to the inner variant, then the client MUST
    # abort with an unsupported_extension alert." Section 6.2.1 has GREASE checked for its syntax.
    "retry configurations that are none": Row(EE, encrypted(set_to(ECH, b"\0\0")), DECODE, NOT_ASKED),
    "retry configurations cut short": Row(EE, encrypted(set_to(ECH, KEY.config.encode()[:-1])), DECODE, NOT_ASKED),
    "the name in clear, though protected": Row(
        EE, encrypted(set_to(ExtensionType.ECH_OUTER_EXTENSIONS, b"\2\0\0")), UNSUPPORTED
    ),
}
CERTIFICATE_ROWS: dict[str, Row] = {
    "no certificate": Row(CERT, entries(lambda _: ()), DECODE),
    "Certificate cut": Row(CERT, cut(-1), DECODE),
    "a byte behind Certificate": Row(CERT, lambda body: body + b"\0", DECODE),
    "a context": Row(CERT, lambda body: vector(1, b"x") + body[1:], ILLEGAL),
    "an empty certificate": Row(CERT, lambda _: b"\0" + vector(3, vector(3, b"") + b"\0\0"), DECODE),
    "a certificate extension": Row(
        CERT, entries(lambda chain: (replace(chain[0], extensions=(UNKNOWN,)),)), UNSUPPORTED
    ),
    "too many certificates": Row(CERT, entries(lambda chain: chain * 11), DECODE),
    "a certificate of garbage": Row(
        CERT, entries(lambda _: (CertificateEntry(b"garbage"),)), AlertDescription.BAD_CERTIFICATE
    ),
    "garbage behind the certificate": Row(
        CERT, entries(lambda chain: (*chain, CertificateEntry(b"garbage"))), AlertDescription.BAD_CERTIFICATE
    ),
    "CertificateVerify instead": Row(CERT, lambda body: [(CV, body)], UNEXPECTED),
    "Certificate twice": Row(CERT, lambda body: [(CERT, body), (CERT, body)], UNEXPECTED),
    "Certificate left out": Row(CERT, lambda _: [], UNEXPECTED),
    "compressed Certificate": Row(CERT, lambda _: [(HandshakeType.KEY_UPDATE, b"\0")], UNEXPECTED),
    "a request without schemes": Row(CERT, before(request(), kind=CERT), MISSING),
    "a request with a context": Row(CERT, before(request(SCHEMES, context=b"x"), kind=CERT), ILLEGAL),
    "a request twice": Row(CERT, before(request(SCHEMES), request(SCHEMES), kind=CERT), UNEXPECTED),
    "a request without scheme": Row(CERT, before(request(replace(SCHEMES, data=b"\0\0")), kind=CERT), DECODE),
    "a request cut": Row(CERT, before((CR, b"\0\0"), kind=CERT), DECODE),
    "a request after Certificate": Row(CV, before(request(SCHEMES), kind=CV), UNEXPECTED),
    "a request before EncryptedExtensions": Row(EE, before(request(SCHEMES), kind=EE), UNEXPECTED),
}
VERIFY_ROWS: dict[str, Row] = {
    "another signature": Row(CV, flipped(-1), DECRYPT),
    "no signature": Row(CV, signed(lambda verify: replace(verify, signature=b"")), DECRYPT),
    "a signature of PKCS #1": Row(CV, signed(lambda verify: replace(verify, scheme=0x0401)), ILLEGAL),
    "a signature of SHA-1": Row(CV, signed(lambda verify: replace(verify, scheme=0x0203)), ILLEGAL),
    "a scheme for another curve": Row(CV, signed(lambda verify: replace(verify, scheme=0x0503)), ILLEGAL),
    "a scheme for another key": Row(CV, signed(lambda verify: replace(verify, scheme=0x0804)), ILLEGAL),
    "CertificateVerify cut": Row(CV, cut(-1), DECODE),
    "a byte behind CertificateVerify": Row(CV, lambda body: body + b"\0", DECODE),
    "CertificateVerify twice": Row(CV, lambda body: [(CV, body), (CV, body)], UNEXPECTED),
    "CertificateVerify left out": Row(CV, lambda _: [], UNEXPECTED),
    "another Finished": Row(FIN, flipped(0), DECRYPT),
    "Finished cut": Row(FIN, cut(-1), DECODE),
    "a byte behind Finished": Row(FIN, lambda body: body + b"\0", DECODE),
    "Finished of zeros": Row(FIN, lambda body: bytes(len(body)), DECRYPT),
    "an empty Finished": Row(FIN, lambda _: b"", DECODE),
    "a message behind Finished": Row(FIN, lambda body: [(FIN, body), (FIN, body)], UNEXPECTED),
    "EncryptedExtensions twice": Row(EE, lambda body: [(EE, body), (EE, body)], UNEXPECTED),
    "EncryptedExtensions left out": Row(EE, lambda _: [], UNEXPECTED),
    "a ticket too early": Row(FIN, before((HandshakeType.NEW_SESSION_TICKET, bytes(14)), kind=FIN), UNEXPECTED),
    "a second ServerHello": Row(EE, before((SH, bytes(40)), kind=EE), UNEXPECTED),
}
TABLE = {**HELLO_ROWS, **RETRY_ROWS, **EXTENSION_ROWS, **CERTIFICATE_ROWS, **VERIFY_ROWS}


@pytest.fixture(scope="session")
def server_credentials(pki: Pki) -> tuple[Credential, ...]:
    return pki.credential("secret.internal"), pki.credential("public.example")


def configs(
    pki: Pki, credentials: tuple[Credential, ...], state: State, *, retries: bool
) -> tuple[ClientConfig, ServerConfig]:
    both = (NamedGroup.X25519, NamedGroup.SECP384R1)
    client = ClientConfig(
        "secret.internal",
        pki.trust,
        ech=state.config,
        grease_ech=state is State.GREASE,
        alpn=(b"mesh/1",),
        outer_alpn=(b"mesh/1",),
        groups=both,
    )
    server = ServerConfig(credentials, alpn=(b"mesh/1",), groups=both[1:] if retries else both, ech_keys=(KEY,))
    return client, server


@pytest.mark.parametrize("state", State, ids=lambda state: state.value)
@pytest.mark.parametrize("name", TABLE)
def test_breach_is_answered_with_its_alert_and_believed_in_nothing(
    pki: Pki, server_credentials: tuple[Credential, ...], name: str, state: State
) -> None:
    row = TABLE[name]
    client_config, server_config = configs(pki, server_credentials, state, retries=row.retries)
    client = connect(client_config, random=os.urandom, now=NOW)

    with pytest.raises(TlsError) as error:
        meet(client, hostile_server(server_config, row))

    assert error.value.alert == row.expected(state)
    assert not isinstance(error.value, EchRejectedError)
    assert client.handshake is None
    with pytest.raises(TlsError) as again:
        client.next_event()
    assert again.value is error.value


@pytest.mark.parametrize("retries", [False, True])
@pytest.mark.parametrize("state", State, ids=lambda state: state.value)
def test_without_a_breach_the_same_server_is_believed(
    pki: Pki, server_credentials: tuple[Credential, ...], state: State, retries: bool
) -> None:
    client_config, server_config = configs(pki, server_credentials, state, retries=retries)
    client = connect(client_config, random=os.urandom, now=NOW)
    honest = hostile_server(server_config, Row(HandshakeType.KEY_UPDATE, lambda body: body, DECODE))

    if state is State.REJECTED:
        with pytest.raises(EchRejectedError) as rejected:
            meet(client, honest)
        assert rejected.value.retry_configs == server_config.retry_configs
        assert client.handshake is None
        return
    (complete,) = meet(client, honest)

    assert isinstance(complete, HandshakeComplete)
    assert complete.ech is (EchStatus.ACCEPTED if state is State.ACCEPTED else EchStatus.NOT_OFFERED)
