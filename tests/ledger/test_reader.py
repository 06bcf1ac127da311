"""The reader returns what the root commits to, or raises: no tile is believed because of where it came from."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import LedgerError, MalformedError, MissingError, ProofError
from ledger.reader import TreeReader
from ledger.rfc6962 import EMPTY_ROOT, leaf_hash, tree_root, verify_consistency, verify_inclusion
from ledger.tiles import Tile
from tests.ledger.trees import TiledTree

TREE = TiledTree([1, 255, 44, 700, 65_600 - 1000, 777])
"""Three levels of tiles."""
READER = TreeReader(TREE.size, TREE.root, TREE.fetch)


def reader_of(tree: TiledTree) -> TreeReader:
    return TreeReader(tree.size, tree.root, tree.fetch)


@given(st.integers(0, TREE.size - 1))
def test_inclusion_proofs_and_entries_verify(index: int) -> None:
    assert READER.entry(index) == TREE.entries[index]
    verify_inclusion(index, TREE.size, leaf_hash(TREE.entries[index]), READER.inclusion_proof(index), TREE.root)


@given(st.integers(1, TREE.size))
def test_consistency_proofs_and_old_roots_verify(old: int) -> None:
    old_root = tree_root(leaf_hash(entry) for entry in TREE.entries[:old]) if old < 2000 else READER.root_at(old)

    assert READER.root_at(old) == old_root
    verify_consistency(old, TREE.size, old_root, TREE.root, READER.consistency_proof(old))


@settings(max_examples=25)
@given(st.sampled_from([1, 5, 256, 300]), st.data())
def test_altered_resource_is_noticed_and_never_believed(size: int, data: st.DataObject) -> None:
    tree = TiledTree([size])
    path = data.draw(st.sampled_from(sorted(tree.resources)))
    altered = bytearray(tree.resources[path])
    altered[data.draw(st.integers(0, len(altered) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    tree.resources[path] = bytes(altered)
    reader, noticed = reader_of(tree), 0

    for index in range(size):
        try:
            entry = reader.entry(index)
        except LedgerError:
            noticed += 1
        else:
            assert entry == tree.entries[index]

    assert noticed


def test_altered_full_tile_is_named() -> None:
    tree = TiledTree([600])
    tree.resources["tile/0/000"] = bytes(8192)

    with pytest.raises(ProofError, match="tile/0/000"):
        reader_of(tree).leaf_hash(3)


def test_altered_edge_is_noticed_before_anything_is_returned() -> None:
    tree = TiledTree([600])
    tree.resources["tile/0/002.p/88"] = bytes(88 * 32)

    with pytest.raises(ProofError, match="edge"):
        reader_of(tree).inclusion_proof(3)


def test_altered_entry_is_not_returned() -> None:
    tree = TiledTree([600])
    tree.resources["tile/entries/000"] = tree.resources["tile/entries/000"].replace(b"leaf 77", b"leaf 99", 1)

    assert reader_of(tree).entry(76) == b"leaf 76"
    with pytest.raises(ProofError, match="entry 77"):
        reader_of(tree).entry(77)


def test_reader_falls_back_to_the_full_tile_when_the_partial_one_is_gone() -> None:
    # tlog-tiles, "Partial Tiles": MAY be deleted once the full tile is there.
    tree = TiledTree([300])
    old = TreeReader(tree.size, tree.root, tree.fetch)
    tree.append([b"more %d" % n for n in range(65_536)])
    for path in [path for path in tree.resources if ".p/" in path]:
        del tree.resources[path]

    assert old.entry(299) == b"leaf 299"
    verify_inclusion(299, 300, leaf_hash(b"leaf 299"), old.inclusion_proof(299), old.root)


def test_missing_tile_is_said_to_be_missing() -> None:
    tree = TiledTree([600])
    reader = reader_of(tree)
    for path in ("tile/0/000", "tile/entries/001"):
        del tree.resources[path]

    with pytest.raises(MissingError, match="tile/0/000"):
        reader.inclusion_proof(1)
    with pytest.raises(MissingError, match="tile/entries/001"):
        reader.entry(257)


def test_malformed_tile_is_said_to_be_malformed() -> None:
    tree = TiledTree([600])
    tree.resources["tile/0/000"] += b"x"

    with pytest.raises(MalformedError, match="tile/0/000"):
        reader_of(tree).leaf_hash(0)


def test_empty_tree_has_a_root_and_nothing_else() -> None:
    reader = TreeReader(0, EMPTY_ROOT, TREE.fetch)

    assert reader.root_at(0) == EMPTY_ROOT
    with pytest.raises(ProofError):
        reader.leaf_hash(0)


def test_what_the_tree_does_not_have_is_an_error() -> None:
    for ask in (READER.leaf_hash, READER.entry, READER.inclusion_proof):
        for index in (-1, TREE.size):
            with pytest.raises(ProofError):
                ask(index)
    for old in (0, TREE.size + 1):
        with pytest.raises(ProofError):
            READER.consistency_proof(old)
    for size in (-1, TREE.size + 1):
        with pytest.raises(ProofError):
            READER.root_at(size)


def test_only_tiles_of_this_tree_can_be_read() -> None:
    assert READER.hashes(Tile(2, 0, 1)) == [READER.root_at(65_536)]
    for tile in (Tile(0, 0, 5), Tile(3, 0, 0), Tile(3, 0, 1), Tile(0, 10_000)):
        with pytest.raises(ProofError, match="no tile"):
            READER.hashes(tile)


def test_wrong_root_is_noticed() -> None:
    with pytest.raises(ProofError, match="edge"):
        TreeReader(TREE.size, EMPTY_ROOT, TREE.fetch).leaf_hash(0)


def test_memory_of_a_reader_is_bounded() -> None:
    tree = TiledTree([300 * 256])
    reader = reader_of(tree)

    for number in range(300):
        reader.leaf_hash(number * 256)

    assert len(reader._kept) == 256


def test_log_of_tessera_reads(shared: Path) -> None:
    import json

    vectors = json.loads((shared / "vectors/ledger/tessera_log.json").read_text())
    log = shared / "vectors/ledger/tessera-log/log"
    entries = [leaf.encode() for leaf in vectors["leaves"]]
    reader = TreeReader(15, tree_root(map(leaf_hash, entries)), lambda path: (log / path).read_bytes())

    assert [reader.entry(index) for index in range(15)] == entries
