"""The HTTP read interface as c2sp.org/tlog-tiles wants it, over a real socket."""

import gzip
from pathlib import Path

from ledger.checkpoint import parse_checkpoint
from ledger.note import parse_note
from ledger.policy import parse_policy
from ledger.reader import TreeReader
from ledger.tiles import pack_entries
from tests.controlplane.ledger.nodes import RunningNode, running, stream, until
from tests.fakes.ledger_producers import batch, leaf


async def fill(node: RunningNode, *counts: int) -> None:
    first = 0
    async with stream(node.doors.grpc_port) as call:
        for count in counts:
            await call.write(batch(first, count))
            first += count
            await until(call, first - 1)


async def test_checkpoint_is_text_that_is_not_cached_for_long_and_verifies(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as node:
        await fill(node, 5)
        status, headers, body = await node.get("/checkpoint")

    assert (status, headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert headers["cache-control"] == "public, max-age=1"
    policy = parse_policy((tmp_path / "data/policy").read_bytes())
    assert policy.verify(body).size == 5
    assert body == (tmp_path / "data/log/checkpoint").read_bytes()


async def test_tiles_and_bundles_are_immutable_octets(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as node:
        await fill(node, 300)
        for path, size in (("tile/0/000", 8192), ("tile/0/001.p/44", 44 * 32), ("tile/1/000.p/1", 32)):
            status, headers, body = await node.get(f"/{path}")
            assert (status, len(body)) == (200, size)
            assert headers["content-type"] == "application/octet-stream"
            assert headers["cache-control"] == "public, max-age=31536000, immutable"
            assert body == (tmp_path / "data/log" / path).read_bytes()


async def test_every_entry_can_be_read_and_proven_through_the_interface(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as node:
        await fill(node, 255, 2, 300)
        checkpoint = parse_checkpoint(parse_note((await node.get("/checkpoint"))[2]).text)
        resources = {}
        for path in ("tile/0/000", "tile/0/001", "tile/0/002.p/45", "tile/1/000.p/2", "tile/entries/002.p/45"):
            resources[path] = (await node.get(f"/{path}"))[2]

    reader = TreeReader(checkpoint.size, checkpoint.root, resources.__getitem__)
    assert reader.entry(556) == leaf(556)


async def test_partial_tile_that_is_gone_is_cut_from_the_full_one(tmp_path: Path) -> None:
    async with running(tmp_path / "data", kept_checkpoints=1) as node:
        await fill(node, 100, 100, 100, 10)
        assert not (tmp_path / "data/log/tile/0/000.p").exists()

        status, _, hashes = await node.get("/tile/0/000.p/100")
        assert (status, len(hashes)) == (200, 3200)
        assert await node.get("/tile/entries/000.p/100") == (
            200,
            (await node.get("/tile/entries/000.p/100"))[1],
            pack_entries([leaf(seq) for seq in range(100)]),
        )


async def test_what_the_published_tree_does_not_have_is_not_found(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as node:
        await fill(node, 10)
        for path in ("tile/0/000.p/11", "tile/0/000", "tile/0/001.p/1", "tile/1/000.p/1", "tile/entries/000", "x", ""):
            assert (await node.get(f"/{path}"))[0] == 404


async def test_what_is_no_tile_path_is_refused(tmp_path: Path) -> None:
    no_paths = ("0/0", "64/000", "0/000.p/256", "0/../../checkpoint", "0/%2e%2e/000", "x/000", "", "0/" + "x999/" * 200)
    async with running(tmp_path / "data") as node:
        for path in no_paths:
            assert (await node.get(f"/tile/{path}"))[0] in {400, 404}


async def test_keys_lock_and_index_cannot_be_read(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as node:
        for path in (".state/lock", "tile/../.state/lock", "../keys/log.key", "keys/log.key", "index.sqlite3"):
            assert (await node.get(f"/{path}"))[0] in {400, 404}


async def test_entries_are_compressed_for_those_who_ask(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as node:
        await fill(node, 100)
        _, headers, body = await node.get("/tile/entries/000.p/100", {"accept-encoding": "gzip"})

    assert headers["content-encoding"] == "gzip"
    assert gzip.decompress(body) == pack_entries([leaf(seq) for seq in range(100)])


async def test_health_and_metrics_tell_how_far_the_log_is(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as node:
        await fill(node, 7)
        status, _, health = await node.get("/healthz")
        _, _, metrics = await node.get("/metrics")

    assert status == 200
    assert b'"size":7' in health
    assert b"aegis_ledger_size_leaves 7.0" in metrics
    assert b"aegis_ledger_leaves_total 7.0" in metrics
