"""Merkle trees as RFC 6962 section 2.1 defines them: hashing, compact ranges, and both kinds of proof.

A proof is made in two steps, so that this module needs no storage: `inclusion_spans` and `consistency_spans` name the
subtrees of a proof as ranges of leaves, `span_nodes` names the perfect nodes that cover one range, and `join_nodes`
folds their hashes. Where the hashes come from (`ledger.reader`) is somebody else's business.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

from ledger.errors import ProofError

HASH_SIZE: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()
MAX_SIZE: Final = (1 << 63) - 1
"""Leaves. Sizes stay below what every other implementation can hold in a signed 64-bit number."""


def leaf_hash(entry: bytes) -> bytes:
    """RFC 6962 section 2.1: SHA-256(0x00 || entry)."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962 section 2.1: SHA-256(0x01 || left || right)."""
    return sha256(b"\x01" + left + right).digest()


# --- trees ---


class CompactRange:
    """The fewest hashes from which a growing tree can be extended: one perfect node for each set bit of its size."""

    __slots__ = ("nodes", "size")

    def __init__(self, nodes: Iterable[bytes] = (), size: int = 0) -> None:
        self.nodes = list(nodes)
        """Roots of the perfect subtrees from the left, largest first."""
        self.size = size
        if len(self.nodes) != size.bit_count():
            raise ValueError(f"a compact range of {size} leaves has {size.bit_count()} nodes, not {len(self.nodes)}")

    def append(self, leaf: bytes) -> None:
        """Add the hash of one leaf. One node hash on average."""
        nodes, size = self.nodes, self.size
        while size & 1:
            leaf = node_hash(nodes.pop(), leaf)
            size >>= 1
        nodes.append(leaf)
        self.size += 1

    @property
    def root(self) -> bytes:
        """The root of the tree as it stands."""
        return join_nodes(self.nodes) if self.nodes else EMPTY_ROOT


def tree_root(leaf_hashes: Iterable[bytes]) -> bytes:
    """The root over these leaf hashes."""
    tree = CompactRange()
    for leaf in leaf_hashes:
        tree.append(leaf)
    return tree.root


# --- what a proof consists of ---


class Span(NamedTuple):
    """The subtree over leaves `start` to `end`, `end` excluded."""

    start: int
    end: int


class Node(NamedTuple):
    """The perfect subtree over leaves `number << level` to `(number + 1) << level`."""

    level: int
    number: int


def inclusion_spans(index: int, size: int) -> list[Span]:
    """RFC 6962 section 2.1.1, PATH(index, D[size]): the subtrees whose hashes prove the leaf, sibling first."""
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    start, end, path = 0, size, list[Span]()
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(Span(middle, end))
            end = middle
        else:
            path.append(Span(start, middle))
            start = middle
    path.reverse()
    return path


def consistency_spans(old: int, new: int) -> list[Span]:
    """RFC 6962 section 2.1.2, PROOF(old, D[new]): the subtrees that prove one tree to be a prefix of the other."""
    if not 0 < old <= new:
        raise ValueError(f"there is no consistency proof from {old} to {new} leaves")
    start, end, path = 0, new, list[Span]()
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(Span(middle, end))
            end = middle
        else:
            path.append(Span(start, middle))
            start = middle
    if start:
        # The verifier has the root of the old tree, but not of this part of it.
        path.append(Span(start, old))
    path.reverse()
    return path


def span_nodes(span: Span) -> list[Node]:
    """The perfect nodes that cover a span of a proof, left to right, largest first."""
    nodes, at, left = list[Node](), span.start, span.end - span.start
    while left:
        level = left.bit_length() - 1
        nodes.append(Node(level, at >> level))
        at += 1 << level
        left -= 1 << level
    return nodes


def join_nodes(hashes: Sequence[bytes]) -> bytes:
    """The hash of a span out of the hashes of its `span_nodes`. At least one."""
    joined = hashes[-1]
    for left in reversed(hashes[:-1]):
        joined = node_hash(left, joined)
    return joined


# --- verification ---


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """Return if `leaf` (a leaf hash) stands at `index` of the tree of `size` leaves with this root. Raises ProofError.

    RFC 9162 section 2.1.3.2.
    """
    if not 0 <= index < size:
        raise ProofError(f"a tree of {size} leaves has no leaf {index}")
    _check_hashes(leaf, root, *proof)
    expected = (size - 1).bit_length() if size > 1 else 0
    if len(proof) > expected:
        raise ProofError(
            f"the inclusion proof has {len(proof)} hashes, a tree of {size} leaves needs {expected} at most"
        )
    at, last, computed = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProofError("the inclusion proof is too long")
        if at & 1 or at == last:
            computed = node_hash(sibling, computed)
            while at and not at & 1:
                at >>= 1
                last >>= 1
        else:
            computed = node_hash(computed, sibling)
        at >>= 1
        last >>= 1
    if last:
        raise ProofError("the inclusion proof is too short")
    if computed != root:
        raise ProofError("the inclusion proof does not lead to the root: another leaf, index, size or tree")


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Return if the tree of `old` leaves is a prefix of the tree of `new` leaves. Raises ProofError.

    RFC 9162 section 2.1.4.2. There is nothing to prove about an empty tree: `old` 0 is refused.
    """
    if not 0 < old <= new:
        raise ProofError(f"there is no consistency proof from {old} to {new} leaves")
    _check_hashes(old_root, new_root, *proof)
    if old == new:
        if proof or old_root != new_root:
            raise ProofError("two trees of one size differ, or come with a proof that none needs")
        return
    if not proof:
        raise ProofError("the consistency proof is empty")
    # A perfect old tree is its own first node: the proof leaves it out.
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    at, last = old - 1, new - 1
    while at & 1:
        at >>= 1
        last >>= 1
    from_old = from_new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise ProofError("the consistency proof is too long")
        if at & 1 or at == last:
            from_old = node_hash(sibling, from_old)
            from_new = node_hash(sibling, from_new)
            while at and not at & 1:
                at >>= 1
                last >>= 1
        else:
            from_new = node_hash(from_new, sibling)
        at >>= 1
        last >>= 1
    if last:
        raise ProofError("the consistency proof is too short")
    if from_old != old_root or from_new != new_root:
        raise ProofError(f"the tree of {new} leaves does not contain the tree of {old} leaves")


def _split(size: int) -> int:
    """RFC 6962 section 2.1: the largest power of two smaller than `size`, which is at least 2."""
    return 1 << ((size - 1).bit_length() - 1)


def _check_hashes(*hashes: bytes) -> None:
    for value in hashes:
        if len(value) != HASH_SIZE:
            raise ProofError(f"a hash has {HASH_SIZE} bytes, this one has {len(value)}")
