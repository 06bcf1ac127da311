"""Keys over real policy streams: each sidecar gets its own and nobody else's, and rotation follows the verdicts."""

import asyncio
from pathlib import Path

from aegispb.v1 import discovery_pb2 as pb
from google.rpc import code_pb2, status_pb2

from controlplane.discovery.server import MAX_TOLD
from observability import names
from policies import wire
from policies.model import UnixNanos
from sidecar.policy_state import PolicyState
from sidecar.tunnel_keys import TunnelView
from tests.controlplane.plane import Plane, Stream, running
from transport.keyring import KeyState

NOW = UnixNanos(1_800_000_000 * 10**9)
DOCUMENTS = """
apiVersion: aegis.mesh/v1
kind: TunnelPolicy
metadata: {name: mesh}
spec: {publicName: mesh.example}
---
apiVersion: aegis.mesh/v1
kind: Peer
metadata: {name: llm}
spec:
  spiffeId: spiffe://test.local/sidecar/llm
  service: llm.internal
  endpoints: ["tcp://127.0.0.1:15008"]
  mode: required
  allow: [spiffe://test.local/sidecar/bot]
"""


class Sidecar:
    """A real sidecar's state behind a stream that is spoken by hand."""

    def __init__(self, plane: Plane, name: str) -> None:
        self.state = PolicyState(bytes(32))
        self.stream: Stream = plane.stream(f"sidecar/{name}")
        self.seen: list[pb.Delta] = []

    async def sync(self) -> TunnelView:
        """Say Hello and take everything up to the first heartbeat."""
        await self.stream.hello(node="pod")
        while (down := await self.stream.read()).HasField("delta"):
            await self.take(down.delta)
        return self.state.tunnels()

    async def take(self, delta: pb.Delta) -> None:
        self.seen.append(delta)
        await self.stream.send(ack=self.state.apply(delta, NOW))

    async def follow(self, until: KeyState) -> TunnelView:
        """Take Deltas until a key is in this state."""
        while True:
            keys = self.state.tunnels().keys
            if keys is not None and keys.ech is not None and until in [key.state for key in keys.ech.keys]:
                return self.state.tunnels()
            await self.take(await self.stream.delta())


def types_in_order(deltas: list[pb.Delta]) -> list[str]:
    return [wire.name_of(delta.type_url) for delta in deltas if delta.upserts]


async def test_each_sidecar_gets_its_own_keys_and_nobody_elses(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        await plane.push(DOCUMENTS)
        llm, bot, stranger = (Sidecar(plane, name) for name in ("llm", "bot", "stranger"))

        views = [await each.sync() for each in (llm, bot, stranger)]

        assert [view.keys and view.keys.spiffe_id for view in views] == [
            "spiffe://test.local/sidecar/llm",
            "spiffe://test.local/sidecar/bot",
            None,
        ]
        assert [view.keys is not None and view.keys.ech is not None for view in views] == [True, False, False]
        assert len({view.ech_configs for view in views}) == 1
        assert all(view.ech_configs for view in views)
        personal = [resource for each in (bot, stranger) for d in each.seen for resource in d.upserts]
        assert not any("sidecar/llm" in resource.name for resource in personal if resource.name.startswith("tunnel/"))


async def test_rule_4_flags_come_before_keys_and_keys_before_what_needs_them(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        await plane.push(DOCUMENTS)
        llm = Sidecar(plane, "llm")

        await llm.sync()

        assert types_in_order(llm.seen) == ["TunnelPolicy", "TunnelKeys", "MeshKeys", "Workload", "Peer"]


async def test_rule_12_clients_are_flipped_only_when_every_sidecar_has_acknowledged(tmp_path: Path) -> None:
    from aegispb.v1 import tunnel_pb2, tunnel_pb2_grpc

    async with running(tmp_path) as plane:
        await plane.push(DOCUMENTS)
        llm, bot = Sidecar(plane, "llm"), Sidecar(plane, "bot")
        first = (await llm.sync()).ech_configs
        assert first == (await bot.sync()).ech_configs
        admin = tunnel_pb2_grpc.TunnelAdminStub(plane.channel(plane.identity("operator/alice")))
        await eventually_confirmed(admin)

        await admin.Rotate(tunnel_pb2.RotateTunnelsRequest(ech=True))
        delta = await llm.stream.delta()
        await asyncio.sleep(0.5)  # several looks of the control plane at who has acknowledged

        waiting = await admin.Show(tunnel_pb2.ShowTunnelsRequest())
        assert [key.state for key in waiting.ech] == ["ACTIVE", "ANNOUNCED"]
        assert [each.spiffe_id for each in waiting.waiting_for] == ["spiffe://test.local/sidecar/llm"]
        assert first == bot.state.tunnels().ech_configs
        await llm.take(delta)
        view = await llm.follow(KeyState.RETIRING)
        assert view.keys is not None
        assert view.keys.ech is not None
        await bot.take(await bot.stream.delta())
        assert bot.state.tunnels().ech_configs == view.keys.ech.client_configs != first


async def test_a_sidecar_that_refuses_its_keys_stops_the_rotation_and_is_named(tmp_path: Path) -> None:
    from aegispb.v1 import tunnel_pb2, tunnel_pb2_grpc

    async with running(tmp_path) as plane:
        await plane.push(DOCUMENTS)
        llm = Sidecar(plane, "llm")
        await llm.sync()
        admin = tunnel_pb2_grpc.TunnelAdminStub(plane.channel(plane.identity("operator/alice")))
        await eventually_confirmed(admin)

        await admin.Rotate(tunnel_pb2.RotateTunnelsRequest(ech=True))
        delta = await llm.stream.delta()
        (sent,) = delta.upserts
        why = status_pb2.Status(code=code_pb2.INTERNAL, message="no")
        await llm.stream.ack(delta, pb.Rejected(name=sent.name, version=sent.version, why=why))
        await asyncio.sleep(0.5)

        shown = await admin.Show(tunnel_pb2.ShowTunnelsRequest())
        assert [key.state for key in shown.ech] == ["ACTIVE", "ANNOUNCED"]
        assert len(shown.waiting_for) == 1


async def eventually_confirmed(admin: object) -> None:
    from aegispb.v1 import tunnel_pb2

    async with asyncio.timeout(30):
        while True:
            shown = await admin.Show(tunnel_pb2.ShowTunnelsRequest())  # type: ignore[attr-defined] # a stub
            if shown.epoch and not shown.waiting_for and shown.confirmed:
                return
            await asyncio.sleep(0.05)


async def test_the_control_plane_hears_of_stale_keys_and_believes_only_so_much(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        stream = plane.stream("sidecar/bot")
        await stream.hello()
        await stream.synced()

        await stream.send(heartbeat=pb.Heartbeat(seq=1, stale_ech=2))
        await stream.send(heartbeat=pb.Heartbeat(seq=2, stale_ech=1 << 60))

        counter = plane.metrics.counter(names.CP_STALE_ECH)
        async with asyncio.timeout(30):
            while counter.values()[()] < 3:
                await asyncio.sleep(0.05)
        assert counter.values()[()] == 2 + MAX_TOLD
