"""The staging bundle: read as it was written, or not at all."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import MalformedError
from ledger.staging import pack_staging, staged_size, staging_key, unpack_staging


def test_staging_bundle_is_read_as_it_was_written_or_not_at_all() -> None:
    objects = {"tile/0/000": b"a" * 8192, "tile/entries/000.p/1": b""}
    bundle = pack_staging("before", objects)

    assert unpack_staging(bundle) == ("before", objects)
    for spoiled in (b"", bundle[:-1], bundle[1:], bundle[:9] + b"!" + bundle[10:]):
        with pytest.raises(MalformedError):
            unpack_staging(spoiled)


def test_staging_bundle_whose_lengths_lie_is_refused() -> None:
    body = b"\n\x00\x01k\xff\xff\xff\xff"
    with pytest.raises(MalformedError, match="beyond"):
        unpack_staging(body + sha256(body).digest())


@given(st.dictionaries(st.text(st.characters(codec="ascii"), max_size=20), st.binary(max_size=100), max_size=5))
def test_decode_inverts_encode(objects: dict[str, bytes]) -> None:
    assert unpack_staging(pack_staging("k", objects)) == ("k", objects)


@given(st.binary(max_size=100) | st.binary(max_size=100).map(lambda data: b"k\n" + data))
def test_garbage_raises_only_our_error(body: bytes) -> None:
    for data in (body, body + sha256(body).digest()):
        try:
            staged = unpack_staging(data)
        except MalformedError:
            continue
        assert pack_staging(*staged) == data


def test_key_names_size_and_root() -> None:
    assert staging_key(7, b"\xab" * 32) == ".state/staging/7-" + "ab" * 32
    assert staged_size(staging_key(7, bytes(32))) == 7
    for strange in (".state/staging/", ".state/staging/x-y", ".state/staging/\u0663-y"):
        assert staged_size(strange) == 0
