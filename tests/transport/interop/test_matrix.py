"""Every client with every server: they must agree on what happened, and the wire must not show the inner name.

A cell is left out where a peer lacks the means; the reason stands beside its `cells`.
"""

from collections.abc import Callable

import pytest

from tests.transport.interop.checks import check
from tests.transport.interop.conftest import CELL
from tests.transport.interop.lab import Lab
from tests.transport.interop.peer_boringssl import BoringClient
from tests.transport.interop.peer_chromium import ChromiumClient
from tests.transport.interop.peer_go import GoClient, GoServer
from tests.transport.interop.peer_nss import NssClient, NssServer
from tests.transport.interop.peer_own import OwnClient, OwnServer
from tests.transport.interop.peer_rustls import RustlsClient
from tests.transport.interop.recorder import recording
from tests.transport.interop.scenarios import SCENARIOS, Client, Ech, Scenario, Server

CLIENTS: tuple[Client, ...] = (OwnClient(), GoClient(), NssClient(), BoringClient(), RustlsClient(), ChromiumClient())
SERVERS: tuple[Server, ...] = (OwnServer(), GoServer(), NssServer())
FAULTS = {
    (
        "go",
        "nss",
        "ech+hrr",
    ): "NSS 3.87 wants its cookie in the outer second hello too, Go has it in the inner one only",
}
"""Cells that fail, and why it is not a fault of ours."""
CELLS = [
    (client, server, scenario)
    for server in SERVERS
    for client in CLIENTS
    for scenario in SCENARIOS
    if scenario.name in client.cells & server.cells and (client.name, server.name, scenario.name) not in FAULTS
]


@pytest.mark.slow
@pytest.mark.peers
@pytest.mark.timeout(150)
@pytest.mark.parametrize(
    ("client", "server", "scenario"), CELLS, ids=[f"{c.name} to {s.name}, {scenario}" for c, s, scenario in CELLS]
)
def test_client_and_server_agree_and_the_wire_is_silent(
    lab: Lab, client: Client, server: Server, scenario: Scenario, record_property: Callable[[str, object], None]
) -> None:
    record_property(CELL, (f"{client.name} -> {server.name}", scenario.name))
    names_both = client.checks_inner_name and scenario.ech is Ech.STALE
    chains = [lab.both] if names_both else [lab.public, lab.secret]
    with server.serve(lab, scenario, chains) as running, recording(running.port) as recorder:
        outcome = client.fetch(lab, scenario, recorder.port)

    check(lab, client, scenario, outcome, running, recorder.recordings)
