"""Encrypted Client Hello in a whole handshake, both roles: accepted, rejected, retried, tampered with (RFC 9849)."""

from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.tls13 import (
    NOW,
    Alter,
    Pki,
    Shake,
    SslPeer,
    Taps,
    client_hello,
    encrypted_extension,
    extension,
    pump,
    random,
    second,
    server_hello,
)
from transport.ech.config import EchKey, encode_config_list, generate_key, parse_config_list
from transport.ech.confirmation import confirm_retry_request
from transport.ech.extension import INNER
from transport.tls13 import client, server
from transport.tls13.alerts import AlertDescription, EchRejectedError, PeerAlertError, TlsError
from transport.tls13.certificates import Credential
from transport.tls13.client import ClientHandshake
from transport.tls13.config import DEFAULT_GROUPS, ClientConfig, ServerConfig
from transport.tls13.constants import HELLO_RETRY_RANDOM, ExtensionType, HandshakeType, NamedGroup
from transport.tls13.events import EchStatus
from transport.tls13.key_schedule import SUITES, Transcript
from transport.tls13.messages import ClientHello, Extension, ServerHello, handshake_message
from transport.tls13.server import FLIGHT_MULTIPLE, ServerHandshake

SECRET, PUBLIC = "secret.internal", "public.example"
CH, SH, EE = HandshakeType.CLIENT_HELLO, HandshakeType.SERVER_HELLO, HandshakeType.ENCRYPTED_EXTENSIONS
ECH = ExtensionType.ENCRYPTED_CLIENT_HELLO
NOISE = Extension(ExtensionType.MESH_NOISE, b"noise message one")
P384, X25519, HYBRID = NamedGroup.SECP384R1, NamedGroup.X25519, NamedGroup.X25519MLKEM768


@pytest.fixture(scope="module")
def key() -> EchKey:
    return generate_key(PUBLIC, random)


@pytest.fixture(scope="module")
def stale(key: EchKey) -> EchKey:
    """A key that the server does not have, under the id of one that it has."""
    while True:
        other = generate_key(PUBLIC, random)
        if other.config.config_id == key.config.config_id:
            return other


@pytest.fixture(scope="module")
def certificates(pki: Pki) -> tuple[Credential, Credential]:
    return pki.credential(PUBLIC), pki.credential(SECRET)


def client_config(pki: Pki, key: EchKey | None, **settings: Any) -> ClientConfig:
    defaults = {"alpn": (b"mesh/1",), "groups": (X25519, P384), "extensions": (NOISE,)}
    return ClientConfig(SECRET, pki.trust, ech=None if key is None else key.config, **{**defaults, **settings})


def server_config(certificates: tuple[Credential, ...], *keys: EchKey, **settings: Any) -> ServerConfig:
    defaults: dict[str, Any] = {"alpn": (b"mesh/1",)}
    return ServerConfig(certificates, ech_keys=keys, **{**defaults, **settings})


def alert_of(handshake: Shake, alter: dict[HandshakeType, Alter]) -> int:
    with pytest.raises(TlsError) as caught:
        handshake.run(alter)
    assert not isinstance(caught.value, EchRejectedError)
    return caught.value.alert


RETRY = pytest.mark.parametrize("groups", [DEFAULT_GROUPS, (P384,)], ids=["straight", "retried"])


@RETRY
def test_ech_is_accepted_and_everything_comes_from_the_inner_hello(
    pki: Pki, key: EchKey, certificates: tuple[Credential, Credential], groups: tuple[int, ...]
) -> None:
    handshake = Shake(client_config(pki, key), server_config(certificates, key, groups=groups))

    at_client, at_server = handshake.run()

    assert at_client.ech is at_server.ech is EchStatus.ACCEPTED
    assert at_client.server_name == at_server.server_name == SECRET
    assert at_client.alpn == at_server.alpn == b"mesh/1"
    assert NOISE in at_server.extensions
    assert INNER in at_server.extensions
    assert at_client.group == groups[0] if len(groups) == 1 else X25519


@pytest.mark.parametrize("group", DEFAULT_GROUPS)
def test_ech_goes_with_every_group(
    pki: Pki, key: EchKey, certificates: tuple[Credential, Credential], group: NamedGroup
) -> None:
    at_client, _ = Shake(client_config(pki, key, groups=(group,)), server_config(certificates, key)).run()

    assert (at_client.ech, at_client.group) == (EchStatus.ACCEPTED, group)


@RETRY
def test_nothing_secret_is_on_the_wire(
    pki: Pki, key: EchKey, certificates: tuple[Credential, Credential], groups: tuple[int, ...]
) -> None:
    seen: list[bytes] = []

    def watch(body: bytes) -> bytes:
        seen.append(body)
        return body

    Shake(client_config(pki, key), server_config(certificates, key, groups=groups)).run({CH: watch})

    for body in seen:
        hello = ClientHello.parse(body)
        assert SECRET.encode() not in body
        assert b"mesh/1" not in body
        assert NOISE.data not in body
        assert hello.extension(NOISE.type) is None
        name = hello.extension(ExtensionType.SERVER_NAME)
        assert name is not None
        assert name.data.endswith(PUBLIC.encode())
    assert len(seen) == (1 if len(groups) > 1 else 2)


# RFC 9849 section 6.1.3: "servers will also need to pad all other handshake messages that have sensitive-length
# fields".
def test_the_length_of_both_flights_does_not_depend_on_the_name(pki: Pki, key: EchKey) -> None:
    lengths = set()
    for name in ("a.internal", "a-much-longer-name-of-a-service.internal"):
        config = ServerConfig((pki.credential(PUBLIC), pki.credential(name)), ech_keys=(key,), groups=(X25519,))
        one = client.connect(ClientConfig(name, pki.trust, ech=key.config, groups=(X25519,)), random=random, now=NOW)
        other = server.accept(config, random=random)
        hello = one.data_to_send()
        other.receive(hello)
        lengths.add((len(hello), len(other.data_to_send())))

    assert len(lengths) == 1
    assert FLIGHT_MULTIPLE >= 256


# Rejection, section 6.1.6


@RETRY
def test_a_rejected_client_fails_with_the_retry_configurations(
    pki: Pki, key: EchKey, stale: EchKey, certificates: tuple[Credential, Credential], groups: tuple[int, ...]
) -> None:
    config = client_config(pki, stale)
    one = Taps(lambda flight: ClientHandshake(config, flight, random, NOW, random(32)))
    other = Taps(lambda flight: ServerHandshake(server_config(certificates, key, groups=groups), flight, random))

    with pytest.raises(EchRejectedError) as caught:
        pump(one, other)

    assert caught.value.retry_configs is not None
    assert parse_config_list(caught.value.retry_configs) == (key.config,)
    assert one.connection.handshake is None
    with pytest.raises(RuntimeError):
        one.connection.send(b"data")
    with pytest.raises(RuntimeError):
        one.connection.export(b"label", b"", 32)
    # "abort the connection with an "ech_required" alert", which goes under the application keys, after Finished
    with pytest.raises(PeerAlertError) as told:
        other.receive(one.data_to_send())
    assert told.value.alert == AlertDescription.ECH_REQUIRED
    assert other.connection.handshake is not None
    assert other.connection.handshake.ech is EchStatus.REJECTED
    assert other.connection.handshake.server_name == PUBLIC
    assert one.connection.data_to_send() == b""


def test_a_retry_with_what_the_server_sent_is_accepted(
    pki: Pki, key: EchKey, stale: EchKey, certificates: tuple[Credential, Credential]
) -> None:
    with pytest.raises(EchRejectedError) as caught:
        Shake(client_config(pki, stale), server_config(certificates, key)).run()
    (config,) = parse_config_list(caught.value.retry_configs or b"")

    at_client, _ = Shake(
        ClientConfig(SECRET, pki.trust, ech=config, alpn=(b"mesh/1",)), server_config(certificates, key)
    ).run()

    assert at_client.ech is EchStatus.ACCEPTED


def test_a_server_that_has_no_ech_turns_it_off_securely(
    pki: Pki, key: EchKey, certificates: tuple[Credential, Credential]
) -> None:
    with pytest.raises(EchRejectedError) as caught:
        Shake(client_config(pki, key), server_config(certificates, alpn=())).run()

    assert caught.value.retry_configs is None


def test_openssl_turns_ech_off_securely_and_sees_only_the_public_name(pki: Pki, key: EchKey) -> None:
    context = pki.ssl_server(PUBLIC)
    names: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    ours = client.connect(client_config(pki, key), random=random, now=NOW)
    theirs = SslPeer(context, server_side=True)

    with pytest.raises(EchRejectedError) as caught:
        pump(ours, theirs)

    assert caught.value.retry_configs is None
    assert names == [PUBLIC]


# Section 6.1.6: "If authentication or the handshake fails, the client MUST return a failure ... It MUST NOT use the
# retry configurations. It MUST NOT treat this as a secure signal to disable ECH."
def test_who_cannot_prove_the_public_name_cannot_reject(pki: Pki, key: EchKey) -> None:
    impostor = ServerConfig((pki.credential(SECRET, "elsewhere.example"),))
    unbelieved = ServerConfig((Pki().credential(PUBLIC),))

    for config in (impostor, unbelieved):
        assert alert_of(Shake(client_config(pki, key), config), {}) == AlertDescription.CERTIFICATE_UNKNOWN


def test_a_rejection_with_a_wrong_finished_is_none(
    pki: Pki, key: EchKey, stale: EchKey, certificates: tuple[Credential, Credential]
) -> None:
    handshake = Shake(client_config(pki, stale), server_config(certificates, key))

    alert = alert_of(handshake, {HandshakeType.FINISHED: lambda body: bytes(len(body))})

    assert alert == AlertDescription.DECRYPT_ERROR


def test_malformed_retry_configurations_are_a_decode_error(
    pki: Pki, key: EchKey, stale: EchKey, certificates: tuple[Credential, Credential]
) -> None:
    handshake = Shake(client_config(pki, stale), server_config(certificates, key))

    alert = alert_of(handshake, {EE: encrypted_extension(ECH, b"\0\1x")})

    assert alert == AlertDescription.DECODE_ERROR


# Section 5: the server "MUST NOT" send retry configurations to whom it accepted; the client refuses the extension.
def test_retry_configurations_after_acceptance_are_refused(
    pki: Pki, key: EchKey, certificates: tuple[Credential, Credential]
) -> None:
    handshake = Shake(client_config(pki, key), server_config(certificates, key))
    alter = encrypted_extension(ECH, encode_config_list((key.config,)))

    assert alert_of(handshake, {EE: alter}) == AlertDescription.UNSUPPORTED_EXTENSION


def test_the_retry_configurations_are_the_current_ones(
    pki: Pki, key: EchKey, stale: EchKey, certificates: tuple[Credential, Credential]
) -> None:
    following = generate_key(PUBLIC, random, live_ids=(key.config.config_id,))
    rotating = server_config(certificates, following, key, ech_retry=(following.config,))

    at_client, _ = Shake(client_config(pki, key), rotating).run()
    with pytest.raises(EchRejectedError) as caught:
        Shake(client_config(pki, stale), rotating).run()

    assert at_client.ech is EchStatus.ACCEPTED  # the old key still opens
    assert parse_config_list(caught.value.retry_configs or b"") == (following.config,)


# GREASE, section 6.2


@RETRY
def test_grease_is_no_offer(
    pki: Pki, key: EchKey, certificates: tuple[Credential, Credential], groups: tuple[int, ...]
) -> None:
    """The no-ECH tunnel: the server cannot tell, the client ignores what it answers."""
    handshake = Shake(client_config(pki, None), server_config(certificates, key, groups=groups))

    at_client, at_server = handshake.run()

    assert at_client.ech is EchStatus.NOT_OFFERED
    assert at_server.ech is EchStatus.REJECTED
    assert at_client.alpn == b"mesh/1"
    assert NOISE in at_server.extensions


# Section 6.2.1: "the client MUST check the extension syntactically and abort the connection with a "decode_error"
# alert".
def test_a_malformed_answer_to_grease_is_a_decode_error(
    pki: Pki, key: EchKey, certificates: tuple[Credential, Credential]
) -> None:
    plain = Shake(client_config(pki, None), server_config(certificates, key))
    retried = Shake(client_config(pki, None), server_config(certificates, key, groups=(P384,)))

    assert alert_of(plain, {EE: encrypted_extension(ECH, b"\0\0")}) == AlertDescription.DECODE_ERROR
    confirmation = extension(ECH, bytes(7), hello=ServerHello)
    assert alert_of(retried, {SH: confirmation}) == AlertDescription.DECODE_ERROR


def test_without_ech_and_grease_an_answer_is_unsolicited(
    pki: Pki, key: EchKey, certificates: tuple[Credential, Credential]
) -> None:
    config = client_config(pki, None, grease_ech=False)
    plain = Shake(config, server_config(certificates, key))
    retried = Shake(config, server_config(certificates, key, groups=(P384,)))

    answer = encrypted_extension(ECH, encode_config_list((key.config,)))
    assert alert_of(plain, {EE: answer}) == AlertDescription.UNSUPPORTED_EXTENSION
    confirmation = extension(ECH, bytes(8), hello=ServerHello)
    assert alert_of(retried, {SH: confirmation}) == AlertDescription.UNSUPPORTED_EXTENSION


def test_a_client_that_offers_nothing_gets_no_retry_configurations(
    pki: Pki, key: EchKey, certificates: tuple[Credential, Credential]
) -> None:
    handshake = Shake(client_config(pki, None, grease_ech=False), server_config(certificates, key))

    at_client, at_server = handshake.run()

    assert at_server.ech is EchStatus.NOT_OFFERED
    assert ECH not in {extension.type for extension in at_client.extensions}


# Tampering


def flip_last_of_random(body: bytes) -> bytes:
    random_bytes = ServerHello.parse(body).random
    return server_hello(random=random_bytes[:-1] + bytes([random_bytes[-1] ^ 1]))(body)


# Section 6.1.5: "If the ServerHello does not also indicate ECH acceptance, the client MUST terminate the connection
# with an "illegal_parameter" alert."
def test_accepted_once_and_not_again_is_an_illegal_parameter(
    pki: Pki, key: EchKey, certificates: tuple[Credential, Credential]
) -> None:
    handshake = Shake(client_config(pki, key), server_config(certificates, key, groups=(P384,)))

    assert alert_of(handshake, {SH: second(flip_last_of_random)}) == AlertDescription.ILLEGAL_PARAMETER


def test_a_spoilt_confirmation_cannot_turn_into_another_handshake(
    pki: Pki, key: EchKey, certificates: tuple[Credential, Credential]
) -> None:
    """The client goes on with the outer hello, the server with the inner one: their keys differ, nothing opens."""
    config = client_config(pki, key)
    one = Taps(lambda flight: ClientHandshake(config, flight, random, NOW, random(32)))
    other = server.accept(server_config(certificates, key), random=random)
    other.receive(one.data_to_send())
    flight = bytearray(other.data_to_send())
    flight[5 + 4 + 2 + 31] ^= 1

    with pytest.raises(TlsError) as caught:
        one.receive(flight)

    assert caught.value.alert == AlertDescription.BAD_RECORD_MAC


# Section 6.1.4: "if it has a length other than 8, the client aborts the handshake with a "decode_error" alert."
@pytest.mark.parametrize("length", [0, 7, 9])
def test_a_confirmation_has_eight_bytes(
    pki: Pki, key: EchKey, certificates: tuple[Credential, Credential], length: int
) -> None:
    handshake = Shake(client_config(pki, key), server_config(certificates, key, groups=(P384,)))

    alert = alert_of(handshake, {SH: extension(ECH, bytes(length), hello=ServerHello)})

    assert alert == AlertDescription.DECODE_ERROR


# Section 7: "A shared mode server which receives a ClientHello with ECHClientHello.type of inner MUST abort with an
# "illegal_parameter" alert"
@pytest.mark.parametrize(("data", "alert"), [(b"\1", 47), (b"\2", 47), (b"", 50), (b"\0", 50)])
def test_a_wrong_kind_of_ech_is_refused(
    pki: Pki, key: EchKey, certificates: tuple[Credential, Credential], data: bytes, alert: int
) -> None:
    handshake = Shake(client_config(pki, key), server_config(certificates, key))

    assert alert_of(handshake, {CH: extension(ECH, data)}) == alert


# Section 10.12.3: the outer hello is authenticated as additional data, so whoever changes it makes ECH fail to open.
def test_a_changed_outer_hello_does_not_open(
    pki: Pki, key: EchKey, certificates: tuple[Credential, Credential]
) -> None:
    handshake = Shake(client_config(pki, key), server_config(certificates, key))
    handshake.client.start()
    (message,) = handshake.client_flight.take()
    changed = client_hello(random=bytes(32))(message[4:])

    handshake.server.handle(CH, message[:4] + changed)

    encrypted_extensions = handshake.server_flight.sent[1]
    assert encode_config_list((key.config,)) in encrypted_extensions  # rejected: here is how to do it


# Section 7.1.1
@pytest.mark.parametrize(
    ("alter", "alert"),
    [
        (extension(ECH, None), AlertDescription.MISSING_EXTENSION),
        (client_hello(random=bytes(32)), AlertDescription.DECRYPT_ERROR),
        (extension(ExtensionType.ALPN, b"\0\3\2h3"), AlertDescription.DECRYPT_ERROR),
    ],
)
def test_a_second_hello_must_hide_the_same_way(
    pki: Pki, key: EchKey, certificates: tuple[Credential, Credential], alter: Alter, alert: int
) -> None:
    handshake = Shake(client_config(pki, key), server_config(certificates, key, groups=(P384,)))

    assert alert_of(handshake, {CH: second(alter)}) == alert


def test_the_first_hello_played_again_does_not_open_as_the_second(
    pki: Pki, key: EchKey, certificates: tuple[Credential, Credential]
) -> None:
    handshake = Shake(client_config(pki, key), server_config(certificates, key, groups=(P384,)))
    handshake.client.start()
    (message,) = handshake.client_flight.take()
    handshake.server.handle(CH, message)

    with pytest.raises(TlsError) as caught:
        handshake.server.handle(CH, message)

    assert caught.value.alert == AlertDescription.ILLEGAL_PARAMETER  # enc is not empty


# NSS looks for the cookie in the outer hello, others in the inner one.
def test_a_cookie_is_in_both_second_hellos(pki: Pki, key: EchKey, certificates: tuple[Credential, Credential]) -> None:
    handshake = Shake(client_config(pki, key), server_config(certificates, key, groups=(P384,)))
    handshake.client.start()
    (message,) = handshake.client_flight.take()
    handshake.server.handle(CH, message)
    handshake.server_flight.take()
    opened = handshake.server._opened
    assert opened is not None
    request = retry_request_with_cookie(opened.inner)

    handshake.client.handle(SH, request)

    (again,) = handshake.client_flight.take()
    cookies = [
        hello.extension(ExtensionType.COOKIE)
        for hello in (ClientHello.parse(again[4:]), opened.open_second(ClientHello.parse(again[4:]), again[4:]))
    ]
    assert [cookie.data for cookie in cookies if cookie is not None] == [b"\0\5cream"] * 2


def retry_request_with_cookie(inner: ClientHello) -> bytes:
    """A HelloRetryRequest that confirms ECH, as a stateless server would send it."""
    transcript = Transcript()
    transcript.start(SUITES[0x1301])
    transcript.add(handshake_message(CH, inner.encode()))
    transcript.restart()
    extensions = (
        Extension(ExtensionType.SUPPORTED_VERSIONS, b"\3\4"),
        Extension(ExtensionType.COOKIE, b"\0\5cream"),
        Extension(ECH, bytes(8)),
    )
    body = ServerHello(HELLO_RETRY_RANDOM, inner.session_id, 0x1301, extensions).encode()
    return handshake_message(SH, confirm_retry_request(body, inner.random, transcript.running))


# "A missing public-name certificate is an error at start-up, not at the first rejection."
def test_a_server_with_ech_needs_a_certificate_for_the_public_name(pki: Pki, key: EchKey) -> None:
    with pytest.raises(ValueError, match="public name"):
        ServerConfig((pki.credential(SECRET),), ech_keys=(key,))
    with pytest.raises(ValueError, match="public name"):
        ServerConfig((pki.credential(PUBLIC),), ech_keys=(key,), ech_retry=(generate_key("x.example", random).config,))


def test_an_unusable_configuration_is_refused_before_anything_is_sent(pki: Pki, key: EchKey) -> None:
    with pytest.raises(ValueError, match="not usable"):
        ClientConfig(SECRET, pki.trust, ech=replace(key.config, public_name="10.0.0.1"))


def test_a_configuration_without_a_key_that_one_can_agree_with_is_refused(pki: Pki, key: EchKey) -> None:
    config = ClientConfig(SECRET, pki.trust, ech=replace(key.config, public_key=bytes(32)))

    with pytest.raises(ValueError, match="public key"):
        client.connect(config, random=random, now=NOW)


def test_post_quantum_keys_and_ech_fit_together_after_a_retry(
    pki: Pki, key: EchKey, certificates: tuple[Credential, Credential]
) -> None:
    handshake = Shake(
        client_config(pki, key, groups=(X25519, HYBRID)), server_config(certificates, key, groups=(HYBRID,))
    )

    at_client, _ = handshake.run()

    assert (at_client.ech, at_client.group) == (EchStatus.ACCEPTED, HYBRID)
