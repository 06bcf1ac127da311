"""Many records at once: `burst` and `send_inner` are `next_event` and `send`, only faster."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.tls13 import NOW, Pki, pieces, pump, random
from transport.tls13 import client, server
from transport.tls13.alerts import AlertDescription, TlsError
from transport.tls13.config import ClientConfig, ServerConfig
from transport.tls13.connection import MAX_KEY_UPDATES, Connection
from transport.tls13.events import ApplicationData, CloseNotify
from transport.tls13.record import MAX_EMPTY_RECORDS

PKI = Pki()
CREDENTIAL = PKI.credential("service.internal")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.binary(max_size=40_000)),
        st.tuples(st.just("inner"), st.binary(min_size=1, max_size=16384)),
        st.tuples(st.just("padded"), st.binary(min_size=1, max_size=300)),
        st.tuples(st.just("update"), st.booleans()),
        st.tuples(st.just("empty"), st.none()),
    ),
    max_size=12,
)


def connected() -> tuple[Connection, Connection]:
    ours = client.connect(ClientConfig("service.internal", PKI.trust), random=random, now=NOW)
    theirs = server.accept(ServerConfig((CREDENTIAL,)), random=random)
    pump(ours, theirs)
    return ours, theirs


def say(connection: Connection, step: tuple[str, Any]) -> bytes:
    """What the peer has to hear of it."""
    match step:
        case ("send", data):
            connection.send(data)
            return bytes(data)
        case ("inner", data):
            connection.send_inner([data + b"\x17", b"!\x17"])
            return bytes(data) + b"!"
        case ("padded", data):
            connection.send(data, pad_to=256)
            return bytes(data)
        case ("update", request):
            connection.update_keys(request=request)
        case ("empty", _):
            connection._writer.write_inner([b"\x17"])
    return b""


def hear(connection: Connection, data: bytes, size: int | None, *, burst: bool) -> tuple[bytes, bool]:
    """All application data, and whether the peer closed."""
    found, closed = bytearray(), False
    for piece in pieces(data, size):
        rest = piece
        while rest:
            buffer = connection.get_buffer()
            count = min(len(buffer), len(rest))
            buffer[:count] = rest[:count]
            connection.buffer_updated(count)
            rest = rest[count:]
            while True:
                if burst:
                    connection.burst(lambda view, _: found.extend(view), 0.0)
                event = connection.next_event()
                if event is None:
                    break
                closed = closed or isinstance(event, CloseNotify)
                if isinstance(event, ApplicationData):
                    found.extend(event.data)
    return bytes(found), closed


@settings(max_examples=60)
@given(STEPS, st.sampled_from([None, 1000, 17_000]))
def test_a_burst_hears_what_single_events_hear(steps: list[tuple[str, Any]], size: int | None) -> None:
    expected = b""
    heard = []
    for burst in (False, True):
        ours, theirs = connected()
        expected = b""
        for step in steps:
            expected += say(ours, step)
        ours.close()
        heard.append(hear(theirs, bytes(ours.data_to_send()), size, burst=burst))

    assert heard == [(expected, True)] * 2


def test_a_burst_before_the_handshake_and_after_the_end_is_nothing() -> None:
    ours = client.connect(ClientConfig("service.internal", PKI.trust), random=random, now=NOW)
    taken: list[memoryview] = []
    ours.burst(lambda view, _: taken.append(view), 0.0)
    ours, theirs = connected()
    ours.close()
    assert hear(theirs, bytes(ours.data_to_send()), None, burst=True) == (b"", True)
    theirs.burst(lambda view, _: taken.append(view), 0.0)

    assert not taken


def test_a_flipped_bit_in_a_burst_ends_the_connection_for_good() -> None:
    ours, theirs = connected()
    ours.send_inner([b"first\x17", b"second\x17"])
    data = bytearray(ours.data_to_send())
    data[-1] ^= 1
    buffer = theirs.get_buffer()
    buffer[: len(data)] = data
    theirs.buffer_updated(len(data))
    taken: list[bytes] = []

    for _ in range(2):
        with pytest.raises(TlsError) as caught:  # noqa: PT012 the second call finds nothing more
            theirs.burst(lambda view, _: taken.append(bytes(view)), 0.0)
            theirs.next_event()
        assert caught.value.alert == AlertDescription.BAD_RECORD_MAC

    assert taken == [b"first"]


def test_what_a_taker_raises_comes_out_and_its_record_was_taken() -> None:
    ours, theirs = connected()
    ours.send_inner([b"first\x17", b"second\x17"])
    data = ours.data_to_send()
    buffer = theirs.get_buffer()
    buffer[: len(data)] = data
    theirs.buffer_updated(len(data))

    def refuse(_: memoryview, __: float) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        theirs.burst(refuse, 0.0)
    event = theirs.next_event()
    assert isinstance(event, ApplicationData)
    assert event.data == b"second"


def test_nothing_is_sealed_before_there_are_keys() -> None:
    ours = client.connect(ClientConfig("service.internal", PKI.trust), random=random, now=NOW)

    with pytest.raises(RuntimeError):
        ours.send_inner([b"x\x17"])
    with pytest.raises(RuntimeError):
        ours._writer.write_inner([b"x\x17"])


def test_key_updates_are_counted_between_bursts() -> None:
    ours, theirs = connected()
    for _ in range(MAX_KEY_UPDATES):
        ours.update_keys()
    assert hear(theirs, bytes(ours.data_to_send()), None, burst=True) == (b"", False)
    ours.update_keys()

    with pytest.raises(TlsError) as caught:
        hear(theirs, bytes(ours.data_to_send()), None, burst=True)

    assert caught.value.alert == AlertDescription.UNEXPECTED_MESSAGE


@pytest.mark.parametrize("plaintext", [b"\x17", b"\x17\0\0"])
def test_empty_records_are_counted_between_bursts(plaintext: bytes) -> None:
    ours, theirs = connected()
    ours._writer.write_inner([plaintext] * MAX_EMPTY_RECORDS)
    assert hear(theirs, bytes(ours.data_to_send()), None, burst=True) == (b"", False)
    ours._writer.write_inner([plaintext])

    with pytest.raises(TlsError) as caught:
        hear(theirs, bytes(ours.data_to_send()), None, burst=True)

    assert caught.value.alert == AlertDescription.UNEXPECTED_MESSAGE


def test_a_burst_ends_where_keys_are_replaced() -> None:
    ours, theirs = connected()
    ours.send(b"old")
    ours.replace_traffic_secrets(write=bytes(32))
    ours.send(b"new")
    data = bytes(ours.data_to_send())
    buffer = theirs.get_buffer()
    buffer[: len(data)] = data
    theirs.buffer_updated(len(data))
    found: list[bytes] = []

    def take(content: memoryview, now: float) -> None:
        found.append(bytes(content))
        if len(found) == 1:
            theirs.replace_traffic_secrets(read=bytes(32))

    for _ in range(2):
        theirs.burst(take, 0.0)

    assert found == [b"old", b"new"]
