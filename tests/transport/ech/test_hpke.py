"""RFC 9180: the published vectors, an independent implementation, and what a context must refuse."""

import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from pyhpke import AEADId, KDFId, KEMId, KEMKey
from pyhpke import CipherSuite as PeerSuite

from transport.ech.hpke import (
    AES_128_GCM,
    AES_256_GCM,
    CHACHA20_POLY1305,
    DHKEM_P256,
    DHKEM_X25519,
    HKDF_SHA256,
    HKDF_SHA384,
    HKDF_SHA512,
    PUBLIC_KEY_LENGTH,
    TAG_LENGTH,
    CipherSuite,
    HpkeError,
    Recipient,
    Sender,
    generate_key,
    kem_of,
    public_bytes,
)

KEMS = [DHKEM_P256, DHKEM_X25519]
SUITES = [
    CipherSuite(kdf, aead)
    for kdf in (HKDF_SHA256, HKDF_SHA384, HKDF_SHA512)
    for aead in (AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305)
]


def pair(kem_id: int = DHKEM_X25519, suite: CipherSuite = SUITES[0], info: bytes = b"") -> tuple[Sender, Recipient]:
    recipient_key = generate_key(kem_id, os.urandom)
    sender = Sender(kem_id, public_bytes(recipient_key), suite, info, generate_key(kem_id, os.urandom))
    return sender, Recipient(recipient_key, sender.enc, suite, info)


@pytest.mark.parametrize("number", range(8))
def test_vectors_of_rfc_9180_are_reproduced(shared: Path, number: int) -> None:
    """cryptography_vectors 50.0.2, from cfrg/draft-irtf-cfrg-hpke: KEM X25519, mode base, 257 messages each."""
    vector = json.loads((shared / "vectors/hpke/rfc9180-x25519-base.json").read_text())[number]
    suite = CipherSuite(vector["kdf_id"], vector["aead_id"])
    ephemeral = X25519PrivateKey.from_private_bytes(bytes.fromhex(vector["skEm"]))
    recipient_key = X25519PrivateKey.from_private_bytes(bytes.fromhex(vector["skRm"]))
    info = bytes.fromhex(vector["info"])
    if not suite.is_supported:  # the export-only AEAD 0xffff
        with pytest.raises(HpkeError, match="no HPKE suite"):
            Sender(vector["kem_id"], bytes.fromhex(vector["pkRm"]), suite, info, ephemeral)
        return

    sender = Sender(vector["kem_id"], bytes.fromhex(vector["pkRm"]), suite, info, ephemeral)
    recipient = Recipient(recipient_key, bytes.fromhex(vector["enc"]), suite, info)

    assert sender.enc.hex() == vector["enc"]
    assert len(vector["encryptions"]) == 257
    for message in vector["encryptions"]:
        plaintext, aad = bytes.fromhex(message["pt"]), bytes.fromhex(message["aad"])
        sealed = sender.seal(plaintext, aad)
        assert sealed.hex() == message["ct"]
        assert recipient.open(sealed, aad) == plaintext
    assert len(vector["exports"]) == 3
    for export in vector["exports"]:
        context = bytes.fromhex(export["exporter_context"])
        assert sender.export(context, export["L"]).hex() == export["exported_value"]
        assert recipient.export(context, export["L"]).hex() == export["exported_value"]


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("kem_id", KEMS)
def test_pyhpke_opens_what_we_seal_and_we_open_what_it_seals(kem_id: int, suite: CipherSuite) -> None:
    peer = PeerSuite.new(KEMId(kem_id), KDFId(suite.kdf_id), AEADId(suite.aead_id))
    our_key = generate_key(kem_id, os.urandom)
    peer_key = peer.kem.derive_key_pair(os.urandom(32))

    sender = Sender(kem_id, peer_key.public_key.to_public_bytes(), suite, b"info", generate_key(kem_id, os.urandom))
    peer_recipient = peer.create_recipient_context(sender.enc, peer_key.private_key, info=b"info")
    enc, peer_sender = peer.create_sender_context(KEMKey.from_pyca_cryptography_key(our_key.public_key()), info=b"info")
    recipient = Recipient(our_key, enc, suite, b"info")

    for number in range(3):
        message, aad = bytes([number]) * number * 100, b"aad %d" % number
        assert peer_recipient.open(sender.seal(message, aad), aad) == message
        assert recipient.open(peer_sender.seal(message, aad), aad) == message
    assert sender.export(b"context", 80) == peer_recipient.export(b"context", 80)
    assert recipient.export(b"context", 80) == peer_sender.export(b"context", 80)


@given(st.lists(st.tuples(st.binary(max_size=64), st.binary(max_size=64)), max_size=4), st.sampled_from(SUITES))
def test_what_is_sealed_in_order_opens_in_order(messages: list[tuple[bytes, bytes]], suite: CipherSuite) -> None:
    sender, recipient = pair(suite=suite)

    sealed = [sender.seal(plaintext, aad) for plaintext, aad in messages]

    assert [len(each) - TAG_LENGTH for each in sealed] == [len(plaintext) for plaintext, _ in messages]
    opened = [recipient.open(each, aad) for each, (_, aad) in zip(sealed, messages, strict=True)]
    assert opened == [plaintext for plaintext, _ in messages]


@given(st.binary(max_size=80))
def test_garbage_is_refused_and_does_not_disturb_the_sequence(garbage: bytes) -> None:
    sender, recipient = pair()
    sealed = sender.seal(b"first", b"aad")

    with pytest.raises(HpkeError):
        recipient.open(garbage, b"aad")

    assert recipient.open(sealed, b"aad") == b"first"


def test_message_opens_neither_out_of_order_nor_with_other_aad() -> None:
    sender, recipient = pair()
    first, second = sender.seal(b"first", b"a"), sender.seal(b"second", b"a")

    with pytest.raises(HpkeError):
        recipient.open(second, b"a")
    with pytest.raises(HpkeError):
        recipient.open(first, b"b")
    assert recipient.open(first, b"a") == b"first"
    with pytest.raises(HpkeError):
        recipient.open(first, b"a")


@pytest.mark.parametrize("kem_id", KEMS)
def test_other_info_is_another_context(kem_id: int) -> None:
    key = generate_key(kem_id, os.urandom)
    sender = Sender(kem_id, public_bytes(key), SUITES[0], b"one", generate_key(kem_id, os.urandom))

    with pytest.raises(HpkeError):
        Recipient(key, sender.enc, SUITES[0], b"two").open(sender.seal(b"x", b""), b"")


@pytest.mark.parametrize("kem_id", KEMS)
@given(st.binary(max_size=70))
def test_encapsulated_key_is_checked(kem_id: int, enc: bytes) -> None:
    key = generate_key(kem_id, os.urandom)
    if kem_id == DHKEM_X25519 and len(enc) == PUBLIC_KEY_LENGTH[kem_id] and any(enc):
        return  # nearly every string of 32 bytes is a key of X25519

    with pytest.raises(HpkeError):
        Recipient(key, enc, SUITES[0], b"")


def test_x25519_points_of_small_order_are_refused() -> None:
    # RFC 9180 section 7.1.4: "recipients MUST check whether the Diffie-Hellman shared secret is the all-zero value".
    for enc in (bytes(32), b"\x01" + bytes(31)):
        with pytest.raises(HpkeError):
            Recipient(generate_key(DHKEM_X25519, os.urandom), enc, SUITES[0], b"")


def test_compressed_points_of_p256_are_refused() -> None:
    # `from_encoded_point` accepts them, RFC 9180 section 7.1.1 knows only the uncompressed form.
    enc = public_bytes(generate_key(DHKEM_P256, os.urandom))
    compressed = bytes([2 + (enc[-1] & 1)]) + enc[1:33]

    with pytest.raises(HpkeError, match="uncompressed"):
        Recipient(generate_key(DHKEM_P256, os.urandom), compressed, SUITES[0], b"")


def test_unknown_algorithms_are_refused() -> None:
    key = generate_key(DHKEM_X25519, os.urandom)
    for suite in (CipherSuite(9, AES_128_GCM), CipherSuite(HKDF_SHA256, 0xFFFF)):
        assert not suite.is_supported
        with pytest.raises(HpkeError):
            Recipient(key, bytes(range(32)), suite, b"")
    with pytest.raises(HpkeError):
        generate_key(0x0021, os.urandom)
    with pytest.raises(HpkeError):
        kem_of(ec.generate_private_key(ec.SECP384R1()))
    with pytest.raises(HpkeError, match="ephemeral"):
        Sender(DHKEM_P256, public_bytes(generate_key(DHKEM_P256, os.urandom)), SUITES[0], b"", key)


def test_p256_scalar_beyond_the_order_is_drawn_again() -> None:
    draws = [b"\xff" * 32, bytes(32), bytes(31) + b"\x02"]

    key = generate_key(DHKEM_P256, lambda _: draws.pop(0))

    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.private_numbers().private_value == 2


def test_export_has_an_upper_bound() -> None:
    sender, _ = pair()
    assert len(sender.export(b"", 255 * 32)) == 255 * 32
    with pytest.raises(ValueError, match="8160"):
        sender.export(b"", 255 * 32 + 1)


def test_context_shows_no_key() -> None:
    sender, recipient = pair()
    for context in (sender, recipient):
        assert "0x" in repr(context)
        assert sender.export(b"", 32).hex() not in repr(context)


def test_context_never_reuses_a_nonce_when_the_sequence_is_used_up() -> None:
    # RFC 9180 section 5.2: IncrementSeq raises MessageLimitReachedError.
    sender, _ = pair()
    sender._sequence = (1 << 96) - 1

    with pytest.raises(HpkeError, match="all the messages"):
        sender.seal(b"", b"")
