"""A node's life: made explicitly, started alone, stopped in order; every refusal says what to do."""

import asyncio
import shutil
import socket
from pathlib import Path

import grpc
import pytest

from controlplane.ledger import keys, node
from controlplane.ledger.backends import posix
from controlplane.ledger.config import LedgerConfig
from controlplane.ledger.errors import (
    ConflictError,
    DamagedLogError,
    DrainError,
    FatalError,
    KeyFileError,
    NodeError,
    NoLogError,
    StartError,
)
from ledger.policy import parse_policy
from observability.metrics import Registry
from settings import Address, SettingsError, load
from tests.controlplane.ledger.nodes import config_of, running, stream, until
from tests.fakes.ledger_producers import batch


async def start(directory: Path, **settings: object) -> None:
    """A node that should not come up."""
    stop = asyncio.Event()
    await node.run(config_of(directory, **settings), stop, lambda _: stop.set(), Registry())


def test_new_log_has_private_keys_and_a_policy_for_auditors(tmp_path: Path) -> None:
    signers = node.initialise(tmp_path / "data", "forest.example/node-a")

    for name in ("log.key", "cosigner.key"):
        assert (tmp_path / "data/keys" / name).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "data/keys").stat().st_mode & 0o777 == 0o700
    assert keys.load(tmp_path / "data/keys").ed25519.key == signers.ed25519.key
    policy = parse_policy((tmp_path / "data/policy").read_bytes())
    assert [log.key.name for log in policy.logs] == ["forest.example/node-a"] * 2
    assert policy.verify((tmp_path / "data/log/checkpoint").read_bytes()).size == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data"]


def test_two_logs_without_a_name_get_different_ones(tmp_path: Path) -> None:
    assert node.initialise(tmp_path / "a", "").origin != node.initialise(tmp_path / "b", "").origin


def test_i8_nothing_is_made_over_anything(tmp_path: Path) -> None:
    node.initialise(tmp_path / "data", "one")
    with pytest.raises(ConflictError, match="not empty"):
        node.initialise(tmp_path / "data", "one")


@pytest.mark.parametrize("origin", ["a b", "a+b", "a\nb", "\N{NO-BREAK SPACE}"])
def test_impossible_origins_leave_nothing_behind(tmp_path: Path, origin: str) -> None:
    with pytest.raises(KeyFileError, match="origin"):
        node.initialise(tmp_path / "data", origin)
    assert list(tmp_path.iterdir()) == []


async def test_i8_log_is_made_only_when_asked_for(tmp_path: Path) -> None:
    with pytest.raises(NoLogError, match="aegis ledger init"):
        await start(tmp_path / "data", init_if_missing=False)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("lost", ["log/.state/lock", "log/checkpoint", "log", "keys", "keys/cosigner.key"])
async def test_i8_half_a_log_is_never_replaced_by_a_new_one(tmp_path: Path, lost: str) -> None:
    node.initialise(tmp_path / "data", "one")
    (tmp_path / "data" / lost).rename(tmp_path / "taken away")

    with pytest.raises((DamagedLogError, KeyFileError, NodeError)):
        await start(tmp_path / "data")

    assert not (tmp_path / "data" / lost).exists()


async def test_second_node_on_one_log_does_not_start(tmp_path: Path) -> None:
    async with running(tmp_path / "data"):
        with pytest.raises(ConflictError, match="another process"):
            await start(tmp_path / "data")


async def test_log_restored_from_a_backup_is_refused(tmp_path: Path) -> None:
    async def grow(first: int) -> None:
        async with running(tmp_path / "data") as one, stream(one.doors.grpc_port) as call:
            await call.write(batch(first, 5))
            await until(call, first + 4)

    await grow(0)
    (tmp_path / "data/log").rename(tmp_path / "kept")
    backup = {p.relative_to(tmp_path / "kept"): p.read_bytes() for p in (tmp_path / "kept").rglob("*") if p.is_file()}
    (tmp_path / "kept").rename(tmp_path / "data/log")
    await grow(5)
    (tmp_path / "data/log").rename(tmp_path / "evidence")
    for path, content in backup.items():
        (tmp_path / "data/log" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data/log" / path).write_bytes(content)

    with pytest.raises(DamagedLogError, match="backup"):
        await start(tmp_path / "data")


async def test_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    node.initialise(tmp_path / "data", "one")
    (tmp_path / "data/keys/log.key").chmod(0o644)

    with pytest.raises(KeyFileError, match="chmod 600"):
        await start(tmp_path / "data")


def test_key_files_that_are_not_what_they_should_be_are_refused_without_showing_them(tmp_path: Path) -> None:
    node.initialise(tmp_path / "data", "one")
    node.initialise(tmp_path / "other", "two")
    log_key, cosigner = tmp_path / "data/keys/log.key", tmp_path / "data/keys/cosigner.key"
    kept = cosigner.read_bytes()
    for content, complaint in (
        (b"PRIVATE+KEY+one+00000000+AAAA", "no signing key"),
        (b"\xff", "no signing key"),
        (log_key.read_bytes(), "type"),
        ((tmp_path / "other/keys/cosigner.key").read_bytes(), "two different logs"),
    ):
        cosigner.write_bytes(content)
        with pytest.raises(KeyFileError, match=complaint) as refusal:
            keys.load(tmp_path / "data/keys")
        assert content[-20:].decode(errors="replace") not in str(refusal.value)
    cosigner.write_bytes(kept)
    keys.load(tmp_path / "data/keys")


async def test_address_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(StartError, match=str(address.port)):
            await start(tmp_path / "data", http=address)
        with pytest.raises(StartError, match=str(address.port)):
            await start(tmp_path / "data", grpc=address)


async def test_missing_certificate_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"tls\.crt"):
        await start(tmp_path / "data", identity=tmp_path / "nowhere")


async def test_stopped_node_leaves_nothing_to_replay(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as one, stream(one.doors.grpc_port) as call:
        await call.write(batch(0, 300))
        await until(call, 299)
        assert list((tmp_path / "data/log/.state/staging").iterdir())

    assert list((tmp_path / "data/log/.state/staging").iterdir()) == []


async def test_storage_that_stops_working_stops_the_node_and_its_streams(tmp_path: Path) -> None:
    async def life() -> None:
        async with running(tmp_path / "data") as one, stream(one.doors.grpc_port) as call:
            await call.write(batch(0, 5))
            await until(call, 4)
            (tmp_path / "data/log/.state/lock").chmod(0o644)
            (tmp_path / "data/log/.state/lock").write_bytes(b"somebody else was here")
            await call.write(batch(5, 5))
            with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
                await until(call, 9)
            await one.task

    with pytest.raises(ExceptionGroup) as raised:
        await life()
    assert raised.group_contains(FatalError)


async def test_node_that_cannot_finish_in_time_says_so(tmp_path: Path) -> None:
    async def life() -> None:
        async with running(tmp_path / "data", drain_timeout=0.2) as one, stream(one.doors.grpc_port) as call:
            await call.write(batch(0, 1))
            await until(call, 0)
            staging = tmp_path / "data/log/.state/staging"
            shutil.rmtree(staging)
            staging.write_bytes(b"in the way")
            await call.write(batch(1, 1))
            while (await one.get("/healthz"))[0] != 503:
                await asyncio.sleep(0.01)
            one.stop.set()
            await one.task

    with pytest.raises(ExceptionGroup) as raised:
        await life()
    assert raised.group_contains(DrainError)


def test_plain_text_is_refused_on_addresses_that_others_reach(tmp_path: Path) -> None:
    def findings(**settings: str) -> str:
        environ = {f"AEGIS_LEDGER_{name.upper()}": value for name, value in settings.items()}
        with pytest.raises(SettingsError) as refusal:
            load(LedgerConfig, prefix="AEGIS_LEDGER_", environ={"AEGIS_LEDGER_DATA": str(tmp_path)} | environ)
        return str(refusal.value)

    assert "other machines" in findings(insecure_loopback="true", grpc="0.0.0.0:8463")
    assert "choose one" in findings(insecure_loopback="true", identity=str(tmp_path))
    assert "--insecure-loopback" in findings()


async def test_log_that_lies_in_the_way_of_nothing_is_used_as_it_is(tmp_path: Path) -> None:
    """`--init-if-missing` on a log that is there is no initialisation."""
    node.initialise(tmp_path / "data", "one")
    async with running(tmp_path / "data", origin="two") as one:
        assert one.doors.origin == "one"
    posix.PosixStorage(tmp_path / "data/log").close()
