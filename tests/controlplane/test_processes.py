"""`aegis controlplane` as a process: killed, stopped, misconfigured."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aegispb.v1 import admin_pb2

from controlplane.app import Ports
from controlplane.identity.ca import LOOPBACK, LocalAuthority
from controlplane.identity.identity import Identity
from observability.metrics import Registry
from tests.controlplane.plane import Plane, now
from tests.sidecar.test_policy_client import MODEL, ROUTE, airlock, config_of, sidecar, until

pytestmark = pytest.mark.slow


class Killed:
    """A control plane process and a connection to it."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, plane: Plane, line: str) -> None:
        self.process, self.port, self.plane, self.line = process, port, plane, line


@asynccontextmanager
async def process(directory: Path, port: int = 0) -> AsyncIterator[Killed]:
    authority = LocalAuthority.open_or_create(directory / "ca", "test.local", now())
    authority.enroll(directory / "identity/cp", "controlplane/one", now=now(), hosts=LOOPBACK)
    arguments = ["--identity", str(directory / "identity/cp"), "--data", str(directory / "data")]
    arguments += ["--listen", f"127.0.0.1:{port}", "--health", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]
    code = "from aegis import main; main()"
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, "controlplane", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PYTHONUNBUFFERED": "1"},
    )
    assert started.stdout is not None
    line = (await started.stdout.readline()).decode()
    found = re.search(r"gRPC on port (\d+)", line)
    assert found, line
    opened = int(found[1])
    plane = Plane(directory, authority, Ports(opened, 0, None), asyncio.Event(), Registry(), None)
    try:
        yield Killed(started, opened, plane, line)
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()
        for channel in plane.channels:
            await channel.close()


async def test_kill_9_changes_nothing_for_sidecars_and_loses_no_revision(tmp_path: Path) -> None:
    async with process(tmp_path) as first:
        await first.plane.push(MODEL, airlock("one"), ROUTE)
        async with sidecar(tmp_path, f"127.0.0.1:{first.port}") as client:
            await until(lambda: client.current)
            assert await first.plane.push(airlock("two")) == 2
            await until(lambda: config_of(client).hint == "two")
            await until(lambda: client._kept is not None and not client._changed.is_set())

            first.process.send_signal(signal.SIGKILL)
            await first.process.wait()
            await until(lambda: not client.connected)
            assert config_of(client).hint == "two"

            async with process(tmp_path, first.port) as second:
                await until(lambda: client.connected, within=30)
                history = await second.plane.admin().History(admin_pb2.HistoryRequest())
                assert [revision.number for revision in history.revisions] == [2, 1]
                await second.plane.push(airlock("three"))
                await until(lambda: config_of(client).hint == "three")

    async with sidecar(tmp_path, f"127.0.0.1:{first.port}") as restarted:
        assert config_of(restarted).hint == "three"
        assert restarted.current is not None
        assert restarted.current.source == "lkg"


async def test_sigterm_drains_and_ends_with_status_0(tmp_path: Path) -> None:
    async with process(tmp_path) as running:
        stream = running.plane.stream()
        await stream.hello()
        await stream.synced()

        running.process.send_signal(signal.SIGTERM)

        assert (await stream.read()).HasField("drain")
        async with asyncio.timeout(30):
            assert await running.process.wait() == 0


async def test_metrics_are_served(tmp_path: Path) -> None:
    async with process(tmp_path) as running:
        found = re.search(r"metrics on port (\d+)", running.line)
        assert found

        def page() -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/metrics", timeout=30) as answer:
                return str(answer.read().decode())

        assert "cp_streams 0.0" in await asyncio.to_thread(page)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from aegis import main; main()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.run(
        [sys.executable, "-c", code, "controlplane", *arguments], capture_output=True, text=True, env=environment
    )


def test_missing_identity_and_taken_port_say_what_to_do(tmp_path: Path) -> None:
    missing = run("--identity", str(tmp_path / "none"))
    assert missing.returncode == 1
    assert "cannot read" in missing.stderr

    authority = LocalAuthority.open_or_create(tmp_path / "ca", "test.local", now())
    identity: Identity = authority.issue("controlplane/one", now=now(), hosts=LOOPBACK)
    identity.write(tmp_path / "id")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = run("--identity", str(tmp_path / "id"), "--data", str(tmp_path), "--listen", f"127.0.0.1:{port}")
    assert refused.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: the port is in use" in refused.stderr
    assert "Traceback" not in refused.stderr
