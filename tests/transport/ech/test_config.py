"""RFC 9849 section 4: ECHConfigLists of other implementations, and every way in which a list can be bad or useless."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from transport.ech import hpke
from transport.ech.config import (
    DEFAULT_SUITES,
    EchConfig,
    EchConfigError,
    EchKey,
    choose_config,
    encode_config_list,
    generate_key,
    is_public_name,
    parse_config_list,
)
from transport.ech.hpke import CipherSuite

KEY = generate_key("public.example", os.urandom)
CONFIG = KEY.config

configs = st.builds(
    EchConfig,
    config_id=st.integers(0, 255),
    kem_id=st.integers(0, 0xFFFF),
    public_key=st.binary(min_size=1, max_size=80),
    cipher_suites=st.lists(st.builds(CipherSuite, *[st.integers(0, 0xFFFF)] * 2), min_size=1, max_size=4).map(tuple),
    maximum_name_length=st.integers(0, 255),
    public_name=st.binary(min_size=1, max_size=255).map(lambda name: name.decode("latin-1")),
    extensions=st.dictionaries(st.integers(0, 0xFFFF), st.binary(max_size=20), max_size=3).map(
        lambda found: tuple(found.items())
    ),
)


def go_lists(shared: Path) -> list[bytes]:
    vectors = json.loads((shared / "vectors/ech/go-ech-configs.json").read_text())
    return [bytes.fromhex(each) for each in vectors["lists"]]


def test_lists_of_go_are_read_and_unknown_versions_are_skipped(shared: Path) -> None:
    """Go 1.27 src/crypto/tls/ech_test.go (BSD-3)."""
    cloudflare, p256_first, unknown_kem_first, _ = go_lists(shared)

    (single,) = parse_config_list(cloudflare)
    assert single.public_name == "cloudflare-ech.com"
    assert (single.config_id, single.kem_id, single.suite) == (0x59, hpke.DHKEM_X25519, DEFAULT_SUITES[0])
    assert single.is_usable

    # A configuration of version 0xbadd stands first in both of the long lists.
    assert [c.kem_id for c in parse_config_list(p256_first)] == [hpke.DHKEM_P256, hpke.DHKEM_X25519, 0x20]
    assert [c.kem_id for c in parse_config_list(unknown_kem_first)] == [0x6666, hpke.DHKEM_X25519, 0x20]


def test_every_config_and_every_suite_is_tried_in_order(shared: Path) -> None:
    # "Try every ECHConfig and every cipher suite the list offers in order, not only the first."
    found = parse_config_list(go_lists(shared)[2])

    # The KEM of the first is unknown, so are the suites of the second, and an extension of the third is mandatory.
    assert [config.is_usable for config in found] == [False, False, False]
    assert choose_config(found) is None
    assert choose_config([*found, CONFIG]) is CONFIG
    unknown = CipherSuite(0x7777, 0x8888)
    last = replace(CONFIG, cipher_suites=(unknown, CipherSuite(1, 0xFFFF), DEFAULT_SUITES[2]))
    assert choose_config([replace(CONFIG, cipher_suites=(unknown,)), last]) is last
    assert last.suite == DEFAULT_SUITES[2]


@pytest.mark.parametrize("number", range(4))
def test_lists_of_go_are_written_as_they_were_read(shared: Path, number: int) -> None:
    data = go_lists(shared)[number]
    found = parse_config_list(data)

    assert all(config.encode() in data for config in found)
    assert parse_config_list(encode_config_list(found)) == found


@given(st.lists(configs, min_size=1, max_size=3))
def test_list_is_read_as_it_was_written(some: list[EchConfig]) -> None:
    data = encode_config_list(some)

    assert parse_config_list(data) == tuple(some)
    choose_config(some)


@given(st.binary(max_size=200))
@example(b"")
@example(b"\0\0")
@example(b"\0\x04\xfe\x0d\0\0")
def test_garbage_is_refused_with_our_error_only(data: bytes) -> None:
    try:
        found = parse_config_list(data)
    except EchConfigError:
        return
    assert all(config.encode() in data for config in found)


@given(st.integers(0, len(encode_config_list([CONFIG])) - 1))
def test_list_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(EchConfigError):
        parse_config_list(encode_config_list([CONFIG])[:cut])


def test_list_with_bytes_behind_it_is_refused() -> None:
    with pytest.raises(EchConfigError, match="after its end"):
        parse_config_list(encode_config_list([CONFIG]) + b"\0")


def test_contents_that_do_not_fill_their_length_are_refused() -> None:
    encoded = bytearray(encode_config_list([CONFIG]) + b"\0")
    encoded[1] += 1
    encoded[5] += 1

    with pytest.raises(EchConfigError, match="after its end"):
        parse_config_list(bytes(encoded))


def test_duplicate_extension_is_refused() -> None:
    # RFC 9849 section 4.2: "there MUST NOT be more than one extension of the same type in the extensions block".
    twice = replace(CONFIG, extensions=((0x1A1A, b"x"), (0x1A1A, b"x")))

    with pytest.raises(EchConfigError, match="twice"):
        parse_config_list(encode_config_list([twice]))


def test_too_large_lists_are_refused() -> None:
    with pytest.raises(EchConfigError, match="65538"):
        parse_config_list(bytes(70_000))
    with pytest.raises(EchConfigError):
        encode_config_list([CONFIG] * 2000)
    with pytest.raises(EchConfigError):
        encode_config_list([])


@pytest.mark.parametrize("kind", [0x8000, 0xAAAA, 0xFFFF])
def test_config_with_an_unknown_mandatory_extension_is_passed_over(kind: int) -> None:
    # RFC 9849 section 4.2: "If an unsupported mandatory extension is present, clients MUST ignore the ECHConfig."
    mandatory = replace(CONFIG, extensions=((kind, b""),))
    optional = replace(CONFIG, extensions=((kind & 0x7FFF, b"x"),))

    assert not mandatory.is_usable
    assert choose_config([mandatory, optional]) is optional
    assert choose_config([mandatory]) is None


def test_config_of_a_go_list_with_a_mandatory_extension_is_unusable(shared: Path) -> None:
    assert [c.extensions for c in parse_config_list(go_lists(shared)[1])] == [(), (), ((0xAAAA, b"test"),)]
    assert not parse_config_list(go_lists(shared)[1])[2].is_usable


BAD_NAMES = [
    "",
    ".",
    ".public.example",
    "public.example.",
    "public..example",
    "-public.example",
    "public-.example",
    "pub_lic.example",
    "pub lic.example",
    "pub\0lic.example",
    "p\u00fcblic.example",
    "a" * 64 + ".example",
    ".".join(["a" * 60] * 5),
    "192.0.2.1",
    "1",
    "example.123",
    "example.0x",
    "example.0X1f",
    "0x7f000001",
    "[2001:db8::1]",
    "2001:db8::1",
    "example.com:443",
    "*.example.com",
]
GOOD_NAMES = ["public.example", "localhost", "a.b", "3com.example", "xn--bcher-kva.example", "a" * 63 + ".x", "1.0xg"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_config_whose_public_name_is_no_name_or_like_an_address_is_passed_over(name: str) -> None:
    """RFC 9849 section 6.1.7."""
    assert not is_public_name(name)
    if name:
        (found,) = parse_config_list(encode_config_list([replace(CONFIG, public_name=name[:255])]))
        assert not found.is_usable
    with pytest.raises(EchConfigError, match="public name"):
        generate_key(name, os.urandom)


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_host_names_are_public_names(name: str) -> None:
    assert is_public_name(name)
    assert generate_key(name, os.urandom).config.is_usable


def test_key_of_the_wrong_length_for_its_kem_makes_a_config_unusable() -> None:
    assert not replace(CONFIG, public_key=CONFIG.public_key[:-1]).is_usable
    assert not replace(CONFIG, kem_id=hpke.DHKEM_P256).is_usable


@pytest.mark.parametrize("kem_id", [hpke.DHKEM_X25519, hpke.DHKEM_P256])
def test_generated_config_is_usable_and_fits_its_key(kem_id: int) -> None:
    key = generate_key("public.example", os.urandom, kem_id=kem_id, maximum_name_length=40)

    (read,) = parse_config_list(encode_config_list([key.config]))
    assert read == key.config
    assert read.is_usable
    assert read.maximum_name_length == 40
    sender = hpke.Sender(kem_id, read.public_key, DEFAULT_SUITES[0], read.info, hpke.generate_key(kem_id, os.urandom))
    recipient = hpke.Recipient(key.private_key, sender.enc, DEFAULT_SUITES[0], read.info)
    assert recipient.open(sender.seal(b"hello", b""), b"") == b"hello"


def test_info_is_the_label_and_the_config_as_published() -> None:
    # RFC 9849 section 6.1: SetupBaseS(pkR, "tls ech" || 0x00 || ECHConfig)
    assert CONFIG.info == b"tls ech\x00" + encode_config_list([CONFIG])[2:]


def test_config_id_is_drawn_until_no_live_key_has_it() -> None:
    # RFC 9849 section 4.1, "The RECOMMENDED strategy is via rejection sampling".
    ids = [7, 7, 9, 200]

    key = generate_key("public.example", lambda n: bytes([ids.pop(0)]) if n == 1 else os.urandom(n), live_ids={7, 9})

    assert key.config.config_id == 200
    everyone_but_five = set(range(256)) - {5}
    assert generate_key("public.example", os.urandom, live_ids=everyone_but_five).config.config_id == 5
    with pytest.raises(EchConfigError, match="256"):
        generate_key("public.example", os.urandom, live_ids=range(256))


def test_key_must_be_the_one_of_its_config_and_is_never_shown() -> None:
    other = generate_key("public.example", os.urandom)

    with pytest.raises(EchConfigError, match="not the one"):
        EchKey(CONFIG, other.private_key)
    assert "private" not in repr(KEY)
