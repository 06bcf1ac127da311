"""Trust policies: the file format of c2sp.org/tlog-policy, and when a quorum is reached."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.checkpoint import Checkpoint
from ledger.cosignature import signer
from ledger.errors import MalformedError, QuorumError, SignatureError
from ledger.keys import SignatureType, SigningKey
from ledger.note import Note, NoteSignature
from ledger.policy import parse_policy

ORIGIN = "forest.example/a"
LOG = SigningKey(ORIGIN, SignatureType.ED25519, b"l" * 32)
CHECKPOINT = Checkpoint(ORIGIN, 5, bytes(32))


def witness(number: int, signature_type: SignatureType = SignatureType.ED25519_COSIGNATURE) -> SigningKey:
    return SigningKey(f"w{number}.example", signature_type, bytes([number]) * 32)


W = [witness(n) for n in range(6)]
LINES = [f"log {LOG.verifier_key} https://log.example/", *(f"witness W{n} {W[n].verifier_key}" for n in range(6))]


def policy_text(*lines: str) -> bytes:
    return "\n".join([*LINES, *lines, ""]).encode()


def note(*keys: SigningKey) -> bytes:
    return Note(CHECKPOINT.text, tuple(signer(key).sign(CHECKPOINT.text, 7) for key in keys)).encode()


TWO_LEVELS = (
    "group X-witnesses 2 W0 W1 W2",
    "group Y-witnesses any W3 W4 W5",
    "group X-and-Y all X-witnesses Y-witnesses",
    "quorum X-and-Y",
)
"""The example of the specification."""


@pytest.mark.parametrize(
    ("lines", "cosigners", "reached"),
    [
        (("quorum none",), [], True),
        (("quorum W1",), [1], True),
        (("quorum W1",), [0, 2], False),
        (("group forest 3 W0 W1 W2 W3", "quorum forest"), [0, 2, 3], True),
        (("group forest 3 W0 W1 W2 W3", "quorum forest"), [0, 2], False),
        (("group forest 3 W0 W1 W2 W3", "quorum forest"), [0, 2, 4, 5], False),
        (TWO_LEVELS, [0, 2, 5], True),
        (TWO_LEVELS, [0, 1, 2], False),
        (TWO_LEVELS, [0, 3, 4, 5], False),
    ],
)
def test_quorum_is_reached_by_the_right_witnesses_only(
    lines: tuple[str, ...], cosigners: list[int], reached: bool
) -> None:
    policy = parse_policy(policy_text(*lines))
    data = note(LOG, *(W[n] for n in cosigners))

    if reached:
        assert policy.verify(data) == CHECKPOINT
    else:
        with pytest.raises(QuorumError):
            policy.verify(data)


def test_one_bad_cosignature_of_a_known_witness_rejects_the_checkpoint() -> None:
    policy = parse_policy(policy_text("group g any W0 W1", "quorum g"))
    bad = NoteSignature(W[1].name, W[1].verifier_key.id, bytes(72))
    lines = (*(signer(k).sign(CHECKPOINT.text, 7) for k in (LOG, W[0])), bad)

    with pytest.raises(QuorumError, match=r"w1\.example"):
        policy.verify(Note(CHECKPOINT.text, lines).encode())


def test_post_quantum_keys_serve_as_log_and_witness() -> None:
    log = SigningKey(ORIGIN, SignatureType.MLDSA44_COSIGNATURE, b"q" * 32)
    w = witness(9, SignatureType.MLDSA44_COSIGNATURE)
    policy = parse_policy(f"log {log.verifier_key}\nwitness w {w.verifier_key}\nquorum w\n".encode())

    assert policy.verify(note(log, w)) == CHECKPOINT
    with pytest.raises(SignatureError):
        policy.verify(note(LOG, w))


def test_comments_blank_lines_tabs_and_urls_are_read() -> None:
    policy = parse_policy(policy_text("", " \t # comment ümlaut", "\t quorum \t none \t"))

    assert policy.logs[0].url == "https://log.example/"
    assert policy.logs[0].key == LOG.verifier_key
    assert policy.witnesses["W3"].key == W[3].verifier_key


def test_names_are_opaque_octets() -> None:
    # tlog-policy, "Character set": a name need not be UTF-8, and the Kelvin sign is not K.
    lines = (
        policy_text().replace(b"witness W0", b"witness \xff").replace(b"witness W1", "witness \N{KELVIN SIGN}".encode())
    )

    assert parse_policy(lines + b"group g any \xff\nquorum g\n").verify(note(LOG, W[0])) == CHECKPOINT
    with pytest.raises(MalformedError, match="line 8"):
        parse_policy(lines + b"quorum K\n")
    with pytest.raises(QuorumError, match=r"udcff"):
        parse_policy(lines + b"group g any \xff\ngroup h all g W2\nquorum h\n").verify(note(LOG, W[0]))


def test_thirty_two_of_each_are_supported() -> None:
    lines = ["quorum g31"]
    for n in range(32):
        log = SigningKey(f"log{n}", SignatureType.ED25519, bytes([n]) * 32)
        lines.insert(n * 3, f"log {log.verifier_key}")
        lines.insert(n * 3 + 1, f"witness w{n} {witness(n).verifier_key}")
        lines.insert(n * 3 + 2, f"group g{n} any w{n}" + (f" g{n - 1}" if n else ""))

    policy = parse_policy("\n".join(lines).encode())

    assert (len(policy.logs), len(policy.witnesses), len(policy.groups)) == (32, 32, 32)


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ((), "exactly one quorum"),
        (("quorum none", "quorum none"), "line 9"),
        (("quorum",), "once: quorum"),
        (("quorum W0 W1",), "once: quorum"),
        (("quorum nobody",), "earlier lines"),
        (("quorum g", "group g any W0"), "earlier lines"),
        (("group g any g", "quorum g"), "earlier lines"),
        (("group g any none", "quorum g"), "earlier lines"),
        (("group none any W0", "quorum none"), "taken"),
        (("group W0 any W1", "quorum W0"), "taken"),
        (("group g any", "quorum g"), "expected: group"),
        (("group g 0 W0", "quorum g"), "number from 1"),
        (("group g 3 W0 W1", "quorum g"), "number from 1"),
        (("group g 01 W0 W1", "quorum g"), "number from 1"),
        (("group g some W0 W1", "quorum g"), "number from 1"),
        (("group g any W0 W0", "quorum g"), "one group only"),
        (("group g any W0", "group h all W0 g", "quorum h"), "one group only"),
        ((f"log {LOG.verifier_key}", "quorum none"), "same public key"),
        ((f"log {W[0].verifier_key}", "quorum none"), "0x01"),
        (("log", "quorum none"), "expected: log"),
        (("log a b c", "quorum none"), "expected: log"),
        (("log nonsense", "quorum none"), "verifier key"),
        ((f"witness X {W[0].verifier_key}", "quorum none"), "same public key"),
        ((f"witness W0 {witness(9).verifier_key}", "quorum none"), "taken"),
        ((f"witness none {witness(9).verifier_key}", "quorum none"), "taken"),
        ((f"witness X {LOG.verifier_key}", "quorum none"), "0x04"),
        (("witness X", "quorum none"), "expected: witness"),
        (("frobnicate", "quorum none"), "begins with"),
        (("quorum none\r",), "control characters"),
        (("quorum none\v",), "control characters"),
    ],
)
def test_wrong_policies_are_refused_with_a_reason(lines: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(MalformedError, match=complaint):
        parse_policy(policy_text(*lines))


def test_policies_are_bounded() -> None:
    with pytest.raises(MalformedError, match="at most"):
        parse_policy(b"#" * (1 << 20) + b"\n")
    with pytest.raises(MalformedError, match="256"):
        parse_policy(policy_text(*(f"group g{n} any " + (f"g{n - 1}" if n else "W0") for n in range(257)), "quorum g1"))


@given(
    st.binary(max_size=100)
    | st.lists(st.sampled_from([*LINES, *TWO_LEVELS, "quorum none", "group"]), max_size=15).map(
        lambda lines: "\n".join(lines).encode()
    )
)
def test_garbage_raises_only_our_error(data: bytes) -> None:
    try:
        policy = parse_policy(data)
    except MalformedError:
        return
    assert policy.quorum == "none" or policy.quorum in {*policy.witnesses, *policy.groups}
