"""What a server of ours says to a client that breaks the rules: each row is one rule, in four places.

A hello in the clear and a hello inside ECH, a first one and the answer to a HelloRetryRequest, are held to the same
rules (RFC 8446 sections 4.1.2, 4.2 and 9.2; RFC 9849 section 7.1). None of these hellos is ever answered with keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest

from tests.fakes.tls13 import Pki
from tests.transport.ech.hellos import KEY
from tests.transport.tls13.hostile_hellos import Alter, HostileClient, Place, added, changed, server, without
from transport.tls13 import extensions as ext
from transport.tls13.alerts import AlertDescription
from transport.tls13.certificates import Credential
from transport.tls13.constants import ContentType, ExtensionType, NamedGroup
from transport.tls13.groups import generate
from transport.tls13.messages import ClientHello, Extension
from transport.tls13.wire import integers, vector

DECODE = AlertDescription.DECODE_ERROR
ILLEGAL = AlertDescription.ILLEGAL_PARAMETER
MISSING = AlertDescription.MISSING_EXTENSION
FAILURE = AlertDescription.HANDSHAKE_FAILURE
VERSION = AlertDescription.PROTOCOL_VERSION
NAMES, GROUPS, SCHEMES = ExtensionType.SERVER_NAME, ExtensionType.SUPPORTED_GROUPS, ExtensionType.SIGNATURE_ALGORITHMS
VERSIONS, SHARES, ALPN = ExtensionType.SUPPORTED_VERSIONS, ExtensionType.KEY_SHARE, ExtensionType.ALPN


@dataclass(frozen=True)
class Row:
    """One breach, and the alert for it; some places see it as another one, or not at all."""

    alter: Alter
    alert: AlertDescription | None
    elsewhere: Mapping[Place, AlertDescription | None] | None = None

    def expected(self, place: Place) -> AlertDescription | None:
        return (self.elsewhere or {}).get(place, self.alert)


def inside(alert: AlertDescription | None) -> dict[Place, AlertDescription | None]:
    return {Place.FIRST_INSIDE: alert, Place.SECOND_INSIDE: alert}


def second(alert: AlertDescription | None) -> dict[Place, AlertDescription | None]:
    return {Place.SECOND: alert, Place.SECOND_INSIDE: alert}


def cut(end: int) -> Alter:
    return lambda hello: hello.encode()[:end]


def share(group: int, key: bytes, *, among: tuple[int, ...] = ()) -> Alter:
    """One share, of a group that is offered."""

    def alter(hello: ClientHello) -> ClientHello:
        offered = changed(GROUPS, ext.code_points(among or (group,)))(hello)
        assert isinstance(offered, ClientHello)
        altered = changed(SHARES, ext.key_shares(((group, key),)))(offered)
        assert isinstance(altered, ClientHello)
        return altered

    return alter


def extended_share(hello: ClientHello) -> ClientHello:
    data = next(e.data for e in hello.extensions if e.type == SHARES)
    altered = changed(SHARES, data + b"\0")(hello)
    assert isinstance(altered, ClientHello)
    return altered


EMPTY = vector(2, b"")
X25519, P256, P384 = NamedGroup.X25519, NamedGroup.SECP256R1, NamedGroup.SECP384R1
POINT = generate(P384).public
COMPRESSED = bytes([2 + (POINT[-1] & 1)]) + POINT[1:49]
OFF_CURVE = POINT[:-1] + bytes([POINT[-1] ^ 1])
UNKNOWN = Extension(0x3333, b"")
PSK = Extension(ExtensionType.PRE_SHARED_KEY, vector(2, vector(2, b"id") + bytes(4)) + vector(2, vector(1, bytes(32))))
MODES = Extension(ExtensionType.PSK_KEY_EXCHANGE_MODES, b"\x01\x01")

SHAPE: dict[str, Row] = {
    **{f"cut at {end}": Row(cut(end), DECODE) for end in (0, 1, 2, 33, 34, 35, 36, 38, 60, 100, -1)},
    # RFC 9849 section 5.1: what follows an inner hello is padding, and must be zero
    "a byte behind it": Row(lambda hello: hello.encode() + b"\1", DECODE, inside(ILLEGAL)),
    "an endless extension block": Row(lambda hello: hello.encode()[:-1], DECODE),
    "session id of 33 bytes": Row(lambda hello: replace(hello, session_id=bytes(33)), DECODE),
    "no cipher suites": Row(lambda hello: replace(hello, cipher_suites=()), DECODE),
    "half a cipher suite": Row(
        lambda hello: hello.encode().replace(integers(2, 2, hello.cipher_suites), b"\0\5\x13\1\x13\3\0", 1), DECODE
    ),
    "no compression method": Row(lambda hello: replace(hello, compression_methods=b""), DECODE),
    "deflate": Row(lambda hello: replace(hello, compression_methods=b"\1"), ILLEGAL),
    "deflate besides none": Row(lambda hello: replace(hello, compression_methods=b"\0\1"), ILLEGAL),
    "an extension twice": Row(added(UNKNOWN, UNKNOWN), DECODE),
    "server_name twice": Row(added(Extension(NAMES, ext.server_name("other.internal"))), DECODE),
    "too many extensions": Row(added(*(Extension(0x4000 + n, b"") for n in range(130))), DECODE),
    "nothing in common": Row(lambda hello: replace(hello, cipher_suites=(0x1304, 0xC02F)), FAILURE, second(ILLEGAL)),
    "TLS 1.2 suites only": Row(lambda hello: replace(hello, cipher_suites=(0xC02B, 0x00FF)), FAILURE, second(ILLEGAL)),
}
VERSION_ROWS: dict[str, Row] = {
    # RFC 9849 section 7.1 demands illegal_parameter of an inner hello that offers an older version
    "no supported_versions": Row(without(VERSIONS), VERSION, inside(ILLEGAL)),
    "TLS 1.2": Row(changed(VERSIONS, integers(1, 2, (0x0303,))), VERSION, inside(ILLEGAL)),
    "TLS 1.0 to 1.2": Row(changed(VERSIONS, integers(1, 2, (0x0303, 0x0302, 0x0301))), VERSION, inside(ILLEGAL)),
    "a version to come": Row(changed(VERSIONS, integers(1, 2, (0x0305,))), VERSION),
    "GREASE only": Row(changed(VERSIONS, integers(1, 2, (0x2A2A,))), VERSION),
    "a draft": Row(changed(VERSIONS, integers(1, 2, (0x7F1C,))), VERSION),
    "no version": Row(changed(VERSIONS, b"\0"), DECODE),
    "half a version": Row(changed(VERSIONS, b"\3\3\4\3"), DECODE),
    "versions and a byte": Row(changed(VERSIONS, ext.supported_versions() + b"\0"), DECODE),
    "versions without a length": Row(changed(VERSIONS, b""), DECODE),
}
GROUP_ROWS: dict[str, Row] = {
    "no supported_groups": Row(without(GROUPS), MISSING, second(ILLEGAL)),
    "no groups": Row(changed(GROUPS, EMPTY), DECODE, second(ILLEGAL)),
    "half a group": Row(changed(GROUPS, vector(2, b"\0\x1d\0")), DECODE, second(ILLEGAL)),
    "groups and a byte": Row(changed(GROUPS, ext.code_points((X25519, P384)) + b"\0"), DECODE, second(ILLEGAL)),
    "no group in common": Row(share(0x001E, bytes(56)), FAILURE, second(ILLEGAL)),
    "no key_share": Row(without(SHARES), MISSING),
    "a share of a group not offered": Row(changed(SHARES, ext.key_shares(((P256, generate(P256).public),))), ILLEGAL),
    "two shares of one group": Row(
        changed(SHARES, ext.key_shares(((X25519, generate(X25519).public), (X25519, generate(X25519).public)))), ILLEGAL
    ),
    "a share without a key": Row(changed(SHARES, ext.key_shares(((X25519, b""),))), DECODE),
    "half a share": Row(changed(SHARES, vector(2, b"\0\x1d\0")), DECODE),
    "shares and a byte": Row(extended_share, DECODE),
    "shares without a length": Row(changed(SHARES, b""), DECODE),
}
KEY_ROWS: dict[str, Row] = {
    # The second hello is asked for P-384, so these rows are for P-384 there and for X25519 in a first one.
    "X25519 of 31 bytes": Row(changed(SHARES, ext.key_shares(((X25519, bytes(31)),))), ILLEGAL),
    "X25519 of 33 bytes": Row(changed(SHARES, ext.key_shares(((X25519, bytes(33)),))), ILLEGAL),
    "X25519 zero": Row(changed(SHARES, ext.key_shares(((X25519, bytes(32)),))), ILLEGAL),
    "X25519 one": Row(changed(SHARES, ext.key_shares(((X25519, b"\1" + bytes(31)),))), ILLEGAL),
    "P-384 compressed": Row(changed(SHARES, ext.key_shares(((P384, COMPRESSED),))), ILLEGAL),
    "P-384 not on the curve": Row(changed(SHARES, ext.key_shares(((P384, OFF_CURVE),))), ILLEGAL),
    "P-384 hybrid form": Row(changed(SHARES, ext.key_shares(((P384, b"\6" + generate(P384).public[1:]),))), ILLEGAL),
    "P-384 at infinity": Row(changed(SHARES, ext.key_shares(((P384, b"\0"),))), ILLEGAL),
    "P-384 short": Row(changed(SHARES, ext.key_shares(((P384, generate(P384).public[:-1]),))), ILLEGAL),
    "P-384 long": Row(changed(SHARES, ext.key_shares(((P384, generate(P384).public + b"\0"),))), ILLEGAL),
}
OTHER_ROWS: dict[str, Row] = {
    "no signature_algorithms": Row(without(SCHEMES), MISSING, second(ILLEGAL)),
    "no schemes": Row(changed(SCHEMES, EMPTY), DECODE, second(ILLEGAL)),
    "half a scheme": Row(changed(SCHEMES, vector(2, b"\4\3\4")), DECODE, second(ILLEGAL)),
    "no scheme in common": Row(changed(SCHEMES, ext.code_points((0x0401, 0x0203))), FAILURE, second(ILLEGAL)),
    "no host names": Row(changed(NAMES, EMPTY), DECODE),
    "an empty host name": Row(changed(NAMES, vector(2, b"\0" + EMPTY)), DECODE),
    "two host names": Row(changed(NAMES, vector(2, (b"\0" + vector(2, b"a.example")) * 2)), DECODE),
    "a name of another kind": Row(changed(NAMES, vector(2, b"\1" + vector(2, b"a.example"))), DECODE),
    "a host name with a NUL": Row(changed(NAMES, vector(2, b"\0" + vector(2, b"a\0.example"))), DECODE),
    "a host name of UTF-8": Row(changed(NAMES, vector(2, b"\0" + vector(2, b"\xc3\xa4.example"))), DECODE),
    "a host name with a dot at the end": Row(changed(NAMES, vector(2, b"\0" + vector(2, b"a.example."))), DECODE),
    "a host name of 256 bytes": Row(changed(NAMES, ext.server_name("a" * 256)), DECODE),
    "names and a byte": Row(changed(NAMES, ext.server_name("a.example") + b"\0"), DECODE),
    "no protocols": Row(changed(ALPN, EMPTY), DECODE, second(ILLEGAL)),
    "an empty protocol": Row(changed(ALPN, vector(2, vector(1, b"") + vector(1, b"mesh/1"))), DECODE, second(ILLEGAL)),
    "half a protocol": Row(changed(ALPN, vector(2, b"\7mesh/1")), DECODE, second(ILLEGAL)),
    "no protocol in common": Row(
        changed(ALPN, ext.alpn((b"h3",))), AlertDescription.NO_APPLICATION_PROTOCOL, second(ILLEGAL)
    ),
    "pre_shared_key before others": Row(added(MODES, PSK, UNKNOWN), ILLEGAL),
    "pre_shared_key without modes": Row(added(PSK), MISSING),
}
CHANGED_ROWS: dict[str, Row] = {
    # RFC 8446 section 4.1.2: after a HelloRetryRequest "the client MUST send the same ClientHello", but for a list.
    "another random": Row(lambda hello: replace(hello, random=bytes(32)), None, second(ILLEGAL)),
    "suites in another order": Row(
        lambda hello: replace(hello, cipher_suites=hello.cipher_suites[::-1]), None, second(ILLEGAL)
    ),
    "one suite less": Row(lambda hello: replace(hello, cipher_suites=(0x1301,)), None, second(ILLEGAL)),
    "another legacy version": Row(lambda hello: replace(hello, legacy_version=0x0301), None, second(ILLEGAL)),
    "one extension more": Row(added(UNKNOWN, first=True), None, second(ILLEGAL)),
    "no protocols any more": Row(without(ALPN), None, second(ILLEGAL)),
    "other protocols": Row(changed(ALPN, ext.alpn((b"mesh/1", b"h2"))), None, second(ILLEGAL)),
    "other schemes": Row(changed(SCHEMES, ext.code_points((0x0403,))), None, second(ILLEGAL)),
    "early data": Row(added(Extension(ExtensionType.EARLY_DATA, b"")), None, second(ILLEGAL)),
    "another session id": Row(
        lambda hello: replace(hello, session_id=b"x" * 32),
        None,
        # RFC 9849 section 5.1: an encoded inner hello has none at all
        {Place.SECOND: ILLEGAL, Place.FIRST_INSIDE: ILLEGAL, Place.SECOND_INSIDE: ILLEGAL},
    ),
    "the share that was not wanted": Row(
        changed(SHARES, ext.key_shares(((X25519, generate(X25519).public),))), None, second(ILLEGAL)
    ),
    "both shares": Row(
        changed(SHARES, ext.key_shares(((X25519, generate(X25519).public), (P384, generate(P384).public)))),
        None,
        second(ILLEGAL),
    ),
    "no shares at all": Row(changed(SHARES, EMPTY), None, second(ILLEGAL)),
}
HARMLESS_ROWS: dict[str, Row] = {
    "nothing": Row(lambda hello: hello, None),
    "another server name": Row(changed(NAMES, ext.server_name("other.internal")), None),
    "no server name": Row(without(NAMES), None),
    "padding": Row(added(Extension(ExtensionType.PADDING, bytes(100))), None),
    "a cookie": Row(added(Extension(ExtensionType.COOKIE, ext.cookie(b"x"))), None),
    "keys of others": Row(added(MODES, PSK), None, second(ILLEGAL)),
}
TABLE = {**SHAPE, **VERSION_ROWS, **GROUP_ROWS, **KEY_ROWS, **OTHER_ROWS, **CHANGED_ROWS, **HARMLESS_ROWS}


@pytest.fixture(scope="session")
def credential(pki: Pki) -> Credential:
    return pki.credential("secret.internal", "other.internal", "public.example")


@pytest.mark.parametrize("place", Place, ids=lambda place: place.value)
@pytest.mark.parametrize("name", TABLE)
def test_breach_is_answered_with_its_alert_wherever_the_hello_stands(
    credential: Credential, name: str, place: Place
) -> None:
    row = TABLE[name]

    reaction = HostileClient(server(credential, retries=place.is_second), place).send(row.alter)

    assert reaction.alert == row.expected(place)
    if reaction.alert is not None:
        # The last record is the fatal alert, in the clear: no keys were made for such a hello.
        assert reaction.sent.endswith(b"\x15\3\3\0\2\2" + bytes([reaction.alert]))
        assert bytes([ContentType.APPLICATION_DATA, 3, 3]) not in reaction.sent
    assert KEY.config.public_name.encode() not in reaction.sent
