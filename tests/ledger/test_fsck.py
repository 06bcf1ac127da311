"""fsck names what is wrong, and nothing else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import MissingError
from ledger.fsck import Fault, Progress, check_leftover, check_tree
from ledger.reader import TreeReader
from ledger.rfc6962 import EMPTY_ROOT
from ledger.tiles import Bundle, Tile, pack_entries
from tests.ledger.trees import TiledTree


def faults(tree: TiledTree, size: int | None = None, root: bytes | None = None) -> list[Fault]:
    found = check_tree(tree.size if size is None else size, root or tree.root, tree.fetch)
    return [step for step in found if isinstance(step, Fault)]


@pytest.mark.parametrize("growths", [[], [1], [255, 1], [256], [300, 700], [65_536 + 300]])
def test_whole_log_has_no_fault(growths: list[int]) -> None:
    tree = TiledTree(growths)

    assert faults(tree) == []


def test_progress_reaches_the_size() -> None:
    tree = TiledTree([9000])

    steps = [s.leaves for s in check_tree(tree.size, tree.root, tree.fetch) if isinstance(s, Progress)]

    assert steps == [4096, 8192, 9000]


@settings(max_examples=40)
@given(st.sampled_from([1, 300, 1000]), st.data())
def test_the_altered_resource_is_the_one_that_is_named(size: int, data: st.DataObject) -> None:
    tree = TiledTree([size])
    path = data.draw(st.sampled_from(sorted(tree.resources)))
    if data.draw(st.booleans()):
        altered = bytearray(tree.resources[path])
        altered[data.draw(st.integers(0, len(altered) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        tree.resources[path] = bytes(altered)
    else:
        del tree.resources[path]

    assert {fault.path for fault in faults(tree)} == {path}


def test_altered_entry_is_named_by_its_index() -> None:
    tree = TiledTree([600])
    tree.resources["tile/entries/001"] = tree.resources["tile/entries/001"].replace(b"leaf 300", b"leaf 999")

    assert faults(tree) == [
        Fault("tile/entries/001", "entry 300 is not the one that the tree commits to: it was altered")
    ]


def test_all_faults_are_named_at_once() -> None:
    tree = TiledTree([1000])
    del tree.resources["tile/entries/000"]
    tree.resources["tile/entries/002"] = pack_entries([b"x"] * 256)

    assert [fault.path for fault in faults(tree)] == ["tile/entries/000", "tile/entries/002"]


def test_checkpoint_of_another_tree_is_what_is_named() -> None:
    tree = TiledTree([600])

    assert [fault.path for fault in faults(tree, root=EMPTY_ROOT)] == ["checkpoint"]
    assert [fault.path for fault in faults(TiledTree(), root=tree.root)] == ["checkpoint"]


def test_edge_and_entries_altered_both_are_named() -> None:
    tree = TiledTree([300])
    tree.resources["tile/0/001.p/44"] = bytes(44 * 32)
    tree.resources["tile/entries/000"] = pack_entries([b"x"] * 256)

    assert [fault.path for fault in faults(tree)] == ["checkpoint", "tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1"]
    del tree.resources["tile/entries/000"]
    assert [fault.path for fault in faults(tree)] == ["tile/entries/000", "checkpoint"]


def test_leftover_of_an_earlier_size_must_be_how_the_present_one_begins() -> None:
    tree = TiledTree([10, 20, 500])
    reader = TreeReader(tree.size, tree.root, tree.fetch)

    for leftover in (Tile(0, 0, 10), Tile(0, 0, 30), Bundle(0, 10), Bundle(0, 30)):
        assert check_leftover(reader, leftover, tree.resources[leftover.path]) is None
    for leftover in (Tile(0, 0, 10), Bundle(0, 10)):
        fault = check_leftover(reader, leftover, tree.resources[leftover.path][:-1] + b"!")
        assert fault is not None
        assert "another history" in fault.problem


def test_leftover_of_a_larger_tree_means_that_the_log_was_rolled_back() -> None:
    tree = TiledTree([10])
    reader = TreeReader(tree.size, tree.root, tree.fetch)

    for resource in (Tile(0, 0, 11), Tile(0, 1), Bundle(0), Tile(1, 0, 1)):
        fault = check_leftover(reader, resource, b"")
        assert fault is not None
        assert "rolled back" in fault.problem


def test_leftover_that_cannot_be_compared_is_no_fault_of_its_own() -> None:
    tree = TiledTree([10, 20])
    reader = TreeReader(tree.size, tree.root, tree.fetch)
    old = tree.resources["tile/entries/000.p/10"]
    del tree.resources["tile/entries/000.p/30"]

    with pytest.raises(MissingError):
        check_leftover(reader, Bundle(0, 10), old)
