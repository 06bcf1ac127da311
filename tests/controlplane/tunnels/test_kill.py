"""The control plane is killed in the middle of rotations: keys are the old ones or the new ones, and never lost."""

import asyncio
from pathlib import Path

import pytest
from aegispb.v1 import tunnel_pb2, tunnel_pb2_grpc

from tests.controlplane.test_processes import process
from tests.controlplane.tunnels.test_distribution import DOCUMENTS, Sidecar

BOT = "spiffe://test.local/sidecar/bot"
pytestmark = pytest.mark.slow


async def test_kill_9_in_the_middle_of_rotations_loses_no_key(tmp_path: Path) -> None:
    async with process(tmp_path) as running:
        await running.plane.push(DOCUMENTS)
    epoch = 0
    for life in range(6):
        async with process(tmp_path) as running:
            llm, bot = Sidecar(running.plane, "llm"), Sidecar(running.plane, "bot")
            server, client = await llm.sync(), await bot.sync()
            admin = tunnel_pb2_grpc.TunnelAdminStub(running.plane.channel(running.plane.identity("operator/alice")))
            shown = await admin.Show(tunnel_pb2.ShowTunnelsRequest())

            assert shown.epoch >= epoch, "an epoch that sidecars have seen is gone"
            assert [key.state for key in shown.ech].count("ACTIVE") == 1
            assert server.keys is not None
            assert server.keys.ech is not None
            assert client.keys is not None
            assert client.ech_configs == server.keys.ech.client_configs
            assert server.directory.owner_of(client.keys.static.public) == client.keys.spiffe_id
            epoch = shown.epoch
            changes = (
                admin.Rotate(tunnel_pb2.RotateTunnelsRequest(ech=True, all_statics=True)),
                admin.Rotate(tunnel_pb2.RotateTunnelsRequest(force=True)),
                admin.Revoke(tunnel_pb2.RevokeStaticRequest(spiffe_id=BOT)),
            )
            await asyncio.sleep(0.004 * life)  # the calls are on their way, the answers are never looked at
            running.process.kill()
            await running.process.wait()
            for change in changes:
                change.cancel()
