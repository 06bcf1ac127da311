"""The header block is read as it was written, and garbage gives only MuxError."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.mux.errors import MuxError
from transport.mux.headers import MAX_BLOCK, MAX_FIELDS, decode, encode

NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789:_-", min_size=1, max_size=64)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=60)


@given(st.dictionaries(NAMES, VALUES, max_size=20))
def test_what_was_written_is_read_in_its_order(headers: dict[str, str]) -> None:
    assert list(decode(encode(headers)).items()) == list(headers.items())


@given(st.binary(max_size=300))
def test_garbage_gives_only_our_error(block: bytes) -> None:
    try:
        headers = decode(block)
    except MuxError:
        return
    assert encode(headers) == block


@pytest.mark.parametrize(
    "headers",
    [
        {"": "empty name"},
        {"Upper": "case"},
        {"line": "a\nb"},
        {"not-ascii": "\u00e9"},
        {"long": "x" * MAX_BLOCK},
        {f"n{n}": "" for n in range(MAX_FIELDS + 1)},
    ],
    ids=["empty", "upper", "newline", "unicode", "long", "many"],
)
def test_what_could_not_be_read_is_not_written(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="header"):
        encode(headers)


@pytest.mark.parametrize(
    "block",
    [
        b"\x01",
        b"\x01a\x00",
        b"\x01a\x00\x02x",
        b"\x00\x00\x00",
        b"\x01A\x00\x00",
        b"\x01a\x00\x01\n",
        b"\x01a\x00\x00" * 2,
        b"".join(bytes([3]) + b"%03d" % n + b"\x00\x00" for n in range(MAX_FIELDS + 1)),
        b"\x01a\xff\xff" + bytes(MAX_BLOCK),
    ],
    ids=["no name", "no length", "cut", "empty name", "upper", "newline", "twice", "many", "long"],
)
def test_a_malformed_block_is_refused(block: bytes) -> None:
    with pytest.raises(MuxError, match="header block"):
        decode(block)
