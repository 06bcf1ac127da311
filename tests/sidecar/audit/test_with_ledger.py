"""The audit trail against a whole ledger node: what the sidecar says is what an auditor can prove."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest
from click.testing import CliRunner

from commands.audit.command import command as audit
from ledger.leaf import Leaf, LeafKind, parse_leaf
from observability import names
from observability.metrics import Registry
from settings import Address
from sidecar.audit.auditing import Auditing, spool_path
from sidecar.audit.flusher import TrailLimits
from sidecar.audit.shipper import ShipperPace
from tests.controlplane.ledger.nodes import RunningNode, running
from tests.fakes.entries import audit_entry

QUICK = [(f"grpc.{name}_reconnect_backoff_ms", 20) for name in ("initial", "min", "max")]


class Sidecar:
    """One life of a sidecar's audit trail."""

    def __init__(self, directory: Path, registry: Registry) -> None:
        self.registry = registry
        self.auditing = Auditing(
            spool_path(directory, 0),
            registry,
            TrailLimits(linger=0.0),
            ShipperPace(linger=0.0, first_backoff=0.01, longest_backoff=0.05),
        )

    def append(self, *numbers: int) -> None:
        for n in numbers:
            self.auditing.trail.append(audit_entry(n))

    async def durable(self) -> None:
        """Wait until everything that was appended stands in a published tree."""
        async with asyncio.timeout(10):
            spooled = self.registry.counter(names.AUDIT_SPOOLED)
            entries = self.registry.counter(names.AUDIT_ENTRIES)
            while self.auditing.waiting or spooled.values()[()] <= entries.values()[()]:
                await asyncio.sleep(0.002)


@asynccontextmanager
async def life(directory: Path, port: int) -> AsyncIterator[Sidecar]:
    sidecar = Sidecar(directory, Registry())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", QUICK) as channel, asyncio.TaskGroup() as tasks:
        shipping = tasks.create_task(sidecar.auditing.run(channel))
        try:
            yield sidecar
            assert await sidecar.auditing.close(10)
        finally:
            shipping.cancel()


async def leaves_of(node: RunningNode) -> list[Leaf]:
    """What anybody can read: the leaves of the log's published tree, from its tiles."""
    _, _, checkpoint = await node.get("/checkpoint")
    size = int(checkpoint.split(b"\n")[1])
    leaves: list[Leaf] = []
    for tile in range((size + 255) // 256):
        width = min(256, size - tile * 256)
        _, _, bundle = await node.get(f"/tile/entries/{tile:03}" + (f".p/{width}" if width < 256 else ""))
        leaves += [parse_leaf(bundle[at + 2 : at + 98]) for at in range(0, len(bundle), 98)]
    assert size == len(leaves)
    return leaves


def exchanges(leaves: list[Leaf]) -> list[Leaf]:
    return [leaf for leaf in leaves if leaf.kind == LeafKind.EXCHANGE]


async def test_an_exchange_is_proven_and_opened_with_the_command_line_alone(tmp_path: Path) -> None:
    async with running(tmp_path / "node") as node, life(tmp_path / "spool", node.doors.grpc_port) as sidecar:
        sidecar.append(*range(700))

    exchange = audit_entry(321).exchange
    out = tmp_path / "proof.tlog-proof"
    where = ("--log", str(tmp_path / "node" / "log"))
    policy = ("--policy", str(tmp_path / "node" / "policy"))
    proved = CliRunner().invoke(
        audit, ["prove", "--exchange", exchange, "--spool", str(tmp_path / "spool"), *where, "--out", str(out)]
    )
    assert proved.exit_code == 0, proved.output
    opening = out.with_suffix(".opening")
    verified = CliRunner().invoke(audit, ["verify", str(out), "--opening", str(opening), *policy, "--json"])

    assert verified.exit_code == 0, verified.output
    facts = json.loads(verified.output)
    assert exchange in verified.output
    assert audit_entry(321).request_digest.hex() in verified.output
    assert facts["leaf"]["seq"] == 322


async def test_a_node_that_restarts_while_leaves_are_on_their_way_has_each_exactly_once(tmp_path: Path) -> None:
    async with running(tmp_path / "node") as node:
        port = node.doors.grpc_port
        async with life(tmp_path / "spool", port) as sidecar:
            sidecar.append(*range(300))
            await sidecar.durable()
            sidecar.append(*range(300, 600))
            node.stop.set()
            await asyncio.wait((node.task,))
            sidecar.append(*range(600, 700))
            async with running(tmp_path / "node", grpc=Address("127.0.0.1", port)) as again:
                await sidecar.durable()
                sidecar.append(*range(700, 800))
                assert await sidecar.auditing.close(10)
                leaves = await leaves_of(again)

    assert list(range(802)) == [leaf.seq for leaf in leaves]
    assert len({leaf.commitment for leaf in exchanges(leaves)}) == 800


async def test_a_node_restored_from_a_backup_is_noticed_and_loses_nothing_that_waits(tmp_path: Path) -> None:
    async with running(tmp_path / "node") as node:
        port = node.doors.grpc_port
    shutil.copytree(tmp_path / "node", tmp_path / "backup")
    async with (
        running(tmp_path / "node", grpc=Address("127.0.0.1", port)) as node,
        life(tmp_path / "spool", port) as it,
    ):
        it.append(*range(10))
        await it.durable()
        node.stop.set()
        await asyncio.wait((node.task,))
        it.append(*range(10, 30))
        async with running(tmp_path / "backup", grpc=Address("127.0.0.1", port)) as restored:
            assert await it.auditing.close(10)
            leaves = await leaves_of(restored)

    assert it.registry.counter(names.AUDIT_EPOCHS).values() == {("start",): 1, ("ledger_behind",): 1}
    assert [LeafKind.EPOCH_START, *[LeafKind.EXCHANGE] * 20, LeafKind.EPOCH_END] == [leaf.kind for leaf in leaves]


async def test_a_spool_that_went_back_in_time_cannot_put_another_leaf_under_a_number(tmp_path: Path) -> None:
    path = spool_path(tmp_path / "spool", 0)
    async with running(tmp_path / "node") as node:
        async with life(tmp_path / "spool", node.doors.grpc_port) as sidecar:
            sidecar.append(0, 1)
        backup = path.read_bytes()
        for numbers in (range(2, 5), range(5, 9)):
            async with life(tmp_path / "spool", node.doors.grpc_port) as sidecar:
                sidecar.append(*numbers)
            path.write_bytes(backup)
        leaves = await leaves_of(node)

    assert len(exchanges(leaves)) == 9
    assert len({leaf.commitment for leaf in exchanges(leaves)}) == 9


@pytest.mark.parametrize("count", [1, 5000])
async def test_one_leaf_and_many_become_durable(tmp_path: Path, count: int) -> None:
    async with running(tmp_path / "node") as node, life(tmp_path / "spool", node.doors.grpc_port) as sidecar:
        sidecar.append(*range(count))
        await sidecar.durable()
        leaves = await leaves_of(node)

    assert list(range(count + 1)) == [leaf.seq for leaf in leaves]
