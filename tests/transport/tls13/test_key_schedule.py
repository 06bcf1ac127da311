"""The key schedule against the published handshake of RFC 8448, and groups against each other and against misuse."""

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from transport.tls13.alerts import AlertDescription, TlsError
from transport.tls13.config import DEFAULT_GROUPS
from transport.tls13.constants import NamedGroup
from transport.tls13.groups import generate, respond
from transport.tls13.key_schedule import SUITES, KeySchedule, Suite, Transcript

AES_128 = SUITES[0x1301]
# RFC 8448 section 3, "Simple 1-RTT Handshake"
SHARED = bytes.fromhex("8bd4054fb55b9d63fdfbacf9f04b9f0d35e6d63f537563efd46272900f89492d")
HELLOS_HASH = bytes.fromhex("860c06edc07858ee8e78f0e7428c58edd6b43f2ca3e6e95f02ed063cf0e1cad8")
CLIENT_HANDSHAKE = bytes.fromhex("b3eddb126e067f35a780b3abf45e2d8f3b1a950738f52e9600746a0e27a55a21")
SERVER_HANDSHAKE = bytes.fromhex("b67b7d690cc16c4e75e54213cb2d37b4e9c912bcded9105d42befd59d391ad38")
SERVER_IV = int.from_bytes(bytes.fromhex("5d313eb2671276ee13000b30"), "big")
SERVER_KEY = bytes.fromhex("3fce516009c21727d0f2e4e86ee403bc")
FINISHED_HASH = bytes.fromhex("9608102a0f1ccc6db6250b7b7e417b1a000eaada3daae4777a7686c9ff83df13")
CLIENT_APPLICATION = bytes.fromhex("9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5")
SERVER_APPLICATION = bytes.fromhex("a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643")


def test_the_secrets_are_those_of_rfc_8448() -> None:
    schedule = KeySchedule(AES_128, SHARED)

    assert schedule.handshake_secrets(HELLOS_HASH) == (CLIENT_HANDSHAKE, SERVER_HANDSHAKE)
    assert schedule.application_secrets(FINISHED_HASH) == (CLIENT_APPLICATION, SERVER_APPLICATION)


def test_the_traffic_keys_are_those_of_rfc_8448() -> None:
    aead, iv = AES_128.traffic_keys(SERVER_HANDSHAKE)

    assert iv == SERVER_IV
    assert aead.encrypt(bytes(12), b"", None) == type(aead)(SERVER_KEY).encrypt(bytes(12), b"", None)


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.id.name)
@pytest.mark.parametrize("length", [1, 32, 48, 64, 100, 255])
def test_labels_are_expanded_like_hkdf_expand(suite: Suite, length: int) -> None:
    algorithm = SHA384() if suite.hash == "sha384" else SHA256()
    info = length.to_bytes(2, "big") + b"\x0atls13 test\x03ctx"

    expected = HKDFExpand(algorithm, length, info).derive(bytes(48))

    assert suite.expand_label(bytes(48), b"test", b"ctx", length) == expected


@given(st.lists(st.binary(max_size=50), max_size=6), st.integers(0, 6))
def test_a_transcript_is_the_same_whenever_its_hash_becomes_known(messages: list[bytes], at: int) -> None:
    late, early = Transcript(), Transcript()
    early.start(AES_128)
    for place, message in enumerate(messages):
        if place == at:
            late.start(AES_128)
        late.add(message)
        early.add(message)
    if at >= len(messages):
        late.start(AES_128)

    assert late.digest() == early.digest()


@pytest.mark.parametrize("group", DEFAULT_GROUPS)
def test_both_ends_of_a_group_agree(group: NamedGroup) -> None:
    share = generate(group)
    public, secret = respond(group, share.public)

    assert share.agree(public) == secret
    assert len(secret) == {NamedGroup.X25519MLKEM768: 64, NamedGroup.SECP384R1: 48}.get(group, 32)


# draft-ietf-tls-ecdhe-mlkem: ML-KEM comes first, in shares and in the secret
def test_the_hybrid_is_its_two_halves() -> None:
    share = generate(NamedGroup.X25519MLKEM768)
    public, secret = respond(NamedGroup.X25519MLKEM768, share.public)

    assert (len(share.public), len(public)) == (1184 + 32, 1088 + 32)
    ours = X25519PrivateKey.generate()
    theirs, combined = respond(NamedGroup.X25519MLKEM768, share.public[:1184] + ours.public_key().public_bytes_raw())
    assert combined[32:] == ours.exchange(X25519PublicKey.from_public_bytes(theirs[1088:]))
    assert combined[:32] != secret[:32]


@pytest.mark.parametrize("group", DEFAULT_GROUPS)
@given(garbage=st.binary(max_size=100))
def test_garbage_is_an_illegal_parameter(group: NamedGroup, garbage: bytes) -> None:
    for attempt in (generate(group).agree, lambda peer: respond(group, peer)):
        try:
            attempt(garbage)
        except TlsError as error:
            assert error.alert == AlertDescription.ILLEGAL_PARAMETER  # noqa: PT017 32 bytes are a share of X25519


def test_the_longest_x25519_share_in_the_small_subgroup_is_refused() -> None:
    # A point of order 8: the secret is zero whatever our key is (RFC 7748 section 6.1).
    low = bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")

    with pytest.raises(TlsError) as caught:
        respond(NamedGroup.X25519, low)

    assert caught.value.alert == AlertDescription.ILLEGAL_PARAMETER
