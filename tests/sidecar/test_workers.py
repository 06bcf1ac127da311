"""Several processes on one port, started as a user would."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from settings import Address
from sidecar.app import CannotListenError
from sidecar.config import SidecarConfig
from sidecar.workers import Workers
from tests.fakes.chat import completion, prompt
from tests.fakes.datapath import answering_upstream
from tests.fakes.processes import children, lives
from tests.sidecar.test_app import CHAT, ask, connected, policy

pytestmark = pytest.mark.slow


@asynccontextmanager
async def running_workers(tmp_path: Path, url: str, ports: dict[str, int]) -> AsyncIterator[asyncio.subprocess.Process]:
    file = tmp_path / "policy.yaml"
    file.write_text(policy(url, airlock="none"))
    flags = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aegis", "sidecar", "--workers", "2", "--policy-file", str(file)),
        *("--data", str(tmp_path / "data"), "--drain-timeout", "5"),
        *(text for name, address in flags.items() for text in (f"--{name}", address)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[2],
    )
    try:
        await _until_ready(ports["ready"])
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.communicate()


async def test_workers_share_a_port_survive_a_death_and_end_together(tmp_path: Path, free_ports: list[int]) -> None:
    ports = dict(zip(("listen", "ready", "metrics", "admin"), free_ports, strict=False))
    async with (
        answering_upstream(completion("ok")) as upstream,
        running_workers(tmp_path, upstream.url, ports) as process,
    ):
        for _ in range(20):
            async with connected(ports["listen"]) as client:
                assert (await client.post(CHAT, prompt("x"))).status == 200
        metrics = (await ask(ports["metrics"], "GET", "/metrics")).body.decode()
        clients = json.loads((await ask(ports["admin"], "GET", "/clients")).body)
        workers = children(process.pid)
        os.kill(workers[0], signal.SIGKILL)
        async with asyncio.timeout(30):
            while workers[0] in children(process.pid):
                await asyncio.sleep(0.02)
        await _until_ready(ports["ready"])
        async with connected(ports["listen"]) as client:
            after = await client.post(CHAT, prompt("x"))

        assert sum(float(v.split()[-1]) for v in _samples(metrics, "aegis_exchanges_total")) == 20
        assert sorted(clients) == ["worker-0", "worker-1"]
        assert len(workers) == 2
        assert after.status == 200
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            assert await process.wait() == 0


async def test_workers_do_not_outlive_their_parent(tmp_path: Path, free_ports: list[int]) -> None:
    ports = dict(zip(("listen", "ready", "metrics", "admin"), free_ports, strict=False))
    async with answering_upstream() as upstream, running_workers(tmp_path, upstream.url, ports) as process:
        workers = children(process.pid)

        process.kill()

        assert len(workers) == 2
        async with asyncio.timeout(30):
            while any(map(lives, workers)):
                await asyncio.sleep(0.05)


def _samples(page: str, name: str) -> list[str]:
    return [line for line in page.splitlines() if line.startswith(name + "{")]


async def _until_ready(port: int) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                if (await ask(port, "GET", "/healthz/ready")).status == 200:
                    return
            except (OSError, asyncio.IncompleteReadError):
                pass
            await asyncio.sleep(0.1)


async def test_workers_learn_secrets_from_the_environment_and_no_file_holds_them(
    tmp_path: Path, free_ports: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AEGIS_SIDECAR_BANS_REDIS", "redis://:canary-password@127.0.0.1:1")
    ports = dict(zip(("listen", "ready", "metrics", "admin"), free_ports, strict=False))
    # Where nobody else's workers have theirs, and short: the name of a socket has at most 107 bytes.
    with tempfile.TemporaryDirectory() as directory:
        monkeypatch.setenv("TMPDIR", directory)
        async with answering_upstream(completion("ok")) as upstream, running_workers(tmp_path, upstream.url, ports):
            kept = [path.read_bytes() for path in Path(directory).glob("aegis-sidecar-*/config.json")]

    assert len(kept) == 1
    assert not [held for held in kept if b"canary-password" in held]


async def test_temporary_directory_that_is_too_long_for_sockets_is_told_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    config = SidecarConfig(listen=Address("127.0.0.1", 0), policy_file=(tmp_path,), workers=2)

    with pytest.raises(CannotListenError, match=r"TMPDIR: .* at most 107 bytes"):
        await Workers(config).run(lambda _: pytest.fail("it cannot be ready"))
