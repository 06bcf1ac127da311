"""Client and server against each other, and a server against whoever does not keep to the rules (RFC 9849)."""

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from tests.transport.ech.hellos import (
    ALPN,
    COMPRESS,
    COOKIE,
    GROUPS,
    KEY,
    SHARES,
    VERSIONS,
    Forger,
    inner_hello,
    outer_hello,
    server_name,
)
from transport.ech import hpke
from transport.ech.client import EchOffer, GreaseEch
from transport.ech.config import EchKey, generate_key
from transport.ech.extension import INNER, OuterExtension, parse_outer
from transport.ech.hpke import CipherSuite, HpkeError
from transport.ech.inner import decode_inner, encode_inner
from transport.ech.server import OpenedHello, open_first
from transport.tls13.alerts import AlertDescription, TlsError
from transport.tls13.constants import ExtensionType
from transport.tls13.messages import ClientHello, Extension
from transport.tls13.wire import integers


def receive(hello: ClientHello) -> tuple[ClientHello, bytes]:
    body = hello.encode()
    return ClientHello.parse(body), body


def opened(hello: ClientHello, *keys: EchKey) -> OpenedHello:
    found = open_first(*receive(hello), keys or [KEY])
    assert found is not None
    return found


def ech_of(hello: ClientHello) -> OuterExtension:
    extension = hello.extension(ExtensionType.ENCRYPTED_CLIENT_HELLO)
    assert extension is not None
    return parse_outer(extension)


# --- what honest ends do


@pytest.mark.parametrize("kem_id", [hpke.DHKEM_X25519, hpke.DHKEM_P256])
@pytest.mark.parametrize("suite", KEY.config.cipher_suites)
def test_inner_hello_arrives_and_the_wire_shows_the_public_name_only(kem_id: int, suite: CipherSuite) -> None:
    key = generate_key("public.example", os.urandom, kem_id=kem_id, cipher_suites=[suite])
    inner = inner_hello()

    sealed = EchOffer(key.config, os.urandom).seal(inner, outer_hello(), COMPRESS)

    found = opened(sealed, key)
    assert found.inner == inner
    assert found.inner.encode() == inner.encode()
    assert found.config == key.config
    assert b"secret" not in sealed.encode()
    assert b"public.example" in sealed.encode()


@pytest.mark.parametrize("compress", [(), (GROUPS.type,), COMPRESS, (SHARES.type, VERSIONS.type)])
def test_compression_makes_the_hello_shorter_and_nothing_else(compress: tuple[int, ...]) -> None:
    inner, outer = inner_hello(), outer_hello()

    sealed = EchOffer(KEY.config, os.urandom).seal(inner, outer, compress)

    assert opened(sealed).inner == inner
    whole = EchOffer(KEY.config, os.urandom).seal(inner, outer, ())
    assert len(sealed.encode()) <= len(whole.encode())


def test_second_hello_is_sealed_by_the_context_of_the_first() -> None:
    """RFC 9849 section 6.1.5: it "reuses the original HPKE encryption context" and "the empty string for enc"."""
    offer = EchOffer(KEY.config, os.urandom)
    inner, outer = inner_hello(), outer_hello()
    first = opened(offer.seal(inner, outer, COMPRESS))
    again, outer_again = inner_hello("secret.internal", COOKIE), outer_hello(COOKIE)

    second = offer.seal(again, outer_again, COMPRESS)

    assert ech_of(second).enc == b""
    assert first.open_second(*receive(second)) == again


def test_key_is_found_by_config_id_among_current_and_old_keys() -> None:
    old = generate_key("public.example", os.urandom, live_ids=[KEY.config.config_id])
    same_id = replace(generate_key("other.example", os.urandom).config, config_id=KEY.config.config_id)
    clash = EchKey(replace(same_id, public_key=old.config.public_key), old.private_key)

    assert opened(EchOffer(KEY.config, os.urandom).seal(inner_hello(), outer_hello(), ()), old, clash, KEY)
    assert (
        opened(EchOffer(old.config, os.urandom).seal(inner_hello(), outer_hello(), ()), KEY, old).config == old.config
    )


def test_stale_or_unknown_key_leaves_the_outer_hello_in_charge() -> None:
    stale = generate_key("public.example", os.urandom)
    same_id = EchKey(replace(stale.config, config_id=KEY.config.config_id), stale.private_key)
    sealed = EchOffer(KEY.config, os.urandom).seal(inner_hello(), outer_hello(), COMPRESS)

    assert open_first(*receive(sealed), []) is None
    assert open_first(*receive(sealed), [same_id]) is None


def test_no_trial_decryption_with_keys_of_another_config_id() -> None:
    # "random config_id trial decryption off"; RFC 9849 section 7.1: "implementations MUST use the first method".
    sealed = EchOffer(KEY.config, os.urandom).seal(inner_hello(), outer_hello(), ())
    other_id = EchKey(replace(KEY.config, config_id=KEY.config.config_id ^ 1), KEY.private_key)

    assert open_first(*receive(sealed), [other_id]) is None


def test_suite_that_the_config_does_not_offer_is_not_opened() -> None:
    sealed = EchOffer(KEY.config, os.urandom).seal(inner_hello(), outer_hello(), ())
    config = replace(KEY.config, cipher_suites=KEY.config.cipher_suites[1:])

    assert open_first(*receive(sealed), [EchKey(config, KEY.private_key)]) is None


def test_hello_without_ech_has_nothing_to_open() -> None:
    assert open_first(*receive(outer_hello()), [KEY]) is None


@given(st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=64), st.text("abc", min_size=1, max_size=64))
def test_length_tells_nothing_of_names_up_to_the_maximum(one: str, other: str) -> None:
    """RFC 9849 section 6.1.3."""
    lengths = {
        len(EchOffer(KEY.config, os.urandom).seal(inner_hello(name), outer_hello(), COMPRESS).encode())
        for name in (one, other)
    }

    assert len(lengths) == 1


@given(st.integers(0, 255), st.integers(1, 250))
def test_encoded_inner_hello_is_a_multiple_of_32_bytes(maximum: int, length: int) -> None:
    inner = inner_hello("a" * length)
    nameless = replace(inner, extensions=inner.extensions[1:])

    assert len(encode_inner(inner, COMPRESS, maximum)) % 32 == 0
    # "If the ClientHelloInner did not contain a server_name extension, add M + 9 bytes of padding."
    assert len(encode_inner(nameless, (), maximum)) == len(encode_inner(inner_hello("a" * maximum), (), 0))


def test_grease_has_the_shape_of_an_offer_and_is_repeated_in_the_second_hello() -> None:
    grease, inner, outer = GreaseEch(os.urandom), inner_hello(), outer_hello()
    real = ech_of(EchOffer(KEY.config, os.urandom).seal(inner, outer, COMPRESS))

    first = ech_of(grease.seal(inner, outer, COMPRESS))

    assert (first.suite, len(first.enc), len(first.payload)) == (real.suite, len(real.enc), len(real.payload))
    assert ech_of(grease.seal(inner, outer_hello(COOKIE), COMPRESS)) == first
    assert open_first(*receive(grease.seal(inner, outer, COMPRESS)), [KEY]) is None
    assert first != ech_of(GreaseEch(os.urandom).seal(inner, outer, COMPRESS))
    X25519PrivateKey.generate().exchange(X25519PrivateKey.from_private_bytes(first.enc).public_key())


def test_offers_differ_in_everything_an_observer_could_link() -> None:
    inner, outer = inner_hello(), outer_hello()
    one, other = (ech_of(EchOffer(KEY.config, os.urandom).seal(inner, outer, COMPRESS)) for _ in range(2))

    assert one.enc != other.enc
    assert one.payload != other.payload


def test_unusable_config_is_never_offered() -> None:
    for config in (
        replace(KEY.config, cipher_suites=(CipherSuite(9, 9),)),
        replace(KEY.config, extensions=((0xFFFF, b""),)),
        replace(KEY.config, public_name="192.0.2.1"),
        replace(KEY.config, public_key=bytes(32)),
    ):
        with pytest.raises(HpkeError):
            EchOffer(config, os.urandom)


def test_hellos_that_do_not_fit_together_are_not_sealed() -> None:
    inner, outer = inner_hello(), outer_hello()
    offer = EchOffer(KEY.config, os.urandom)
    for bad_inner, bad_outer, compress in [
        (inner, replace(outer, session_id=b"x"), ()),
        (inner, replace(outer, random=inner.random), ()),
        (inner, replace(outer, extensions=(*outer.extensions, INNER)), ()),
        (replace(inner, extensions=(VERSIONS,)), outer, ()),
        (inner, outer, (ALPN.type,)),  # another value outside
        (inner, replace(outer, extensions=(SHARES, GROUPS, VERSIONS)), COMPRESS),  # another order
        (inner, replace(outer, extensions=(GROUPS, SHARES)), COMPRESS),  # missing outside
        (replace(inner, extensions=(GROUPS, INNER, SHARES)), replace(outer, extensions=(GROUPS, SHARES)), COMPRESS),
    ]:
        with pytest.raises(ValueError, match="hello"):
            offer.seal(bad_inner, bad_outer, compress)


# --- what a server must refuse, and how


def refused(hello: ClientHello) -> AlertDescription:
    with pytest.raises(TlsError) as error:
        open_first(*receive(hello), [KEY])
    return AlertDescription(error.value.alert)


def encoded(*extensions: Extension, session_id: bytes = b"", padding: bytes = b"") -> bytes:
    return ClientHello(os.urandom(32), session_id, (0x1301,), extensions).encode() + padding


def reference(*kinds: int) -> Extension:
    return Extension(ExtensionType.ECH_OUTER_EXTENSIONS, integers(1, 2, kinds))


def test_forger_can_be_opened_when_it_keeps_to_the_rules() -> None:
    sealed = Forger().seal(encoded(INNER, reference(GROUPS.type, VERSIONS.type), padding=bytes(9)), outer_hello())

    assert opened(sealed).inner.extensions == (INNER, GROUPS, VERSIONS)


OUTER_EXTENSIONS_ATTACKS = {
    "missing": (INNER, VERSIONS, reference(GROUPS.type, COOKIE.type)),
    "duplicate": (INNER, VERSIONS, reference(GROUPS.type, GROUPS.type)),
    "duplicate of its own": (INNER, VERSIONS, GROUPS, reference(GROUPS.type)),
    "out of order": (INNER, reference(VERSIONS.type, GROUPS.type)),
    "ech": (INNER, VERSIONS, reference(GROUPS.type, ExtensionType.ENCRYPTED_CLIENT_HELLO)),
    "ech only": (VERSIONS, reference(ExtensionType.ENCRYPTED_CLIENT_HELLO)),
    "ech_outer": (INNER, VERSIONS, reference(ExtensionType.ECH_OUTER_EXTENSIONS)),
}


@pytest.mark.parametrize("extensions", OUTER_EXTENSIONS_ATTACKS.values(), ids=OUTER_EXTENSIONS_ATTACKS.keys())
def test_bad_reference_to_outer_extensions_is_an_illegal_parameter(extensions: tuple[Extension, ...]) -> None:
    # "linear-time outer-extensions, reject dup/missing/out-of-order/ech/ech_outer refs"
    assert refused(Forger().seal(encoded(*extensions), outer_hello(reference(GROUPS.type)))) == (
        AlertDescription.ILLEGAL_PARAMETER
    )


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x01\x00", b"\x03\x00\x0a\x00", b"\x02\x00\x0a\x00", b"\x04\x00\x0a"])
def test_malformed_reference_to_outer_extensions_is_a_decode_error(data: bytes) -> None:
    bad = Extension(ExtensionType.ECH_OUTER_EXTENSIONS, data)

    assert refused(Forger().seal(encoded(INNER, VERSIONS, bad), outer_hello())) == AlertDescription.DECODE_ERROR


@pytest.mark.parametrize("padding", [b"\x01", bytes(31) + b"\x01", b"\x01" + bytes(31), b"\xff" * 32])
def test_non_zero_padding_is_an_illegal_parameter(padding: bytes) -> None:
    # "non-zero padding ... -> illegal_parameter"
    sealed = Forger().seal(encoded(INNER, VERSIONS, padding=padding), outer_hello())

    assert refused(sealed) == AlertDescription.ILLEGAL_PARAMETER


def test_inner_session_id_is_an_illegal_parameter() -> None:
    # "non-empty inner session_id ... -> illegal_parameter"
    sealed = Forger().seal(encoded(INNER, VERSIONS, session_id=b"session"), outer_hello())

    assert refused(sealed) == AlertDescription.ILLEGAL_PARAMETER


@pytest.mark.parametrize("versions", [(0x0303,), (0x0304, 0x0303), (0x0304, 0x0301), (0x0300, 0x0304), None])
def test_inner_hello_that_offers_less_than_tls13_is_an_illegal_parameter(versions: tuple[int, ...] | None) -> None:
    # "inner offering <1.3 ... -> illegal_parameter"
    offer = [] if versions is None else [Extension(ExtensionType.SUPPORTED_VERSIONS, integers(1, 2, versions))]

    assert refused(Forger().seal(encoded(INNER, *offer), outer_hello())) == AlertDescription.ILLEGAL_PARAMETER


def test_inner_hello_may_have_grease_among_its_versions() -> None:
    versions = Extension(ExtensionType.SUPPORTED_VERSIONS, integers(1, 2, (0x8A8A, 0x0304)))

    assert opened(Forger().seal(encoded(INNER, versions), outer_hello()))


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x02", b"\x01\x00", b"\x00" * 12])
def test_inner_hello_without_a_well_formed_ech_extension_is_an_illegal_parameter(data: bytes) -> None:
    # RFC 9849 section 7.1: "checks that the message includes a well-formed encrypted_client_hello of type inner".
    inner = Extension(ExtensionType.ENCRYPTED_CLIENT_HELLO, data)

    assert refused(Forger().seal(encoded(inner, VERSIONS), outer_hello())) == AlertDescription.ILLEGAL_PARAMETER
    assert refused(Forger().seal(encoded(VERSIONS), outer_hello())) == AlertDescription.ILLEGAL_PARAMETER


@pytest.mark.parametrize("kind", [1, 2, 255])
@pytest.mark.parametrize("rest", [b"", bytes(40)])
def test_other_type_than_outer_on_the_wire_is_an_illegal_parameter(kind: int, rest: bytes) -> None:
    # RFC 9849 section 7, shared mode: "such a ClientHello should never be received directly from the network".
    extension = Extension(ExtensionType.ENCRYPTED_CLIENT_HELLO, bytes([kind]) + rest)

    for keys in ([KEY], []):
        with pytest.raises(TlsError) as error:
            open_first(*receive(outer_hello(extension)), keys)
        assert error.value.alert == AlertDescription.ILLEGAL_PARAMETER


@given(st.binary(max_size=60))
def test_extension_of_garbage_is_refused_or_not_opened(data: bytes) -> None:
    hello = outer_hello(Extension(ExtensionType.ENCRYPTED_CLIENT_HELLO, data))
    alert = None

    try:
        assert open_first(*receive(hello), [KEY]) is None
    except TlsError as error:
        alert = error.alert

    assert alert in (None, AlertDescription.ILLEGAL_PARAMETER, AlertDescription.DECODE_ERROR)


@given(st.binary(max_size=200))
def test_sealed_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(TlsError):
        open_first(*receive(Forger().seal(garbage, outer_hello())), [KEY])


@pytest.mark.parametrize("enc", [b"", bytes(32), bytes(31), b"\x01" + bytes(31), bytes(65)])
def test_encapsulated_key_that_is_none_leaves_the_outer_hello_in_charge(enc: bytes) -> None:
    def alter(extension: OuterExtension) -> OuterExtension:
        return replace(extension, enc=enc)

    sealed = Forger().seal(encoded(INNER, VERSIONS), outer_hello(), alter=alter)

    assert open_first(*receive(sealed), [KEY]) is None


@given(st.data())
def test_every_byte_of_the_outer_hello_is_authenticated(data: st.DataObject) -> None:
    """RFC 9849 section 10.12.3, ClientHello malleability: no byte can be changed without ECH being rejected."""
    sealed = EchOffer(KEY.config, os.urandom).seal(inner_hello(), outer_hello(), COMPRESS)
    body = bytearray(sealed.encode())
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))

    try:
        assert open_first(ClientHello.parse(bytes(body)), bytes(body), [KEY]) is None
    except TlsError:
        return


@pytest.mark.parametrize("place", range(6))
def test_payload_is_zeroed_where_it_was_parsed_and_not_where_its_bytes_are_found_first(place: int) -> None:
    # "Locate the ECH extension for the AAD by its parsed offset, never by searching the bytes for it."
    forger, outer = Forger(), outer_hello()
    inner = encoded(INNER, VERSIONS)
    # The same context twice: once to learn the ciphertext, once more (in a context of the same key) to plant it ahead.
    decoy = Extension(0x1234, b"\xfe\x0d" + bytes(8) + bytes(len(inner) + 16))
    outer = replace(outer, extensions=(decoy, *outer.extensions))

    sealed = forger.seal(inner, outer, place)

    assert opened(sealed).inner.extensions == (INNER, VERSIONS)


def test_copy_of_the_payload_ahead_of_the_extension_is_not_taken_for_it() -> None:
    ephemeral = hpke.generate_key(KEY.config.kem_id, os.urandom)
    inner, outer = encoded(INNER, VERSIONS), outer_hello()
    # Two contexts of one ephemeral key encrypt alike, and all but the tag does not depend on the AAD.
    known = ech_of(Forger(ephemeral=ephemeral).seal(inner, outer)).payload[: len(inner)]
    outer = replace(outer, extensions=(Extension(0x1234, known), *outer.extensions))

    sealed = Forger(ephemeral=ephemeral).seal(inner, outer)

    assert sealed.encode().count(known) == 2
    assert opened(sealed).inner.extensions == (INNER, VERSIONS)


def test_hello_that_would_be_written_differently_is_opened_by_its_bytes() -> None:
    # "byte surgery on received bytes, never re-serialise": an old client could send these legacy fields.
    outer = replace(outer_hello(), legacy_version=0x0301, compression_methods=b"\x01\x00")

    assert opened(Forger().seal(encoded(INNER, VERSIONS), outer))


# --- second hellos


def second(hello: ClientHello | None = None, **changes: object) -> AlertDescription:
    """The alert for `hello`, or for one that is sealed as it should be but for `changes` of its extension."""
    forger = Forger()
    first = opened(forger.seal(encoded(INNER, VERSIONS), outer_hello()))
    forger.enc = b""
    if hello is None:
        hello = forger.seal(encoded(INNER, VERSIONS), outer_hello(COOKIE), alter=lambda e: replace(e, **changes))  # type: ignore[arg-type]  # names of fields
    with pytest.raises(TlsError) as error:
        first.open_second(*receive(hello))
    return AlertDescription(error.value.alert)


def test_second_hello_without_ech_is_a_missing_extension() -> None:
    assert second(outer_hello(COOKIE)) == AlertDescription.MISSING_EXTENSION


def test_second_hello_with_another_suite_config_id_or_key_is_an_illegal_parameter() -> None:
    # RFC 9849 section 7.1.1: "cipher_suite and config_id are unchanged, and enc is empty".
    assert second(enc=Forger().enc) == AlertDescription.ILLEGAL_PARAMETER
    assert second(config_id=KEY.config.config_id ^ 1) == AlertDescription.ILLEGAL_PARAMETER
    assert second(suite=KEY.config.cipher_suites[1]) == AlertDescription.ILLEGAL_PARAMETER
    assert second(outer_hello(INNER)) == AlertDescription.ILLEGAL_PARAMETER


def test_second_hello_that_does_not_open_is_a_decrypt_error() -> None:
    # "decrypt fail -> decrypt_error"
    assert second(payload=bytes(99)) == AlertDescription.DECRYPT_ERROR


def test_second_hello_of_another_context_is_a_decrypt_error() -> None:
    """RFC 9849 section 10.12.2, HelloRetryRequest hijack: "reuse the HPKE context"."""
    hijacker = Forger()
    hijacker.seal(b"", outer_hello())  # as far along as the victim
    hijacker.enc = b""

    hello = hijacker.seal(encoded(INNER, VERSIONS), outer_hello(COOKIE))

    assert second(hello) == AlertDescription.DECRYPT_ERROR


def test_second_hello_that_repeats_the_first_is_a_decrypt_error() -> None:
    forger = Forger()
    sealed = forger.seal(encoded(INNER, VERSIONS), outer_hello())
    first = opened(sealed)
    replay = replace(ech_of(sealed), enc=b"").encode()

    with pytest.raises(TlsError) as error:
        first.open_second(*receive(replace(sealed, extensions=(*sealed.extensions[:-1], replay))))

    assert error.value.alert == AlertDescription.DECRYPT_ERROR


def test_second_inner_hello_is_held_to_the_same_rules() -> None:
    forger = Forger()
    first = opened(forger.seal(encoded(INNER, VERSIONS), outer_hello()))
    forger.enc = b""

    with pytest.raises(TlsError) as error:
        first.open_second(*receive(forger.seal(encoded(INNER, VERSIONS, padding=b"x"), outer_hello(COOKIE))))

    assert error.value.alert == AlertDescription.ILLEGAL_PARAMETER


# --- amplification


def test_inner_hello_cannot_be_blown_up_beyond_what_was_sent() -> None:
    """RFC 9849 section 10.12.4: a reference brings in each outer extension once at most."""
    large = Extension(0x1234, bytes(16_000))
    outer = outer_hello(large)
    sealed = Forger().seal(encoded(INNER, VERSIONS, reference(large.type)), outer)

    assert len(opened(sealed).inner.encode()) < len(sealed.encode())
    twice = Forger().seal(encoded(INNER, VERSIONS, reference(large.type, large.type)), outer)
    assert refused(twice) == AlertDescription.ILLEGAL_PARAMETER


class Walked(tuple[Extension, ...]):
    """Counts how many extensions were looked at."""

    __slots__ = ()
    steps = 0

    def __iter__(self) -> Iterator[Extension]:
        for extension in super().__iter__():
            Walked.steps += 1
            yield extension


@pytest.mark.parametrize("in_order", [True, False])
def test_expansion_takes_one_pass_over_the_outer_hello(in_order: bool) -> None:
    """RFC 9849 section 5.1: "Quadratic time implementations create a denial-of-service risk"."""
    kinds = tuple(range(0x2000, 0x2000 + 110))
    outer = replace(outer_hello(), extensions=Walked(Extension(kind, b"x") for kind in kinds))
    data = encoded(INNER, VERSIONS, reference(*(kinds if in_order else reversed(kinds))))
    Walked.steps = 0

    if in_order:
        assert len(decode_inner(data, outer).extensions) == 112
    else:
        with pytest.raises(TlsError):
            decode_inner(data, outer)

    assert len(kinds) == Walked.steps


def test_inner_hello_with_a_server_name_is_what_the_server_sees() -> None:
    found = opened(EchOffer(KEY.config, os.urandom).seal(inner_hello("secret.internal"), outer_hello(), COMPRESS))

    assert found.inner.extension(ExtensionType.SERVER_NAME) == server_name("secret.internal")
    assert "Recipient" not in repr(found)
