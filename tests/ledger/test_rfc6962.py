"""RFC 6962 section 2.1 against vectors of transparency-dev/merkle and golang.org/x/mod, and against itself."""

import json
from base64 import b64decode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import ProofError
from ledger.rfc6962 import (
    EMPTY_ROOT,
    CompactRange,
    Node,
    Span,
    consistency_spans,
    inclusion_spans,
    join_nodes,
    leaf_hash,
    node_hash,
    span_nodes,
    tree_root,
    verify_consistency,
    verify_inclusion,
)

LEAVES = [leaf_hash(b"leaf %d" % n) for n in range(300)]


def definition(hashes: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word: MTH."""
    if not hashes:
        return EMPTY_ROOT
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return node_hash(definition(hashes[:k]), definition(hashes[k:]))


def span_hash(hashes: list[bytes], span: Span) -> bytes:
    return join_nodes(
        [definition(hashes[node.number << node.level : (node.number + 1) << node.level]) for node in span_nodes(span)]
    )


def inclusion(hashes: list[bytes], index: int) -> list[bytes]:
    return [span_hash(hashes, span) for span in inclusion_spans(index, len(hashes))]


def consistency(hashes: list[bytes], old: int) -> list[bytes]:
    return [span_hash(hashes, span) for span in consistency_spans(old, len(hashes))]


# --- vectors ---


def test_reference_tree_has_the_published_roots(shared: Path) -> None:
    vectors = json.loads((shared / "vectors/ledger/rfc6962_reference_tree.json").read_text())
    leaves = [leaf_hash(bytes.fromhex(leaf)) for leaf in vectors["leaves_hex"]]

    roots = [tree_root(leaves[:size]).hex() for size in range(1, len(leaves) + 1)]

    assert roots == vectors["roots_hex_from_size_1"]


def test_inclusion_vectors_are_judged_as_published(shared: Path) -> None:
    judged = 0
    for file in sorted((shared / "vectors/ledger/rfc6962-proofs/inclusion").rglob("*.json")):
        case = json.loads(file.read_text())
        proof = [b64decode(h) for h in case["proof"] or []]
        leaf, root = b64decode(case["leafHash"] or ""), b64decode(case["root"] or "")
        try:
            verify_inclusion(case["leafIdx"], case["treeSize"], leaf, proof, root)
            refused = False
        except ProofError:
            refused = True
        assert refused == case["wantErr"], file
        judged += 1
    assert judged > 30


def test_consistency_vectors_are_judged_as_published(shared: Path) -> None:
    judged = 0
    for file in sorted((shared / "vectors/ledger/rfc6962-proofs/consistency").rglob("*.json")):
        case = json.loads(file.read_text())
        proof = [b64decode(h) for h in case["proof"] or []]
        roots = b64decode(case["root1"] or ""), b64decode(case["root2"] or "")
        try:
            verify_consistency(case["size1"], case["size2"], *roots, proof)
            refused = False
        except ProofError:
            refused = True
        # Published as valid there: two trees of no leaves. Nothing can be proven about an empty tree, so we refuse it.
        assert refused == (case["wantErr"] or case["size1"] == 0), file
        judged += 1
    assert judged > 30


def test_golden_trees_of_another_implementation_up_to_1000_leaves(shared: Path) -> None:
    golden = json.loads((shared / "vectors/ledger/golden_to_1000.json").read_text())
    leaves = [leaf_hash(b"leaf %d" % n) for n in range(1000)]
    roots = {int(size): b64decode(root) for size, root in golden["Roots"].items()}

    for size, root in roots.items():
        assert tree_root(leaves[:size]) == root
    for case in golden["Inclusion"]:
        proof = [b64decode(h) for h in case["Proof"]]
        assert inclusion(leaves[: case["Size"]], case["Index"]) == proof
        verify_inclusion(case["Index"], case["Size"], leaves[case["Index"]], proof, tree_root(leaves[: case["Size"]]))
    for case in golden["Consistency"]:
        proof = [b64decode(h) for h in case["Proof"]]
        old, new = case["Old"], case["New"]
        assert consistency(leaves[:new], old) == proof
        verify_consistency(old, new, tree_root(leaves[:old]), tree_root(leaves[:new]), proof)


# --- properties ---


@given(st.integers(0, 300))
def test_compact_range_has_the_root_of_the_definition(size: int) -> None:
    assert tree_root(LEAVES[:size]) == definition(LEAVES[:size])


@given(st.integers(1, 300).flatmap(lambda size: st.tuples(st.integers(0, size - 1), st.just(size))), st.data())
def test_inclusion_proof_proves_this_leaf_at_this_place_only(case: tuple[int, int], data: st.DataObject) -> None:
    index, size = case
    leaves = LEAVES[:size]
    proof, root = inclusion(leaves, index), tree_root(leaves)

    verify_inclusion(index, size, leaves[index], proof, root)

    other = data.draw(st.integers(0, size))
    if other != index:
        with pytest.raises(ProofError):
            verify_inclusion(other, size, leaves[index], proof, root)
    with pytest.raises(ProofError):
        verify_inclusion(index, size, leaf_hash(b"forged"), proof, root)
    with pytest.raises(ProofError):
        verify_inclusion(index, size, leaves[index], [*proof, root], root)
    if proof:
        with pytest.raises(ProofError):
            verify_inclusion(index, size, leaves[index], proof[:-1], root)
        at = data.draw(st.integers(0, len(proof) - 1))
        proof[at] = bytes([proof[at][0] ^ 1]) + proof[at][1:]
        with pytest.raises(ProofError):
            verify_inclusion(index, size, leaves[index], proof, root)


@given(st.integers(1, 300).flatmap(lambda new: st.tuples(st.integers(1, new), st.just(new))), st.data())
def test_consistency_proof_proves_a_prefix_and_nothing_else(case: tuple[int, int], data: st.DataObject) -> None:
    old, new = case
    old_root, new_root = tree_root(LEAVES[:old]), tree_root(LEAVES[:new])
    proof = consistency(LEAVES[:new], old)

    verify_consistency(old, new, old_root, new_root, proof)

    rewritten = tree_root([leaf_hash(b"rewritten"), *LEAVES[1:old]])
    with pytest.raises(ProofError):
        verify_consistency(old, new, rewritten, new_root, proof)
    with pytest.raises(ProofError):
        verify_consistency(old, new, old_root, rewritten, proof)
    with pytest.raises(ProofError):
        verify_consistency(old, new, old_root, new_root, [*proof, new_root])
    if proof:
        with pytest.raises(ProofError):
            verify_consistency(old, new, old_root, new_root, proof[:-1])
        at = data.draw(st.integers(0, len(proof) - 1))
        proof[at] = bytes([proof[at][0] ^ 1]) + proof[at][1:]
        with pytest.raises(ProofError):
            verify_consistency(old, new, old_root, new_root, proof)


@given(
    st.integers(-2, 20),
    st.integers(-2, 20),
    st.binary(max_size=33) | st.just(EMPTY_ROOT),
    st.lists(st.binary(min_size=30, max_size=33) | st.just(EMPTY_ROOT), max_size=70),
    st.binary(max_size=33) | st.just(EMPTY_ROOT),
)
def test_garbage_proofs_raise_proof_error_only(a: int, b: int, x: bytes, proof: list[bytes], y: bytes) -> None:
    for verify in (lambda: verify_inclusion(a, b, x, proof, y), lambda: verify_consistency(a, b, x, y, proof)):
        try:
            verify()
        except ProofError:
            continue
        # The only proofs that verify by chance are those that need no hash.
        assert not proof
        assert x == y


def test_spans_of_a_proof_that_cannot_exist_are_a_misuse() -> None:
    for index, size in ((0, 0), (5, 5), (-1, 5)):
        with pytest.raises(ValueError, match="no leaf"):
            inclusion_spans(index, size)
    for old, new in ((0, 5), (6, 5)):
        with pytest.raises(ValueError, match="no consistency proof"):
            consistency_spans(old, new)
    with pytest.raises(ValueError, match="compact range"):
        CompactRange([EMPTY_ROOT], 3)


def test_compact_range_can_be_resumed_from_its_nodes() -> None:
    first = CompactRange()
    for leaf in LEAVES[:77]:
        first.append(leaf)

    resumed = CompactRange(first.nodes, first.size)
    for leaf in LEAVES[77:]:
        resumed.append(leaf)

    assert resumed.root == tree_root(LEAVES)
    assert span_nodes(Span(0, 77)) == [Node(6, 0), Node(3, 8), Node(2, 18), Node(0, 76)]
