"""ECH in the whole engine: what an attacker on the path, a stale key or a nosy client can and cannot get (RFC 9849)."""

import os
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.fakes.tls13 import NOW, Messages, Pki, SslPeer, pump
from tests.transport.ech.hellos import KEY
from tests.transport.tls13.hostile_hellos import base_hello, server
from transport.ech.config import EchConfig, EchKey, generate_key, parse_config_list
from transport.ech.extension import INNER
from transport.tls13.alerts import AlertDescription, EchRejectedError, PeerAlertError, TlsError
from transport.tls13.certificates import Credential
from transport.tls13.client import ClientHandshake, connect
from transport.tls13.config import ClientConfig, ServerConfig
from transport.tls13.connection import Connection
from transport.tls13.constants import ContentType, ExtensionType, HandshakeType, NamedGroup
from transport.tls13.events import EchStatus
from transport.tls13.messages import ClientHello, find, handshake_message, parse_encrypted_extensions
from transport.tls13.server import ServerHandshake, accept
from transport.tls13.wire import vector

STALE = generate_key("public.example", os.urandom, live_ids=[KEY.config.config_id])
GROUPS = (NamedGroup.X25519, NamedGroup.SECP384R1)


@pytest.fixture(scope="session")
def secret(pki: Pki) -> Credential:
    return pki.credential("secret.internal")


@pytest.fixture(scope="session")
def public(pki: Pki) -> Credential:
    return pki.credential("public.example")


def client_with(pki: Pki, config: EchConfig | None, name: str = "secret.internal") -> Connection:
    return connect(ClientConfig(name, pki.trust, ech=config, groups=GROUPS), random=os.urandom, now=NOW)


def server_with(*credentials: Credential, keys: tuple[EchKey, ...] = (KEY,), retries: bool = False) -> Connection:
    config = ServerConfig(credentials, groups=GROUPS[1:] if retries else GROUPS, ech_keys=keys)
    return accept(config, random=os.urandom)


def rejection(client: Connection, other: Connection) -> TlsError:
    with pytest.raises(TlsError) as error:
        pump(client, other)
    return error.value


# --- rejection


@pytest.mark.parametrize("retries", [False, True])
def test_rejection_ends_with_ech_required_under_application_keys(
    pki: Pki, secret: Credential, public: Credential, retries: bool
) -> None:
    """RFC 9849 section 6.1.6: "abort the connection with an ech_required alert before sending any application data"."""
    client, other = client_with(pki, STALE.config), server_with(public, secret, retries=retries)

    error = rejection(client, other)

    assert isinstance(error, EchRejectedError)
    assert error.retry_configs is not None
    assert parse_config_list(error.retry_configs) == (KEY.config,)
    with pytest.raises(PeerAlertError) as told:
        other.receive(client.data_to_send())
    # The server had completed the handshake, so the alert came after Finished and opened under the keys of 1-RTT.
    assert told.value.alert == AlertDescription.ECH_REQUIRED
    assert other.handshake is not None
    assert other.handshake.ech is EchStatus.REJECTED
    assert other.handshake.server_name == "public.example"
    assert client.handshake is None
    with pytest.raises(RuntimeError):
        client.send(b"prompt")
    with pytest.raises(RuntimeError):
        client.export(b"EXPORTER-x", b"", 32)


def test_rejection_by_somebody_who_is_not_the_public_name_is_not_believed(pki: Pki, secret: Credential) -> None:
    """RFC 9849 section 6.1.6: "If authentication fails, the client MUST NOT use the retry configurations"."""
    impostor = generate_key("other.example", os.urandom)
    other = server_with(pki.credential("other.example"), secret, keys=(impostor,))

    error = rejection(client_with(pki, KEY.config), other)

    assert not isinstance(error, EchRejectedError)
    assert error.alert == AlertDescription.CERTIFICATE_UNKNOWN


def test_rejection_with_the_certificate_of_the_inner_name_is_not_believed(pki: Pki, secret: Credential) -> None:
    """RFC 9849 section 6.1.7: "the certificate is valid for ECHConfig.contents.public_name", and for nothing else."""
    error = rejection(client_with(pki, KEY.config), server_with(secret, keys=()))

    assert not isinstance(error, EchRejectedError)


def test_rejection_by_another_authority_is_not_believed(pki: Pki) -> None:
    error = rejection(client_with(pki, KEY.config), server_with(Pki().credential("public.example"), keys=()))

    assert not isinstance(error, EchRejectedError)


def test_rejection_with_an_expired_certificate_is_not_believed(pki: Pki, public: Credential) -> None:
    config = ClientConfig("secret.internal", pki.trust, ech=STALE.config)
    late = connect(config, random=os.urandom, now=NOW + timedelta(days=30))

    error = rejection(late, server_with(public))

    assert not isinstance(error, EchRejectedError)
    assert error.alert == AlertDescription.CERTIFICATE_EXPIRED


def test_server_without_keys_turns_ech_off_securely(pki: Pki, public: Credential) -> None:
    """RFC 9849 section 6.1.6: no retry_configs from the public name: "ECH as securely disabled by the server"."""
    error = rejection(client_with(pki, KEY.config), server_with(public, keys=()))

    assert isinstance(error, EchRejectedError)
    assert error.retry_configs is None


def test_retry_configurations_after_grease_are_forgotten(pki: Pki, public: Credential) -> None:
    """RFC 9849 section 6.2.1: the client "MUST NOT save the retry_configs value in EncryptedExtensions"."""
    client = client_with(pki, None, "public.example")

    pump(client, server_with(public))

    assert client.handshake is not None
    assert client.handshake.ech is EchStatus.NOT_OFFERED
    assert "retry" not in repr(client.handshake)


def test_retry_configurations_lead_to_acceptance(pki: Pki, secret: Credential, public: Credential) -> None:
    error = rejection(client_with(pki, STALE.config), server_with(public, secret))
    assert isinstance(error, EchRejectedError)
    assert error.retry_configs is not None

    client = client_with(pki, parse_config_list(error.retry_configs)[0])
    pump(client, server_with(public, secret))

    assert client.handshake is not None
    assert client.handshake.ech is EchStatus.ACCEPTED


def test_rejecting_server_that_asks_for_a_certificate_gets_none(pki: Pki) -> None:
    """RFC 9849 section 6.1.7: "the client MUST respond with an empty Certificate message". OpenSSL 3 knows no ECH."""
    context = pki.ssl_server("public.example")
    context.load_verify_locations(cadata=pki.root_pem)
    context.verify_mode = ssl.CERT_OPTIONAL
    client, other = client_with(pki, KEY.config), SslPeer(context, server_side=True)

    error = rejection(client, other)  # type: ignore[arg-type]  # driven like one of ours
    with pytest.raises(ssl.SSLError):  # the alert has no name there
        other.receive(client.data_to_send())

    assert isinstance(error, EchRejectedError)
    assert error.retry_configs is None
    assert other.connected  # by our Certificate, which is empty, and our Finished


@pytest.mark.parametrize(
    ("config", "grease", "expected"),
    [(None, False, False), (None, True, True), (KEY.config, False, False), (STALE.config, False, True)],
    ids=["no ech", "grease", "accepted", "rejected"],
)
def test_retry_configurations_go_to_those_whose_ech_does_not_open(
    pki: Pki, public: Credential, secret: Credential, config: EchConfig | None, grease: bool, expected: bool
) -> None:
    """RFC 9849 section 7.1. Unasked they would be an unsupported extension, and after acceptance an error."""
    flight = Messages()
    server_config = ServerConfig((public, secret), ech_keys=(KEY,))
    handshake = ServerHandshake(server_config, flight, os.urandom)
    offer = ClientConfig("secret.internal", pki.trust, ech=config, grease_ech=grease)
    client = ClientHandshake(offer, Messages(), os.urandom, NOW, bytes(32))

    message = client._offer.outer_message
    handshake.handle(message[0], message)

    (extensions,) = [each for each in flight.sent if each[0] == HandshakeType.ENCRYPTED_EXTENSIONS]
    found = find(parse_encrypted_extensions(extensions[4:]), ExtensionType.ENCRYPTED_CLIENT_HELLO)
    assert (found is not None) == expected
    if found is not None:
        assert parse_config_list(found.data) == (KEY.config,)


# --- what shows


def transcript_of(client: Connection, other: Connection) -> tuple[bytes, bytes]:
    """Everything that goes over the wire, each way."""
    there, back = b"", b""
    with suppress(TlsError):
        while (out := bytes(client.data_to_send())) or not there:
            there += out
            other.receive(out)
            answer = bytes(other.data_to_send())
            back += answer
            client.receive(answer)
    return there, back


@pytest.mark.parametrize("retries", [False, True])
@pytest.mark.parametrize("config", [KEY.config, STALE.config, None], ids=["accepted", "rejected", "grease"])
def test_inner_name_is_nowhere_on_the_wire(
    pki: Pki, secret: Credential, public: Credential, config: EchConfig | None, retries: bool
) -> None:
    name = "public.example" if config is None else "secret.internal"

    there, back = transcript_of(client_with(pki, config, name), server_with(public, secret, retries=retries))

    assert b"secret" not in there + back
    assert there.count(b"public.example") == (2 if retries else 1)


def test_unknown_inner_name_is_answered_like_a_known_one(pki: Pki, secret: Credential, public: Credential) -> None:
    """ "same alert and timing for unknown inner names": the flight is as long, and no alert of its own comes."""
    answers = [
        transcript_of(client_with(pki, KEY.config, name), server_with(public, secret))[1]
        for name in ("secret.internal", "unknown.internal", "public.example")
    ]

    assert len({len(answer) for answer in answers}) == 1


def test_server_negotiates_from_the_inner_hello_only(pki: Pki, secret: Credential, public: Credential) -> None:
    """ "negotiate everything (SNI, ALPN, cert) from the inner only"."""
    config = ClientConfig(
        "secret.internal", pki.trust, ech=KEY.config, alpn=(b"mesh/1",), outer_alpn=(b"h2", b"http/1.1")
    )
    client = connect(config, random=os.urandom, now=NOW)
    other = accept(ServerConfig((public, secret), alpn=(b"h2", b"mesh/1"), ech_keys=(KEY,)), random=os.urandom)

    pump(client, other)

    for end in (client, other):
        assert end.handshake is not None
        assert (end.handshake.alpn, end.handshake.server_name) == (b"mesh/1", "secret.internal")
        assert end.handshake.ech is EchStatus.ACCEPTED


def test_hellos_in_flight_do_not_compare_their_names(pki: Pki, secret: Credential, public: Credential) -> None:
    """ "never compare CH1/CH2 SNI with visible behaviour" (RFC 9849 section 10.12.2)."""
    for names in (("public.example", "public.example"), ("public.example", "other.example")):
        other = server_with(public, secret, keys=(), retries=True)
        for name, group in zip(names, GROUPS, strict=True):
            hello = base_hello(group)
            extensions = tuple(
                replace(e, data=vector(2, b"\0" + vector(2, name.encode()))) if e.type == 0 else e
                for e in hello.extensions
            )
            other.receive(record(replace(hello, extensions=extensions)))
        assert bytes([ContentType.APPLICATION_DATA, 3, 3]) in bytes(other.data_to_send())


# --- second hellos of rejected clients


@pytest.mark.parametrize("extension", [INNER, replace(INNER, data=b"\x02"), replace(INNER, data=b"\xff\0")])
def test_second_hello_of_type_inner_is_refused_though_ech_was_rejected(secret: Credential, extension: object) -> None:
    """RFC 9849 section 7: "A shared mode server which receives a ClientHello of type inner MUST abort"."""
    other = server(secret_and_public(secret), retries=True)
    other.receive(record(base_hello()))
    hello = base_hello(NamedGroup.SECP384R1)

    with pytest.raises(TlsError) as error:
        other.receive(record(replace(hello, extensions=(*hello.extensions, extension))))  # type: ignore[arg-type]

    assert error.value.alert == AlertDescription.ILLEGAL_PARAMETER


def record(hello: ClientHello) -> bytes:
    return b"\x16\3\3" + vector(2, handshake_message(HandshakeType.CLIENT_HELLO, hello.encode()))


def secret_and_public(credential: Credential) -> Credential:
    return replace(credential, names=frozenset({"secret.internal", "public.example"}))


# --- somebody on the path


class Flip:
    """Flips one bit of what passes in one direction, at one place."""

    def __init__(self, direction: int, at: int, bit: int) -> None:
        self.direction, self.at, self.bit = direction, at, bit
        self._passed = [0, 0]
        self.done = False

    def __call__(self, data: bytes, direction: int) -> bytes:
        place = self.at - self._passed[direction]
        self._passed[direction] += len(data)
        if direction != self.direction or not 0 <= place < len(data):
            return data
        self.done = True
        return data[:place] + bytes([data[place] ^ 1 << self.bit]) + data[place + 1 :]


def meddled(client: Connection, other: Connection, flip: Callable[[bytes, int], bytes]) -> TlsError | None:
    """How it ends for the client."""
    while out := bytes(client.data_to_send()):
        with suppress(TlsError):
            other.receive(flip(out, 0))
        try:
            client.receive(flip(bytes(other.data_to_send()), 1))
        except TlsError as error:
            return error
    return None


def is_record_version(stream: bytes, at: int) -> bool:
    """RFC 8446 section 5.1: legacy_record_version "MUST be ignored for all purposes", until it is authenticated."""
    start = 0
    while start + 5 <= at:
        start += 5 + int.from_bytes(stream[start + 3 : start + 5])
        if start > at:
            return False
    return at - start in (1, 2)


def sweep(
    pki: Pki, public: Credential, secret: Credential, config: EchConfig, *, retries: bool, step: int, first: int
) -> int:
    """Every `step`-th byte of both directions, a bit each; how many were tried."""
    streams = transcript_of(client_with(pki, config), server_with(public, secret, retries=retries))
    tried = 0
    for direction in (0, 1):
        for at in range(first, len(streams[direction]), step):
            client, other = client_with(pki, config), server_with(public, secret, retries=retries)
            flip = Flip(direction, at, at % 8)

            error = meddled(client, other, flip)

            tried += flip.done
            if not flip.done or is_record_version(streams[direction], at):
                continue
            assert client.handshake is None or other.handshake is None
            assert direction == 0 or client.handshake is None
            if isinstance(error, EchRejectedError):
                assert config is STALE.config
                assert error.retry_configs == ServerConfig((public,), ech_keys=(KEY,)).retry_configs
    return tried


@pytest.mark.parametrize("retries", [False, True])
@pytest.mark.parametrize("config", [KEY.config, STALE.config], ids=["accepted", "rejected"])
def test_no_bit_can_be_changed_on_the_path(
    pki: Pki, public: Credential, secret: Credential, config: EchConfig, retries: bool
) -> None:
    assert sweep(pki, public, secret, config, retries=retries, step=29, first=3) > 35


@pytest.mark.slow
@pytest.mark.parametrize("first", range(4))
@pytest.mark.parametrize("retries", [False, True])
@pytest.mark.parametrize("config", [KEY.config, STALE.config], ids=["accepted", "rejected"])
def test_no_bit_of_any_byte_can_be_changed_on_the_path(
    pki: Pki, public: Credential, secret: Credential, config: EchConfig, retries: bool, first: int
) -> None:
    assert sweep(pki, public, secret, config, retries=retries, step=4, first=first) > 250
