"""`aegis up` before anything runs: settings, ports, the lock, the default policy."""

import asyncio
import itertools
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import settings
from commands.up import identities
from commands.up.child import ended
from commands.up.config import UpConfig
from commands.up.directory import Directory, DirectoryInUseError, locked
from commands.up.documents import default_policies
from commands.up.ports import settled
from commands.up.readiness import NotReadyError, wait_until_open, wait_until_ready
from controlplane.identity.identity import Identity
from controlplane.identity.spiffe import IdentityError
from policies.errors import SpecError
from policies.mathprotocol.config import ProtocolMode
from policies.snapshot import AuditMode
from policies.spec import NONE, Kind, RouteSpec, Source
from policies.spec_load import load
from settings import SettingsError

ANY = dict.fromkeys(UpConfig(upstream="http://x").ports(), 0)


def up(**given: object) -> UpConfig:
    return settings.load(UpConfig, prefix="AEGIS_UP_", flags=given).config


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("upstream", ["http://127.0.0.1:8000", "https://api.example.com/base", "http://[::1]:1"])
def test_a_model_server_is_a_url(upstream: str) -> None:
    assert up(upstream=upstream).upstream == upstream


@pytest.mark.parametrize(
    "upstream",
    ["", "127.0.0.1:8000", "ftp://x", "http://", "http://x:99999", "http://u:p@x", "http://x/?a=1", "http://x:0"],
)
def test_what_is_no_model_server_is_refused(upstream: str) -> None:
    with pytest.raises(SettingsError, match=r"upstream \(flag --upstream\)"):
        up(upstream=upstream)


def test_a_port_cannot_be_given_twice() -> None:
    with pytest.raises(SettingsError, match=r"metrics_port .*15080 is the setting port already"):
        up(upstream="http://x", metrics_port="15080")


def test_port_0_takes_a_free_one_each() -> None:
    ports = settled(UpConfig(upstream="http://x").with_ports(ANY)).ports()

    assert len(set(ports.values()) - {0}) == len(ports)


def test_every_taken_port_is_reported_with_its_flag(taken: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        ports = {**ANY, "port": taken, "grpc_port": other.getsockname()[1]}

        with pytest.raises(SettingsError) as caught:
            settled(UpConfig(upstream="http://x").with_ports(ports))

    assert [finding.origin for finding in caught.value.findings] == ["flag --port", "flag --grpc-port"]
    assert f"port {taken} is in use" in str(caught.value)


def test_a_taken_port_can_give_way(taken: int) -> None:
    config = settled(UpConfig(upstream="http://x").with_ports({**ANY, "port": taken}), give_way=True)

    assert config.port not in {0, taken}


def test_a_second_up_on_one_directory_is_refused_by_name_of_the_first(tmp_path: Path) -> None:
    with locked(tmp_path / "data"), pytest.raises(DirectoryInUseError, match=f"process {os.getpid()}"):  # noqa: SIM117
        with locked(tmp_path / "data"):
            pass
    with locked(tmp_path / "data"):
        pass


def test_a_killed_up_leaves_no_lock(tmp_path: Path) -> None:
    script = (
        "import os, sys, pathlib\nfrom commands.up.directory import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=Path(__file__).parents[2])

    with locked(tmp_path):
        pass


def test_the_directory_is_for_its_owner_only(tmp_path: Path) -> None:
    with locked(tmp_path / "data") as directory:
        assert directory.root.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("protocol", ProtocolMode)
def test_the_default_policy_protects_and_audits_every_route(protocol: ProtocolMode) -> None:
    documents = load([Source("policies.yaml", default_policies("http://127.0.0.1:8000/v1/", protocol))])

    routes = [document.body for document in documents if isinstance(document.body, RouteSpec)]
    assert {"/openai", "/anthropic", "/"} == {route.prefix for route in routes}
    assert {AuditMode.REQUIRED} == {route.audit for route in routes}
    assert {"hipaa-safe-harbor"} == {route.airlock for route in routes}
    assert {NONE if protocol is ProtocolMode.OFF else "mathprotocol"} == {route.protocol for route in routes}
    assert [d.body.url for d in documents if d.kind is Kind.UPSTREAM] == ["http://127.0.0.1:8000/v1"]


def test_an_upstream_cannot_write_policy_of_its_own() -> None:
    upstream = 'http://x/"\nspec: {url: http://evil}\n#'

    with pytest.raises(SpecError, match="url"):
        load([Source("policies.yaml", default_policies(upstream, ProtocolMode.OFF))])


@contextmanager
def answering(*answers: bytes) -> Iterator[int]:
    """A port that gives these answers in turn, the last one for ever."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for answer in itertools.chain(answers, itertools.repeat(answers[-1])):
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


async def test_up_waits_for_200() -> None:
    with answering(b"", b"garbage", b"HTTP/1.1 503 x\r\n\r\npolicy", b"HTTP/1.1 200 OK\r\n\r\n") as port:
        await wait_until_ready(port, within=30, every=0)


async def test_who_is_not_ready_in_time_says_what_is_missing() -> None:
    with (
        answering(b"HTTP/1.1 503 x\r\n\r\npolicy: none received yet") as port,
        pytest.raises(NotReadyError, match=r"after 0 s: policy: none received yet"),
    ):
        await wait_until_ready(port, within=0, every=0)


async def test_nothing_on_the_port_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(NotReadyError, match=f"nothing answers on port {port}"):
        await wait_until_ready(port, within=0, every=0)
    with pytest.raises(NotReadyError, match=f"nothing answers on port {port}"):
        await wait_until_open(port, within=0, every=0)


async def test_a_command_that_nobody_waits_for_any_more_is_killed(tmp_path: Path) -> None:
    command = ("/bin/sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 60")
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(ended(command, within=50))
        await until(lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text()))
        waiting.cancel()

    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


async def test_a_command_that_takes_too_long_is_killed() -> None:
    with pytest.raises(TimeoutError):
        await ended(("/bin/sleep", "60"), within=0.01)


async def test_a_command_tells_how_it_ended() -> None:
    assert await ended(("/bin/sh", "-c", "echo out; echo err >&2; exit 3"), 50) == (3, b"out\n", b"err\n")


async def test_certificates_that_cannot_be_renewed_now_are_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identities, "_LOOK_EVERY", 0.01)
    said: list[str] = []
    now = datetime(2026, 11, 20, tzinfo=UTC)
    directory = Directory(tmp_path)
    identities.enroll_all(directory, now)
    key = (directory.authority / "ca.key").read_bytes()
    (directory.authority / "ca.key").write_text("a disk that lost it")
    renewing = asyncio.create_task(  # noqa: TID251 cancelled below
        identities.keep_enrolled(directory, lambda: now + timedelta(hours=20), said.append)
    )
    await until(lambda: len(said) > 1)
    before = Identity.read(directory.identity("sidecar"))
    (directory.authority / "ca.key").write_bytes(key)

    def is_renewed() -> bool:
        with suppress(IdentityError):  # between two of its files
            return Identity.read(directory.identity("sidecar")) != before
        return False

    await until(is_renewed)
    renewing.cancel()
    assert "cannot be renewed now" in said[0]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.01)
