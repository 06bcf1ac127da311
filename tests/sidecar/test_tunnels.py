"""Two sidecars and a control plane, real in everything: a prompt goes through a tunnel, and the model never hears whose
it was. Over loopback with mutual TLS, the keys that the control plane made, and a relay that records the wire.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from aegispb.v1 import tunnel_pb2, tunnel_pb2_grpc

from controlplane.identity.ca import LocalAuthority
from observability import names
from observability.metrics import Registry
from observability.telemetry import Telemetry
from settings import Address
from sidecar.app import Place, Sidecar
from sidecar.config import SidecarConfig
from tests.controlplane.plane import Plane, now
from tests.controlplane.plane import running as running_plane
from tests.fakes.chat import completion, content_of, error_code, prompt
from tests.fakes.datapath import RawClient, ScriptedUpstream, Visit, scripted_upstream

pytestmark = [pytest.mark.looptime(False), pytest.mark.slow]
ANY = Address("127.0.0.1", 0)
CHAT = "/llm/v1/chat/completions"
PUBLIC, SERVICE = "mesh.example", "secret.internal"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@dataclass
class Wire:
    """A relay between the two sidecars that keeps every byte."""

    port: int = 0
    target: int = 0
    seen: bytearray = field(default_factory=bytearray)

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._copy(reader, far_writer))
            tasks.create_task(self._copy(far_reader, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self.seen += data
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@dataclass
class Town:
    """What a test has of it."""

    plane: Plane
    wire: Wire
    model: ScriptedUpstream
    bot: Sidecar
    llm: Sidecar
    registries: dict[str, Registry]
    clients: list[RawClient] = field(default_factory=list)

    async def client(self) -> RawClient:
        self.clients.append(await RawClient.connect(self.bot.ports["listen"]))
        return self.clients[-1]

    def decisions(self) -> dict[tuple[str, ...], float]:
        return self.registries["bot"].counter(names.TUNNEL_DECISIONS).values()

    @property
    def admin(self) -> Any:
        return tunnel_pb2_grpc.TunnelAdminStub(self.plane.channel(self.plane.identity("operator/alice")))


def documents(
    wire: Wire,
    model: str,
    mode: str = "required",
    allow: str = "spiffe://test.local/sidecar/bot",
    endpoint: str = "",
) -> str:
    head = "apiVersion: aegis.mesh/v1\n"
    endpoint = endpoint or f"tcp://127.0.0.1:{wire.port}"
    return "---\n".join(
        (
            head + f"kind: TunnelPolicy\nmetadata: {{name: mesh}}\nspec: {{publicName: {PUBLIC}}}\n",
            head
            + "kind: Peer\nmetadata: {name: llm}\nspec: {spiffeId: 'spiffe://test.local/sidecar/llm', "
            + f"service: {SERVICE}, endpoints: ['{endpoint}'], mode: {mode}, allow: ['{allow}']}}\n",
            head + f"kind: Upstream\nmetadata: {{name: far}}\nspec: {{url: 'http://{SERVICE}', peer: llm}}\n",
            head + f"kind: Upstream\nmetadata: {{name: near}}\nspec: {{url: '{model}'}}\n",
            head + "kind: AirlockPolicy\nmetadata: {name: hipaa}\nspec: {profile: hipaa_safe_harbor}\n",
            head + "kind: Route\nmetadata: {name: out}\nspec: {prefix: /llm, upstream: far, airlock: hipaa}\n",
            head
            + "kind: Route\nmetadata: {name: in}\nspec: {prefix: /, upstream: near, airlock: none, inbound: llm}\n",
        )
    )


@asynccontextmanager
async def sidecar(
    directory: Path, plane: Plane, name: str, registry: Registry, hosts: tuple[str, ...] = (PUBLIC, SERVICE)
) -> AsyncIterator[Sidecar]:
    authority = LocalAuthority.open_or_create(plane.directory / "ca", "test.local", now())
    authority.enroll(directory / "identity", f"sidecar/{name}", now=now())
    authority.enroll(directory / "tunnel", f"tunnel/{name}", now=now(), hosts=hosts)
    config = SidecarConfig(
        listen=ANY,
        ready=ANY,
        metrics=ANY,
        admin=ANY,
        controlplane=Address("127.0.0.1", plane.ports.listen),
        identity=directory / "identity",
        data=directory / "data",
        peer=f"spiffe://test.local/sidecar/{name}",
        tunnel_listen=ANY,
        tunnel_quic=find_spec("aioquic") is not None,
        tunnel_identity=directory / "tunnel",
        drain_timeout=2,
    )
    started = Sidecar(config, registry, Telemetry(registry), _no_files, Place(), "test")
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(started.run(lambda _: ready.set()))
        task.add_done_callback(lambda _: ready.set())
        await ready.wait()
        try:
            yield started
        finally:
            started.drain()


def _no_files(*_: object) -> Any:
    raise AssertionError("policies come from the control plane")


async def _until(condition: Callable[[], object], within: float = 30.0) -> None:
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def town(tmp_path: Path, answer: bytes = completion("hello"), **policy: str) -> AsyncIterator[Town]:
    model: ScriptedUpstream

    async def script(visit: Visit) -> None:
        while True:
            model.requests.append(await visit.request())
            await visit.answer(answer)

    async with AsyncExitStack() as stack:
        plane = await stack.enter_async_context(running_plane(tmp_path, heartbeat_every=0.2))
        model = await stack.enter_async_context(scripted_upstream(script))
        wire = Wire()
        relay = await asyncio.start_server(wire.carry, "127.0.0.1", 0)
        stack.callback(relay.close)
        wire.port = relay.sockets[0].getsockname()[1]
        await plane.push(documents(wire, model.url, **policy))
        registries = {"bot": Registry(), "llm": Registry()}
        llm = await stack.enter_async_context(sidecar(tmp_path / "llm", plane, "llm", registries["llm"]))
        bot = await stack.enter_async_context(sidecar(tmp_path / "bot", plane, "bot", registries["bot"]))
        wire.target = llm.ports["tunnel_listen"]
        await _until(lambda: all(each._policies.tunnels.ech_configs for each in (bot, llm)))
        await _until(lambda: all(each._policies.current for each in (bot, llm)))
        it = Town(plane, wire, model, bot, llm, registries)
        yield it
        for client in it.clients:
            client.reset()


async def test_prompt_goes_through_a_tunnel_without_its_identifiers_and_its_name_is_not_on_the_wire(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as it:
        client = await it.client()

        answers = [
            await client.post(CHAT, prompt("SSN 536-90-4399"), {"traceparent": TRACE}),
            await client.post(CHAT, prompt("again")),
        ]

        assert [(answer.status, content_of(answer.body)) for answer in answers] == [(200, "hello")] * 2
        first, _ = it.model.requests
        assert first.first_line == "POST /v1/chat/completions HTTP/1.1"
        assert first.field("host") == it.model.url.removeprefix("http://")
        assert TRACE.split("-")[1] in str(first.field("traceparent"))
        assert b"536-90-4399" not in first.body
        assert PUBLIC.encode() in it.wire.seen
        assert not any(secret in it.wire.seen for secret in (SERVICE.encode(), b"536-90-4399", b"completions"))
        assert it.decisions() == {("ech", "required"): 1}
        for end in (it.bot, it.llm):  # a leaf of the start, and one of each exchange
            await _until(partial(_has_leaves, end, 3))


async def test_prompt_goes_through_a_tunnel_over_quic(tmp_path: Path) -> None:
    pytest.importorskip("aioquic", reason="the extra quic is not installed")
    async with town(tmp_path) as it:
        over_quic = f"quic://127.0.0.1:{it.llm.ports['tunnel_listen']}"
        await it.plane.push(documents(it.wire, it.model.url, endpoint=over_quic))
        await _until(lambda: over_quic in map(str, _endpoints(it.bot)))

        client = await it.client()
        answer = await client.post(CHAT, prompt("SSN 536-90-4399"), {"traceparent": TRACE})

        assert (answer.status, content_of(answer.body)) == (200, "hello")
        (request,) = it.model.requests
        assert b"536-90-4399" not in request.body
        assert it.wire.seen == b""
        assert it.decisions() == {("ech", "required"): 1}


def _endpoints(sidecar: Sidecar) -> tuple[Any, ...]:
    return sidecar._policies.tunnels.directory.peers["llm"].endpoints  # type: ignore[union-attr]  # there is one


async def test_workload_that_is_not_allowed_gets_an_error_and_nothing_goes_another_way(tmp_path: Path) -> None:
    async with town(tmp_path, allow="spiffe://test.local/sidecar/other") as it:
        client = await it.client()

        answer = await client.post(CHAT, prompt("hello"))

        assert (answer.status, it.model.requests) == (503, [])
        assert error_code(answer.body) == "aegis_no_tunnel"


async def test_route_to_a_peer_without_a_way_there_is_an_error_of_the_dialect(tmp_path: Path) -> None:
    async with town(tmp_path) as it:
        it.wire.target = 1
        client = await it.client()

        answer = await client.post(CHAT, prompt("hello"))

        assert (answer.status, error_code(answer.body)) == (503, "aegis_no_tunnel")
        assert it.model.requests == []


async def test_keys_rotate_under_load_and_no_request_fails(tmp_path: Path) -> None:
    async with town(tmp_path) as it:
        statuses: list[int] = []
        stop = asyncio.Event()

        async def load() -> None:
            client = await it.client()
            while not stop.is_set():
                statuses.append((await client.post(CHAT, prompt("hello"))).status)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(4):
                tasks.create_task(load())
            for _ in range(2):
                before = await _until_acknowledged(it.admin)
                await it.admin.Rotate(tunnel_pb2.RotateTunnelsRequest(ech=True, all_statics=True))
                await _until_settled(it.admin, before)
            stop.set()

        assert set(statuses) == {200}
        assert len(statuses) > 50


async def test_revoked_workload_loses_its_tunnel_at_once_and_comes_back_with_its_new_key(tmp_path: Path) -> None:
    async with town(tmp_path) as it:
        client = await it.client()
        assert (await client.post(CHAT, prompt("hello"))).status == 200
        before = it.registries["llm"].counter(names.TUNNEL_ENDS).values()

        await it.admin.Revoke(tunnel_pb2.RevokeStaticRequest(spiffe_id="spiffe://test.local/sidecar/bot"))

        await _until(lambda: it.registries["llm"].counter(names.TUNNEL_ENDS).values() != before)
        await _until(lambda: len(it.bot._policies.tunnels.directory.revoked) == 1)
        async with asyncio.timeout(20):
            while (await (await it.client()).post(CHAT, prompt("hello"))).status != 200:
                await asyncio.sleep(0.05)


def _has_leaves(end: Sidecar, count: int) -> bool:
    return end._auditing.waiting == count


async def _until_acknowledged(admin: Any) -> tunnel_pb2.TunnelsResponse:
    """What stands when no sidecar is waited for: until then a rotation is refused."""
    async with asyncio.timeout(20):
        while True:
            shown: tunnel_pb2.TunnelsResponse = await admin.Show(tunnel_pb2.ShowTunnelsRequest())
            if not shown.waiting_for:
                return shown
            await asyncio.sleep(0.05)


async def _until_settled(admin: Any, before: tunnel_pb2.TunnelsResponse) -> None:
    """Until a rotation has gone all the way."""
    old = {static.spiffe_id: static.current for static in before.statics}
    async with asyncio.timeout(40):
        while True:
            shown = await admin.Show(tunnel_pb2.ShowTunnelsRequest())
            fresh = all(static.current != old[static.spiffe_id] for static in shown.statics)
            if fresh and not shown.waiting_for and all(static.phase == "STEADY" for static in shown.statics):
                return
            await asyncio.sleep(0.05)


async def test_a_serving_sidecar_with_a_wrong_certificate_is_not_ready_until_it_is_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.tunnels.FILES_EVERY", 0.0)
    async with running_plane(tmp_path, heartbeat_every=0.2) as plane:
        await plane.push(documents(Wire(1), "http://127.0.0.1:1"))
        async with sidecar(tmp_path / "llm", plane, "llm", Registry()) as first:
            await _until(lambda: first._policies.tunnels.ech_configs)
            assert await first.blockers() == {}
        # From its last known good it has its keys before it listens.
        async with sidecar(tmp_path / "llm", plane, "llm", Registry(), hosts=("other.example",)) as again:
            await _until(lambda: again._policies.current)
            assert (await again.blockers())["tunnel"] == f"tunnel_identity: the certificate is not for {PUBLIC}"

            authority = LocalAuthority.open_or_create(plane.directory / "ca", "test.local", now())
            authority.enroll(tmp_path / "llm/tunnel", "tunnel/llm", now=now(), hosts=(PUBLIC, SERVICE))

            assert await again.blockers() == {}
