"""A server in the middle of a rotation to another public name, and a client that nobody here wrote."""

import copy
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.transport.interop.lab import PUBLIC, SECRET, Chain, Lab
from tests.transport.interop.peer_go import GoClient
from tests.transport.interop.peer_own import credential, serve
from tests.transport.interop.scenarios import Ech, Scenario
from transport.ech.config import EchKey, generate_key
from transport.keyring import EchKeyRing, KeyState, RingKey
from transport.tls13.config import ServerConfig

pytestmark = [pytest.mark.slow, pytest.mark.peers]
OTHER = "other.example"
REAL, STALE = Scenario("ech", Ech.REAL), Scenario("stale", Ech.STALE)


def rotated(lab: Lab) -> tuple[EchKeyRing, EchKey, EchKey]:
    """(ring, key of the former name, key of the new name): the new one is active, the former one retires."""
    former = lab.key
    new = generate_key(OTHER, os.urandom, live_ids=[lab.stale.config.config_id, former.config.config_id])
    ring = EchKeyRing.begin(RingKey(former, KeyState.ANNOUNCED, 0.0))
    return ring.announce(RingKey(new, KeyState.ANNOUNCED, 1.0)).activate(2.0), former, new


def knowing(lab: Lab, key: EchKey) -> Lab:
    """The same laboratory, whose clients use this key."""
    other = copy.copy(lab)
    other.key = key  # type: ignore[misc]  # final for everybody but this copy
    return other


@contextmanager
def serving(ring: EchKeyRing, *chains: Chain) -> Iterator[int]:
    """The port of a server with these certificates: what `SidecarTunnels` makes of its keys."""
    credentials = tuple(credential(chain) for chain in chains)
    offered = ring.offered(lambda name: any(each.covers(name) for each in credentials))
    assert offered is not None
    config = ServerConfig(credentials, alpn=(b"mesh/1",), ech_keys=ring.accepted, ech_retry=(offered.config,))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener, config, []))
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(30)


def test_server_that_proves_both_names_offers_the_new_key(lab: Lab) -> None:
    ring, _, new = rotated(lab)

    with serving(ring, lab.chain("both names", PUBLIC, OTHER), lab.secret) as port:
        rejected = GoClient().fetch(lab, STALE, port)
        accepted = GoClient().fetch(knowing(lab, new), REAL, port)

    assert (rejected.succeeded, rejected.retry_key) == (False, new.config.public_key)
    assert (accepted.succeeded, accepted.accepted) == (True, True)


def test_server_that_proves_the_former_name_only_offers_what_it_proves_and_opens_both(lab: Lab) -> None:
    ring, former, new = rotated(lab)

    with serving(ring, lab.public, lab.secret) as port:
        rejected = GoClient().fetch(lab, STALE, port)
        by_former = GoClient().fetch(knowing(lab, former), REAL, port)
        by_new = GoClient().fetch(knowing(lab, new), REAL, port)

    assert (rejected.succeeded, rejected.retry_key) == (False, former.config.public_key)
    assert (by_former.succeeded, by_former.accepted) == (True, True)
    assert (by_new.succeeded, by_new.accepted) == (True, True), "to open a hello takes the key, not the certificate"


def test_key_that_is_gone_under_a_name_that_cannot_be_proved_is_no_secure_rejection(lab: Lab) -> None:
    """What the offer is for: the foreign client does not believe it from whoever cannot prove the name it asked for."""
    ring, _, _ = rotated(lab)
    gone = generate_key(OTHER, os.urandom, live_ids=[key.config_id for key in ring.keys])

    with serving(ring, lab.public, lab.secret) as port:
        refused = GoClient().fetch(knowing(lab, gone), REAL, port)

    assert (refused.succeeded, refused.retry_key) == (False, None)
    assert SECRET not in refused.text
