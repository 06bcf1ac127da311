"""Checkpoints and cosignatures against vectors of transparency-dev, and what each signature does and does not cover."""

import json
from base64 import b64decode, b64encode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.cosignature import cosignature_time, ed25519_message, mldsa_message, signer, verifier
from ledger.errors import MalformedError, SignatureError
from ledger.keys import SignatureType, SigningKey, parse_signing_key, parse_vkey
from ledger.note import Note, open_note, parse_note
from ledger.rfc6962 import leaf_hash, tree_root, verify_consistency

NOW = 1_679_315_147
CHECKPOINT = Checkpoint("example.com/behind-the-sofa", 20_852_163, leaf_hash(b"root"))


def key_of(signature_type: SignatureType, name: str = "witness.example/w1") -> SigningKey:
    return SigningKey(name, signature_type, b"k" * 32)


def test_log_of_tessera_opens_at_every_size(shared: Path) -> None:
    vectors = json.loads((shared / "vectors/ledger/tessera_log.json").read_text())
    key = verifier(parse_vkey(vectors["vkey"]))
    leaves = [leaf_hash(leaf.encode()) for leaf in vectors["leaves"]]

    for size, note in vectors["checkpoints"].items():
        checkpoint = parse_checkpoint(open_note(note.encode(), [key]).note.text)
        assert checkpoint == Checkpoint("example.com/log/testdata", int(size), tree_root(leaves[: int(size)]))
    assert len(vectors["checkpoints"]) == 16


def test_checkpoints_of_transparency_dev_witness_open_and_are_consistent(shared: Path) -> None:
    vectors = json.loads((shared / "vectors/ledger/witness_monkeys.json").read_text())
    key = verifier(parse_vkey(vectors["log_vkey"]))

    old, new = (parse_checkpoint(open_note(vectors[n].encode(), [key]).note.text) for n in ("init", "next"))

    proof = [b64decode(h) for h in vectors["consistency_5_8"]]
    verify_consistency(old.size, new.size, old.root, new.root, proof)
    # Its signing key makes the very same note: Ed25519 is deterministic.
    again = signer(parse_signing_key(vectors["log_skey"])).sign(new.text, 0)
    assert parse_note(vectors["next"].encode()).signatures == (again,)


def test_cosignature_time_is_read_as_published(shared: Path) -> None:
    for case in json.loads((shared / "vectors/ledger/cosig_v1.json").read_text())["timestamp_of"]:
        assert cosignature_time(b64decode(case["sig"])[4:]) == case["time"]


@pytest.mark.parametrize("signature_type", list(SignatureType))
def test_every_signature_type_verifies_what_it_signed(signature_type: SignatureType) -> None:
    key = key_of(signature_type)
    line = signer(key).sign(CHECKPOINT.text, NOW)

    opened = open_note(Note(CHECKPOINT.text, (line,)).encode(), [verifier(key.verifier_key)])

    assert opened.verified == (line,)
    if signature_type is not SignatureType.ED25519:
        assert cosignature_time(line.signature) == NOW


@pytest.mark.parametrize("signature_type", list(SignatureType))
@pytest.mark.parametrize(
    "altered",
    [
        Checkpoint("example.com/another", CHECKPOINT.size, CHECKPOINT.root),
        Checkpoint(CHECKPOINT.origin, CHECKPOINT.size + 1, CHECKPOINT.root),
        Checkpoint(CHECKPOINT.origin, CHECKPOINT.size, leaf_hash(b"another")),
    ],
)
def test_signature_covers_origin_size_and_root(signature_type: SignatureType, altered: Checkpoint) -> None:
    key = key_of(signature_type)
    line = signer(key).sign(CHECKPOINT.text, NOW)

    with pytest.raises(SignatureError):
        verifier(key.verifier_key).verify(altered.text, line.signature)


@pytest.mark.parametrize("signature_type", [SignatureType.ED25519_COSIGNATURE, SignatureType.MLDSA44_COSIGNATURE])
def test_cosignature_covers_its_time(signature_type: SignatureType) -> None:
    key = key_of(signature_type)
    signature = signer(key).sign(CHECKPOINT.text, NOW).signature

    with pytest.raises(SignatureError):
        verifier(key.verifier_key).verify(CHECKPOINT.text, (NOW + 1).to_bytes(8, "big") + signature[8:])


def test_only_the_post_quantum_cosignature_commits_to_the_cosigner_and_skips_extensions() -> None:
    # tlog-cosignature: 0x04 signs the whole body and no name; 0x06 signs the name and no extension lines.
    extended = Checkpoint(CHECKPOINT.origin, CHECKPOINT.size, CHECKPOINT.root, ("extension",))
    for signature_type, covers_name, covers_extensions in (
        (SignatureType.ED25519_COSIGNATURE, False, True),
        (SignatureType.MLDSA44_COSIGNATURE, True, False),
    ):
        signature = signer(key_of(signature_type)).sign(CHECKPOINT.text, NOW).signature
        renamed = verifier(key_of(signature_type, "witness.example/w2").verifier_key)
        same = verifier(key_of(signature_type).verifier_key)
        for check, covered in (
            (lambda v=renamed, s=signature: v.verify(CHECKPOINT.text, s), covers_name),
            (lambda v=same, s=signature: v.verify(extended.text, s), covers_extensions),
        ):
            if covered:
                with pytest.raises(SignatureError):
                    check()
            else:
                check()


def test_messages_are_those_of_the_specification() -> None:
    sofa = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"

    assert ed25519_message(sofa, NOW) == f"cosignature/v1\ntime 1679315147\n{sofa}".encode()
    assert mldsa_message("w", 1, Checkpoint("o", 2, bytes(32))) == (
        b"subtree/v1\n\0\x01w\0\0\0\0\0\0\0\x01\x01o" + bytes(8) + b"\0\0\0\0\0\0\0\x02" + bytes(32)
    )


def test_public_ed25519_key_is_the_one_that_cryptography_derives() -> None:
    assert (
        key_of(SignatureType.ED25519).verifier_key.public_key
        == Ed25519PrivateKey.from_private_bytes(b"k" * 32).public_key().public_bytes_raw()
    )


@pytest.mark.parametrize("signature_type", list(SignatureType))
def test_signature_of_the_wrong_length_is_refused(signature_type: SignatureType) -> None:
    check = verifier(key_of(signature_type).verifier_key)
    good = signer(key_of(signature_type)).sign(CHECKPOINT.text, NOW).signature

    for signature in (b"", good[:-1], good + b"\0"):
        with pytest.raises(SignatureError, match="bytes"):
            check.verify(CHECKPOINT.text, signature)


def test_cosigner_refuses_what_is_no_checkpoint() -> None:
    for signature_type in (SignatureType.ED25519_COSIGNATURE, SignatureType.MLDSA44_COSIGNATURE):
        with pytest.raises(MalformedError):
            signer(key_of(signature_type)).sign("not a checkpoint\n", NOW)
        size = {SignatureType.ED25519_COSIGNATURE: 72}.get(signature_type, 2428)
        with pytest.raises(MalformedError):
            verifier(key_of(signature_type).verifier_key).verify("no\n", bytes(size))


def test_names_longer_than_their_length_byte_are_refused() -> None:
    with pytest.raises(MalformedError, match="255"):
        mldsa_message("w" * 256, 1, CHECKPOINT)
    with pytest.raises(MalformedError, match="255"):
        parse_checkpoint(Checkpoint("o" * 256, 1, bytes(32)).text)


def test_cosignature_time_beyond_63_bits_is_refused() -> None:
    for signature in (b"", bytes(8), b"\x80" + bytes(80)):
        with pytest.raises(MalformedError):
            cosignature_time(signature)


ROOT = b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "o\n1\n",
        f"o\n1\n{ROOT}",
        f"\n1\n{ROOT}\n",
        f"o\n01\n{ROOT}\n",
        f"o\n-1\n{ROOT}\n",
        f"o\n+1\n{ROOT}\n",
        f"o\n١\n{ROOT}\n",
        f"o\n9223372036854775808\n{ROOT}\n",
        f"o\n1\n{ROOT[:-2]}\n",
        f"o\n1\n{b64encode(bytes(31)).decode()}\n",
        f"o\n1\n{ROOT}\n\next\n",
    ],
)
def test_malformed_checkpoints_are_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_checkpoint(text)


@given(st.text(max_size=100) | st.lists(st.text(max_size=10), max_size=5).map("\n".join))
def test_garbage_raises_only_our_error(text: str) -> None:
    try:
        checkpoint = parse_checkpoint(text)
    except MalformedError:
        return
    assert checkpoint.text == text


origins = st.text(st.characters(min_codepoint=33, exclude_categories=["Cs"]), min_size=1, max_size=40)


@given(origins, st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32), st.lists(origins, max_size=3))
def test_decode_inverts_encode(origin: str, size: int, root: bytes, extensions: list[str]) -> None:
    checkpoint = Checkpoint(origin, size, root, tuple(extensions))

    assert parse_checkpoint(checkpoint.text) == checkpoint
