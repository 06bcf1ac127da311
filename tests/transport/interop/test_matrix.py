"""Every client with every server: they must agree on what happened, and the wire must not show the inner name.

A cell is left out where a peer lacks the means; the reason stands beside its `cells`.
"""

from collections.abc import Callable

import pytest

from tests.transport.interop.conftest import CELL
from tests.transport.interop.lab import PUBLIC, SECRET, Lab
from tests.transport.interop.peer_boringssl import BoringClient
from tests.transport.interop.peer_go import GoClient, GoServer
from tests.transport.interop.peer_nss import NssClient, NssServer
from tests.transport.interop.peer_own import OwnClient, OwnServer
from tests.transport.interop.peer_rustls import RustlsClient
from tests.transport.interop.recorder import Recording, recording
from tests.transport.interop.scenarios import SCENARIOS, Client, Ech, Outcome, Running, Scenario, Server
from transport.tls13.constants import ExtensionType
from transport.tls13.messages import ClientHello
from transport.tls13.wire import vector

CLIENTS: tuple[Client, ...] = (OwnClient(), GoClient(), NssClient(), BoringClient(), RustlsClient())
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

    wire = recorder.recordings[-1]
    wanted = {Ech.NONE: plain, Ech.REAL: accepted, Ech.STALE: rejected, Ech.GREASE: greased}[scenario.ech]
    wanted(lab, outcome, running, wire)
    assert len(wire.client_hellos) == 1 + scenario.is_retried, outcome.text
    if scenario.group is not None:
        assert wire.group == scenario.group


def plain(lab: Lab, outcome: Outcome, running: Running, wire: Recording) -> None:
    """The recorder sees what there is to see: the other checks below mean something."""
    assert outcome.succeeded, outcome.text
    assert SECRET.encode() in wire.sent
    same_handshake(outcome, running, SECRET, is_accepted=False)


def accepted(lab: Lab, outcome: Outcome, running: Running, wire: Recording) -> None:
    assert outcome.succeeded, outcome.text
    assert outcome.accepted is not False
    only_the_public_name_shows(wire)
    same_handshake(outcome, running, SECRET, is_accepted=True)


def rejected(lab: Lab, outcome: Outcome, running: Running, wire: Recording) -> None:
    assert not outcome.succeeded, outcome.text
    assert not outcome.accepted
    assert outcome.retry_key == lab.key.config.public_key, outcome.text
    only_the_public_name_shows(wire)
    assert not any(seen.accepted for seen in running.seen or ())


def greased(lab: Lab, outcome: Outcome, running: Running, wire: Recording) -> None:
    assert outcome.succeeded, outcome.text
    assert all(hello.extension(ExtensionType.ENCRYPTED_CLIENT_HELLO) is not None for hello in wire.client_hellos)
    assert not any(seen.accepted for seen in running.seen or ())


def same_handshake(outcome: Outcome, running: Running, name: str, *, is_accepted: bool) -> None:
    """What the server tells fits what the client tells."""
    if running.seen is not None:
        (seen,) = running.seen
        assert (seen.name, seen.accepted) == (name, is_accepted)
        assert outcome.exported in (None, seen.exported)


def only_the_public_name_shows(wire: Recording) -> None:
    assert wire.client_hellos
    for hello in wire.client_hellos:
        assert name_in(hello) == PUBLIC
    for stream in (wire.sent, wire.received):
        assert SECRET.encode() not in stream
        assert b"secret" not in stream


def name_in(hello: ClientHello) -> str | None:
    extension = hello.extension(ExtensionType.SERVER_NAME)
    if extension is None:
        return None
    name = extension.data[5:]
    assert extension.data == vector(2, b"\0" + vector(2, name))
    return name.decode()
