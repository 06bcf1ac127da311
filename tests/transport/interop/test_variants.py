"""What the matrix leaves at its default: each KEM, AEAD, cipher suite and group, and the way back from a rejection."""

import copy
import os

import pytest

from tests.transport.interop.checks import check
from tests.transport.interop.lab import Lab
from tests.transport.interop.peer_go import GoClient, GoServer
from tests.transport.interop.peer_own import OwnClient, OwnServer
from tests.transport.interop.recorder import recording
from tests.transport.interop.scenarios import P256, P384, PQ, X25519, Client, Ech, Scenario, Server
from transport.ech import hpke
from transport.ech.config import EchKey, encode_config_list, generate_key, parse_config_list
from transport.ech.hpke import CipherSuite

pytestmark = [pytest.mark.slow, pytest.mark.peers]
ECH = Scenario("ech", Ech.REAL)
RETRIED = Scenario("ech+hrr", Ech.REAL, server_groups=(P384,), is_retried=True, group=P384)
SUITES = [
    CipherSuite(kdf, aead)
    for kdf in (hpke.HKDF_SHA256, hpke.HKDF_SHA384, hpke.HKDF_SHA512)
    for aead in (hpke.AES_128_GCM, hpke.AES_256_GCM, hpke.CHACHA20_POLY1305)
]
PAIRS: list[tuple[Client, Server]] = [(OwnClient(), GoServer()), (GoClient(), OwnServer())]
IDS = [f"{client.name} to {server.name}" for client, server in PAIRS]


def with_key(lab: Lab, key: EchKey) -> Lab:
    """The same laboratory with another ECH key."""
    other = copy.copy(lab)
    other.key = key  # type: ignore[misc]  # final for everybody but this copy
    return other


def meet(lab: Lab, client: Client, server: Server, scenario: Scenario) -> None:
    with server.serve(lab, scenario, [lab.public, lab.secret]) as running, recording(running.port) as recorder:
        outcome = client.fetch(lab, scenario, recorder.port)
    check(lab, client, scenario, outcome, running, recorder.recordings)


@pytest.mark.parametrize("scenario", [ECH, RETRIED], ids=str)
@pytest.mark.parametrize("suite", SUITES, ids=str)
@pytest.mark.parametrize("kem_id", [hpke.DHKEM_X25519, hpke.DHKEM_P256])
@pytest.mark.parametrize(("client", "server"), PAIRS, ids=IDS)
def test_every_kem_kdf_and_aead(
    lab: Lab, client: Client, server: Server, kem_id: int, suite: CipherSuite, scenario: Scenario
) -> None:
    key = generate_key("public.example", os.urandom, kem_id=kem_id, cipher_suites=[suite])

    meet(with_key(lab, key), client, server, scenario)


@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 255])
@pytest.mark.parametrize(("client", "server"), PAIRS, ids=IDS)
def test_every_padding(lab: Lab, client: Client, server: Server, length: int) -> None:
    key = generate_key("public.example", os.urandom, maximum_name_length=length)

    meet(with_key(lab, key), client, server, ECH)


@pytest.mark.parametrize("group", [X25519, P256, P384, PQ])
@pytest.mark.parametrize(("client", "server"), PAIRS, ids=IDS)
def test_every_group(lab: Lab, client: Client, server: Server, group: int) -> None:
    meet(lab, client, server, Scenario("ech", Ech.REAL, (group,), (group,), group=group))


@pytest.mark.parametrize(("client", "server"), PAIRS, ids=IDS)
def test_config_that_is_not_for_us_stands_before_the_one_that_is(lab: Lab, client: Client, server: Server) -> None:
    """Both ends pass over what they do not know: a version, a KEM, a mandatory extension."""
    unknown_version = b"\xfe\x0c\0\4abcd"
    strange = generate_key("public.example", os.urandom).config
    strange_kem = strange.encode().replace(b"\0\x20\0\x20", b"\x66\x66\0\x20", 1)
    mandatory = strange.encode()[:-2] + b"\0\4\xaa\xaa\0\0"
    mandatory = mandatory[:2] + (len(mandatory) - 4).to_bytes(2) + mandatory[4:]
    body = unknown_version + strange_kem + mandatory + lab.key.config.encode()

    class Published(Lab):
        config_list = len(body).to_bytes(2) + body  # type: ignore[assignment]

    other = copy.copy(lab)
    other.__class__ = Published

    assert [config.is_usable for config in parse_config_list(other.config_list)] == [False, False, True]
    meet(other, client, server, ECH)


@pytest.mark.parametrize("server", [GoServer(), OwnServer()], ids=["go", "own"])
def test_what_a_rejecting_server_says_leads_to_acceptance(lab: Lab, server: Server) -> None:
    stale, client = Scenario("stale", Ech.STALE), OwnClient()
    with server.serve(lab, stale, [lab.public, lab.secret]) as running, recording(running.port) as recorder:
        rejected = client.fetch(lab, stale, recorder.port)
        assert rejected.retry_key is not None
        (config,) = [c for c in parse_config_list(lab.config_list) if c.public_key == rejected.retry_key]
        assert encode_config_list([config]) == lab.config_list
        accepted = client.fetch(lab, ECH, recorder.port)

    assert (rejected.succeeded, accepted.succeeded, accepted.accepted) == (False, True, True)
