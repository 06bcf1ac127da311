"""The same over QUIC, where nobody else has a server with ECH: every client with ours."""

from collections.abc import Callable

import pytest

pytest.importorskip("aioquic", reason="the extra quic is not installed")

from tests.transport.interop.checks import check
from tests.transport.interop.conftest import CELL
from tests.transport.interop.lab import Lab
from tests.transport.interop.peer_boringssl import BoringClient
from tests.transport.interop.peer_chromium import ChromiumClient
from tests.transport.interop.peer_own_quic import OwnQuicClient, OwnQuicServer
from tests.transport.interop.peer_qh3 import Qh3Client
from tests.transport.interop.recorder_quic import recording_quic
from tests.transport.interop.scenarios import SCENARIOS, Client, Ech, Scenario

CLIENTS: tuple[Client, ...] = (OwnQuicClient(), BoringClient(http3=True), Qh3Client(), ChromiumClient(http3=True))
CELLS = [(client, scenario) for client in CLIENTS for scenario in SCENARIOS if scenario.name in client.cells]


@pytest.mark.slow
@pytest.mark.peers
@pytest.mark.timeout(150)
@pytest.mark.parametrize(("client", "scenario"), CELLS, ids=[f"{c.name}, {scenario}" for c, scenario in CELLS])
def test_client_and_server_agree_over_quic_and_the_wire_is_silent(
    lab: Lab, client: Client, scenario: Scenario, record_property: Callable[[str, object], None]
) -> None:
    server = OwnQuicServer()
    record_property(CELL, (f"{client.name} -> {server.name}", scenario.name))
    names_both = client.checks_inner_name and scenario.ech is Ech.STALE
    chains = [lab.both] if names_both else [lab.public, lab.secret]
    with server.serve(lab, scenario, chains) as running, recording_quic(running.port) as recorder:
        outcome = client.fetch(lab, scenario, recorder.port)

    check(lab, client, scenario, outcome, running, recorder.recordings)
