"""The record layer: what is sealed opens, wherever it is cut; what breaks a rule of RFC 8446 section 5 is refused."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.tls13.alerts import AlertDescription, TlsError
from transport.tls13.constants import ContentType
from transport.tls13.key_schedule import SUITES, Suite
from transport.tls13.record import (
    BUFFER_SIZE,
    HEADER,
    MAX_CIPHERTEXT,
    MAX_EMPTY_RECORDS,
    MAX_PLAINTEXT,
    TAG,
    BufferPool,
    RecordReader,
    RecordWriter,
)

SUITE = SUITES[0x1301]
SECRET = bytes(range(32))
DATA = int(ContentType.APPLICATION_DATA)
HANDSHAKE = int(ContentType.HANDSHAKE)


def ends(suite: Suite = SUITE, *, size: int = BUFFER_SIZE) -> tuple[RecordWriter, RecordReader]:
    writer, reader = RecordWriter(), RecordReader(BufferPool(size))
    writer.rekey(suite, SECRET)
    reader.rekey(suite, SECRET)
    return writer, reader


def feed(reader: RecordReader, data: bytes | bytearray, cut: int | None = None) -> list[tuple[int, bytes]]:
    """All records of `data`, taken in pieces of `cut` bytes."""
    found = []
    view = memoryview(bytes(data))
    while view:
        buffer = reader.get_buffer()
        count = min(len(buffer), len(view), cut or len(view))
        buffer[:count] = view[:count]
        reader.buffer_updated(count)
        view = view[count:]
        while (record := reader.next_record()) is not None:
            found.append((record[0], bytes(record[1])))
    return found


def sealed(plaintext: bytes, *, sequence: int = 0) -> bytes:
    """A record of a TLSInnerPlaintext that nobody has checked."""
    aead, iv = SUITE.traffic_keys(SECRET)
    header = b"\x17\x03\x03" + (len(plaintext) + TAG).to_bytes(2, "big")
    return header + aead.encrypt((iv ^ sequence).to_bytes(12, "big"), plaintext, header)


def alert_for(reader: RecordReader, data: bytes) -> int:
    with pytest.raises(TlsError) as caught:
        feed(reader, data)
    return caught.value.alert


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.id.name)
@pytest.mark.parametrize("size", [1, MAX_PLAINTEXT - 1, MAX_PLAINTEXT, MAX_PLAINTEXT + 1, 100_000])
def test_what_is_written_is_read(suite: Suite, size: int) -> None:
    writer, reader = ends(suite)
    data = bytes(i * 7 & 0xFF for i in range(size))

    writer.write(DATA, data)
    records = feed(reader, writer.take())

    assert b"".join(content for _, content in records) == data
    assert {kind for kind, _ in records} == {DATA}
    assert max(len(content) for _, content in records) <= MAX_PLAINTEXT


@given(
    st.lists(st.tuples(st.sampled_from([DATA, HANDSHAKE]), st.binary(min_size=1, max_size=300)), max_size=10),
    st.integers(1, 700),
    st.sampled_from([1, 16, 512]),
)
def test_records_are_the_same_wherever_they_are_cut(contents: list[tuple[int, bytes]], cut: int, multiple: int) -> None:
    writer, reader = ends(size=HEADER + MAX_CIPHERTEXT)
    for kind, content in contents:
        writer.write(kind, content, multiple=multiple)

    assert feed(reader, writer.take(), cut) == contents


@given(st.binary(max_size=400), st.booleans())
def test_garbage_raises_only_our_error(garbage: bytes, protected: bool) -> None:
    reader = RecordReader(BufferPool())
    if protected:
        reader.rekey(SUITE, SECRET)

    with suppress(TlsError):
        feed(reader, garbage)


@pytest.mark.parametrize("size", [1, 15, 16, 17, 5000, MAX_PLAINTEXT])
def test_padding_hides_the_length_up_to_a_multiple(size: int) -> None:
    writer, reader = ends()

    writer.write(DATA, bytes(size), multiple=512)
    record = writer.take()

    assert (len(record) - HEADER - 1 - TAG) % 512 == 0
    assert feed(reader, record) == [(DATA, bytes(size))]


def test_each_record_has_its_own_nonce() -> None:
    writer, _ = ends()
    writer.write(DATA, b"same")
    first = writer.take()
    writer.write(DATA, b"same")

    assert first != writer.take()


def test_a_record_played_twice_does_not_open() -> None:
    writer, reader = ends()
    writer.write(DATA, b"once")
    record = bytes(writer.take())

    assert feed(reader, record) == [(DATA, b"once")]
    assert alert_for(reader, record) == AlertDescription.BAD_RECORD_MAC


@pytest.mark.parametrize("place", [0, 1, 2, 5, 20, -1])
def test_a_changed_bit_does_not_open(place: int) -> None:
    writer, reader = ends()
    writer.write(DATA, b"x" * 40)
    record = writer.take()
    assert isinstance(record, bytearray)
    record[place] ^= 1

    assert alert_for(reader, record) in {AlertDescription.BAD_RECORD_MAC, AlertDescription.UNEXPECTED_MESSAGE}


# RFC 8446 section 5.1: "The length MUST NOT exceed 2^14 bytes. An endpoint that receives a record that exceeds this
# length MUST terminate the connection with a "record_overflow" alert."
def test_a_plaintext_record_over_16384_bytes_is_an_overflow() -> None:
    header = b"\x16\x03\x03" + (MAX_PLAINTEXT + 1).to_bytes(2, "big")

    assert alert_for(RecordReader(BufferPool()), header) == AlertDescription.RECORD_OVERFLOW


# RFC 8446 section 5.2: "The length MUST NOT exceed 2^14 + 256 bytes."
def test_a_protected_record_over_16640_bytes_is_an_overflow() -> None:
    _, reader = ends()
    header = b"\x17\x03\x03" + (MAX_CIPHERTEXT + 1).to_bytes(2, "big")

    assert alert_for(reader, header) == AlertDescription.RECORD_OVERFLOW


# RFC 8446 section 5.4: "the full encoded TLSInnerPlaintext MUST NOT exceed 2^14 + 1 octets"; padding counts.
@pytest.mark.parametrize("plaintext", [bytes(MAX_PLAINTEXT + 1) + b"\x17", b"x\x17" + bytes(MAX_PLAINTEXT)])
def test_plaintext_and_padding_over_16384_bytes_are_an_overflow(plaintext: bytes) -> None:
    _, reader = ends()

    assert alert_for(reader, sealed(plaintext)) == AlertDescription.RECORD_OVERFLOW


def test_the_longest_padding_is_taken_off() -> None:
    _, reader = ends()

    assert feed(reader, sealed(b"x\x17" + bytes(MAX_PLAINTEXT - 1))) == [(DATA, b"x")]


# RFC 8446 section 5.4: "If a receiving implementation does not find a non-zero octet in the cleartext, it MUST
# terminate the connection with an "unexpected_message" alert."
def test_a_record_of_padding_only_is_unexpected() -> None:
    _, reader = ends()

    assert alert_for(reader, sealed(bytes(20))) == AlertDescription.UNEXPECTED_MESSAGE


@pytest.mark.parametrize("length", [0, 1, TAG])
def test_a_record_without_room_for_a_type_does_not_open(length: int) -> None:
    _, reader = ends()
    record = b"\x17\x03\x03" + length.to_bytes(2, "big") + bytes(length)

    assert alert_for(reader, record) == AlertDescription.BAD_RECORD_MAC


# RFC 8446 section 5.1: "Zero-length fragments of Handshake types ... MUST NOT be sent"; of data they may be.
def test_empty_handshake_records_are_unexpected() -> None:
    _, reader = ends()

    assert alert_for(reader, sealed(b"\x16")) == AlertDescription.UNEXPECTED_MESSAGE
    assert alert_for(RecordReader(BufferPool()), b"\x16\x03\x03\x00\x00") == AlertDescription.UNEXPECTED_MESSAGE


def test_empty_data_records_are_counted() -> None:
    _, reader = ends()
    for sequence in range(MAX_EMPTY_RECORDS):
        assert feed(reader, sealed(b"\x17", sequence=sequence)) == [(DATA, b"")]
    assert alert_for(reader, sealed(b"\x17", sequence=MAX_EMPTY_RECORDS)) == AlertDescription.UNEXPECTED_MESSAGE


# RFC 8446 section 5: "An implementation ... which receives a protected change_cipher_spec record MUST abort the
# handshake with an "unexpected_message" alert."
def test_a_change_cipher_spec_under_protection_is_unexpected() -> None:
    _, reader = ends()

    assert alert_for(reader, sealed(b"\x01\x14")) == AlertDescription.UNEXPECTED_MESSAGE


@pytest.mark.parametrize("first", [0, 19, 23, 24, 255, ord("G")])
def test_what_is_no_record_is_refused_at_its_header(first: int) -> None:
    assert alert_for(RecordReader(BufferPool()), bytes([first, 3, 3, 0, 9])) == AlertDescription.UNEXPECTED_MESSAGE


@pytest.mark.parametrize("first", [20 - 1, 22, 24])
def test_a_record_without_protection_is_refused_under_keys(first: int) -> None:
    _, reader = ends()

    assert alert_for(reader, bytes([first, 3, 3, 0, 9])) == AlertDescription.UNEXPECTED_MESSAGE


def test_an_alert_in_the_clear_is_read_until_the_peer_protects() -> None:
    writer, reader = ends()
    alert = b"\x15\x03\x03\x00\x02\x02\x30"
    writer.write(DATA, b"protected")

    assert feed(reader, alert) == [(ContentType.ALERT, b"\x02\x30")]
    feed(reader, writer.take())
    assert alert_for(reader, alert) == AlertDescription.UNEXPECTED_MESSAGE


def test_updated_keys_follow_each_other() -> None:
    writer, reader = ends()
    for _ in range(3):
        writer.update()
        reader.update()
        writer.write(DATA, b"after")

        assert feed(reader, writer.take()) == [(DATA, b"after")]


def test_keys_can_change_between_records_that_came_together() -> None:
    writer, reader = ends()
    writer.write(DATA, b"old")
    together = bytes(writer.take())
    writer.rekey(SUITE, b"new secret".ljust(32))
    writer.write(DATA, b"new")
    together += bytes(writer.take())
    buffer = reader.get_buffer()
    buffer[: len(together)] = together
    reader.buffer_updated(len(together))

    first = reader.next_record()
    assert first is not None
    assert bytes(first[1]) == b"old"
    reader.rekey(SUITE, b"new secret".ljust(32))
    second = reader.next_record()

    assert second is not None
    assert bytes(second[1]) == b"new"


@pytest.mark.parametrize("cut", [1, 4, 5, 10])
def test_a_reader_that_waits_holds_no_buffer(cut: int) -> None:
    pool = BufferPool()
    buffer = pool.take()
    pool.give(buffer)
    writer, reader = RecordWriter(), RecordReader(pool)
    writer.rekey(SUITE, SECRET)
    reader.rekey(SUITE, SECRET)
    writer.write(DATA, b"x")
    record = writer.take()

    assert feed(reader, record[:cut]) == []
    assert pool.take() is buffer
    pool.give(buffer)
    assert feed(reader, record[cut:]) == [(DATA, b"x")]
    assert pool.take() is buffer


def test_a_pool_keeps_no_more_than_it_should() -> None:
    pool = BufferPool(keep=1)
    first, second = pool.take(), pool.take()
    pool.give(first)
    pool.give(second)

    assert pool.take() is first
    assert pool.take() is not second


def test_a_buffer_holds_a_whole_record() -> None:
    with pytest.raises(ValueError, match="one full record"):
        BufferPool(HEADER + MAX_CIPHERTEXT - 1)


def test_a_writer_asks_for_new_keys_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transport.tls13.record.MAX_RECORDS_PER_KEY", 2)
    monkeypatch.setattr("transport.tls13.record.MAX_BYTES_PER_KEY", 5000)
    by_records, _ = ends()
    by_bytes, _ = ends()

    by_records.write(DATA, b"1")
    assert not by_records.wants_update
    by_records.write(DATA, b"2")
    by_bytes.write(DATA, bytes(5000))

    assert by_records.wants_update
    assert by_bytes.wants_update
    by_bytes.update()
    assert not by_bytes.wants_update
