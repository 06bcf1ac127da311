"""`aegis tunnel probe` against other people's servers: accepted, stale with their retry_configs, and without ECH."""

import json
from base64 import b64encode
from pathlib import Path

import pytest
from click.testing import CliRunner

from aegis import main
from tests.transport.interop.lab import SECRET, Lab
from tests.transport.interop.peer_go import GoServer
from tests.transport.interop.peer_nss import NssServer
from tests.transport.interop.scenarios import SCENARIOS, Server

pytestmark = [pytest.mark.slow, pytest.mark.peers]
ECH = next(scenario for scenario in SCENARIOS if scenario.name == "ech")


@pytest.mark.parametrize("server", [GoServer(), NssServer()], ids=["go", "nss"])
def test_probe_tells_what_a_foreign_server_does_with_ech(lab: Lab, server: Server, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(lab.root_pem)

    def probe(port: int, *options: str) -> list[dict[str, object]]:
        arguments = ["tunnel", "probe", f"127.0.0.1:{port}", "--service", SECRET, "--ca", str(tmp_path / "ca.pem")]
        result = CliRunner().invoke(main, [*arguments, "--json", *options])
        attempts: list[dict[str, object]] = json.loads(result.output)
        return attempts

    with server.serve(lab, ECH, [lab.public, lab.secret]) as running:
        (fresh,) = probe(running.port, "--ech", b64encode(lab.config_list).decode())
        rejected, again = probe(running.port, "--ech", b64encode(lab.stale_list).decode())

    assert (fresh["succeeded"], fresh["ech"]) == (True, "accepted")
    assert (rejected["succeeded"], rejected["ech"]) == (False, "rejected")
    assert rejected["retry_configs"] == b64encode(lab.config_list).decode()
    assert (again["succeeded"], again["ech"]) == (True, "accepted")
