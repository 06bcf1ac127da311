"""`.tlog-proof` files, and what each step of their verification stops."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.checkpoint import Checkpoint
from ledger.cosignature import signer
from ledger.errors import MalformedError, ProofError, QuorumError, SignatureError
from ledger.keys import SignatureType, SigningKey
from ledger.note import Note
from ledger.policy import TrustPolicy, parse_policy, single_log_policy
from ledger.proof import LogProof, make_proof, parse_proof, verify_proof
from ledger.reader import TreeReader
from tests.ledger.trees import TiledTree

ORIGIN = "forest.example/node-a"
LOG = SigningKey(ORIGIN, SignatureType.ED25519, b"l" * 32)
WITNESS = SigningKey("w1.example", SignatureType.ED25519_COSIGNATURE, b"w" * 32)
TREE = TiledTree([300])


def checkpoint_note(*keys: SigningKey, origin: str = ORIGIN, tree: TiledTree = TREE) -> bytes:
    text = Checkpoint(origin, tree.size, tree.root).text
    return Note(text, tuple(signer(key).sign(text, 1) for key in keys)).encode()


def proof_of(index: int, note: bytes) -> LogProof:
    return make_proof(index, TreeReader(TREE.size, TREE.root, TREE.fetch).inclusion_proof(index), note)


POLICY = single_log_policy(LOG.verifier_key)
QUORUM = parse_policy(f"log {LOG.verifier_key}\nwitness w {WITNESS.verifier_key}\nquorum w\n".encode())


def test_proof_of_a_logged_entry_verifies() -> None:
    proof = parse_proof(proof_of(77, checkpoint_note(LOG, WITNESS)).encode())

    for policy in (POLICY, QUORUM):
        assert verify_proof(proof, b"leaf 77", policy) == Checkpoint(ORIGIN, TREE.size, TREE.root)


def test_proof_of_the_only_leaf_has_no_hashes() -> None:
    tree = TiledTree([1])
    proof = make_proof(0, [], checkpoint_note(LOG, tree=tree))

    assert parse_proof(proof.encode()) == proof
    assert verify_proof(proof, b"leaf 0", POLICY).size == 1


def test_text_form_is_that_of_the_specification() -> None:
    note = checkpoint_note(LOG)
    hashes = b"".join(line + b"\n" for line in proof_of(5, note).encode().split(b"\n\n")[0].split(b"\n")[2:])

    proof = LogProof(5, proof_of(5, note).hashes, note, b"hi")

    assert proof.encode() == b"c2sp.org/tlog-proof@v1\nextra aGk=\nindex 5\n" + hashes + b"\n" + note
    assert parse_proof(proof.encode()) == proof


def test_another_entry_or_index_is_refused() -> None:
    proof = proof_of(77, checkpoint_note(LOG))
    with pytest.raises(ProofError):
        verify_proof(proof, b"leaf 78", POLICY)
    with pytest.raises(ProofError):
        verify_proof(LogProof(78, proof.hashes, proof.checkpoint), b"leaf 77", POLICY)


def test_checkpoint_of_an_unknown_log_is_refused() -> None:
    stranger = SigningKey(ORIGIN, SignatureType.ED25519, b"s" * 32)
    with pytest.raises(SignatureError):
        verify_proof(proof_of(1, checkpoint_note(stranger)), b"leaf 1", POLICY)


def test_key_of_one_log_does_not_vouch_for_another_origin() -> None:
    with pytest.raises(SignatureError, match="another log"):
        verify_proof(proof_of(1, checkpoint_note(LOG, origin="forest.example/node-b")), b"leaf 1", POLICY)


def test_missing_cosignature_is_refused() -> None:
    with pytest.raises(QuorumError):
        verify_proof(proof_of(1, checkpoint_note(LOG)), b"leaf 1", QUORUM)


def test_witness_key_cannot_stand_in_for_the_log() -> None:
    with pytest.raises(SignatureError):
        verify_proof(proof_of(1, checkpoint_note(WITNESS)), b"leaf 1", QUORUM)


def test_policy_without_logs_trusts_nobody() -> None:
    with pytest.raises(SignatureError):
        verify_proof(proof_of(1, checkpoint_note(LOG)), b"leaf 1", TrustPolicy(()))


HASH = b"A" * 43 + b"="
NOTE = checkpoint_note(LOG)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"c2sp.org/tlog-proof@v1\n",
        b"c2sp.org/tlog-proof@v2\nindex 0\n\n" + NOTE,
        b"c2sp.org/tlog-proof@v1\n\n" + NOTE,
        b"c2sp.org/tlog-proof@v1\nindex 00\n\n" + NOTE,
        b"c2sp.org/tlog-proof@v1\nindex -1\n\n" + NOTE,
        b"c2sp.org/tlog-proof@v1\nindex 0 \n\n" + NOTE,
        b"c2sp.org/tlog-proof@v1\nextra \nindex 0\n\n" + NOTE,
        b"c2sp.org/tlog-proof@v1\nextra !\nindex 0\n\n" + NOTE,
        b"c2sp.org/tlog-proof@v1\nindex 0\nextra aGk=\n\n" + NOTE,
        b"c2sp.org/tlog-proof@v1\nindex 0\nAAAA\n\n" + NOTE,
        b"c2sp.org/tlog-proof@v1\nindex 0\n" + HASH[:-2] + b"B=\n\n" + NOTE,
        b"c2sp.org/tlog-proof@v1\r\nindex 0\r\n\n" + NOTE,
        b"c2sp.org/tlog-proof@v1\nindex 0\n\n" + NOTE[:-1],
        b"c2sp.org/tlog-proof@v1\nindex 0\n" + (HASH + b"\n") * 64 + b"\n" + NOTE,
        b"c2sp.org/tlog-proof@v1\nindex \xd9\xa1\n\n" + NOTE,
        b"c2sp.org/tlog-proof@v1\nindex 0\n\n" + b"x" * (2 << 20),
    ],
)
def test_malformed_proofs_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_proof(data)


@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda t: b"c2sp.org/tlog-proof@v1\n" + t.encode() + NOTE))
def test_garbage_raises_only_our_error(data: bytes) -> None:
    try:
        proof = parse_proof(data)
    except MalformedError:
        return
    assert proof.encode() == data


@given(
    st.integers(0, 2**63 - 1),
    st.lists(st.binary(min_size=32, max_size=32), max_size=63),
    st.binary(max_size=100),
)
def test_decode_inverts_encode(index: int, hashes: list[bytes], extra: bytes) -> None:
    proof = LogProof(index, tuple(hashes), NOTE, extra)

    assert parse_proof(proof.encode()) == proof
