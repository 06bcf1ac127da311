"""The HTTP read interface as c2sp.org/tlog-tiles wants it, over a real socket."""

import asyncio
import gzip
from contextlib import suppress
from pathlib import Path

import pytest

from controlplane.ledger import web
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
    async with running(tmp_path / "data", kept_checkpoints=1, settle_every=0.01) as node:
        await fill(node, 100, 100, 100, 10)
        async with asyncio.timeout(30):
            while (tmp_path / "data/log/tile/0/000.p").exists():
                await asyncio.sleep(0.005)

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


# --- strangers ---


async def received(node: RunningNode, *sent: bytes) -> bytes:
    """What comes back on one connection until the node hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.doors.http_port)
    for part in sent:
        writer.write(part)
        with suppress(ConnectionError):
            await writer.drain()
    answer = b""
    with suppress(ConnectionError):
        while part := await reader.read(65_536):
            answer += part
    writer.close()
    return answer


async def test_head_that_never_ends_is_hung_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Slowloris: a byte now and then keeps a connection for ever, and a thousand of them keep everybody else out.
    monkeypatch.setattr(web, "HEAD_WITHIN", 0.05)
    async with running(tmp_path / "data") as node:
        assert await received(node, b"") == b""
        assert await received(node, b"GET /checkpoint HTTP/1.1\r\nhost: x\r\nx-slow: ") == b""
        reader, writer = await asyncio.open_connection("127.0.0.1", node.doors.http_port)
        writer.write(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"GET /metr")  # on a connection that was kept
        with suppress(ConnectionError):
            await reader.read()
        writer.close()


async def test_head_without_end_in_size_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as node:
        answer = await received(node, b"GET /checkpoint HTTP/1.1\r\nx: " + b"x" * 100_000)

    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431")) or answer == b""


async def test_answer_that_nobody_reads_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "ANSWER_WITHIN", 0.1)
    async with running(tmp_path / "data") as node:
        await fill(node, 4000)
        reader, writer = await asyncio.open_connection("127.0.0.1", node.doors.http_port, limit=1024)
        writer.write(b"GET /tile/entries/000 HTTP/1.1\r\nhost: x\r\n\r\n" * 2000)
        await asyncio.sleep(0.5)
        received = 0
        with suppress(ConnectionError):
            while part := await reader.read(65_536):
                received += len(part)
        writer.close()
        assert received < 2000 * 25_000
        assert (await node.get("/checkpoint"))[0] == 200


async def test_requests_sent_ahead_are_answered_in_order(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as node:
        await fill(node, 10)
        answer = await received(
            node,
            b"GET /checkpoint HTTP/1.1\r\nhost: x\r\n\r\n" * 2,
            b"GET /tile/0/000.p/10 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        )

    assert answer.count(b"HTTP/1.1 200") == 3


async def test_only_reading_is_possible(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as node:
        for method in (b"POST", b"PUT", b"DELETE"):
            request = method + b" /checkpoint HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            assert (await received(node, request)).startswith(b"HTTP/1.1 405")
