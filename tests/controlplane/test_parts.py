"""Small parts of the control plane: settings, who a peer is, what is remembered, what is proposed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aegispb.v1 import discovery_pb2 as pb

import settings
from controlplane import catalog
from controlplane.config import ControlPlaneConfig
from controlplane.discovery import roster
from controlplane.discovery.desired import Desired, Frames
from controlplane.discovery.roster import Roster
from controlplane.discovery.session import Session
from controlplane.identity.credentials import server_credentials
from controlplane.identity.peer import peer_of
from controlplane.identity.spiffe import IdentityError, SpiffeId
from policies import wire
from policies.airlock.config import AirlockConfig
from policies.errors import SpecError
from policies.spec import Document, Kind, Source


def config(**given: str) -> ControlPlaneConfig:
    flags = {"identity": "/id", **given}
    return settings.load(ControlPlaneConfig, prefix="AEGIS_CONTROLPLANE_", flags=flags, environ={}, file=None).config


def test_store_is_sqlite_in_the_data_directory_unless_another_one_is_named() -> None:
    assert config(data="/d").store_url == "sqlite:////d/policies.db"
    assert config(database="postgresql://db").store_url == "postgresql://db"
    assert config(metrics="").metrics is None


def test_password_of_the_database_is_never_shown() -> None:
    environ = {"AEGIS_CONTROLPLANE_IDENTITY": "/id", "AEGIS_CONTROLPLANE_DATABASE": "postgresql://bob:hunter2@db/x"}

    resolved = settings.load(ControlPlaneConfig, prefix="AEGIS_CONTROLPLANE_", environ=environ)

    assert resolved.config.store_url == "postgresql://bob:hunter2@db/x"
    assert "hunter2" not in settings.show(resolved) + repr(resolved)
    assert not any(setting.flag == "--database" for setting in settings.settings_of(ControlPlaneConfig))


def test_wrong_settings_are_named_at_once() -> None:
    with pytest.raises(settings.SettingsError) as refused:
        config(log_level="loud", health="127.0.0.1:8443", heartbeat_every="1h")

    assert all(name in str(refused.value) for name in ("log_level", "heartbeat_every"))
    with pytest.raises(settings.SettingsError, match=r"127\.0\.0\.1:8443 is the setting listen already"):
        config(health="127.0.0.1:8443")


@dataclass
class Call:
    """A call whose certificate names these URIs."""

    uris: list[bytes] | None

    def auth_context(self) -> Any:
        return {} if self.uris is None else {"peer_uri": self.uris}


@pytest.mark.parametrize(
    "uris",
    [
        None,
        [],
        [b"spiffe://td/sidecar/one", b"spiffe://td/operator/eve"],
        [b"spiffe://other/sidecar/one"],
        [b"https://td/sidecar/one"],
        [b"spiffe://td/sidecar/\xff"],
        [b"spiffe://td"],
    ],
)
def test_peer_without_exactly_one_id_of_our_trust_domain_is_nobody(uris: list[bytes] | None) -> None:
    with pytest.raises(IdentityError):
        peer_of(Call(uris), "td")


def test_peer_is_who_the_certificate_names() -> None:
    assert peer_of(Call([b"spiffe://td/sidecar/one"]), "td") == SpiffeId("td", "sidecar/one")


def session(node: str) -> Session:
    return Session(pb.Hello(node=pb.Node(id=node)), Desired.nothing(), Frames(), 10, 0.0)


def test_roster_forgets_those_who_are_away_longest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "MAX_KNOWN", 3)
    peer, known = SpiffeId("td", "sidecar/one"), Roster()
    sessions = [session(f"pod-{number}") for number in range(4)]
    for each in sessions[:3]:
        known.join(peer, each, 0.0)
    known.leave(peer, sessions[1], 0.5)

    known.join(peer, sessions[3], 1.0)

    assert [node.session.node_id for node in known] == ["pod-0", "pod-2", "pod-3"]
    known.join(peer, session("pod-4"), 2.0)
    assert [node.session.node_id for node in known] == ["pod-2", "pod-3", "pod-4"]


def test_roster_forgets_those_who_left_a_day_ago() -> None:
    peer, known = SpiffeId("td", "sidecar/one"), Roster()
    stays, leaves = session("stays"), session("leaves")
    known.join(peer, stays, 0.0)
    known.join(peer, leaves, 0.0)
    known.leave(peer, leaves, 10.0)

    known.forget(86_400.0)
    assert len(list(known)) == 2
    known.forget(86_411.0)
    assert [node.session.node_id for node in known] == ["stays"]


def test_end_of_a_former_stream_does_not_end_the_one_that_took_its_place() -> None:
    peer, known = SpiffeId("td", "sidecar/one"), Roster()
    former, latter = session("pod"), session("pod")
    known.join(peer, former, 0.0)
    known.join(peer, latter, 1.0)

    known.leave(peer, former, 2.0)

    (node,) = known
    assert node.connected
    assert node.session is latter


AIRLOCK = "apiVersion: aegis.mesh/v1\nkind: AirlockPolicy\nmetadata: {name: x}\nspec: {profile: pci}\n"


def test_stored_document_that_this_build_cannot_read_is_named_and_nothing_is_proposed() -> None:
    newer = wire.resource(Document("old", AirlockConfig()))
    newer.body += b"\xfa\x3f\x01x"

    with pytest.raises(SpecError, match="AirlockPolicy 'old': in force, but this control plane cannot read it"):
        catalog.propose([Source("a", AIRLOCK)], {(Kind.AIRLOCK, "old"): newer}, prune=False)


def test_document_that_is_too_large_to_send_is_a_finding() -> None:
    large = AIRLOCK.replace("{profile: pci}", "{profile: pci, hint: " + "x" * (wire.MAX_BODY - 120) + "}")

    with pytest.raises(SpecError, match="can be sent"):
        catalog.propose([Source("a", large)], {}, prune=False)


def test_policy_that_cannot_be_built_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("of some text")

    monkeypatch.setattr(catalog.policy_compile, "build", fail)

    with pytest.raises(SpecError, match=r"AirlockPolicy 'x': cannot be built: MemoryError$"):
        catalog.propose([Source("a", AIRLOCK)], {}, prune=False)


def test_server_without_an_identity_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="cannot read"):
        server_credentials(tmp_path, print)
