"""What stands beside the Noise messages is read as it was written, and garbage gives only NoiseError."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.noise.errors import NoiseError
from transport.tunnel.greeting import (
    PAYLOAD,
    Greeting,
    encode_reply,
    encode_service,
    parse_reply,
    parse_service,
)

NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255)


@given(st.booleans(), st.integers(0, 2**64 - 1), st.binary(min_size=1, max_size=200))
def test_a_greeting_is_read_as_written(min_pq: bool, epoch: int, message: bytes) -> None:
    greeting = Greeting(min_pq, epoch, message)

    assert Greeting.parse(greeting.encode()) == greeting
    assert parse_reply(encode_reply(message)) == message


@given(NAMES)
def test_a_service_is_read_as_written_in_lower_case(name: str) -> None:
    assert parse_service(encode_service(name)) == name.lower()


@given(NAMES)
def test_every_service_is_equally_long_on_the_wire(name: str) -> None:
    assert len(encode_service(name)) == PAYLOAD


@pytest.mark.parametrize("parse", [Greeting.parse, parse_reply, parse_service])
@given(garbage=st.binary(max_size=300))
def test_garbage_gives_only_our_error(parse: object, garbage: bytes) -> None:
    assert callable(parse)
    try:
        parse(garbage)
    except NoiseError:
        return
    assert garbage[0] == 1 or parse is parse_service


@pytest.mark.parametrize("name", ["", "x" * 256, "na\u00efve"])
def test_a_service_that_cannot_be_named_is_a_value_error(name: str) -> None:
    with pytest.raises(ValueError, match=r"service name|ascii"):
        encode_service(name)


@pytest.mark.parametrize(
    "payload",
    [
        bytes(PAYLOAD),
        b"\x01a".ljust(PAYLOAD - 1, b"\0"),
        b"\x01a\x01".ljust(PAYLOAD, b"\0"),
        b"\x02a\n".ljust(PAYLOAD, b"\0"),
    ],
    ids=["empty", "short", "bytes in the padding", "control character"],
)
def test_a_malformed_service_is_refused(payload: bytes) -> None:
    with pytest.raises(NoiseError):
        parse_service(payload)


@pytest.mark.parametrize("flags", [2, 0x80])
def test_unknown_flags_of_a_greeting_are_refused(flags: int) -> None:
    with pytest.raises(NoiseError, match="version"):
        Greeting.parse(bytes([1, flags]) + bytes(60))
