"""`AuditIngest.Append` over real gRPC: the MUSTs of proto/aegispb/v1/audit.proto, and what strangers may not do."""

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from aegispb.v1 import audit_pb2, audit_pb2_grpc

from controlplane.identity.ca import LOOPBACK, LocalAuthority
from controlplane.identity.identity import Identity
from controlplane.ledger.ingest import MAX_LEAVES
from ledger.tiles import pack_entries, unpack_entries
from observability import names
from tests.controlplane.ledger.nodes import running, stream, until
from tests.fakes.ledger_producers import OTHER, PRODUCER, batch, leaf

Code = grpc.StatusCode


def covered(acks: list[audit_pb2.LeafAck]) -> dict[int, int]:
    """seq -> index, as the acknowledgements say."""
    return {ack.through_seq - ack.count + 1 + at: ack.first_index + at for ack in acks for at in range(ack.count)}


async def test_acknowledged_leaves_stand_in_the_published_log(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as node, stream(node.doors.grpc_port) as call:
        for first in (0, 64, 128):
            await call.write(batch(first, 64))

        acks = await until(call, 191)

        _, _, checkpoint = await node.get("/checkpoint")
        assert acks[-1].tree_size == int(checkpoint.split(b"\n")[1]) == 192
        assert acks[-1].origin == node.doors.origin
        assert acks[-1].state == audit_pb2.LeafAck.DURABLE
        assert acks[-1].credit >= 4096
        places = covered(acks)
        assert sorted(places) == list(range(192))
        _, _, bundle = await node.get("/tile/entries/000.p/192")
        assert [unpack_entries(bundle, 192)[places[seq]] for seq in range(192)] == [leaf(seq) for seq in range(192)]


async def test_empty_batch_is_told_where_to_resume(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as node:
        async with stream(node.doors.grpc_port) as call:
            await call.write(audit_pb2.LeafBatch(producer_id=PRODUCER, epoch=1))
            answer = await call.read()
            assert (answer.next_seq, answer.count, answer.through_seq) == (0, 0, 0)
            await call.write(batch(0, 10))
            await until(call, 9)
        async with stream(node.doors.grpc_port) as call:
            await call.write(audit_pb2.LeafBatch(producer_id=PRODUCER, epoch=1))
            answer = await call.read()
            assert (answer.next_seq, answer.count, answer.through_seq) == (10, 0, 9)


async def test_repeated_number_is_answered_with_the_index_recorded_first(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as node:
        async with stream(node.doors.grpc_port) as call, stream(node.doors.grpc_port) as other:
            for first in (0, 5):
                await other.write(batch(first, 5, producer_id=OTHER))
                await until(other, first + 4)
                await call.write(batch(first, 5))
                await until(call, first + 4)
        async with stream(node.doors.grpc_port) as call:
            await call.write(batch(2, 10))
            places = covered(await until(call, 11))

    assert places == {2: 7, 3: 8, 4: 9, 5: 15, 6: 16, 7: 17, 8: 18, 9: 19, 10: 20, 11: 21}


async def test_restarted_node_knows_every_leaf_also_without_its_index(tmp_path: Path) -> None:
    for start in ("first", "with its index", "without its index"):
        if start == "without its index":
            (tmp_path / "data/index.sqlite3").unlink()
        async with running(tmp_path / "data") as node, stream(node.doors.grpc_port) as call:
            await call.write(batch(0, 300))
            assert covered(await until(call, 299)) == {seq: seq for seq in range(300)}
    async with running(tmp_path / "data") as node:
        assert node.doors.size == 300


async def ending(call: grpc.aio.StreamStreamCall) -> tuple[Code, str]:
    """How the node ends the stream; what it acknowledges before is passed over."""
    with suppress(grpc.aio.AioRpcError):
        while await call.read() is not grpc.aio.EOF:
            pass
    return await call.code(), await call.details()


async def refused(call: grpc.aio.StreamStreamCall, message: audit_pb2.LeafBatch) -> tuple[Code, str]:
    with suppress(grpc.aio.AioRpcError):  # it may be refused before it is sent
        await call.write(message)
    return await ending(call)


async def test_gap_is_refused_and_the_expected_number_is_named(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as node, stream(node.doors.grpc_port) as call:
        await call.write(batch(0, 5))
        await until(call, 4)
        await call.write(batch(6, 1))

        answer = await call.read()

        assert answer.next_seq == 5
        assert await ending(call) == (Code.FAILED_PRECONDITION, "expected seq 5")


@pytest.mark.parametrize("durable", [True, False])
async def test_number_that_comes_again_with_another_leaf_is_refused(tmp_path: Path, durable: bool) -> None:
    async with running(tmp_path / "data", period=0.01 if durable else 5.0) as node:
        async with stream(node.doors.grpc_port) as call:
            if not durable:  # let a first growth pass, so that the next one waits for the period
                await call.write(batch(0, 1, epoch=9))
                await until(call, 0)
        async with stream(node.doors.grpc_port) as call:
            await call.write(batch(0, 5))
            if durable:
                await until(call, 4)
            code, details = await refused(call, batch(3, 5, content=1))

    assert (code, details) == (Code.ALREADY_EXISTS, "seq 3 was recorded with another leaf; begin a new epoch")


def mismatched() -> dict[str, audit_pb2.LeafBatch]:
    good = batch(0, 3)

    def changed(**fields: object) -> audit_pb2.LeafBatch:
        message = audit_pb2.LeafBatch()
        message.CopyFrom(good)
        for name, value in fields.items():
            setattr(message, name, value)
        return message

    return {
        "short producer id": changed(producer_id=b"p"),
        "leaves of another producer": changed(producer_id=OTHER),
        "leaves of another epoch": changed(epoch=2),
        "leaves of other numbers": changed(first_seq=1),
        "count too small": changed(count=2),
        "count too large": changed(count=4),
        "count zero with leaves": changed(count=0),
        "too many leaves": batch(0, MAX_LEAVES + 1),
        "epoch too large": changed(epoch=1 << 63),
        "seq too large": changed(first_seq=(1 << 63) - 1),
        "no leaf": changed(packed=pack_entries([b"x" * 96] * 3)),
        "leaves too short": changed(packed=pack_entries([leaf(seq)[:-1] for seq in range(3)])),
        "garbage": changed(packed=b"\xff" * 294),
        "empty leaves": changed(packed=bytes(6)),
    }


async def test_batch_that_is_not_what_it_says_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as node:
        for what, message in mismatched().items():
            async with stream(node.doors.grpc_port) as call:
                code, _ = await refused(call, message)
                assert code is Code.INVALID_ARGUMENT, what


async def test_messages_larger_than_grpcs_default_limit_are_read(tmp_path: Path) -> None:
    """The option is set: 4 MiB and more are refused by us and not by gRPC, beyond 16 MiB the other way round."""
    async with running(tmp_path / "data") as node:
        for size, code in ((5 << 20, Code.INVALID_ARGUMENT), (17 << 20, Code.RESOURCE_EXHAUSTED)):
            async with stream(node.doors.grpc_port) as call:
                message = audit_pb2.LeafBatch(producer_id=PRODUCER, epoch=1, packed=bytes(size), count=1)
                assert (await refused(call, message))[0] is code


@pytest.mark.slow
async def test_clients_may_ping_as_often_as_they_are_told_to(tmp_path: Path) -> None:
    """Pings every 10 s on an idle stream: with gRPC's defaults the server hangs up after 50 s (ENHANCE_YOUR_CALM)."""
    options = (("grpc.keepalive_time_ms", 10_000), ("grpc.http2.max_pings_without_data", 0))
    async with running(tmp_path / "data") as node:
        channel = grpc.aio.insecure_channel(f"localhost:{node.doors.grpc_port}", options=options)
        async with channel:
            call = audit_pb2_grpc.AuditIngestStub(channel).Append()
            await call.write(batch(0, 1))
            await until(call, 0)
            await asyncio.sleep(58)
            await call.write(batch(1, 1))
            assert (await until(call, 1))[-1].through_seq == 1
            call.cancel()


async def test_log_that_cannot_be_read_is_a_reason_to_come_back_later(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as node:
        async with stream(node.doors.grpc_port) as call:
            await call.write(batch(0, 5))
            await until(call, 4)
        (tmp_path / "data/log/tile/0/000.p/5").unlink()
        async with stream(node.doors.grpc_port) as call:
            code, details = await refused(call, batch(0, 5))

    assert (code, details) == (Code.UNAVAILABLE, "the log cannot be read now")


async def test_one_stream_is_for_one_producer_and_epoch(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as node, stream(node.doors.grpc_port) as call:
        await call.write(batch(0, 5))
        await until(call, 4)

        code, _ = await refused(call, batch(0, 1, epoch=2))

    assert code is Code.INVALID_ARGUMENT


async def test_newer_stream_of_a_producer_ends_the_older_one(tmp_path: Path) -> None:
    async with (
        running(tmp_path / "data") as node,
        stream(node.doors.grpc_port) as old,
        stream(node.doors.grpc_port) as new,
    ):
        await old.write(batch(0, 5))
        await until(old, 4)
        await new.write(batch(5, 5))
        await until(new, 9)

        assert (await ending(old))[0] is Code.ABORTED


async def test_client_that_ends_its_stream_still_gets_every_acknowledgement(tmp_path: Path) -> None:
    async with running(tmp_path / "data", period=0.1) as node, stream(node.doors.grpc_port) as call:
        for first in range(0, 1000, 100):
            await call.write(batch(first, 100))
        await call.done_writing()

        assert sorted(covered(await until(call, 999))) == list(range(1000))
        assert await ending(call) == (Code.OK, "")


async def test_more_leaves_outstanding_than_the_credit_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path / "data", period=10.0) as node:
        async with stream(node.doors.grpc_port) as call:
            await call.write(batch(0, 1, epoch=9))
            await until(call, 0)
        async with stream(node.doors.grpc_port) as call:
            for first in range(0, 3 * MAX_LEAVES, MAX_LEAVES):
                await call.write(batch(first, MAX_LEAVES))

            assert (await ending(call))[0] is Code.RESOURCE_EXHAUSTED
        node.stop.set()


async def test_stopping_node_makes_everything_durable_that_it_took(tmp_path: Path) -> None:
    async with running(tmp_path / "data", period=5.0) as node, stream(node.doors.grpc_port) as call:
        await call.write(batch(0, 1))
        await until(call, 0)
        await call.write(batch(1, 50))
        async with asyncio.timeout(10):
            while node.metrics.gauge(names.LEDGER_POOL).values() != {(): 50}:
                await asyncio.sleep(0.002)

        node.stop.set()

        assert (await until(call, 50))[-1].through_seq == 50
        assert await ending(call) == (Code.OK, "")


# --- who may ---


def credentials(identity: Identity) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(identity.ca_pem, identity.key_pem, identity.cert_pem)


@pytest.fixture
def authority(tmp_path: Path) -> LocalAuthority:
    authority = LocalAuthority.open_or_create(tmp_path / "ca", "local", _now())
    authority.enroll(tmp_path / "identity", "ledger/one", now=_now(), hosts=LOOPBACK)
    return authority


def _now() -> datetime:
    return datetime.fromtimestamp(time.time_ns() / 1e9, UTC)


async def test_sidecar_with_a_certificate_may_write(tmp_path: Path, authority: LocalAuthority) -> None:
    me = credentials(authority.issue("sidecar/one", now=_now()))
    async with (
        running(tmp_path / "data", identity=tmp_path / "identity") as node,
        stream(node.doors.grpc_port, me) as call,
    ):
        await call.write(batch(0, 5))
        assert covered(await until(call, 4)) == {0: 0, 1: 1, 2: 2, 3: 3, 4: 4}


async def test_producer_id_of_another_sidecar_is_refused_also_after_a_restart(
    tmp_path: Path, authority: LocalAuthority
) -> None:
    one = credentials(authority.issue("sidecar/one", now=_now()))
    two = credentials(authority.issue("sidecar/two", now=_now()))
    for first in (0, 5):
        async with running(tmp_path / "data", identity=tmp_path / "identity") as node:
            async with stream(node.doors.grpc_port, one) as call:
                await call.write(batch(first, 5))
                await until(call, first + 4)
            async with stream(node.doors.grpc_port, two) as call:
                assert (await refused(call, batch(first + 5, 1)))[0] is Code.PERMISSION_DENIED


async def test_what_is_no_sidecar_may_not_write(tmp_path: Path, authority: LocalAuthority) -> None:
    operator = credentials(authority.issue("operator/alice", now=_now()))
    async with (
        running(tmp_path / "data", identity=tmp_path / "identity") as node,
        stream(node.doors.grpc_port, operator) as call,
    ):
        # Refused before it says anything. A write would race with the refusal, and gRPC calls what loses INTERNAL.
        assert (await ending(call))[0] is Code.PERMISSION_DENIED


async def test_strangers_do_not_get_in(tmp_path: Path, authority: LocalAuthority) -> None:
    stranger = LocalAuthority.open_or_create(tmp_path / "other-ca", "local", _now()).issue("sidecar/one", now=_now())
    forged = grpc.ssl_channel_credentials(authority.ca_pem, stranger.key_pem, stranger.cert_pem)
    nameless = grpc.ssl_channel_credentials(authority.ca_pem)
    async with running(tmp_path / "data", identity=tmp_path / "identity") as node:
        for who in (forged, nameless, None):
            async with stream(node.doors.grpc_port, who) as call:
                with pytest.raises(grpc.aio.AioRpcError) as refusal:
                    await call.read()
                assert refusal.value.code() is Code.UNAVAILABLE


async def test_garbage_on_the_wire_does_not_disturb_others(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as node, stream(node.doors.grpc_port) as call:
        for garbage in (
            b"\x00" * 1000,
            b"GET / HTTP/1.1\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 1000,
        ):
            _, writer = await asyncio.open_connection("127.0.0.1", node.doors.grpc_port)
            writer.write(garbage)
            await writer.drain()
            writer.close()
        await call.write(batch(0, 5))

        assert covered(await until(call, 4))
