"""The chunked coding, held against llhttp."""

import httptools
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from sidecar.codecs.http1_chunked import (
    LAST_CHUNK,
    MAX_LINE,
    BadChunkError,
    ChunkedReader,
    chunk,
    whole_chunk,
    whole_chunks,
)
from tests.fakes.cuts import cuts

pieces = st.lists(st.binary(min_size=1, max_size=40), max_size=6)


def read(data: bytes, *, at: tuple[int, ...] = ()) -> tuple[bytes, bool, bytes]:
    """(body, finished, what follows)"""
    reader, body, rest = ChunkedReader(), b"", b""
    for part in cuts(data, at):
        if reader.finished:
            rest += part
            continue
        more, rest = reader.feed(part)
        body += more
    return body, reader.finished, rest


@given(pieces, st.binary(max_size=10), st.lists(st.integers(0, 300), max_size=8))
def test_what_was_encoded_is_read_back_however_it_is_cut(parts: list[bytes], rest: bytes, at: list[int]) -> None:
    encoded = b"".join(map(chunk, parts)) + LAST_CHUNK + rest

    assert read(encoded, at=tuple(at)) == (b"".join(parts), True, rest)


@given(st.binary(min_size=1, max_size=1900) | st.sampled_from([bytes(15), bytes(16), bytes(255), bytes(256)]))
def test_chunk_of_ours_is_known_as_a_whole_one(content: bytes) -> None:
    data = chunk(content)

    assert data[whole_chunk(data) : -2] == content


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=5))
def test_chunks_of_ours_are_known_as_whole_ones(contents: list[bytes]) -> None:
    assert whole_chunks(b"".join(map(chunk, contents))) == contents


@given(pieces, st.binary(max_size=9), st.integers(0, 200), st.integers(0, 200))
@example([b"a"], LAST_CHUNK, 0, 200)
@example([b"a"], b"1;x\r\na\r\n", 0, 200)
@example([b"a"], b"+1\r\na\r\n", 0, 200)
@example([b"a"], b"01\r\na\r\n", 0, 200)
@example([b"a"], b"\r\n", 0, 200)
@example([b"ab"], b"", 1, 200)
def test_what_is_known_as_whole_chunks_are_such_to_the_reader(
    parts: list[bytes], rest: bytes, start: int, end: int
) -> None:
    data, reader = (b"".join(map(chunk, parts)) + rest)[start:end], ChunkedReader()
    contents = whole_chunks(data)

    if contents:
        assert reader.feed(data) == (b"".join(contents), b"")
        assert reader.is_between_chunks
        assert not reader.finished


@given(
    st.binary(max_size=40)
    | st.builds(lambda off, rest: b"%x\r\n%b\r\n" % (max(len(rest) + off, 0), rest), st.integers(-1, 1), st.binary())
)
@example(b"")
@example(LAST_CHUNK)
@example(b"\r\n" + bytes(17) + b"\r\n")
@example(b"10\r\n" + bytes(17) + b"\r\n")
@example(b"010\r\n" + bytes(16) + b"\r\n")
def test_what_is_known_as_a_whole_chunk_is_one_to_the_reader(data: bytes) -> None:
    start, reader = whole_chunk(data), ChunkedReader()

    if start:
        assert reader.feed(data) == (data[start:-2], b"")
        assert reader.is_between_chunks
        assert not reader.finished


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=5))
@example(b"5;x=y\r\nhello\r\n0\r\nT: v\r\n\r\n", [])
@example(b"5\r\nhello0\r\n\r\n", [])
@example(b"5\nhello\n0\n\n", [])
@example(b"0_5\r\nhello\r\n0\r\n\r\n", [])
@example(b" 5\r\nhello\r\n0\r\n\r\n", [])
@example(b"0x5\r\nhello\r\n0\r\n\r\n", [])
def test_any_cut_gives_the_same_verdict(data: bytes, at: list[int]) -> None:
    def verdict(at: tuple[int, ...]) -> object:
        try:
            return read(data, at=at)
        except BadChunkError:
            return "refused"

    assert verdict(tuple(at)) == verdict(())


class Body:
    def __init__(self) -> None:
        self.body = b""
        self.ended = False

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.ended = True


mostly_chunks = st.lists(
    st.one_of(
        st.sampled_from(
            [
                b"0\r\n\r\n",
                b"5\r\nhello\r\n",
                b"3;a=b\r\nabc\r\n",
                b"0\r\n",
                b"\r\n",
                b"X: y\r\n",
                b"a\r\n",
                b"\n",
                b"1",
            ]
        ),
        st.binary(max_size=4),
    ),
    max_size=6,
).map(b"".join)


@given(mostly_chunks)
def test_whatever_message_we_accept_llhttp_accepts_with_the_same_body(data: bytes) -> None:
    try:
        body, finished, rest = read(data)
    except BadChunkError:
        return
    assume(finished)
    theirs = Body()
    parser = httptools.HttpRequestParser(theirs)
    parser.feed_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")

    parser.feed_data(data.removesuffix(rest))

    assert theirs.body == body
    assert theirs.ended


@pytest.mark.parametrize(
    "data",
    [
        b"1" * (MAX_LINE + 2),
        b"1;" + b"x" * MAX_LINE + b"\r\n",
        b"0\r\nX: " + b"y" * MAX_LINE,
        b"0\r\n" + b"X: yyyyyyyyyyyyyyyy\r\n" * 1000,
        b"FFFFFFFFF\r\n",
    ],
)
def test_lines_and_trailers_are_bounded(data: bytes) -> None:
    with pytest.raises(BadChunkError):
        read(data)
