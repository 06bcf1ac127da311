"""What must hold in a cell of the matrix, by what the client does about ECH."""

from collections.abc import Callable, Sequence
from typing import Protocol

from tests.transport.interop.lab import PUBLIC, SECRET, Lab
from tests.transport.interop.scenarios import Client, Ech, Outcome, Running, Scenario
from transport.ech.extension import parse_outer
from transport.tls13.constants import ExtensionType
from transport.tls13.messages import ClientHello
from transport.tls13.wire import vector


class Wire(Protocol):
    """What somebody on the path saw of one connection."""

    @property
    def sent(self) -> bytes | bytearray:
        """By the client: all bytes."""

    @property
    def received(self) -> bytes | bytearray:
        """By the client: all bytes."""

    @property
    def client_hellos(self) -> list[ClientHello]:
        """Those in the clear."""

    @property
    def group(self) -> int:
        """The group that the ServerHello chose."""


def check(
    lab: Lab, client: Client, scenario: Scenario, outcome: Outcome, running: Running, everything: Sequence[Wire]
) -> None:
    """Client and server agree, and the wire is silent."""
    wires = [each for each in everything if each.client_hellos]
    assert wires, outcome.text
    stale = recovered if client.recovers else rejected
    checks: dict[Ech, Callable[[Lab, Outcome, Running, Sequence[Wire]], None]]
    checks = {Ech.NONE: plain, Ech.REAL: accepted, Ech.STALE: stale, Ech.GREASE: greased}
    checks[scenario.ech](lab, outcome, running, wires)
    if stale is rejected and scenario.ech is Ech.STALE and client.tells_retry:
        assert outcome.retry_key == lab.key.config.public_key, outcome.text
    for wire in wires:
        assert len(wire.client_hellos) == 1 + scenario.is_retried, outcome.text
        assert scenario.group in (None, wire.group)


def plain(lab: Lab, outcome: Outcome, running: Running, wires: Sequence[Wire]) -> None:
    """The recorder sees what there is to see: the other checks below mean something."""
    assert outcome.succeeded, outcome.text
    assert all(SECRET.encode() in wire.sent for wire in wires)
    same_handshake(outcome, running, SECRET, is_accepted=False)


def accepted(lab: Lab, outcome: Outcome, running: Running, wires: Sequence[Wire]) -> None:
    assert outcome.succeeded, outcome.text
    assert outcome.accepted is not False
    only_the_public_name_shows(wires)
    same_handshake(outcome, running, SECRET, is_accepted=True)


def rejected(lab: Lab, outcome: Outcome, running: Running, wires: Sequence[Wire]) -> None:
    assert not outcome.succeeded, outcome.text
    assert not outcome.accepted
    only_the_public_name_shows(wires)
    assert not any(seen.accepted for seen in running.seen or ())


def recovered(lab: Lab, outcome: Outcome, running: Running, wires: Sequence[Wire]) -> None:
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


def greased(lab: Lab, outcome: Outcome, running: Running, wires: Sequence[Wire]) -> None:
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


def only_the_public_name_shows(wires: Sequence[Wire]) -> None:
    for wire in wires:
        assert {name_in(hello) for hello in wire.client_hellos} == {PUBLIC}
        for stream in (wire.sent, wire.received):
            assert SECRET.encode() not in stream
            assert b"secret" not in stream


def offered_config(wire: Wire) -> int:
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
