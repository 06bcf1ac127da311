"""A real policy client against a real control plane, on loopback with mutual TLS (control-api.md §1.3)."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from aegispb.v1 import admin_pb2
from aegispb.v1 import discovery_pb2 as pb

from controlplane.identity.ca import LOOPBACK, LocalAuthority
from observability import names
from observability.exposition import render
from observability.metrics import Registry
from policies import wire
from policies.airlock.config import Action, AirlockConfig
from policies.airlock.labels import Label
from policies.airlock.redact import AirlockPolicy
from policies.mathprotocol.codes import Kind as TaskKind
from policies.mathprotocol.manifest import PluginTask
from policies.model import UnixNanos
from policies.snapshot import Upstream
from policies.spec import Document, Kind
from settings import Address
from sidecar.lkg import LastKnownGoodFile
from sidecar.policy_client import CHANNEL_OPTIONS, ControlPlane, PolicyClient, Surroundings
from sidecar.policy_state import PolicyState
from sidecar.policy_stream import StreamTimes
from tests.controlplane.plane import Plane, now, running

HEAD = "apiVersion: aegis.mesh/v1\n"
MODEL = HEAD + "kind: Upstream\nmetadata: {name: model}\nspec: {url: http://127.0.0.1:8000}\n"
ROUTE = HEAD + "kind: Route\nmetadata: {name: all}\nspec: {prefix: /, upstream: model, airlock: hipaa}\n"
FAST = StreamTimes(first_answer=2.0, return_within=0.05)


def airlock(hint: str = "x", profile: str = "hipaa_safe_harbor", ttl: str = "") -> str:
    metadata = f"{{name: hipaa{', ttl: ' + ttl if ttl else ''}}}"
    return HEAD + f"kind: AirlockPolicy\nmetadata: {metadata}\nspec: {{profile: {profile}, hint: '{hint}'}}\n"


@dataclass
class Clock:
    """Wall clock of a sidecar, set forward at will."""

    ahead: int = 0

    def now(self) -> UnixNanos:
        return UnixNanos(time.time_ns() + self.ahead)


@asynccontextmanager
async def sidecar(
    directory: Path,
    address: str,
    *,
    times: StreamTimes = FAST,
    clock: Clock | None = None,
    state: PolicyState | None = None,
    metrics: Registry | None = None,
) -> AsyncIterator[PolicyClient]:
    """A policy client that runs until the block ends. Two with one `directory` are a restart of one sidecar."""
    authority = LocalAuthority.open_or_create(directory / "ca", "test.local", now())
    authority.enroll(directory / "identity/sidecar", "sidecar/one", now=now())
    client = PolicyClient(
        ControlPlane(address, directory / "identity/sidecar", "pod-1", "test"),
        state or PolicyState(bytes(32)),
        LastKnownGoodFile(directory / "lkg", bytes(32), "spiffe://test.local/sidecar/one"),
        metrics or Registry(),
        Surroundings((clock or Clock()).now, lambda: 0.1, os.urandom),
        times,
    )
    await client.start()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(client.run())
        try:
            yield client
        finally:
            task.cancel()


async def until(condition: Callable[[], Any], within: float = 30.0) -> None:
    """Return as soon as `condition` holds."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.005)


def shown(metrics: Registry) -> str:
    """The metrics page."""
    return render([metrics.snapshot()])[1].decode()


def config_of(client: PolicyClient) -> AirlockConfig:
    assert client.current is not None
    (policy,) = client.current.routes[0].pipeline.policies
    assert isinstance(policy, AirlockPolicy)
    return policy.config


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    async with running(tmp_path) as started:
        yield started


async def test_policies_arrive_and_the_sidecar_becomes_ready(plane: Plane, tmp_path: Path) -> None:
    await plane.push(MODEL, airlock(), ROUTE)

    async with sidecar(tmp_path, plane.address) as client:
        assert client.blocker.startswith("no snapshot yet")
        await until(lambda: client.current)

        assert client.current is not None
        assert (client.current.source, client.current.revision, client.blocker) == ("live", 1, "")
        assert config_of(client).hint == "x"


async def test_push_is_in_force_in_the_sidecar(plane: Plane, tmp_path: Path) -> None:
    await plane.push(MODEL, airlock(), ROUTE)
    async with sidecar(tmp_path, plane.address) as client:
        await until(lambda: client.current)

        await plane.push(airlock("new"))

        await until(lambda: config_of(client).hint == "new")
        assert client.current is not None
        assert client.current.revision == 2


async def test_rule_10_without_any_policy_there_is_no_snapshot_and_the_blocker_says_what_to_do(
    plane: Plane, tmp_path: Path
) -> None:
    async with sidecar(tmp_path, plane.address) as client:
        await until(lambda: "push" in client.blocker)

        assert client.current is None
        assert client.blocker == "no snapshot yet; there is no Route; push one with `aegis policy push`"

        await plane.push(MODEL, airlock(), ROUTE)
        await until(lambda: client.current)


async def test_rule_10_last_removed_route_refuses_everything(plane: Plane, tmp_path: Path) -> None:
    await plane.push(MODEL, airlock(), ROUTE)
    async with sidecar(tmp_path, plane.address) as client:
        await until(lambda: client.current)

        await plane.push(MODEL, prune=True)

        await until(lambda: client.current is None)


async def test_rule_5_refused_policy_leaves_the_old_one_and_is_told_to_operators(plane: Plane, tmp_path: Path) -> None:
    class Choosy(PolicyState):
        """Cannot build what says `bad`; everything else is real."""

        def apply(self, delta: pb.Delta, now: UnixNanos) -> pb.Ack:
            for resource in delta.upserts:
                if b"bad" in resource.body:
                    resource.body += b"\xfa\x3f\x01x"
            return super().apply(delta, now)

    await plane.push(MODEL, airlock("good"), ROUTE)
    metrics = Registry()
    async with sidecar(tmp_path, plane.address, state=Choosy(bytes(32)), metrics=metrics) as client:
        await until(lambda: client.current)

        await plane.push(airlock("bad"), MODEL.replace("8000", "9000"))
        refusal_counted = 'sidecar_config_nack_total{reason="invalid_argument",type="AirlockPolicy"} 1.0'
        await until(lambda: refusal_counted in shown(metrics))
        await until(lambda: client.current.routes[0].upstream.url.endswith("9000"))  # type: ignore[union-attr] # it is there

        assert config_of(client).hint == "good"

        async def refusals() -> list[Any]:
            (node,) = (await plane.admin().Status(admin_pb2.StatusRequest())).nodes
            return [each for each in node.resources if each.rejected_version]

        async with asyncio.timeout(30):
            while not await refusals():  # the verdict is on its way
                await asyncio.sleep(0.01)
        (refusal,) = await refusals()
        assert (refusal.name, refusal.reason) == ("hipaa", "the body does not match its digest")
        assert refusal.applied_version not in ("", refusal.desired_version)

        await plane.push(airlock("fixed"))
        await until(lambda: config_of(client).hint == "fixed")
        async with asyncio.timeout(30):
            while await refusals():
                await asyncio.sleep(0.01)


async def test_missing_plugin_is_told_to_operators_until_the_sidecar_comes_back_with_it(
    plane: Plane, tmp_path: Path
) -> None:
    sentiment = PluginTask(31, "ProductSentiment", TaskKind.CLASSIFICATION, frozenset({1, 13}), entry="x:y")
    codes = (
        "apiVersion: aegis.mesh/v1\nkind: ProtocolPolicy\nmetadata: {name: codes}\nspec: {mode: enforce, registered: "
        "[{prime: 31, name: ProductSentiment, kind: classification, params: [1, 13], code: true}]}\n"
    )

    async def refused() -> list[str]:
        nodes = (await plane.admin().Status(admin_pb2.StatusRequest())).nodes
        return [each.reason for node in nodes for each in node.resources if each.rejected_version]

    async def eventually_refused(expected: int) -> list[str]:
        async with asyncio.timeout(30):
            while len(found := await refused()) != expected:
                await asyncio.sleep(0.01)
        return found

    await plane.push(MODEL, airlock("good"), ROUTE)
    async with sidecar(tmp_path, plane.address, state=PolicyState(bytes(32), {})) as client:
        await until(lambda: client.current)
        await plane.push(codes)
        (reason,) = await eventually_refused(1)
        assert reason.startswith("needs plugin code for task 31 (ProductSentiment)")
        assert config_of(client).hint == "good"

    async with sidecar(tmp_path, plane.address, state=PolicyState(bytes(32), {31: sentiment})):
        assert await eventually_refused(0) == []


async def test_rule_10_killed_control_plane_changes_nothing_and_a_restarted_sidecar_has_its_policies(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as plane:
        await plane.push(MODEL, airlock(), ROUTE)
        address = plane.address
        async with sidecar(tmp_path, address) as client:
            await until(lambda: client.current)
            await until((tmp_path / "lkg").exists)
        plane.stop.set()

    async with sidecar(tmp_path, address) as restarted:
        assert restarted.current is not None
        assert (restarted.current.source, restarted.current.revision) == ("lkg", 1)
        assert config_of(restarted).hint == "x"
        assert restarted.blocker == ""


async def test_rule_2_restarted_sidecar_is_sent_nothing_new(plane: Plane, tmp_path: Path) -> None:
    await plane.push(MODEL, airlock(), ROUTE)
    async with sidecar(tmp_path, plane.address) as client:
        await until(lambda: client.current)
        await until((tmp_path / "lkg").exists)

    counted = Counting(bytes(32))
    async with sidecar(tmp_path, plane.address, state=counted) as restarted:
        await until(lambda: restarted.current and restarted.current.source == "live")

    assert counted.deltas == 0


class Counting(PolicyState):
    """Counts the Deltas of a stream; what is restored from disk does not count."""

    deltas = 0
    _restoring = False

    def restore(self, kept: Any, now: UnixNanos) -> list[str]:
        self._restoring = True
        refused = super().restore(kept, now)
        self._restoring = False
        return refused

    def apply(self, delta: pb.Delta, now: UnixNanos) -> pb.Ack:
        self.deltas += not self._restoring
        return super().apply(delta, now)


async def test_rule_10_tampered_last_known_good_is_refused_and_named_as_blocker(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        await plane.push(MODEL, airlock(), ROUTE)
        async with sidecar(tmp_path, plane.address) as client:
            await until(lambda: client.current)
            await until((tmp_path / "lkg").exists)
        sealed = bytearray((tmp_path / "lkg").read_bytes())
        sealed[-1] ^= 1
        (tmp_path / "lkg").write_bytes(sealed)

        async with sidecar(tmp_path, "127.0.0.1:1") as alone:
            assert alone.current is None
            assert "last known good refused" in alone.blocker
            await until(lambda: "control plane 127.0.0.1:1: UNAVAILABLE" in alone.blocker)

        async with sidecar(tmp_path, plane.address) as healed:
            await until(lambda: healed.current)
            assert healed.blocker == ""
            await until(lambda: (tmp_path / "lkg").read_bytes() != sealed)
        async with sidecar(tmp_path, "127.0.0.1:1") as restarted:
            assert restarted.current is not None, "the tampered file was not replaced"


async def test_rule_14_drained_sidecar_comes_back_without_growing_its_backoff(tmp_path: Path) -> None:
    metrics = Registry()
    async with running(tmp_path, name="one") as plane:
        await plane.push(MODEL, airlock(), ROUTE)
        port = plane.ports.listen
        address = plane.address
        async with sidecar(tmp_path, address, metrics=metrics) as client:
            await until(lambda: client.current)
            plane.stop.set()
            await until(lambda: not client.connected)
            assert 'sidecar_control_reconnects_total{reason="reconnect"} 1.0' in shown(metrics)
            assert client.current is not None
            assert plane.serving is not None
            await plane.serving
            async with running(tmp_path, listen=Address("127.0.0.1", port)):
                await until(lambda: client.connected)


async def test_rule_15_silent_control_plane_is_given_up_after_three_heartbeats(tmp_path: Path) -> None:
    async def mute(_requests: object, call: Any) -> None:
        await call.read()
        welcome = pb.Welcome()
        welcome.heartbeat_every.FromMilliseconds(50)
        await call.write(pb.Down(welcome=welcome))
        await asyncio.sleep(60)

    metrics = Registry()
    async with speaking(tmp_path, mute) as address, sidecar(tmp_path, address, metrics=metrics) as client:
        await until(lambda: client.connected)
        await until(lambda: not client.connected)

    assert 'sidecar_control_reconnects_total{reason="error"}' in shown(metrics)
    assert "nothing heard for 0.15 s" in client.blocker


@asynccontextmanager
async def speaking(directory: Path, behaviour: Callable[[Any, Any], Any]) -> AsyncIterator[str]:
    """A server with a right certificate that behaves as it is told."""
    authority = LocalAuthority.open_or_create(directory / "ca", "test.local", now())
    identity = authority.issue("controlplane/odd", now=now(), hosts=LOOPBACK)
    server = grpc.aio.server()
    method: Any = grpc.stream_stream_rpc_method_handler(behaviour, pb.Up.FromString, pb.Down.SerializeToString)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("aegispb.v1.PolicyDiscovery", {"Stream": method}),)
    )
    pair = (identity.key_pem, identity.cert_pem)
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair], authority.ca_pem, True))
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def spoken(directory: Path, *downs: pb.Down) -> list[pb.Up]:
    """What a sidecar answers to `downs`, after Hello and until it has nothing more to say for a moment."""
    answers: list[pb.Up] = []
    done = asyncio.Event()

    async def speak(_requests: object, call: Any) -> None:
        if done.is_set():
            return
        answers.append(await call.read())
        for down in downs:
            await call.write(down)
            if down.HasField("delta"):
                answers.append(await call.read())
        done.set()
        await asyncio.sleep(60)

    async with speaking(directory, speak) as address, sidecar(directory, address):
        async with asyncio.timeout(30):
            await done.wait()
    return answers


WELCOME = pb.Down(welcome=pb.Welcome(heartbeat_every={"seconds": 10}))


async def test_rule_7_unknown_type_is_refused_as_unimplemented(tmp_path: Path) -> None:
    delta = pb.Delta(type_url="type.googleapis.com/aegispb.v1.Future", nonce="n1")

    hello, answer = await spoken(tmp_path, WELCOME, pb.Down(delta=delta))

    assert set(wire.ORDER) == {state.type_url for state in hello.hello.types}
    assert (answer.ack.nonce, answer.ack.error_detail.code) == ("n1", 12)


async def test_rule_8_duplicate_name_refuses_the_whole_delta(tmp_path: Path) -> None:
    resource = wire.resource(Document("model", Upstream("model", "http://x")))
    delta = pb.Delta(type_url=wire.TYPE_URLS[Kind.UPSTREAM], nonce="n1", upserts=[resource, resource])

    _, answer = await spoken(tmp_path, WELCOME, pb.Down(delta=delta))

    assert answer.ack.error_detail.code == 3
    assert not answer.ack.rejected


@pytest.mark.parametrize(
    "behaviour",
    ["closes at once", "refuses", "garbage", "no welcome", "second welcome", "never answers", "aborts later"],
)
async def test_odd_server_is_left_with_backoff_and_never_believed(tmp_path: Path, behaviour: str) -> None:
    streams = 0

    async def odd(_requests: object, call: Any) -> None:
        nonlocal streams
        streams += 1
        match behaviour:
            case "refuses":
                await call.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")
            case "garbage":
                await call.write(pb.Down.FromString(b"\xfa\x3f\x01x"))
            case "no welcome":
                await call.write(pb.Down(heartbeat=pb.Heartbeat()))
            case "second welcome":
                await call.write(WELCOME)
                await call.write(WELCOME)
            case "never answers":
                await asyncio.sleep(60)
            case "aborts later":
                await call.write(WELCOME)
                await call.abort(grpc.StatusCode.INTERNAL, "broken")

    times = StreamTimes(first_answer=0.2, return_within=0.01)
    async with speaking(tmp_path, odd) as address, sidecar(tmp_path, address, times=times) as client:
        await until(lambda: streams >= 3)

        assert client.current is None
        assert "no snapshot yet" in client.blocker


async def test_rule_9_policy_that_is_not_renewed_falls_back_to_its_stricter_default(tmp_path: Path) -> None:
    clock = Clock()
    async with running(tmp_path) as plane:
        await plane.push(MODEL, airlock(profile="pci", ttl="60s"), ROUTE)
        async with sidecar(tmp_path, plane.address, clock=clock) as client:
            await until(lambda: client.current)
            assert config_of(client).action(Label.SSN) is Action.ALLOW
            plane.stop.set()
            await until(lambda: not client.connected)

            clock.ahead = 61 * 10**9
            client._rearm.set()  # the clock was set; otherwise it is looked at once a minute

            await until(lambda: config_of(client).action(Label.SSN) is Action.TOKENISE)


async def test_stream_of_a_certain_age_is_opened_anew_with_the_renewed_certificate(
    plane: Plane, tmp_path: Path
) -> None:
    await plane.push(MODEL, airlock(), ROUTE)
    metrics = Registry()
    times = StreamTimes(lifetime=0.3, return_within=0.01)
    async with sidecar(tmp_path, plane.address, times=times, metrics=metrics) as client:
        await until(lambda: client.current)
        first_channel = client._channel
        plane.identity("sidecar/renamed").write(tmp_path / "identity/sidecar")

        async def peers() -> set[str]:
            return {node.spiffe_id for node in (await plane.admin().Status(admin_pb2.StatusRequest())).nodes}

        async with asyncio.timeout(30):
            while "spiffe://test.local/sidecar/renamed" not in await peers():
                await asyncio.sleep(0.05)
        assert client._channel is not first_channel
        assert client.current is not None


async def test_unreadable_identity_is_a_named_problem_until_it_is_there(plane: Plane, tmp_path: Path) -> None:
    await plane.push(MODEL, airlock(), ROUTE)
    async with sidecar(tmp_path, plane.address) as client:
        await until(lambda: client.current)
    key = tmp_path / "identity/sidecar/tls.key"
    client = PolicyClient(
        ControlPlane(plane.address, tmp_path / "nowhere", "pod-1", "test"),
        PolicyState(bytes(32)),
        None,
        Registry(),
        Surroundings(Clock().now, lambda: 0.1, os.urandom),
        FAST,
    )
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(client.run())
        await until(lambda: "No such file" in client.blocker)
        key.parent.rename(tmp_path / "nowhere")
        await until(lambda: client.current)
        task.cancel()


async def test_last_known_good_is_written_once_the_disk_lets_it(
    plane: Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.policy_client._WRITE_AGAIN", 0.01)
    (tmp_path / "lkg").mkdir()  # nothing can be renamed onto a directory
    await plane.push(MODEL, airlock(), ROUTE)
    async with sidecar(tmp_path, plane.address) as client:
        await until(lambda: client.current)

        (tmp_path / "lkg").rmdir()

        await until((tmp_path / "lkg").is_file)


async def test_reconnecting_without_news_keeps_the_snapshot_in_force(plane: Plane, tmp_path: Path) -> None:
    await plane.push(MODEL, airlock(), ROUTE)
    metrics = Registry()
    times = StreamTimes(lifetime=0.2, return_within=0.01)
    async with sidecar(tmp_path, plane.address, times=times, metrics=metrics) as client:
        await until(lambda: client.current)
        first = client.current

        await until(lambda: 'reconnects_total{reason="reconnect"} 3.0' in shown(metrics))

        assert client.current is first


async def test_rule_16_metrics_tell_what_is_in_force_and_from_where(plane: Plane, tmp_path: Path) -> None:
    await plane.push(MODEL, airlock(), ROUTE)
    metrics = Registry()
    async with sidecar(tmp_path, plane.address, metrics=metrics) as client:
        await until(lambda: client.current)
        page = shown(metrics)
        version = wire.resource(Document("hipaa", AirlockConfig(hint="x"))).version

        assert "sidecar_control_connected 1.0" in page
        assert 'sidecar_config_source{source="live"} 1.0' in page
        assert (
            f'sidecar_config_applied_version_info{{name="hipaa",type="AirlockPolicy",version="{version}"}} 1.0' in page
        )
        assert 'sidecar_config_revision_lag{type="AirlockPolicy"} 0.0' in page
        assert 'sidecar_config_last_ack_timestamp_seconds{type="Route"}' in page


async def test_pushes_while_a_sidecar_builds_are_not_lost(plane: Plane, tmp_path: Path) -> None:
    class Slow(PolicyState):
        """Takes its time, as a large policy does."""

        def apply(self, delta: pb.Delta, now: UnixNanos) -> pb.Ack:
            time.sleep(0.02)
            return super().apply(delta, now)

    await plane.push(MODEL, airlock("0"), ROUTE)
    async with sidecar(tmp_path, plane.address, state=Slow(bytes(32))) as client:
        await until(lambda: client.current)

        for number in range(1, 21):
            await plane.push(airlock(str(number)))

        await until(lambda: config_of(client).hint == "20")


def test_every_channel_option_is_one_that_grpc_knows() -> None:
    assert all(name.startswith("grpc.") for name, _ in CHANNEL_OPTIONS)


def test_stale_keys_are_told_once(tmp_path: Path) -> None:
    registry = Registry()
    client = PolicyClient(
        ControlPlane("127.0.0.1:1", tmp_path, "node", "build"),
        PolicyState(bytes(32)),
        None,
        registry,
        Surroundings(lambda: UnixNanos(0), lambda: 0.5, os.urandom),
    )

    counted = [client.newly_stale()]
    for number in (3, 2):
        registry.counter(names.ALERTS).add(("tunnel.ech_key_stale", "warning"), number)
        registry.counter(names.ALERTS).add(("tunnel.handshake_flood", "warning"))
        counted.append(client.newly_stale())

    assert counted == [0, 3, 2]
