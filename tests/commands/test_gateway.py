"""`aegis gateway`: what it says before it serves."""

import asyncio
import gc
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner

from aegis import main


def test_a_port_that_is_taken_is_told_and_nothing_is_called_ready() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        done = CliRunner().invoke(main, ["gateway", "--listen", address])

    assert done.exit_code == 1
    assert done.output.startswith(f"Error: --listen {address}: Address already in use")
    assert "gateway on" not in done.output


def test_without_a_token_it_is_not_for_strangers() -> None:
    done = CliRunner().invoke(main, ["gateway", "--listen", "0.0.0.0:0"])

    assert done.exit_code == 2
    assert "set AEGIS_GATEWAY_TOKEN" in done.output


@pytest.mark.slow
@pytest.mark.looptime(False)
async def test_dead_letters_outlive_kill_9_and_hold_no_text_on_disk(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        upstream = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"

    @asynccontextmanager
    async def running() -> AsyncIterator[tuple[httpx2.AsyncClient, asyncio.subprocess.Process]]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "aegis", "gateway", "--listen", "127.0.0.1:0", "--upstream", upstream),
            *("--data", str(tmp_path)),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        async with asyncio.timeout(60):
            said = (await process.stdout.readline()).decode()
        address = said.split("http://")[1].split(",")[0]
        async with httpx2.AsyncClient(base_url=f"http://{address}", trust_env=False) as client:
            try:
                yield client, process
            finally:
                if process.returncode is None:
                    process.kill()
                await process.wait()

    async with running() as (client, process):
        refused = await client.post("/v2/process", json={"request": "[19-1]->[3-1] | MRN 48392117"})
        process.kill()
    async with running() as (client, _):
        (summary,) = (await client.get("/v2/dead-letters")).json()
        letter = (await client.get(f"/v2/dead-letters/{summary['id']}")).json()

    assert refused.status_code == 502
    assert summary["id"] in refused.json()["error"]["message"]
    assert letter["request"] == "[19-1]->[3-1] | MRN 48392117"
    assert not any(b"48392117" in file.read_bytes() for file in tmp_path.iterdir())


def test_a_vault_that_cannot_be_opened_stops_the_start_and_is_named(tmp_path: Path, free_ports: list[int]) -> None:
    (tmp_path / "dead-letters.db").write_bytes(b"something else " * 100)

    done = CliRunner().invoke(main, ["gateway", "--listen", f"127.0.0.1:{free_ports[0]}", "--data", str(tmp_path)])

    assert done.exit_code == 1
    with socket.create_server(("127.0.0.1", free_ports[0])):
        pass  # it is not held any more
    assert "dead-letters.db cannot be opened: SQLITE_NOTADB" in done.output
    del done
    gc.collect()  # a port that was left open is told of here and not in somebody else's test
