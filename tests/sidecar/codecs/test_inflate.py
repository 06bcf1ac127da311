"""Decompression within bounds."""

import gzip
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.codecs.inflate import Inflate, InflateError
from tests.fakes.cuts import cuts


@given(st.binary(max_size=500), st.sampled_from(["gzip", "deflate"]), st.lists(st.integers(0, 600), max_size=8))
def test_any_cut_gives_the_same_text(text: bytes, encoding: str, at: list[int]) -> None:
    packed = gzip.compress(text) if encoding == "gzip" else zlib.compress(text)
    inflate = Inflate(encoding)

    unpacked = b"".join(inflate.feed(piece) for piece in cuts(packed, at))
    inflate.close()

    assert unpacked == text


def test_bomb_is_refused_before_it_unfolds() -> None:
    bomb = gzip.compress(bytes(200 * 1024 * 1024), compresslevel=1)

    with pytest.raises(InflateError, match="bomb"):
        Inflate("gzip").feed(bomb)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br", "compress"])
def test_encodings_that_cannot_be_read_are_refused(encoding: str) -> None:
    with pytest.raises(InflateError):
        Inflate(encoding)


@pytest.mark.parametrize("data", [b"not gzip", gzip.compress(b"a") + b"more"], ids=["no gzip", "surplus"])
def test_damage_is_refused(data: bytes) -> None:
    with pytest.raises(InflateError):
        Inflate("gzip").feed(data)


def test_cut_off_stream_is_refused() -> None:
    inflate = Inflate("gzip")
    inflate.feed(gzip.compress(b"some text")[:-4])

    with pytest.raises(InflateError):
        inflate.close()


@given(st.binary(max_size=100))
def test_garbage_gives_only_our_error(data: bytes) -> None:
    with suppress(InflateError):
        Inflate("deflate").feed(data)
