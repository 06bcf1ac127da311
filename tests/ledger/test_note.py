"""Notes and keys against the vectors of golang.org/x/mod and c2sp.org/signed-note, and against garbage."""

import json
from base64 import b64encode
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.cosignature import signer, verifier
from ledger.errors import LedgerError, MalformedError, SignatureError
from ledger.keys import SignatureType, SigningKey, VerifierKey, is_key_name, parse_signing_key, parse_vkey
from ledger.note import MAX_NOTE, Note, NoteSignature, open_note, parse_note

ALICE = SigningKey("alice.example/log", SignatureType.ED25519, bytes(32))
BOB = SigningKey("bob.example", SignatureType.ED25519, b"b" * 32)


def signed(text: str, *keys: SigningKey) -> bytes:
    return Note(text, tuple(signer(key).sign(text, 0) for key in keys)).encode()


def test_published_notes_are_judged_as_published(shared: Path) -> None:
    for case in json.loads((shared / "vectors/ledger/notes.json").read_text())["cases"]:
        verifiers = [verifier(parse_vkey(key)) for key in case["vkeys"]]
        if not case["ok"]:
            with pytest.raises((MalformedError, SignatureError)):
                open_note(case["note"].encode(), verifiers)
            continue

        opened = open_note(case["note"].encode(), verifiers)

        verified = [line.name for line in opened.verified]
        assert verified == case["verified"], case["name"]
        unverified = [s.name for s in opened.note.signatures if s not in opened.verified]
        assert unverified == case["unverified"], case["name"]


def test_go_signing_key_signs_as_go_does(shared: Path) -> None:
    vectors = json.loads((shared / "vectors/ledger/notes.json").read_text())
    key = parse_signing_key(vectors["skey_peter"])
    note = next(c for c in vectors["cases"] if c["name"] == "one known one unknown")["note"].encode()

    line = signer(key).sign(parse_note(note).text, 0)

    assert line == parse_note(note).signatures[0]
    assert key.encode() == vectors["skey_peter"]
    assert "seed" not in repr(key)


def test_signature_of_unknown_key_is_ignored() -> None:
    opened = open_note(signed("hello\n", ALICE, BOB), [verifier(BOB.verifier_key)])

    assert [line.name for line in opened.verified] == ["bob.example"]


def test_bad_signature_of_a_known_key_rejects_the_whole_note() -> None:
    good = parse_note(signed("hello\n", ALICE, BOB))
    bad = good.signatures[1]._replace(signature=bytes(64))
    note = Note(good.text, (good.signatures[0], bad)).encode()

    with pytest.raises(SignatureError, match=r"bob\.example"):
        open_note(note, [verifier(ALICE.verifier_key), verifier(BOB.verifier_key)])


def test_note_without_a_known_signature_is_rejected_and_says_who_signed() -> None:
    with pytest.raises(SignatureError, match=r"alice\.example/log\+"):
        open_note(signed("hello\n", ALICE), [verifier(BOB.verifier_key)])


def test_second_line_of_a_verified_key_is_dropped() -> None:
    line = signer(ALICE).sign("hello\n", 0)
    note = Note("hello\n", (line, line._replace(signature=bytes(64)))).encode()

    assert open_note(note, [verifier(ALICE.verifier_key)]).verified == (line,)


def test_altered_text_does_not_verify() -> None:
    note = signed("pay 1\n", ALICE).replace(b"pay 1", b"pay 9")

    with pytest.raises(SignatureError):
        open_note(note, [verifier(ALICE.verifier_key)])


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\n",
        b"text\n\n",
        b"text\n\nx",
        b"text\n\n- a AAAAAAA=\n",
        "text\n\n— a b AAAAAAA=\n".encode(),
        "text\n\n— a\N{NO-BREAK SPACE}b AAAAAAA=\n".encode(),
        "text\n\n— a+b AAAAAAA=\n".encode(),
        "text\n\n— AAAAAAA=\n".encode(),
        "text\n\n— a AAAAAA==\n".encode(),
        "text\n\n— a AAAAAAB=\n".encode(),
        "text\n\n— a AAAA AAA=\n".encode(),
        "text\n\n— a ÄAAAAAA=\n".encode(),
        "a\tb\n\n— a AAAAAAA=\n".encode(),
        "a\rb\n\n— a AAAAAAA=\n".encode(),
        b"a\xffb\n\n\xe2\x80\x94 a AAAAAAA=\n",
        "text\n\n— a AAAAAAA=\n\n".encode(),
        b"x" * MAX_NOTE + "\n\n— a AAAAAAA=\n".encode(),
        ("text\n\n" + "— a AAAAAAA=\n" * 101).encode(),
    ],
)
def test_malformed_notes_are_refused(note: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_note(note)


def test_a_hundred_signatures_are_accepted() -> None:
    # signed-note: verifiers must accept 16 at least.
    assert len(parse_note(("text\n\n" + "— a AAAAAAA=\n" * 100).encode()).signatures) == 100


def test_text_may_hold_blank_lines_and_splits_at_the_last_one() -> None:
    note = signed("first\n\n— not a signature\n", ALICE)

    assert open_note(note, [verifier(ALICE.verifier_key)]).note.text == "first\n\n— not a signature\n"


names = st.text(min_size=1, max_size=20).filter(is_key_name)
lines = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), max_size=30)


@given(st.lists(lines, min_size=1), st.lists(st.tuples(names, st.binary(min_size=5, max_size=80)), min_size=1))
def test_decode_inverts_encode(text: list[str], signatures: list[tuple[str, bytes]]) -> None:
    note = Note(
        "".join(line + "\n" for line in text), tuple(NoteSignature(name, s[:4], s[4:]) for name, s in signatures)
    )

    assert parse_note(note.encode()) == note


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@example("text\n\n— a AAAAAAA=\n".encode())
def test_garbage_raises_only_our_error(data: bytes) -> None:
    try:
        note = parse_note(data)
    except MalformedError:
        return
    assert note.encode() == data


# --- keys ---


def test_test_pair_of_the_specification() -> None:
    vkey = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"

    key = parse_vkey(vkey)

    assert (key.name, key.id.hex(), key.type) == ("example.com/foo", "530d903a", SignatureType.ED25519)
    assert str(key) == vkey


def test_cosigner_keys_of_transparency_dev_are_judged_as_published(shared: Path) -> None:
    vectors = json.loads((shared / "vectors/ledger/cosig_v1.json").read_text())
    # Published for a verifier that turns a key of type 0x01 into a cosigner; 0x04 is what tlog-cosignature says.
    types = [parse_vkey(vkey).type for vkey in vectors["good_vkeys"]]
    assert types == [SignatureType.ED25519, SignatureType.ED25519_COSIGNATURE]
    for vkey in vectors["bad_vkeys"]:
        with pytest.raises(MalformedError):
            parse_vkey(vkey)


@pytest.mark.parametrize("signature_type", list(SignatureType))
def test_key_texts_decode_to_what_was_encoded(signature_type: SignatureType) -> None:
    key = SigningKey("alice", signature_type, b"s" * 32)

    assert parse_signing_key(key.encode()) == key
    assert parse_vkey(str(key.verifier_key)) == key.verifier_key


def test_key_whose_name_was_swapped_is_refused() -> None:
    with pytest.raises(MalformedError, match="key id"):
        parse_vkey(str(ALICE.verifier_key).replace("alice", "mallo"))
    with pytest.raises(MalformedError, match="key id"):
        parse_signing_key(ALICE.encode().replace("alice", "mallo"))


def vkey_of(blob: bytes) -> str:
    return f"a+00000000+{b64encode(blob).decode()}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a+530d903a",
        "a+530d903+AAAA",
        "a+530D903A+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "a b+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        vkey_of(b""),
        vkey_of(b"\x02" + bytes(32)),
        vkey_of(b"\x01" + bytes(31)),
        vkey_of(b"\x06" + bytes(32)),
        "a+00000000+" + "A" * 9000,
    ],
)
def test_malformed_keys_are_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_vkey(text)
    with pytest.raises(MalformedError):
        parse_signing_key(text)
    with pytest.raises(MalformedError):
        parse_signing_key("PRIVATE+KEY+" + text)


@given(st.text(max_size=60), st.binary(max_size=40))
def test_garbage_keys_raise_only_our_error(text: str, blob: bytes) -> None:
    for candidate in (text, f"{text}+00000000+{b64encode(blob).decode()}"):
        for parse in (parse_vkey, parse_signing_key, lambda t: parse_signing_key("PRIVATE+KEY+" + t)):
            with pytest.raises(LedgerError):
                parse(candidate)


def test_signing_key_with_a_bad_name_or_seed_is_a_misuse() -> None:
    for name, seed in (("a b", bytes(32)), ("", bytes(32)), ("a", bytes(31))):
        with pytest.raises(ValueError, match="seed of 32 bytes"):
            SigningKey(name, SignatureType.ED25519, seed)


def test_verifier_key_is_a_value() -> None:
    assert VerifierKey("a", SignatureType.ED25519, bytes(32)) == VerifierKey("a", SignatureType.ED25519, bytes(32))
