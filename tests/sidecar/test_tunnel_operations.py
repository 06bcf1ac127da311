"""Tunnels as an operator handles them: the kill switch, the rollout, the pages and commands, over real sockets."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aegispb.v1 import tunnel_pb2
from click.testing import CliRunner

from aegis import main
from observability import names
from observability.metrics import Registry
from tests.fakes.chat import prompt
from tests.sidecar.test_tunnels import CHAT, SERVICE, Town, _until, documents, town

pytestmark = [pytest.mark.looptime(False), pytest.mark.slow]


def alerts(registry: Registry) -> set[str]:
    return {code for code, _ in registry.counter(names.ALERTS).values()}


async def aegis(*arguments: str, **environment: str) -> Any:
    result = await asyncio.to_thread(CliRunner().invoke, main, ["tunnel", *arguments, "--json"], env=environment)
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


async def one_exchange(it: Town) -> None:
    answer = await (await it.client()).post(CHAT, prompt("hello"))
    assert answer.status == 200


async def test_the_kill_switch_overrules_required_and_both_ends_raise_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECH_ENABLED", "false")
    async with town(tmp_path) as it:
        await one_exchange(it)

        assert it.decisions() == {("no_ech", "kill_switch"): 1}
        assert SERVICE.encode() not in it.wire.seen, "without ECH the name is inside Noise, not on the wire"
        assert "tunnel.required_overruled" in alerts(it.registries["bot"])
        await _until(lambda: "tunnel.downgrade_attempt" in alerts(it.registries["llm"]))


@pytest.mark.parametrize(
    ("percentage", "decision"), [("0", ("no_ech", "not_rolled_out")), ("100", ("ech", "rolled_out"))]
)
async def test_the_rollout_decides_where_ech_is_opportunistic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, percentage: str, decision: tuple[str, str]
) -> None:
    monkeypatch.setenv("ECH_ROLLOUT_PERCENTAGE", percentage)
    async with town(tmp_path, mode="opportunistic") as it:
        await one_exchange(it)

        assert it.decisions() == {decision: 1}
        assert SERVICE.encode() not in it.wire.seen
        assert not {code for code in alerts(it.registries["llm"]) if code.startswith("tunnel.")}


async def test_status_and_probe_tell_of_a_living_mesh(tmp_path: Path) -> None:
    async with town(tmp_path) as it:
        await one_exchange(it)
        it.plane.identity("operator/alice").write(tmp_path / "operator")
        environment = {"AEGIS_POLICY_SERVER": it.plane.address, "AEGIS_POLICY_IDENTITY": str(tmp_path / "operator")}

        dialler = await aegis("status", "--admin", f"127.0.0.1:{it.bot.ports['admin']}")
        acceptor = await aegis("status", "--admin", f"127.0.0.1:{it.llm.ports['admin']}")
        shown = await asyncio.to_thread(CliRunner().invoke, main, ["tunnel", "show", "--ech-configs"], env=environment)
        (probed,) = await aegis(
            *("probe", f"127.0.0.1:{it.llm.ports['tunnel_listen']}", "--service", SERVICE, "--min-pq"),
            *("--ech", shown.output.strip(), "--ca", str(tmp_path / "ca/ca.crt")),
        )

        assert dialler["mode_share"] == {"ech": 1.0, "no_ech": 0.0}
        assert (dialler["fallback_rate"], dialler["success_rate"]) == (0.0, {"dialler": 1.0})
        assert acceptor["success_rate"] == {"acceptor": 1.0}
        assert [key["state"] for key in acceptor["keys"]["ech_held"]] == ["ACTIVE"]
        assert dialler["keys"]["ech_held"] == []
        assert 0 <= dialler["keys"]["ech_age_seconds"] < 600
        assert (dialler["peers"]["llm"]["key_known"], acceptor["peers"]["llm"]["served_here"]) == (True, True)
        assert (probed["ech"], probed["group"]) == ("accepted", "X25519MLKEM768")


@pytest.mark.parametrize("mode", ["required", "off"])
async def test_another_public_name_waits_for_certificates_and_breaks_nothing(tmp_path: Path, mode: str) -> None:
    async with town(tmp_path, mode=mode) as it:
        await one_exchange(it)
        text = documents(it.wire, it.model.url, mode).replace("publicName: mesh.example", "publicName: other.example")

        await it.plane.push(text)
        await asyncio.sleep(3)  # several looks of the control plane at who has acknowledged
        shown = await it.admin.Show(tunnel_pb2.ShowTunnelsRequest())

        assert {(key.public_name, key.state) for key in shown.ech} == {
            ("mesh.example", "ACTIVE"),
            ("other.example", "ANNOUNCED"),
        }
        assert "spiffe://test.local/sidecar/llm" in {node.spiffe_id for node in shown.waiting_for}
        it.bot._tunnels._tunnels.renew()  # type: ignore[union-attr] # it has tunnels; the next one is a new one
        await one_exchange(it)
        assert sum(it.decisions().values()) == 2
        assert b"other.example" not in it.wire.seen
