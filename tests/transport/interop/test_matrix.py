"""Every client with every server: they must agree on what happened, and the wire must not show the inner name.

A cell is left out where a peer lacks the means; the reason stands beside its `cells`.
"""

from collections.abc import Callable

import pytest

from tests.transport.interop.conftest import CELL
from tests.transport.interop.lab import PUBLIC, SECRET, Lab
from tests.transport.interop.peer_boringssl import BoringClient
from tests.transport.interop.peer_chromium import ChromiumClient
from tests.transport.interop.peer_go import GoClient, GoServer
from tests.transport.interop.peer_nss import NssClient, NssServer
from tests.transport.interop.peer_own import OwnClient, OwnServer
from tests.transport.interop.peer_rustls import RustlsClient
from tests.transport.interop.recorder import Recording, recording
from tests.transport.interop.scenarios import SCENARIOS, Client, Ech, Outcome, Running, Scenario, Server
from transport.ech.extension import parse_outer
from transport.tls13.constants import ExtensionType
from transport.tls13.messages import ClientHello
from transport.tls13.wire import vector

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

    wires = [each for each in recorder.recordings if each.client_hellos]
    assert wires, outcome.text
    stale = recovered if client.recovers else rejected
    wanted = {Ech.NONE: plain, Ech.REAL: accepted, Ech.STALE: stale, Ech.GREASE: greased}[scenario.ech]
    wanted(lab, outcome, running, wires)
    for wire in wires:
        assert len(wire.client_hellos) == 1 + scenario.is_retried, outcome.text
        assert scenario.group in (None, wire.group)


def plain(lab: Lab, outcome: Outcome, running: Running, wires: list[Recording]) -> None:
    """The recorder sees what there is to see: the other checks below mean something."""
    assert outcome.succeeded, outcome.text
    assert all(SECRET.encode() in wire.sent for wire in wires)
    same_handshake(outcome, running, SECRET, is_accepted=False)


def accepted(lab: Lab, outcome: Outcome, running: Running, wires: list[Recording]) -> None:
    assert outcome.succeeded, outcome.text
    assert outcome.accepted is not False
    only_the_public_name_shows(wires)
    same_handshake(outcome, running, SECRET, is_accepted=True)


def rejected(lab: Lab, outcome: Outcome, running: Running, wires: list[Recording]) -> None:
    assert not outcome.succeeded, outcome.text
    assert not outcome.accepted
    assert outcome.retry_key == lab.key.config.public_key, outcome.text
    only_the_public_name_shows(wires)
    assert not any(seen.accepted for seen in running.seen or ())


def recovered(lab: Lab, outcome: Outcome, running: Running, wires: list[Recording]) -> None:
    """Rejected, told the new key, and accepted: on two connections."""
    assert len(wires) > 1, outcome.text
    assert outcome.succeeded, outcome.text
    only_the_public_name_shows(wires)
    if running.seen is not None:
        assert [seen.accepted for seen in running.seen][-1]
        assert running.seen[-1].name == SECRET
    config_ids = [offered_config(wire) for wire in wires]
    assert config_ids[0] == lab.stale.config.config_id
    assert config_ids[-1] == lab.key.config.config_id


def greased(lab: Lab, outcome: Outcome, running: Running, wires: list[Recording]) -> None:
    assert outcome.succeeded, outcome.text
    hellos = [hello for wire in wires for hello in wire.client_hellos]
    assert all(hello.extension(ExtensionType.ENCRYPTED_CLIENT_HELLO) is not None for hello in hellos)
    assert not any(seen.accepted for seen in running.seen or ())


def same_handshake(outcome: Outcome, running: Running, name: str, *, is_accepted: bool) -> None:
    """What the server tells fits what the client tells."""
    if running.seen is not None:
        assert running.seen
        assert {(seen.name, seen.accepted) for seen in running.seen} == {(name, is_accepted)}
        assert outcome.exported in (None, running.seen[-1].exported)


def only_the_public_name_shows(wires: list[Recording]) -> None:
    for wire in wires:
        assert {name_in(hello) for hello in wire.client_hellos} == {PUBLIC}
        for stream in (wire.sent, wire.received):
            assert SECRET.encode() not in stream
            assert b"secret" not in stream


def offered_config(wire: Recording) -> int:
    extension = wire.client_hellos[0].extension(ExtensionType.ENCRYPTED_CLIENT_HELLO)
    assert extension is not None
    return parse_outer(extension).config_id


def name_in(hello: ClientHello) -> str | None:
    extension = hello.extension(ExtensionType.SERVER_NAME)
    if extension is None:
        return None
    name = extension.data[5:]
    assert extension.data == vector(2, b"\0" + vector(2, name))
    return name.decode()
