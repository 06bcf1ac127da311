"""Records, alerts and what comes after the handshake: order, counts and bounds (RFC 8446 sections 4.6, 5 and 6)."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.tls13 import NOW, Pki, Taps, pieces, pump, random, received
from transport.tls13.alerts import AlertDescription, PeerAlertError, TlsError
from transport.tls13.certificates import Credential
from transport.tls13.client import ClientHandshake, connect
from transport.tls13.config import ClientConfig, ServerConfig
from transport.tls13.connection import MAX_CHANGE_CIPHER_SPECS, MAX_KEY_UPDATES, MAX_USER_CANCELED
from transport.tls13.constants import ContentType, HandshakeType, NamedGroup
from transport.tls13.events import ApplicationData, CloseNotify, HandshakeComplete
from transport.tls13.flight import MAX_MESSAGE
from transport.tls13.messages import CertificateRequest, Extension, NewSessionTicket, handshake_message
from transport.tls13.server import ServerHandshake, accept

CCS = b"\x14\x03\x03\x00\x01\x01"
KEY_UPDATE = handshake_message(HandshakeType.KEY_UPDATE, b"\0")
TICKET = handshake_message(HandshakeType.NEW_SESSION_TICKET, NewSessionTicket(7200, 1, b"n", b"t", ()).encode())
USER_CANCELED = b"\x01\x5a"


@pytest.fixture
def client(pki: Pki) -> Taps:
    config = ClientConfig("service.internal", pki.trust)
    return Taps(lambda flight: ClientHandshake(config, flight, random, NOW, random(32)))


@pytest.fixture
def server(credentials: dict[str, Credential]) -> Taps:
    config = ServerConfig((credentials["p256"],))
    return Taps(lambda flight: ServerHandshake(config, flight, random))


@pytest.fixture
def pair(client: Taps, server: Taps) -> tuple[Taps, Taps]:
    """Client and server, connected."""
    pump(client, server)
    return client, server


def alert_of(action: Callable[[], object]) -> int:
    with pytest.raises(TlsError) as caught:
        action()
    return caught.value.alert


def failure_of(action: Callable[[], object]) -> TlsError | None:
    try:
        action()
    except TlsError as error:
        return error
    return None


def carry(sender: Taps, receiver: Taps) -> int:
    return alert_of(lambda: receiver.receive(sender.data_to_send()))


@settings(deadline=None, max_examples=30)
@given(cut=st.integers(1, 3000), sizes=st.lists(st.integers(0, 20_000), max_size=4))
def test_the_stream_is_the_same_wherever_it_is_cut(
    pki: Pki, credentials: dict[str, Credential], cut: int, sizes: list[int]
) -> None:
    config = ClientConfig("service.internal", pki.trust)
    one = Taps(lambda flight: ClientHandshake(config, flight, random, NOW, random(32)))
    other = Taps(lambda flight: ServerHandshake(ServerConfig((credentials["p256"],)), flight, random))

    handshakes = pump(one, other, cut=cut)
    for size in sizes:
        one.connection.send(bytes(size))
    one.connection.close()
    _, events = pump(one, other, cut=cut)

    assert [type(side[0]) for side in handshakes] == [HandshakeComplete] * 2
    assert received(events) == bytes(sum(sizes))
    assert events[-1] == CloseNotify()


@settings(deadline=None)
@given(garbage=st.binary(min_size=5, max_size=600))
def test_garbage_raises_only_our_error_and_the_same_one_again(
    pki: Pki, credentials: dict[str, Credential], garbage: bytes
) -> None:
    config = ClientConfig("service.internal", pki.trust)
    one = Taps(lambda flight: ClientHandshake(config, flight, random, NOW, random(32)))
    other = Taps(lambda flight: ServerHandshake(ServerConfig((credentials["p256"],)), flight, random))

    for end in (one, other):
        first = failure_of(lambda end=end: end.receive(garbage))
        if first is not None:
            assert failure_of(end.connection.next_event) is first


@settings(deadline=None)
@given(damage_hello=st.booleans(), place=st.integers(0, 1 << 16), bits=st.integers(1, 255))
def test_a_damaged_handshake_never_completes_differently(
    pki: Pki, credentials: dict[str, Credential], damage_hello: bool, place: int, bits: int
) -> None:
    """One byte of the client's hello or of the server's flight is another: no end ever believes what was changed."""
    config = ClientConfig("service.internal", pki.trust, grease_ech=False, alpn=(b"mesh/1",))
    one = Taps(lambda flight: ClientHandshake(config, flight, random, NOW, random(32)))
    other = Taps(
        lambda flight: ServerHandshake(ServerConfig((credentials["p256"],), alpn=(b"mesh/1",)), flight, random)
    )
    there = bytearray(one.data_to_send())

    try:
        if damage_hello:
            there[place % len(there)] ^= bits
        other.receive(there)
        back = bytearray(other.data_to_send())
        if not damage_hello:
            back[place % len(back)] ^= bits
        events = one.receive(back)
    except TlsError:
        return

    # Left are the version fields of records, which MUST be ignored (section 5.1), and lengths that make us wait.
    assert all(isinstance(event, HandshakeComplete) and event.alpn == b"mesh/1" for event in events)


# ChangeCipherSpec: "at any time after the first ClientHello message has been sent or received and before the peer's
# Finished message has been received" (section 5).


def test_a_change_cipher_spec_before_the_client_hello_is_unexpected(server: Taps) -> None:
    assert alert_of(lambda: server.receive(CCS)) == AlertDescription.UNEXPECTED_MESSAGE


def test_change_cipher_specs_are_dropped_during_the_handshake_and_counted(client: Taps) -> None:
    assert client.receive(CCS * MAX_CHANGE_CIPHER_SPECS) == []
    assert alert_of(lambda: client.receive(CCS)) == AlertDescription.UNEXPECTED_MESSAGE


@pytest.mark.parametrize("content", [b"\x00", b"\x02", b"\x01\x01"])
def test_a_change_cipher_spec_is_the_byte_one(client: Taps, content: bytes) -> None:
    record = b"\x14\x03\x03" + len(content).to_bytes(2, "big") + content

    assert alert_of(lambda: client.receive(record)) == AlertDescription.UNEXPECTED_MESSAGE


def test_a_change_cipher_spec_after_finished_is_unexpected_at_both_ends(pair: tuple[Taps, Taps]) -> None:
    for end in pair:
        assert alert_of(lambda end=end: end.receive(CCS)) == AlertDescription.UNEXPECTED_MESSAGE


# Appendix D.4: each end sends it once; the client "immediately before its second flight", the server "immediately after
# its first handshake message".
def test_each_end_sends_one_change_cipher_spec(client: Taps, server: Taps) -> None:
    server.receive(client.data_to_send())
    flight = bytes(server.data_to_send())
    client.receive(flight)
    second = bytes(client.data_to_send())

    hello_end = 5 + int.from_bytes(flight[3:5], "big")
    assert flight[hello_end : hello_end + 6] == CCS
    assert flight.count(CCS) == 1
    assert second.startswith(CCS + b"\x17")


# Section 5.1: "Handshake messages MUST NOT be interleaved with other record types."


@pytest.mark.parametrize("between", [CCS, b"\x15\x03\x03\x00\x02\x01\x5a"])
def test_nothing_comes_between_the_parts_of_a_message(client: Taps, server: Taps, between: bytes) -> None:
    server.receive(client.data_to_send())
    flight = bytes(server.data_to_send())
    hello = flight[5 : 5 + int.from_bytes(flight[3:5], "big")]
    parts = [b"\x16\x03\x03" + len(part).to_bytes(2, "big") + part for part in pieces(hello, 50)]

    client.receive(parts[0])

    assert alert_of(lambda: client.receive(between)) == AlertDescription.UNEXPECTED_MESSAGE


def test_data_between_the_parts_of_a_message_is_unexpected(pair: tuple[Taps, Taps]) -> None:
    client, server = pair
    server.writer.write(ContentType.HANDSHAKE, TICKET[:5])
    server.connection.send(b"data")

    assert carry(server, client) == AlertDescription.UNEXPECTED_MESSAGE


def test_a_message_may_span_records(pair: tuple[Taps, Taps]) -> None:
    client, server = pair
    for part in pieces(TICKET, 3):
        server.writer.write(ContentType.HANDSHAKE, part)
    server.connection.send(b"after")

    assert received(client.receive(server.data_to_send())) == b"after"


# Section 5.1: "Handshake messages MUST NOT span key changes."


def test_nothing_follows_server_hello_under_its_keys(client: Taps, server: Taps) -> None:
    server.receive(client.data_to_send())
    flight = bytes(server.data_to_send())
    size = int.from_bytes(flight[3:5], "big")
    longer = b"\x16\x03\x03" + (size + 4).to_bytes(2, "big") + flight[5 : 5 + size] + b"\x08\x00\x00\x02"

    assert alert_of(lambda: client.receive(longer)) == AlertDescription.UNEXPECTED_MESSAGE


def test_nothing_follows_a_key_update_under_its_keys(pair: tuple[Taps, Taps]) -> None:
    client, server = pair
    server.writer.write(ContentType.HANDSHAKE, KEY_UPDATE + TICKET[:1])

    assert carry(server, client) == AlertDescription.UNEXPECTED_MESSAGE


def test_nothing_follows_the_client_hello_under_its_keys(client: Taps, server: Taps) -> None:
    hello = bytes(client.data_to_send())
    longer = b"\x16\x03\x01" + (len(hello) - 5 + 1).to_bytes(2, "big") + hello[5:] + b"\x14"

    assert alert_of(lambda: server.receive(longer)) == AlertDescription.UNEXPECTED_MESSAGE


def test_a_handshake_message_over_the_cap_is_refused_at_its_header(server: Taps) -> None:
    header = b"\x01" + (MAX_MESSAGE - 4 + 1).to_bytes(3, "big")

    assert alert_of(lambda: server.receive(b"\x16\x03\x01\x00\x04" + header)) == AlertDescription.ILLEGAL_PARAMETER


def test_data_before_the_handshake_is_unexpected(client: Taps, server: Taps) -> None:
    server.receive(client.data_to_send())
    client.receive(server.data_to_send())
    # The client has its application keys, the server still waits for Finished.
    finished = client.data_to_send()
    client.connection.send(b"early")
    early = client.data_to_send()

    assert alert_of(lambda: server.receive(early)) == AlertDescription.BAD_RECORD_MAC
    assert finished


def test_nothing_can_be_sent_or_exported_before_the_handshake(server: Taps) -> None:
    with pytest.raises(RuntimeError):
        server.connection.send(b"x")
    with pytest.raises(RuntimeError):
        server.connection.export(b"label", b"", 32)
    with pytest.raises(RuntimeError):
        server.connection.update_keys()
    with pytest.raises(RuntimeError):
        server.connection.replace_traffic_secrets(read=bytes(32))


# Section 4.6.3


def test_a_requested_update_is_answered_before_the_next_data(pair: tuple[Taps, Taps]) -> None:
    client, server = pair
    server.connection.update_keys(request=True)
    server.connection.send(b"under new keys")

    assert received(client.receive(server.data_to_send())) == b"under new keys"
    assert client.data_to_send() == b""
    client.connection.send(b"answer")
    events = server.receive(client.data_to_send())
    assert received(events) == b"answer"
    # Had the client not updated its keys, the two would not agree now.
    client.connection.send(b"more")
    assert received(server.receive(client.data_to_send())) == b"more"


def test_several_requests_are_answered_once(pair: tuple[Taps, Taps]) -> None:
    client, server = pair
    for _ in range(3):
        server.connection.update_keys(request=True)
    client.receive(server.data_to_send())

    client.connection.send(b"x")
    out = bytes(client.data_to_send())

    update = 5 + 5 + 1 + 16
    assert len(out) == update + 5 + 1 + 1 + 16


@pytest.mark.parametrize("message", [KEY_UPDATE, TICKET])
def test_messages_without_data_between_them_are_counted(pair: tuple[Taps, Taps], message: bytes) -> None:
    client, server = pair

    def flood(count: int) -> None:
        for _ in range(count):
            server.writer.write(ContentType.HANDSHAKE, message)
            if message == KEY_UPDATE:
                server.writer.update()

    flood(MAX_KEY_UPDATES)
    server.connection.send(b"data")
    flood(MAX_KEY_UPDATES)
    assert received(client.receive(server.data_to_send())) == b"data"
    flood(1)
    assert carry(server, client) == AlertDescription.UNEXPECTED_MESSAGE


def test_keys_are_updated_when_they_have_protected_enough(
    pair: tuple[Taps, Taps], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, server = pair
    monkeypatch.setattr("transport.tls13.record.MAX_RECORDS_PER_KEY", 3)

    for number in range(10):
        client.connection.send(b"%d" % number)

    # Ten data records, and a KeyUpdate before the fourth, the seventh and the tenth.
    out = client.data_to_send()
    assert len(out) == 10 * (5 + 1 + 1 + 16) + 3 * (5 + 5 + 1 + 16)
    assert received(server.receive(out)) == b"0123456789"


# Section 4.6.1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0" * 8,
        NewSessionTicket(1, 1, b"", b"", ()).encode(),
        NewSessionTicket(1, 1, b"", b"t", (Extension(42, b""), Extension(42, b""))).encode(),
        NewSessionTicket(1, 1, b"", b"t", ()).encode() + b"\0",
        NewSessionTicket(1, 1, b"", b"t", (Extension(42, b"\0\0\0"),)).encode(),
    ],
)
def test_a_malformed_ticket_is_a_decode_error(pair: tuple[Taps, Taps], body: bytes) -> None:
    client, server = pair
    server.writer.write(ContentType.HANDSHAKE, handshake_message(HandshakeType.NEW_SESSION_TICKET, body))

    assert carry(server, client) == AlertDescription.DECODE_ERROR


def test_a_ticket_for_a_server_is_unexpected(pair: tuple[Taps, Taps]) -> None:
    client, server = pair
    client.writer.write(ContentType.HANDSHAKE, TICKET)

    assert carry(client, server) == AlertDescription.UNEXPECTED_MESSAGE


# Section 4.6.2: "A client that receives a CertificateRequest message without having sent the "post_handshake_auth"
# extension MUST send an "unexpected_message" fatal alert."
def test_a_request_for_a_certificate_after_the_handshake_is_unexpected(pair: tuple[Taps, Taps]) -> None:
    client, server = pair
    request = CertificateRequest(b"", (Extension(13, b"\0\x02\x04\x03"),)).encode()
    server.writer.write(ContentType.HANDSHAKE, handshake_message(HandshakeType.CERTIFICATE_REQUEST, request))

    assert carry(server, client) == AlertDescription.UNEXPECTED_MESSAGE


@pytest.mark.parametrize("kind", [HandshakeType.CLIENT_HELLO, HandshakeType.FINISHED, HandshakeType.SERVER_HELLO])
def test_no_handshake_starts_again(pair: tuple[Taps, Taps], kind: HandshakeType) -> None:
    for sender, receiver in (pair, pair[::-1]):
        sender.writer.write(ContentType.HANDSHAKE, handshake_message(kind, bytes(40)))

        assert carry(sender, receiver) == AlertDescription.UNEXPECTED_MESSAGE


# Section 6


@pytest.mark.parametrize("content", [b"\x02", b"\x02\x28\x00"])
def test_an_alert_has_two_bytes(pair: tuple[Taps, Taps], content: bytes) -> None:
    client, server = pair
    server.writer.write(ContentType.ALERT, content)

    assert carry(server, client) == AlertDescription.DECODE_ERROR


def test_an_alert_of_an_unknown_level_is_an_illegal_parameter(pair: tuple[Taps, Taps]) -> None:
    client, server = pair
    server.writer.write(ContentType.ALERT, b"\x03\x28")

    assert carry(server, client) == AlertDescription.ILLEGAL_PARAMETER


# Section 6.2: "Unknown Alert types MUST be treated as error alerts."
@pytest.mark.parametrize("description", [40, 51, 121, 255])
def test_a_fatal_alert_ends_the_connection_without_an_answer(pair: tuple[Taps, Taps], description: int) -> None:
    client, server = pair
    server.writer.write(ContentType.ALERT, bytes((2, description)))

    with pytest.raises(PeerAlertError) as caught:
        client.receive(server.data_to_send())

    assert caught.value.alert == description
    assert client.data_to_send() == b""
    with pytest.raises(RuntimeError):
        client.connection.send(b"x")


def test_a_warning_that_tls13_does_not_have_is_an_error(pair: tuple[Taps, Taps]) -> None:
    client, server = pair
    server.writer.write(ContentType.ALERT, bytes((1, AlertDescription.UNRECOGNIZED_NAME)))

    assert carry(server, client) == AlertDescription.DECODE_ERROR


def test_user_canceled_is_passed_over_and_counted(pair: tuple[Taps, Taps]) -> None:
    client, server = pair
    for _ in range(MAX_USER_CANCELED):
        server.writer.write(ContentType.ALERT, USER_CANCELED)
    server.connection.send(b"still here")

    assert received(client.receive(server.data_to_send())) == b"still here"
    server.writer.write(ContentType.ALERT, USER_CANCELED)
    assert carry(server, client) == AlertDescription.UNEXPECTED_MESSAGE


# Section 6.1: "Any data received after a closure alert has been received MUST be ignored."
def test_what_follows_close_notify_is_ignored(pair: tuple[Taps, Taps]) -> None:
    client, server = pair
    server.connection.close()
    closing = bytes(server.data_to_send())

    assert client.receive(closing + b"anything at all") == [CloseNotify()]
    assert client.receive(b"and more") == []
    client.connection.send(b"the other direction stays open")
    assert received(server.receive(client.data_to_send())) == b"the other direction stays open"


def test_close_notify_during_the_handshake_is_an_error(client: Taps) -> None:
    with pytest.raises(PeerAlertError):
        client.receive(b"\x15\x03\x03\x00\x02\x01\x00")


def test_closing_twice_sends_one_alert_and_ends_sending(pair: tuple[Taps, Taps]) -> None:
    client, _ = pair
    client.connection.close()
    client.connection.close()

    assert len(client.data_to_send()) == 5 + 2 + 1 + 16
    with pytest.raises(RuntimeError):
        client.connection.send(b"x")


def test_an_error_is_told_to_the_peer_once(pair: tuple[Taps, Taps]) -> None:
    client, server = pair
    server.connection.abort(AlertDescription.ACCESS_DENIED, "not on the list")
    server.connection.abort(AlertDescription.INTERNAL_ERROR, "again")

    with pytest.raises(PeerAlertError) as caught:
        client.receive(server.data_to_send())

    assert caught.value.alert == AlertDescription.ACCESS_DENIED
    assert alert_of(server.connection.next_event) == AlertDescription.ACCESS_DENIED


# What tunnels need


def test_exporters_agree_and_depend_on_label_context_and_connection(pair: tuple[Taps, Taps]) -> None:
    client, server = (end.connection for end in pair)

    secrets = {
        client.export(label, context, 32)
        for label, context in ((b"EXPORTER-a", b""), (b"EXPORTER-b", b""), (b"EXPORTER-a", b"c"))
    }

    assert len(secrets) == 3
    assert client.export(b"EXPORTER-a", b"c", 80) == server.export(b"EXPORTER-a", b"c", 80)


def test_secrets_are_replaced_between_two_records_of_one_segment(pair: tuple[Taps, Taps]) -> None:
    client, server = pair
    client.connection.send(b"last under tls keys")
    client.connection.replace_traffic_secrets(write=b"w" * 32)
    client.connection.send(b"first under ours")
    segment = bytes(client.data_to_send())
    buffer = server.connection.get_buffer()
    buffer[: len(segment)] = segment
    server.connection.buffer_updated(len(segment))

    first = server.connection.next_event()
    assert isinstance(first, ApplicationData)
    assert bytes(first.data) == b"last under tls keys"
    server.connection.replace_traffic_secrets(read=b"w" * 32)
    second = server.connection.next_event()

    assert isinstance(second, ApplicationData)
    assert bytes(second.data) == b"first under ours"
    client.connection.update_keys()
    client.connection.send(b"and updated")
    assert received(server.receive(client.data_to_send())) == b"and updated"


def test_without_the_replaced_secret_nothing_opens(pair: tuple[Taps, Taps]) -> None:
    client, server = pair
    client.connection.replace_traffic_secrets(write=b"w" * 32)
    client.connection.send(b"x")

    assert carry(client, server) == AlertDescription.BAD_RECORD_MAC


def test_a_short_secret_is_refused(pair: tuple[Taps, Taps]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        pair[0].connection.replace_traffic_secrets(read=bytes(31))


def test_data_can_be_padded(pair: tuple[Taps, Taps]) -> None:
    client, server = pair
    client.connection.send(b"x", pad_to=256)
    out = client.data_to_send()

    assert len(out) == 5 + 256 + 1 + 16
    assert received(server.receive(out)) == b"x"


def test_an_empty_write_sends_nothing(pair: tuple[Taps, Taps]) -> None:
    pair[0].connection.send(b"")

    assert pair[0].data_to_send() == b""


# Section 5.1: 0x0303 "for all records generated by a TLS 1.3 implementation other than an initial ClientHello ...,
# where it MAY also be 0x0301 for compatibility purposes". Everybody does so: another version would stand out.
def test_the_first_hello_says_tls_1_0_and_nothing_else_does(pki: Pki, credentials: dict[str, Credential]) -> None:
    one = connect(ClientConfig("service.internal", pki.trust), random=random, now=NOW)
    other = accept(ServerConfig((credentials["p256"],), groups=(NamedGroup.SECP384R1,)), random=random)
    seen = []
    for _ in range(2):
        there = bytes(one.data_to_send())
        other.receive(there)
        back = bytes(other.data_to_send())
        one.receive(back)
        seen += [there[:3], back[:3]]

    assert seen == [b"\x16\x03\x01", b"\x16\x03\x03", b"\x14\x03\x03", b"\x16\x03\x03"]


def test_a_connection_that_failed_takes_no_more_room(client: Taps) -> None:
    pool_size = len(client.connection.get_buffer())
    client.connection.abort(AlertDescription.INTERNAL_ERROR, "enough")

    for _ in range(3):
        assert len(client.connection.get_buffer()) == pool_size
        client.connection.buffer_updated(pool_size)
        assert alert_of(client.connection.next_event) == AlertDescription.INTERNAL_ERROR
