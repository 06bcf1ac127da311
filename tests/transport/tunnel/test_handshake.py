"""TLS and Noise as one handshake: who gets a tunnel, who does not, and what the wire shows of it."""

import os
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.fakes.mesh import ALICE, BOB, CREDENTIAL, PKI, PUBLIC_NAME, SERVICE, Mesh, ech_key, feed, shake, static_key
from tests.fakes.tls13 import NOW, Pki
from transport.decisions import TunnelMode
from transport.ech.config import encode_config_list
from transport.fallback import Outcome
from transport.noise.errors import NoiseError
from transport.noise.package import initiator
from transport.tls13 import client, server
from transport.tls13.config import ClientConfig, ServerConfig
from transport.tls13.constants import ExtensionType, NamedGroup
from transport.tls13.events import ApplicationData, EchStatus, HandshakeComplete
from transport.tls13.messages import Extension
from transport.tunnel.accepting import Accepting
from transport.tunnel.dialling import NOISE, Dialling, _usable
from transport.tunnel.errors import HandshakeError, Refusal, RefusedError, RejectedError
from transport.tunnel.greeting import Greeting
from transport.tunnel.prologue import ALPN, Prologue


def outcome_of(dialling: Dialling, accepting: Accepting) -> tuple[Outcome | None, Refusal | None]:
    """How a handshake that must not succeed ends at either end; None: nobody said anything."""
    outcome, refusal = None, None
    for _ in range(6):
        feed(accepting.connection, dialling.connection.data_to_send())
        try:
            assert accepting.advance() is None, "the acceptor has a tunnel"
        except RefusedError as error:
            refusal = refusal or error.refusal
        feed(dialling.connection, accepting.connection.data_to_send())
        try:
            dialling.advance()
        except HandshakeError as error:
            outcome = outcome or error.outcome
    return outcome, refusal


@pytest.mark.parametrize("cut", [None, 1, 100], ids=["whole", "bytes", "pieces"])
@pytest.mark.parametrize("mode", list(TunnelMode)[:2])
def test_both_ends_know_each_other_and_have_the_same_hash(mode: TunnelMode, cut: int | None) -> None:
    mesh = Mesh()
    ech = mesh.key.config if mode is TunnelMode.ECH else None

    asking, asked = shake(mesh.dial(ech=ech, epoch=7), mesh.accept(), cut=cut)

    assert asking.mode is asked.mode is mode
    assert asking.service == asked.service == SERVICE
    assert (asking.identity, asking.peer_static) == (BOB, mesh.bob.public)
    assert (asked.identity, asked.peer_static) == (ALICE, mesh.alice.public)
    assert asking.group == asked.group == NamedGroup.X25519MLKEM768
    assert asking.epoch == asked.epoch == 7
    assert asking.handshake_hash == asked.handshake_hash


@pytest.mark.parametrize("mode", list(TunnelMode)[:2])
def test_the_name_of_the_service_is_not_on_the_wire(mode: TunnelMode) -> None:
    mesh = Mesh()
    dialling, accepting = mesh.dial(ech=mesh.key.config if mode is TunnelMode.ECH else None), mesh.accept()

    first = bytes(dialling.connection.data_to_send())
    feed(accepting.connection, first)
    accepting.advance()
    second = bytes(accepting.connection.data_to_send())
    feed(dialling.connection, second)
    dialling.advance()
    third = bytes(dialling.connection.data_to_send())

    wire = first + second + third
    assert PUBLIC_NAME.encode() in first
    assert b"\xfe\x0d" in first
    for secret in (SERVICE, "billing", ALICE, BOB):
        assert secret.encode() not in wire


def test_the_first_data_leaves_with_the_third_message() -> None:
    """No round trip more than TLS: ClientHello, answer, then Finished, message 3 and data in one flight."""
    mesh = Mesh()
    dialling, accepting = mesh.dial(), mesh.accept()
    feed(accepting.connection, dialling.connection.data_to_send())
    accepting.advance()
    feed(dialling.connection, accepting.connection.data_to_send())
    assert dialling.advance() is not None
    dialling.connection.send(b"request")

    feed(accepting.connection, dialling.connection.data_to_send())

    assert accepting.advance() is not None
    event = accepting.connection.next_event()
    assert isinstance(event, ApplicationData)
    assert event.data == b"request"


@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_keys_change_inside_one_read_and_across_reads(cut: int) -> None:
    mesh = Mesh()
    dialling, accepting = mesh.dial(), mesh.accept()
    shake(dialling, accepting)
    for ends in ((dialling, accepting), (accepting, dialling)):
        ends[0].connection.send(b"ping")
        data = bytes(ends[0].connection.data_to_send())
        for at in range(0, len(data), cut):
            feed(ends[1].connection, data[at : at + cut])
        event = ends[1].connection.next_event()
        assert isinstance(event, ApplicationData)
        assert event.data == b"ping"


def test_no_two_tunnels_have_the_same_hash() -> None:
    mesh = Mesh()

    hashes = {shake(mesh.dial(), mesh.accept())[0].handshake_hash for _ in range(3)}

    assert len(hashes) == 3


# --- who gets none ---


def test_an_acceptor_answers_to_each_of_its_statics() -> None:
    mesh = Mesh()
    following = static_key()

    for remote in (mesh.bob, following):
        plan = {"remote_static": remote.public}
        assert shake(mesh.dial(**plan), mesh.accept(statics=(mesh.bob, following)))[0].peer_static == remote.public


def test_another_static_than_the_pinned_one_gets_nothing() -> None:
    mesh = Mesh()

    assert outcome_of(mesh.dial(), mesh.accept(statics=(static_key(),))) == (Outcome.ALERT, Refusal.NOISE)


def test_a_stranger_is_refused_after_message_three() -> None:
    mesh = Mesh()
    dialling = mesh.dial(static=static_key())
    accepting = mesh.accept()

    assert outcome_of(dialling, accepting)[1] is Refusal.NOT_ADMITTED


@pytest.mark.parametrize("mode", list(TunnelMode)[:2])
def test_a_service_that_is_not_ours_is_refused_like_a_stranger(mode: TunnelMode) -> None:
    """The flight before is the same: default certificate, no word about the name."""
    mesh = Mesh()
    credential = PKI.credential(PUBLIC_NAME, SERVICE, "payroll.internal")
    dialling = mesh.dial(service="payroll.internal", ech=mesh.key.config if mode is TunnelMode.ECH else None)

    assert outcome_of(dialling, mesh.accept(credentials=(credential,)))[1] is Refusal.NOT_ADMITTED


def test_a_service_inside_noise_must_be_the_one_of_the_hello() -> None:
    """Two services of one certificate: the hello says one, message 3 another."""
    mesh = Mesh()
    credential = PKI.credential(PUBLIC_NAME, SERVICE, "payroll.internal")
    dialling = mesh.dial(service="payroll.internal")
    dialling._plan = mesh.plan()

    assert outcome_of(dialling, mesh.accept(credentials=(credential,)))[1] is Refusal.NOT_ADMITTED


def test_a_certificate_of_another_authority_is_an_authentication_failure() -> None:
    mesh = Mesh()

    outcome, refusal = outcome_of(mesh.dial(trust=Pki().trust), mesh.accept())

    assert (outcome, refusal) == (Outcome.TLS_AUTHENTICATION, Refusal.TLS)


def test_a_stale_ech_key_is_told_the_new_one() -> None:
    mesh = Mesh()
    stale = ech_key(mesh.key)
    dialling, accepting = mesh.dial(ech=stale.config), mesh.accept()
    feed(accepting.connection, dialling.connection.data_to_send())
    accepting.advance()
    feed(dialling.connection, accepting.connection.data_to_send())

    with pytest.raises(RejectedError) as caught:
        dialling.advance()

    assert caught.value.outcome is Outcome.REJECTED_WITH_CONFIGS
    assert caught.value.retry_configs == encode_config_list([mesh.key.config])
    feed(accepting.connection, dialling.connection.data_to_send())
    with pytest.raises(RefusedError) as refused:
        accepting.advance()
    assert refused.value.refusal is Refusal.STALE_ECH


def test_an_acceptor_without_ech_has_securely_disabled_it() -> None:
    mesh = Mesh()

    outcome, _ = outcome_of(mesh.dial(), mesh.accept(ech_keys=()))

    assert outcome is Outcome.SECURELY_DISABLED


def test_a_rejection_by_who_is_not_the_public_name_is_no_rejection() -> None:
    mesh = Mesh()
    stale = ech_key(mesh.key)
    impostor = Pki().credential(PUBLIC_NAME)

    outcome, _ = outcome_of(mesh.dial(ech=stale.config), mesh.accept(credentials=(impostor,)))

    assert outcome is Outcome.REJECTED_UNAUTHENTICATED


def test_min_pq_finds_no_group_with_a_classical_acceptor() -> None:
    mesh = Mesh()

    outcome, _ = outcome_of(mesh.dial(), mesh.accept(groups=(NamedGroup.X25519,)))
    assert outcome is Outcome.ALERT

    asking, _ = shake(mesh.dial(min_pq=False), mesh.accept(groups=(NamedGroup.X25519,)))
    assert asking.group == NamedGroup.X25519


def test_an_acceptor_insists_on_what_the_greeting_insists_on() -> None:
    """A dialler that says min_pq and offers a classical group all the same: somebody else chose its groups."""
    mesh = Mesh()
    view = Prologue(mesh.key.config, (0x0304,), (NamedGroup.X25519,), True, SERVICE, 0)
    noise = initiator(NOISE, view.encode(), mesh.alice, mesh.bob.public)
    greeting = Extension(ExtensionType.MESH_NOISE, Greeting(True, 0, noise.write_message()).encode())
    config = ClientConfig(
        SERVICE, PKI.trust, ech=mesh.key.config, alpn=(ALPN,), groups=(NamedGroup.X25519,), extensions=(greeting,)
    )
    connection = client.connect(config, random=os.urandom, now=NOW)
    accepting = mesh.accept()
    feed(accepting.connection, connection.data_to_send())
    assert accepting.advance() is None
    feed(connection, accepting.connection.data_to_send())
    connection.next_event()
    feed(accepting.connection, connection.data_to_send())

    with pytest.raises(RefusedError) as caught:
        accepting.advance()

    assert caught.value.refusal is Refusal.MIN_PQ


@dataclass
class Lying:
    """An engine that reports another handshake than there was."""

    engine: Any
    changes: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def next_event(self) -> Any:
        event = self.engine.next_event()
        return replace(event, **self.changes) if isinstance(event, HandshakeComplete) else event


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"ech": EchStatus.NOT_OFFERED}, Outcome.CONFIRMATION),
        ({"alpn": b"h2"}, Outcome.NOISE_AUTHENTICATION),
        ({"group": NamedGroup.X25519}, Outcome.MIN_PQ),
        ({"extensions": ()}, Outcome.NOISE_AUTHENTICATION),
    ],
    ids=["without ECH", "another protocol", "not post-quantum", "without Noise"],
)
def test_a_dialler_believes_its_engine_nothing_that_policy_forbids(changes: dict[str, Any], outcome: Outcome) -> None:
    mesh = Mesh()
    dialling, accepting = mesh.dial(), mesh.accept()
    dialling.connection = Lying(dialling.connection, changes)  # type: ignore[misc, assignment]
    feed(accepting.connection, dialling.connection.data_to_send())
    accepting.advance()
    feed(dialling.connection, accepting.connection.data_to_send())

    with pytest.raises(HandshakeError) as caught:
        dialling.advance()

    assert caught.value.outcome is outcome


@pytest.mark.parametrize("configs", [None, b"garbage", b"\x00\x04\xfe\x0d\x00\x00", b"\x00\x05\xff\xff\x00\x01x"])
def test_retry_configs_that_we_cannot_use_are_none(configs: bytes | None) -> None:
    assert _usable(configs) is None
    assert RejectedError(_usable(configs)).outcome is Outcome.SECURELY_DISABLED


def test_a_dialler_that_leaves_before_message_three_wanted_no_tunnel() -> None:
    mesh = Mesh()
    dialling, accepting = mesh.dial(), mesh.accept()
    feed(accepting.connection, dialling.connection.data_to_send())
    accepting.advance()
    feed(dialling.connection, accepting.connection.data_to_send())
    assert isinstance(dialling.connection.next_event(), HandshakeComplete)
    dialling.connection.close()
    feed(accepting.connection, dialling.connection.data_to_send())

    with pytest.raises(RefusedError) as caught:
        accepting.advance()

    assert caught.value.refusal is Refusal.NOT_A_TUNNEL


def test_a_tunnel_survives_a_hello_retry_request() -> None:
    mesh = Mesh()

    asking, asked = shake(mesh.dial(min_pq=False), mesh.accept(groups=(NamedGroup.SECP384R1,)))

    assert asking.group == asked.group == NamedGroup.SECP384R1
    assert asking.handshake_hash == asked.handshake_hash


@pytest.mark.parametrize(
    "change",
    [{"epoch": 8}, {"min_pq": False}],
    ids=["policy epoch", "min_pq"],
)
def test_a_greeting_that_lies_about_the_prologue_is_unreadable(change: dict[str, Any]) -> None:
    """What an attacker who could rewrite the greeting would gain: message 1 does not open any more."""
    mesh = Mesh()
    accepting = mesh.accept()
    choose = accepting._first
    seen = []

    def rewritten(prologue: bytes, message: bytes) -> Any:
        lie = prologue[:-1] + b"\x08" if "epoch" in change else prologue.replace(b"\x11\xec\x01", b"\x11\xec\x00")
        assert lie != prologue
        seen.append(True)
        with pytest.raises(NoiseError):
            choose(lie, message)
        return choose(prologue, message)

    accepting._first = rewritten  # type: ignore[method-assign]  # the attacker's seat
    shake(mesh.dial(), accepting)
    assert seen


def test_a_browser_gets_an_ordinary_handshake_and_nothing_else() -> None:
    mesh = Mesh()
    accepting = mesh.accept()
    browser = client.connect(
        ClientConfig(PUBLIC_NAME, PKI.trust, alpn=(b"h2", b"http/1.1")), random=os.urandom, now=NOW
    )
    feed(accepting.connection, browser.data_to_send())
    assert accepting.advance() is None
    feed(browser, accepting.connection.data_to_send())
    assert isinstance(browser.next_event(), HandshakeComplete)
    browser.send(b"GET / HTTP/1.1\r\n\r\n")
    feed(accepting.connection, browser.data_to_send())

    with pytest.raises(RefusedError) as caught:
        accepting.advance()

    assert caught.value.refusal is Refusal.NOT_A_TUNNEL


def test_a_client_whose_ech_was_rejected_and_that_talks_on_gets_nothing() -> None:
    """GREASE without a greeting: a browser that never had our key."""
    mesh = Mesh()
    accepting = mesh.accept()
    browser = client.connect(ClientConfig(PUBLIC_NAME, PKI.trust, grease_ech=True), random=os.urandom, now=NOW)
    feed(accepting.connection, browser.data_to_send())
    assert accepting.advance() is None
    feed(browser, accepting.connection.data_to_send())
    assert isinstance(browser.next_event(), HandshakeComplete)
    browser.send(b"GET / HTTP/1.1\r\n\r\n")
    feed(accepting.connection, browser.data_to_send())

    with pytest.raises(RefusedError) as caught:
        accepting.advance()

    assert caught.value.refusal is Refusal.NOT_A_TUNNEL


def test_a_server_of_the_public_name_without_noise_is_no_peer() -> None:
    """A gateway with the fleet's ECH key and certificate that speaks TLS, but is not the workload."""
    mesh = Mesh()
    gateway = server.accept(ServerConfig((CREDENTIAL,), ech_keys=(mesh.key,), alpn=(b"mesh/1",)), random=os.urandom)
    dialling = mesh.dial()
    feed(gateway, dialling.connection.data_to_send())
    gateway.next_event()
    feed(dialling.connection, gateway.data_to_send())

    with pytest.raises(HandshakeError) as caught:
        dialling.advance()

    assert caught.value.outcome is Outcome.NOISE_AUTHENTICATION


def test_a_replayed_first_flight_gets_a_flight_and_no_tunnel() -> None:
    """Somebody recorded all that Alice said and says it again: other randoms, other keys, no Finished."""
    mesh = Mesh()
    dialling, accepting = mesh.dial(), mesh.accept()
    first = bytes(dialling.connection.data_to_send())
    feed(accepting.connection, first)
    accepting.advance()
    feed(dialling.connection, accepting.connection.data_to_send())
    assert dialling.advance() is not None
    dialling.connection.send(b"a prompt that must not run twice")
    second = bytes(dialling.connection.data_to_send())
    feed(accepting.connection, second)
    assert accepting.advance() is not None

    again = mesh.accept()
    feed(again.connection, first)
    assert again.advance() is None
    feed(again.connection, second)

    with pytest.raises(RefusedError) as caught:
        again.advance()
    assert caught.value.refusal is Refusal.TLS


def test_a_replay_that_is_recognised_costs_no_flight() -> None:
    mesh = Mesh()
    seen: set[bytes] = set()

    def is_replay(ephemeral: bytes) -> bool:
        assert len(ephemeral) == 32
        known = ephemeral in seen
        seen.add(ephemeral)
        return known

    first = bytes(mesh.dial(min_pq=False).connection.data_to_send())
    reception = mesh.reception(groups=(NamedGroup.SECP384R1,))
    for _ in range(2):
        accepting = Accepting(reception, random=os.urandom, is_replay=is_replay)
        feed(accepting.connection, first)
        assert accepting.advance() is None, "a HelloRetryRequest comes before Noise is looked at"
        accepting.connection.data_to_send()
    assert not seen

    first = bytes(mesh.dial().connection.data_to_send())
    for attempt in range(2):
        accepting = Accepting(mesh.reception(), random=os.urandom, is_replay=is_replay)
        feed(accepting.connection, first)
        if attempt == 0:
            assert accepting.advance() is None
            continue
        with pytest.raises(RefusedError) as caught:
            accepting.advance()
        assert caught.value.refusal is Refusal.REPLAY
        assert len(accepting.connection.data_to_send()) < 20, "an alert and nothing else"


@pytest.mark.parametrize("position", [5, 60, 200, -10])
def test_a_flipped_bit_anywhere_in_any_flight_ends_it(position: int) -> None:
    mesh = Mesh()
    for flight in range(3):
        dialling, accepting = mesh.dial(), mesh.accept()
        ends: list[Any] = [dialling, accepting]
        with pytest.raises((HandshakeError, RefusedError)):  # noqa: PT012 three flights
            for turn in range(4):
                sender, receiver = ends[turn % 2], ends[(turn + 1) % 2]
                data = bytearray(sender.connection.data_to_send())
                if turn == flight:
                    data[position] ^= 1
                feed(receiver.connection, data)
                receiver.advance()
            raise HandshakeError(Outcome.TIMEOUT, "it waits for more: the length of a record was hit")


def test_nothing_secret_is_in_a_repr() -> None:
    mesh = Mesh()
    shown = repr(mesh.plan()) + repr(mesh.reception()) + repr(mesh.alice)

    assert repr(mesh.alice.private) not in shown
    assert mesh.alice.private.private_bytes_raw().hex() not in shown


def test_a_plan_for_a_name_that_cannot_be_is_a_value_error() -> None:
    mesh = Mesh()

    with pytest.raises(ValueError, match="name"):
        mesh.dial(service="x" * 300)
    assert replace(mesh.plan(), epoch=3).epoch == 3
