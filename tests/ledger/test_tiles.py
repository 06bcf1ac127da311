"""Tiles and bundles as c2sp.org/tlog-tiles describes them, against the log of transparency-dev/tessera."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import MalformedError
from ledger.rfc6962 import CompactRange, leaf_hash, tree_root
from ledger.tiles import (
    Bundle,
    Edge,
    Tile,
    edge_from_tiles,
    grow,
    last_bundle,
    new_tiles,
    pack_entries,
    parse_path,
    parse_tile,
    right_edge,
    unpack_entries,
)
from tests.ledger.trees import TiledTree


def test_tessera_wrote_the_same_tiles_and_bundles(shared: Path) -> None:
    vectors = json.loads((shared / "vectors/ledger/tessera_log.json").read_text())
    log = shared / "vectors/ledger/tessera-log/log"
    tree = TiledTree()

    for leaf in vectors["leaves"]:
        tree.append([leaf.encode()])

    theirs = {str(file.relative_to(log)): file.read_bytes() for file in (log / "tile").rglob("*") if file.is_file()}
    assert tree.resources == theirs
    assert len(theirs) == 30


def test_seventy_thousand_leaves_have_the_tiles_that_the_specification_counts() -> None:
    # tlog-tiles, "Partial Tiles": 273 full level 0 tiles, one of width 112, 1 full level 1 tile, ...
    tiles = new_tiles(0, 70_000)

    full = [tile for tile in tiles if tile.width == 256]
    assert [len([t for t in full if t.level == level]) for level in range(3)] == [273, 1, 0]
    assert [tile for tile in tiles if tile.width < 256] == [Tile(0, 273, 112), Tile(1, 1, 17), Tile(2, 0, 1)]
    assert right_edge(70_000) == [Tile(0, 273, 112), Tile(1, 1, 17), Tile(2, 0, 1)]
    assert new_tiles(0, 256) == [Tile(0, 0), Tile(1, 0, 1)]
    assert right_edge(256) == [Tile(1, 0, 1)]


@pytest.mark.parametrize(
    ("resource", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 1_234_067), "tile/0/x001/x234/067"),
        (Tile(63, 999, 255), "tile/63/999.p/255"),
        (Tile(1, 1000, 1), "tile/1/x001/000.p/1"),
        (Bundle(273, 112), "tile/entries/273.p/112"),
        (Bundle(1_234_067), "tile/entries/x001/x234/067"),
    ],
)
def test_paths_are_those_of_the_specification(resource: Tile | Bundle, path: str) -> None:
    assert resource.path == path
    assert parse_path(path) == resource


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile/0/0",
        "tile/00/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/0/x000/000",
        "tile/0/001/000",
        "tile/0/x001",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/999",
        "tile/0/000/",
        "/tile/0/000",
        "tile/0/../000",
        "tile/0/٠٠٠",
        "tile/data/000",
        "tile/0/000\n",
        "tile/0/" + "x999/" * 6 + "999",
        "tile/0/" + "x999/" * 100 + "999",
    ],
)
def test_everything_else_is_no_path(path: str) -> None:
    with pytest.raises(MalformedError):
        parse_path(path)


@given(st.text(max_size=30) | st.from_regex(r"tile/[0-9a-z]{1,8}/(x[0-9]{3}/){0,3}[0-9]{3}(\.p/[0-9]{1,3})?"))
def test_garbage_paths_raise_only_our_error(path: str) -> None:
    try:
        resource = parse_path(path)
    except MalformedError:
        return
    assert resource.path == path


@given(st.integers(0, 63), st.integers(0, 2**55 - 1), st.integers(1, 256))
def test_path_decoding_inverts_encoding(level: int, number: int, width: int) -> None:
    assert parse_path(Tile(level, number, width).path) == Tile(level, number, width)
    assert parse_path(Bundle(number, width).path) == Bundle(number, width)


# --- growth ---


@given(st.lists(st.integers(0, 700), max_size=5))
def test_tree_of_tiles_does_not_depend_on_how_it_grew(growths: list[int]) -> None:
    tree = TiledTree(growths)
    at_once = TiledTree([sum(growths)])

    assert tree.root == at_once.root == tree_root(leaf_hash(entry) for entry in tree.entries)
    assert at_once.resources.items() <= tree.resources.items()


@given(st.integers(0, 1500), st.integers(0, 1500))
def test_growth_writes_the_tiles_that_new_tiles_names(first: int, second: int) -> None:
    hashes = [leaf_hash(b"%d" % n) for n in range(first + second)]
    edge = grow(Edge(), hashes[:first]).edge
    root = edge.root

    grown, tiles = grow(edge, hashes[first:])

    assert [tile for tile, _ in tiles] == new_tiles(first, first + second)
    assert grown.size == first + second
    # A growth that never reached the disk leaves no trace.
    assert (edge.size, edge.root) == (first, root)


def test_level_two_appears_with_the_65536th_leaf() -> None:
    tree, whole = Edge(), CompactRange()
    for size in (65_535, 1, 1, 300):
        hashes = [leaf_hash(b"%d" % n) for n in range(tree.size, tree.size + size)]
        tree, tiles = grow(tree, hashes)
        for leaf in hashes:
            whole.append(leaf)
        assert tree.root == whole.root
        if tree.size == 65_536:
            assert [tile for tile, _ in tiles] == [Tile(0, 255), Tile(1, 0), Tile(2, 0, 1)]


@given(st.integers(0, 3000), st.integers(0, 600))
def test_edge_read_back_from_its_tiles_goes_on_as_if_never_lost(size: int, more: int) -> None:
    tree = TiledTree([size])
    edge = edge_from_tiles(size, {tile: tree.resources[tile.path] for tile in right_edge(size)})
    assert edge.root == tree.root

    extra = [b"more %d" % n for n in range(more)]
    tree.append(extra)

    assert grow(edge, [leaf_hash(entry) for entry in extra]).edge.root == tree.root


def test_tile_of_the_wrong_size_is_refused() -> None:
    for data in (b"", bytes(31), bytes(8191), bytes(8193)):
        with pytest.raises(MalformedError, match="bytes"):
            parse_tile(Tile(0, 0), data)
    with pytest.raises(MalformedError):
        edge_from_tiles(3, {Tile(0, 0, 3): bytes(95)})


# --- bundles ---


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_bundle_decoding_inverts_encoding(entries: list[bytes]) -> None:
    assert unpack_entries(pack_entries(entries), len(entries)) == entries


@given(st.binary(max_size=40), st.integers(0, 8))
def test_garbage_bundles_raise_only_our_error(data: bytes, count: int) -> None:
    try:
        entries = unpack_entries(data, count)
    except MalformedError:
        return
    assert pack_entries(entries) == data


def test_bundle_with_one_entry_too_many_or_too_few_is_refused() -> None:
    data = pack_entries([b"a", b"", b"ccc"])
    for count in (0, 2, 4, 256):
        with pytest.raises(MalformedError):
            unpack_entries(data, count)
    for cut in range(len(data)):
        with pytest.raises(MalformedError):
            unpack_entries(data[:cut], 3)


def test_entry_of_65535_bytes_is_the_longest() -> None:
    assert unpack_entries(pack_entries([bytes(65_535)]), 1) == [bytes(65_535)]
    with pytest.raises(ValueError, match="65535"):
        pack_entries([bytes(65_536)])


def test_last_bundle_is_partial_or_absent() -> None:
    assert last_bundle(0) is None
    assert last_bundle(512) is None
    assert last_bundle(513) == Bundle(2, 1)
