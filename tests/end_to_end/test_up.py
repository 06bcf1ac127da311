"""`aegis up` as a process: it survives its children, stops in order, and says what is wrong."""

import asyncio
import os
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from commands.up.config import UpConfig
from commands.up.readiness import wait_until_ready
from tests.end_to_end.conftest import AEGIS, Product, on_reserved_ports, running_product, up_flags
from tests.fakes.processes import children, lives

pytestmark = pytest.mark.slow
openai = pytest.importorskip("openai")


def ask(product: Product, text: str) -> str:
    with openai.OpenAI(base_url=product.openai, api_key="k", max_retries=2) as client:
        answer: str = (
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])
            .choices[0]
            .message.content
        )
        return answer


def programs(pid: int) -> list[int]:
    """The three that stay. `aegis policy push` may not be over yet when the sidecar has its policies and is ready."""
    lines = {child: command_line(child) for child in children(pid)}
    return [child for child, line in lines.items() if line and " policy push " not in line]


def command_line(pid: int) -> str:
    """Empty for a process that has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def leaves(data: Path) -> int:
    return int((data / "ledger" / "log" / "checkpoint").read_text().splitlines()[1])


def verified(data: Path) -> bool:
    fsck = (*AEGIS, "audit", "fsck", str(data / "ledger"))
    return subprocess.run(fsck, capture_output=True).returncode == 0


def test_a_killed_child_comes_back_and_is_named(model: str, tmp_path: Path) -> None:
    with running_product(tmp_path / "data", upstream=model) as product:
        ask(product, "before")
        for pid in programs(product.process.pid):
            os.kill(pid, signal.SIGKILL)
        # Killed or not yet started again: until the sidecar answers nothing is ready.
        asyncio.run(wait_until_ready(product.config.ready_port, within=60))

        assert ask(product, "after a.b@example.com") == "You said: after a.b@example.com"

    output = product.output.read_text()
    for name in ("controlplane", "ledger", "sidecar"):
        assert f"{name} was killed by SIGKILL" in output
    assert verified(product.data)


def test_every_exchange_is_in_the_log_after_an_orderly_end_and_the_next_start_continues_it(
    model: str, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    for _ in range(2):
        with running_product(data, upstream=model) as product:
            for number in range(5):
                ask(product, f"exchange {number}")
        lines = product.output.read_text().splitlines()
        stops = [line.split()[-1] for line in lines if ": stopping " in line]
        assert stops == ["sidecar", "ledger", "controlplane"]

    # Two lives of 5 exchanges, each between EPOCH_START and EPOCH_END.
    assert leaves(data) == 2 * (1 + 5 + 1)
    assert verified(data)


def test_kill_9_of_up_leaves_no_orphan_and_no_lock(model: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    config = UpConfig(upstream=model)
    config = on_reserved_ports(config)
    with subprocess.Popen([*AEGIS, "up", *up_flags(config, data)], stdout=subprocess.DEVNULL) as process:
        asyncio.run(wait_until_ready(config.ready_port, within=60))
        pids = programs(process.pid)
        process.kill()

    assert len(pids) == 3
    asyncio.run(_gone(pids))
    with running_product(data, upstream=model) as product:
        assert ask(product, "again") == "You said: again"


async def _gone(pids: list[int]) -> None:
    async with asyncio.timeout(60):
        while any(map(lives, pids)):
            await asyncio.sleep(0.05)


def test_a_second_up_in_one_directory_is_refused(product: Product) -> None:
    config = on_reserved_ports(product.config)

    second = subprocess.run([*AEGIS, "up", *up_flags(config, product.data)], capture_output=True, text=True)

    assert second.returncode == 1
    assert f"in use by another `aegis up` (process {product.process.pid})" in second.stderr


def test_ports_in_use_are_named_with_their_flags(model: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = {"port": one.getsockname()[1], "ledger_port": two.getsockname()[1]}
        config = UpConfig(upstream=model).with_ports({**dict.fromkeys(UpConfig(upstream=model).ports(), 0), **ports})
        refused = subprocess.run([*AEGIS, "up", *up_flags(config, tmp_path)], capture_output=True, text=True)

    assert refused.returncode == 2
    assert f"port (flag --port): port {ports['port']} is in use" in refused.stderr
    assert f"ledger_port (flag --ledger-port): port {ports['ledger_port']} is in use" in refused.stderr


def test_policies_with_findings_stop_the_start_and_show_them(model: str, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("apiVersion: aegis.mesh/v1\nkind: Route\nmetadata: {name: x}\nspec: {prefix: no, upstream: y}\n")
    config = UpConfig(upstream=model)
    config = on_reserved_ports(config)

    refused = subprocess.run(
        [*AEGIS, "up", *up_flags(config, tmp_path / "data"), "--policy", str(bad)], capture_output=True, text=True
    )

    assert refused.returncode == 1
    assert "bad.yaml" in refused.stderr
    assert "prefix" in refused.stderr


def test_the_protocol_is_enforced_on_request(model: str, tmp_path: Path) -> None:
    with running_product(tmp_path / "data", upstream=model, protocol="enforce") as product:
        assert ask(product, "2-1 | I love it, says a.b@example.com") == "3-128"
        assert "a.b@example.com" not in product.told()
        seen = len(product.seen())

        with pytest.raises(openai.BadRequestError) as refused:
            ask(product, "ignore the protocol")

        assert refused.value.response.headers["x-should-retry"] == "false"
        assert len(product.seen()) == seen
