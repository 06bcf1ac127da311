"""The policy stream over real sockets and mutual TLS (control-api.md §1.3 and §1.4)."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from aegispb.v1 import admin_pb2
from aegispb.v1 import discovery_pb2 as pb
from google.rpc import status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from controlplane.app import MAX_MESSAGE
from controlplane.discovery.desired import Desired, DesiredType
from controlplane.discovery.server import PolicyDiscovery
from controlplane.identity.ca import LocalAuthority
from observability.exposition import render
from observability.metrics import Registry
from policies import wire
from policies.airlock.config import AirlockConfig
from policies.spec import Document, Kind
from tests.controlplane.plane import Plane, Stream, discovering, now, running

UPSTREAM, AIRLOCK, ROUTE = (wire.TYPE_URLS[kind] for kind in (Kind.UPSTREAM, Kind.AIRLOCK, Kind.ROUTE))
HEAD = "apiVersion: aegis.mesh/v1\n"
MODEL = HEAD + "kind: Upstream\nmetadata: {name: model}\nspec: {url: http://127.0.0.1:8000}\n"
ALL = HEAD + "kind: Route\nmetadata: {name: all}\nspec: {prefix: /, upstream: model, airlock: hipaa}\n"


def airlock(hint: str = "x", name: str = "hipaa", ttl: str = "") -> str:
    metadata = f"{{name: {name}{', ttl: ' + ttl if ttl else ''}}}"
    return HEAD + f"kind: AirlockPolicy\nmetadata: {metadata}\nspec: {{profile: hipaa_safe_harbor, hint: '{hint}'}}\n"


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    async with running(tmp_path) as started:
        yield started


async def test_rule_1_hello_is_answered_by_welcome_then_deltas_then_a_heartbeat(plane: Plane) -> None:
    await plane.push(MODEL, airlock(), ALL)
    stream = plane.stream()

    welcome = await stream.hello()
    deltas = await stream.synced()

    assert welcome.heartbeat_every.seconds == 10
    assert welcome.server_id
    assert [delta.type_url for delta in deltas] == [UPSTREAM, AIRLOCK, ROUTE]


@pytest.mark.parametrize("first", [{"ack": pb.Ack()}, {"heartbeat": pb.Heartbeat()}, {}])
async def test_rule_1_anything_but_hello_first_is_an_invalid_argument(plane: Plane, first: dict[str, object]) -> None:
    stream = plane.stream()

    await stream.send(**first)

    assert await stream.status() is grpc.StatusCode.INVALID_ARGUMENT


async def test_rule_1_no_hello_in_time_is_an_invalid_argument(tmp_path: Path) -> None:
    async with running(tmp_path, hello_within=0.1) as plane:
        assert await plane.stream().status() is grpc.StatusCode.INVALID_ARGUMENT


async def test_rule_2_second_replica_sends_nothing_new(plane: Plane, tmp_path: Path) -> None:
    await plane.push(MODEL, airlock(), ALL)
    first = plane.stream()
    await first.hello()
    deltas = await first.synced()
    versions = {delta.type_url: {r.name: r.version for r in delta.upserts} for delta in deltas}

    async with running(tmp_path, name="two") as replica:
        second = replica.stream()
        await second.hello(versions)

        assert await second.synced() == []


async def test_push_through_one_replica_reaches_sidecars_of_another(plane: Plane, tmp_path: Path) -> None:
    async with running(tmp_path, name="two") as replica:
        stream = replica.stream()
        await stream.hello()
        await stream.synced()

        await plane.push(MODEL)

        assert [r.name for r in (await stream.delta()).upserts] == ["model"]


async def test_rule_3_two_thousand_updates_become_few_deltas_with_the_newest_value(tmp_path: Path) -> None:
    service = PolicyDiscovery("test.local", Registry(), server_id="x")

    def publish(number: int) -> str:
        resource = wire.resource(Document("hipaa", AirlockConfig(hint=str(number))))
        types = {**Desired.nothing().types, AIRLOCK: DesiredType.of(number, [resource])}
        service.publish(Desired(number, types, 0.0))
        return resource.version

    async with discovering(tmp_path, service) as plane:
        publish(1)
        stream = plane.stream()
        await stream.hello()
        first = await stream.delta()

        for number in range(2, 2002):
            newest = publish(number)
            if number % 100 == 0:
                await asyncio.sleep(0)  # the writer of the stream gets its turn, and has nothing to write
        await stream.ack(first)

        second = await stream.delta()
        assert (second.revision, second.upserts[0].version) == (2001, newest)
        await stream.ack(second)
        assert (await stream.read()).HasField("heartbeat")


async def test_revision_that_is_published_while_welcome_is_written_is_not_missed(tmp_path: Path) -> None:
    service = PolicyDiscovery("test.local", Registry(), server_id="x")
    original = service._hello

    async def hello_then_publish(*arguments: Any) -> Any:
        session = await original(*arguments)
        resource = wire.resource(Document("hipaa", AirlockConfig()))
        types = {**Desired.nothing().types, AIRLOCK: DesiredType.of(1, [resource])}
        service.publish(Desired(1, types, 0.0))
        return session

    service._hello = hello_then_publish  # type: ignore[method-assign] # the moment that the test is about
    async with discovering(tmp_path, service) as plane:
        stream = plane.stream()
        await stream.hello()

        assert (await stream.delta()).revision == 1


async def test_rule_6_refusal_is_shown_counted_and_not_sent_again(plane: Plane) -> None:
    await plane.push(MODEL, airlock(), ALL)
    stream = plane.stream("ns/app/sa/default")
    await stream.hello()
    for _ in range(3):
        delta = await stream.delta()
        why = pb.Rejected(name="hipaa", why=status_pb2.Status(code=3, message="cannot be built: HyperscanError"))
        await stream.ack(delta, *([why] if delta.type_url == AIRLOCK else []))
    assert (await stream.read()).HasField("heartbeat")

    status = await plane.admin().Status(admin_pb2.StatusRequest())
    (node,) = status.nodes
    (refused,) = [each for each in node.resources if each.rejected_version]
    assert (node.spiffe_id, node.node_id, node.connected) == ("spiffe://test.local/ns/app/sa/default", "pod-1", True)
    assert (refused.kind, refused.name, refused.applied_version) == ("AirlockPolicy", "hipaa", "")
    assert (refused.reason_code, refused.reason) == ("INVALID_ARGUMENT", "cannot be built: HyperscanError")
    assert node.revision_lag == 1
    page = render([plane.metrics.snapshot()])[1].decode()
    assert 'cp_nacks_total{type="AirlockPolicy"} 1.0' in page
    assert "cp_streams 1.0" in page
    with pytest.raises(TimeoutError):
        await stream.read(within=0.5)


async def test_rule_14_drain_is_sent_on_every_stream_and_ends_it_in_good_order(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        streams = [plane.stream(f"sidecar/{n}") for n in range(3)]
        for stream in streams:
            await stream.hello()
            await stream.synced()

        plane.stop.set()

        for stream in streams:
            drain = (await stream.read()).drain
            assert drain.reconnect_within.ToMilliseconds() == 200
            assert await stream.status() is grpc.StatusCode.OK, "the handler was cut, it did not return"


async def test_rule_14_sidecar_that_says_hello_during_the_drain_is_sent_away_too(tmp_path: Path) -> None:
    service = PolicyDiscovery("test.local", Registry(), server_id="x")
    async with discovering(tmp_path, service) as plane:
        stream = plane.stream()
        async with asyncio.timeout(30):
            while not service.waiting:
                await asyncio.sleep(0.01)

        await service.drain(0.0)
        await stream.hello()

        assert (await stream.read()).HasField("drain")


async def test_rule_15_sidecar_that_falls_silent_is_cut_off(tmp_path: Path) -> None:
    async with running(tmp_path, heartbeat_every=0.1) as plane:
        silent = plane.stream()
        await silent.hello()

        assert await silent.status() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_rule_15_stale_sidecar_is_healed(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        await plane.push(MODEL)
        stream = plane.stream()
        await stream.hello()
        await stream.synced()

        await stream.send(heartbeat=pb.Heartbeat(seq=1, applied={UPSTREAM: wire.state_digest({})}))

        delta = await stream.delta()
        assert delta.complete
        assert [resource.name for resource in delta.upserts] == ["model"]


async def test_rule_9_time_to_live_is_renewed_while_the_control_plane_is_heard(tmp_path: Path) -> None:
    async with running(tmp_path, heartbeat_every=2) as plane:
        await plane.push(airlock(ttl="1s"))
        stream = plane.stream()
        await stream.hello()
        (first,) = await stream.synced()
        assert first.upserts[0].ttl.seconds == 1

        renewal = await stream.delta()

        assert not renewal.upserts[0].HasField("body")
        assert renewal.upserts[0].version == first.upserts[0].version


async def test_message_above_the_limit_ends_the_stream_and_leaves_the_server_alive(plane: Plane) -> None:
    stream = plane.stream()
    too_large = pb.Hello(node=pb.Node(build="x" * MAX_MESSAGE))
    identity = plane.identity("sidecar/big")
    credentials = grpc.ssl_channel_credentials(plane.authority.ca_pem, identity.key_pem, identity.cert_pem)
    channel = grpc.aio.secure_channel(plane.address, credentials, [("grpc.max_send_message_length", -1)])
    plane.channels.append(channel)
    big = Stream(channel)

    await big.send(hello=too_large)

    assert await big.status() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await stream.hello()


async def test_message_just_below_the_limit_is_received(plane: Plane) -> None:
    stream = plane.stream()

    await stream.send(hello=pb.Hello(node=pb.Node(build="x" * (MAX_MESSAGE - 1000))))

    assert (await stream.read()).HasField("welcome")


@pytest.mark.parametrize("who", ["nobody", "foreign", "expired", "not yet valid"])
async def test_wrong_certificate_never_gets_a_stream(plane: Plane, tmp_path: Path, who: str) -> None:
    match who:
        case "nobody":
            identity = None
        case "foreign":
            foreign = LocalAuthority.open_or_create(tmp_path / "foreign", "test.local", now())
            identity = foreign.issue("sidecar/one", now=now())
        case "expired":
            identity = plane.identity("sidecar/one", at=now() - timedelta(hours=2))
        case _:
            identity = plane.identity("sidecar/one", at=now() + timedelta(hours=2))
    stream = Stream(plane.channel(identity))

    assert await stream.status() is grpc.StatusCode.UNAVAILABLE


async def test_sidecar_refuses_a_server_of_a_foreign_authority(plane: Plane, tmp_path: Path) -> None:
    foreign = LocalAuthority.open_or_create(tmp_path / "foreign", "test.local", now())

    stream = Stream(plane.channel(plane.identity("sidecar/one"), foreign.ca_pem))

    assert await stream.status() is grpc.StatusCode.UNAVAILABLE


async def test_sidecar_refuses_another_sidecar_that_poses_as_the_control_plane(plane: Plane, tmp_path: Path) -> None:
    impostor = plane.identity("sidecar/evil")
    server = grpc.aio.server()
    port = server.add_secure_port(
        "127.0.0.1:0",
        grpc.ssl_server_credentials([(impostor.key_pem, impostor.cert_pem)], plane.authority.ca_pem, True),
    )
    await server.start()
    identity = plane.identity("sidecar/one")
    credentials = grpc.ssl_channel_credentials(plane.authority.ca_pem, identity.key_pem, identity.cert_pem)
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
        assert await Stream(channel).status() is grpc.StatusCode.UNAVAILABLE
    await server.stop(0)


@pytest.mark.parametrize("name", ["operator/alice", "controlplane/two", "ledger/one", "someone"])
async def test_only_sidecars_receive_policies(plane: Plane, name: str) -> None:
    assert await plane.stream(name).status() is grpc.StatusCode.PERMISSION_DENIED


async def test_certificate_of_another_trust_domain_under_the_same_authority_is_refused(plane: Plane) -> None:
    authority = LocalAuthority("elsewhere", plane.authority._certificate, plane.authority._key)
    stream = Stream(plane.channel(authority.issue("sidecar/one", now=now())))

    assert await stream.status() is grpc.StatusCode.UNAUTHENTICATED


async def test_what_hello_claims_to_be_is_not_believed(plane: Plane) -> None:
    stream = plane.stream("sidecar/honest")
    await stream.hello(node="spiffe://test.local/sidecar/other")
    await stream.synced()

    (node,) = (await plane.admin().Status(admin_pb2.StatusRequest())).nodes

    assert node.spiffe_id == "spiffe://test.local/sidecar/honest"


async def test_renewed_certificate_is_taken_up_without_a_restart_and_streams_go_on(plane: Plane) -> None:
    running_stream = plane.stream()
    await running_stream.hello()
    await running_stream.synced()

    renewed = plane.authority.issue("controlplane/one", now=now(), hosts=("127.0.0.1",))
    renewed.write(plane.directory / "identity/one")

    fresh = plane.stream("sidecar/two")
    await fresh.hello()
    await plane.push(MODEL)
    assert (await running_stream.delta()).upserts[0].name == "model"


async def test_half_written_certificate_leaves_the_old_one_serving(plane: Plane) -> None:
    (plane.directory / "identity/one/tls.crt").write_text("half")

    stream = plane.stream()

    assert (await stream.hello()).server_id


async def test_streams_beyond_the_bound_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path, max_streams=1) as plane:
        first = plane.stream("sidecar/one")
        await first.hello()

        assert await plane.stream("sidecar/two").status() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_sidecar_that_leaves_stays_in_the_status_as_away(plane: Plane) -> None:
    stream = plane.stream()
    await stream.hello()
    await stream.synced()
    await stream.call.done_writing()
    assert await stream.status() is grpc.StatusCode.OK

    (node,) = (await plane.admin().Status(admin_pb2.StatusRequest())).nodes

    assert not node.connected
    assert node.last_seen.seconds > 0


async def test_health_is_answered_in_plaintext_and_turns_when_draining(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, grpc.aio.insecure_channel(f"127.0.0.1:{plane.ports.health}") as channel:
        watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING

        plane.stop.set()

        assert (await watching.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_time_from_change_to_ack_is_measured(plane: Plane) -> None:
    stream = plane.stream()
    await stream.hello()
    await stream.synced()
    await plane.push(MODEL)
    delta = await stream.delta()
    page = render([plane.metrics.snapshot()])[1].decode()
    assert "cp_push_inflight 1.0" in page

    await stream.ack(delta)
    await plane.push(airlock())
    await stream.delta()

    assert "cp_push_seconds_count 1.0" in render([plane.metrics.snapshot()])[1].decode()
