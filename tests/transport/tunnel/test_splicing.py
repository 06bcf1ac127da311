"""A TLS terminator in the middle that has everything TLS can give: the fleet's ECH key and a certificate that is
believed. It has two TLS connections, hands the Noise messages on between them, and must fail at message 3."""

import os

import pytest

from tests.fakes.mesh import CREDENTIAL, PKI, PUBLIC_NAME, SERVICE, Mesh, feed, shake
from tests.fakes.tls13 import NOW
from transport.tls13 import client, server
from transport.tls13.alerts import AlertDescription, TlsError
from transport.tls13.config import POST_QUANTUM_GROUPS, ClientConfig, ClientOffer, ServerChoice, ServerConfig
from transport.tls13.connection import Connection
from transport.tls13.constants import ExtensionType
from transport.tls13.events import ApplicationData, HandshakeComplete
from transport.tls13.messages import Extension
from transport.tunnel.accepting import Accepting
from transport.tunnel.dialling import Dialling
from transport.tunnel.errors import Refusal, RefusedError
from transport.tunnel.prologue import ALPN


class Terminator:
    """Between Alice and Bob. What it needs of Bob's answer it gets before it answers Alice."""

    def __init__(self, mesh: Mesh, accepting: Accepting, *, ech: bool) -> None:
        self.mesh, self.accepting, self.ech = mesh, accepting, ech
        self.to_bob: Connection | None = None
        config = ServerConfig((CREDENTIAL,), ech_keys=(mesh.key,), choose=self.choose)
        self.to_alice = server.accept(config, random=os.urandom)

    def choose(self, offer: ClientOffer) -> ServerChoice:
        greeting = next(each for each in offer.extensions if each.type == ExtensionType.MESH_NOISE)
        self.to_bob = client.connect(
            ClientConfig(
                SERVICE if self.ech else PUBLIC_NAME,
                PKI.trust,
                ech=self.mesh.key.config if self.ech else None,
                alpn=(ALPN,),
                groups=POST_QUANTUM_GROUPS,
                extensions=(Extension(ExtensionType.MESH_NOISE, greeting.data),),
            ),
            random=os.urandom,
            now=NOW,
        )
        feed(self.accepting.connection, self.to_bob.data_to_send())
        assert self.accepting.advance() is None, "message 1 is for Bob, whoever hands it on"
        feed(self.to_bob, self.accepting.connection.data_to_send())
        done = self.to_bob.next_event()
        assert isinstance(done, HandshakeComplete)
        reply = next(each for each in done.extensions if each.type == ExtensionType.MESH_NOISE)
        return ServerChoice(CREDENTIAL, ALPN, (Extension(ExtensionType.MESH_NOISE, reply.data),))


def spliced(mesh: Mesh, *, ech: bool) -> tuple[Dialling, Accepting, Terminator, bytes]:
    """Alice has sent her message 3 through the terminator's TLS connection; what it reads there."""
    accepting = mesh.accept()
    middle = Terminator(mesh, accepting, ech=ech)
    dialling = mesh.dial(ech=mesh.key.config if ech else None)
    feed(middle.to_alice, dialling.connection.data_to_send())
    assert middle.to_alice.next_event() is None
    feed(dialling.connection, middle.to_alice.data_to_send())
    assert dialling.advance() is not None, "Alice cannot know yet: certificate, ECH and Noise 2 are all genuine"
    dialling.connection.send(b"the patient is called")
    feed(middle.to_alice, dialling.connection.data_to_send())
    assert isinstance(middle.to_alice.next_event(), HandshakeComplete)
    event = middle.to_alice.next_event()
    assert isinstance(event, ApplicationData)
    return dialling, accepting, middle, bytes(event.data)


@pytest.mark.parametrize("ech", [True, False], ids=["ech", "no_ech"])
def test_the_acceptor_cannot_read_a_third_message_of_another_tls_connection(ech: bool) -> None:
    mesh = Mesh()
    _, accepting, middle, third = spliced(mesh, ech=ech)
    assert middle.to_bob is not None
    middle.to_bob.send(third)
    feed(accepting.connection, middle.to_bob.data_to_send())

    with pytest.raises(RefusedError) as caught:
        accepting.advance()

    assert caught.value.refusal is Refusal.NOISE


@pytest.mark.parametrize("ech", [True, False], ids=["ech", "no_ech"])
def test_the_terminator_cannot_read_what_follows_the_third_message(ech: bool) -> None:
    """The record keys need Noise's keys; the terminator has the TLS keys of this connection and nothing more."""
    _, _, middle, _ = spliced(Mesh(), ech=ech)

    with pytest.raises(TlsError) as caught:
        middle.to_alice.next_event()

    assert caught.value.alert == AlertDescription.BAD_RECORD_MAC


def test_the_same_hands_without_a_terminator_do_shake() -> None:
    """The tests above fail for the splice, not for some other reason."""
    mesh = Mesh()

    assert shake(mesh.dial(), mesh.accept())
