"""Bodies of extensions: what is built parses back, and garbage raises only our error."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.tls13 import extensions as ext
from transport.tls13.alerts import AlertDescription, TlsError

PARSERS: list[Callable[[bytes], Any]] = [
    ext.parse_server_name,
    ext.parse_alpn,
    ext.parse_selected_alpn,
    ext.parse_code_points,
    ext.parse_supported_versions,
    ext.parse_code_point,
    ext.parse_key_share,
    ext.parse_key_shares,
    ext.parse_cookie,
]
points = st.integers(0, 0xFFFF)


@pytest.mark.parametrize("parse", PARSERS)
@given(garbage=st.binary(max_size=80))
def test_garbage_raises_only_our_error(parse: Callable[[bytes], Any], garbage: bytes) -> None:
    with suppress(TlsError):
        parse(garbage)


@given(st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,60}[a-z0-9])?", fullmatch=True))
def test_names_come_back_in_lower_case(name: str) -> None:
    assert ext.parse_server_name(ext.server_name(name.upper())) == name


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=10).map(tuple))
def test_protocols_come_back(protocols: tuple[bytes, ...]) -> None:
    assert ext.parse_alpn(ext.alpn(protocols)) == protocols


@given(st.lists(points, min_size=1, max_size=30).map(tuple))
def test_code_points_come_back(values: tuple[int, ...]) -> None:
    assert ext.parse_code_points(ext.code_points(values)) == values


@given(st.dictionaries(points, st.binary(min_size=1, max_size=40), max_size=6))
def test_key_shares_come_back(shares: dict[int, bytes]) -> None:
    assert ext.parse_key_shares(ext.key_shares(tuple(shares.items()))) == shares
    for group, key in shares.items():
        assert ext.parse_key_share(ext.key_share(group, key)) == (group, key)


@given(st.binary(min_size=1, max_size=200))
def test_cookies_come_back(value: bytes) -> None:
    assert ext.parse_cookie(ext.cookie(value)) == value


@pytest.mark.parametrize("parse", PARSERS)
def test_nothing_is_not_enough(parse: Callable[[bytes], Any]) -> None:
    with pytest.raises(TlsError) as caught:
        parse(b"")

    assert caught.value.alert == AlertDescription.DECODE_ERROR
