"""What operators do with policies, over real sockets and mutual TLS."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from aegispb.v1 import admin_pb2 as pb
from aegispb.v1 import admin_pb2_grpc

from controlplane.app import MAX_MESSAGE
from controlplane.catalog import MAX_DOCUMENTS
from policies import wire
from policies.spec import Kind
from tests.controlplane.plane import Plane, running

HEAD = "apiVersion: aegis.mesh/v1\n"
MODEL = HEAD + "kind: Upstream\nmetadata: {name: model}\nspec: {url: http://127.0.0.1:8000}\n"
AIRLOCK = HEAD + "kind: AirlockPolicy\nmetadata: {name: hipaa}\nspec: {profile: hipaa_safe_harbor}\n"
ROUTE = HEAD + "kind: Route\nmetadata: {name: all}\nspec: {prefix: /, upstream: model, airlock: hipaa}\n"


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    async with running(tmp_path) as started:
        yield started


def files(*texts: str) -> list[pb.SourceFile]:
    return [pb.SourceFile(name=f"{number}.yaml", text=text) for number, text in enumerate(texts)]


async def test_push_makes_one_revision_with_its_author_and_reason(plane: Plane) -> None:
    answer = await plane.admin().Push(pb.PushRequest(sources=files(MODEL, AIRLOCK, ROUTE), reason="first day"))

    assert answer.revision == 1
    assert [(change.kind, change.action) for change in answer.changes] == [
        ("Upstream", pb.Change.CREATED),
        ("AirlockPolicy", pb.Change.CREATED),
        ("Route", pb.Change.CREATED),
    ]
    (revision,) = (await plane.admin().History(pb.HistoryRequest())).revisions
    assert (revision.author, revision.reason) == ("spiffe://test.local/operator/alice", "first day")
    assert list(revision.created) == ["AirlockPolicy/hipaa", "Route/all", "Upstream/model"]
    assert revision.at.seconds > 0


async def test_push_with_one_wrong_document_changes_nothing(plane: Plane) -> None:
    await plane.push(MODEL)

    answer = await plane.admin().Push(pb.PushRequest(sources=files(AIRLOCK, ROUTE.replace("hipaa", "hippa"))))

    (finding,) = answer.findings
    assert (finding.file, finding.line, finding.field) == ("1.yaml", 4, "spec.airlock")
    assert "did you mean 'hipaa'" in finding.hint
    assert answer.revision == 1
    assert (await plane.admin().List(pb.ListRequest())).revision == 1


async def test_pushed_documents_are_added_to_those_in_force(plane: Plane) -> None:
    await plane.push(MODEL, AIRLOCK)

    await plane.push(ROUTE)

    listed = await plane.admin().List(pb.ListRequest())
    assert {document.kind for document in listed.documents} == {"Upstream", "AirlockPolicy", "Route"}


async def test_prune_removes_what_is_not_named_and_says_what_still_needs_it(plane: Plane) -> None:
    await plane.push(MODEL, AIRLOCK, ROUTE)

    answer = await plane.admin().Push(pb.PushRequest(sources=files(MODEL, AIRLOCK), prune=True))
    assert [(change.kind, change.action) for change in answer.changes] == [("Route", pb.Change.REMOVED)]

    refused = await plane.admin().Push(pb.PushRequest(sources=files(ROUTE, MODEL), prune=True))
    assert "there is no AirlockPolicy 'hipaa'" in refused.findings[0].message


async def test_push_without_a_difference_makes_no_revision(plane: Plane) -> None:
    await plane.push(MODEL)

    answer = await plane.admin().Push(pb.PushRequest(sources=files("# only a comment\n" + MODEL)))

    assert (answer.revision, list(answer.changes)) == (1, [])


async def test_push_on_an_old_revision_is_aborted(plane: Plane) -> None:
    await plane.push(MODEL)

    with pytest.raises(grpc.aio.AioRpcError, match="newest revision is 1") as refused:
        await plane.admin().Push(pb.PushRequest(sources=files(AIRLOCK), expect_revision=0))

    assert refused.value.code() is grpc.StatusCode.ABORTED


async def test_pushes_at_the_same_time_all_arrive_in_some_order(plane: Plane) -> None:
    stub = plane.admin()
    texts = [AIRLOCK.replace("hipaa}", f"p{number}}}") for number in range(5)]

    answers = await asyncio.gather(*(stub.Push(pb.PushRequest(sources=files(text))) for text in texts))

    assert sorted(answer.revision for answer in answers) == [1, 2, 3, 4, 5]
    assert len((await stub.List(pb.ListRequest())).documents) == 5


async def test_diff_shows_both_texts_and_changes_nothing(plane: Plane) -> None:
    await plane.push(MODEL)

    answer = await plane.admin().Diff(pb.DiffRequest(sources=files(MODEL.replace("8000", "9000"))))

    (change,) = answer.changes
    assert "8000" in change.before
    assert "9000" in change.after
    assert answer.revision == 1
    assert (await plane.admin().List(pb.ListRequest())).revision == 1


async def test_validate_knows_what_is_in_force(plane: Plane) -> None:
    assert (await plane.admin().Validate(pb.ValidateRequest(sources=files(ROUTE)))).findings
    await plane.push(MODEL, AIRLOCK)

    answer = await plane.admin().Validate(pb.ValidateRequest(sources=files(ROUTE)))

    assert (list(answer.findings), answer.documents) == ([], 1)


async def test_rollback_is_a_new_revision_with_the_old_documents(plane: Plane) -> None:
    await plane.push(MODEL, AIRLOCK)
    await plane.push(AIRLOCK.replace("hipaa_safe_harbor", "pci"))

    answer = await plane.admin().Rollback(pb.RollbackRequest(revision=1))

    assert answer.revision == 3
    stub = plane.admin()
    old, new = await stub.List(pb.ListRequest(revision=1)), await stub.List(pb.ListRequest())
    assert old.documents == new.documents
    newest = (await stub.History(pb.HistoryRequest(limit=1))).revisions[0]
    assert (newest.restored, newest.reason) == (1, "rollback to revision 1")


async def test_rollback_reaches_the_sidecars(plane: Plane) -> None:
    await plane.push(MODEL)
    stream = plane.stream()
    await stream.hello()
    (first,) = await stream.synced()
    await plane.push(MODEL.replace("8000", "9000"))
    await stream.ack(await stream.delta())

    await plane.admin().Rollback(pb.RollbackRequest(revision=1))

    delta = await stream.delta()
    assert delta.upserts[0].version == first.upserts[0].version
    assert delta.revision == 3


@pytest.mark.parametrize("method", ["List", "Rollback"])
async def test_unknown_revision_is_not_found(plane: Plane, method: str) -> None:
    request = {"List": pb.ListRequest, "Rollback": pb.RollbackRequest}[method](revision=7)

    with pytest.raises(grpc.aio.AioRpcError, match="no revision 7") as refused:
        await getattr(plane.admin(), method)(request)

    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


METHODS = {
    "Validate": pb.ValidateRequest(),
    "Diff": pb.DiffRequest(),
    "Push": pb.PushRequest(sources=files(MODEL)),
    "Rollback": pb.RollbackRequest(revision=1),
    "Status": pb.StatusRequest(),
    "List": pb.ListRequest(),
    "History": pb.HistoryRequest(),
}


@pytest.mark.parametrize("name", ["sidecar/one", "ns/app/sa/default", "controlplane/one", "operators/eve"])
async def test_only_operators_may_call_any_method(plane: Plane, name: str) -> None:
    stub = plane.admin(name)
    for method, request in METHODS.items():
        with pytest.raises(grpc.aio.AioRpcError, match="not an operator") as refused:
            await getattr(stub, method)(request)

        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert (await plane.admin().List(pb.ListRequest())).revision == 0


async def test_status_tells_versions_wanted_and_in_force(plane: Plane) -> None:
    await plane.push(MODEL)
    stream = plane.stream()
    await stream.hello(node="pod-7")
    (first,) = await stream.synced()
    await plane.push(MODEL.replace("8000", "9000"))
    await stream.delta()  # not answered yet

    status = await plane.admin().Status(pb.StatusRequest())

    (node,) = status.nodes
    (resource,) = node.resources
    assert (status.revision, node.revision_lag, node.node_id, node.build) == (2, 1, "pod-7", "test")
    assert resource.applied_version == first.upserts[0].version
    assert resource.desired_version not in ("", resource.applied_version)
    assert (node.wanted, node.in_force) == (1, 0)


async def test_status_lists_what_agrees_only_when_asked(plane: Plane) -> None:
    await plane.push(MODEL)
    stream = plane.stream()
    await stream.hello()
    await stream.synced()

    (brief,) = (await plane.admin().Status(pb.StatusRequest())).nodes
    (whole,) = (await plane.admin().Status(pb.StatusRequest(every_resource=True))).nodes

    assert (len(brief.resources), len(whole.resources)) == (0, 1)
    assert (brief.wanted, brief.in_force, brief.revision_lag) == (1, 1, 0)


async def test_policies_and_history_survive_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        await plane.push(MODEL, AIRLOCK, ROUTE)

    async with running(tmp_path) as plane:
        stream = plane.stream()
        await stream.hello()
        assert [delta.type_url for delta in await stream.synced()] == [
            wire.TYPE_URLS[kind] for kind in (Kind.UPSTREAM, Kind.AIRLOCK, Kind.ROUTE)
        ]
        assert len((await plane.admin().History(pb.HistoryRequest())).revisions) == 1


async def test_too_many_documents_are_a_finding(plane: Plane) -> None:
    many = "---\n".join(MODEL.replace("name: model", f"name: m{number}") for number in range(MAX_DOCUMENTS // 2 + 1))
    halves = [many, many.replace("name: m", "name: n")]

    answer = await plane.admin().Push(pb.PushRequest(sources=files(*halves)))

    assert "documents of" in answer.findings[0].message


async def test_push_above_the_message_limit_is_refused_and_the_server_lives(plane: Plane) -> None:
    identity = plane.identity("operator/alice")
    credentials = grpc.ssl_channel_credentials(plane.authority.ca_pem, identity.key_pem, identity.cert_pem)
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.secure_channel(plane.address, credentials, options) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await admin_pb2_grpc.PolicyAdminStub(channel).Push(pb.PushRequest(sources=files("x" * (MAX_MESSAGE + 1))))

    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await plane.push(MODEL) == 1


async def test_endless_reason_is_refused(plane: Plane) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await plane.admin().Push(pb.PushRequest(sources=files(MODEL), reason="x" * 1001))

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
