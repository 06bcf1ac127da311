"""Peers: endpoints, statics, who may talk to whom, and what a revocation closes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.decisions import PeerMode
from transport.peers import Carrier, Endpoint, Peer, PeerDirectory, PeerError, SpiffeId, Statics, endpoints

A, B, C = (SpiffeId(f"spiffe://mesh/ns/app/sa/{name}") for name in "abc")
KEYS = [bytes([number]) * 32 for number in range(1, 9)]


def peer(name: str = "llm", **differing: object) -> Peer:
    given_fields: dict[str, object] = {
        "name": name,
        "spiffe_id": B,
        "service": "llm.internal",
        "endpoints": endpoints(["tcp://10.0.0.1:15008"]),
        "allowed": frozenset({A}),
    }
    return Peer(**{**given_fields, **differing})  # type: ignore[arg-type] # whatever a test asks for


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tcp://llm.internal:15008", Endpoint(Carrier.TCP, "llm.internal", 15008)),
        ("quic://[::1]:443", Endpoint(Carrier.QUIC, "::1", 443)),
        ("tcp://10.0.0.1:1", Endpoint(Carrier.TCP, "10.0.0.1", 1)),
    ],
)
def test_endpoints_are_read_and_shown(text: str, expected: Endpoint) -> None:
    assert expected == Endpoint.parse(text)
    assert text == str(expected)


@given(st.text(max_size=60) | st.from_regex(r"(tcp|quic|http)://[a-z:\[\]]{0,9}:\d{1,7}", fullmatch=True))
def test_other_texts_are_refused_with_our_error_only(text: str) -> None:
    try:
        parsed = Endpoint.parse(text)
    except PeerError:
        return
    assert parsed == Endpoint.parse(str(parsed))


@pytest.mark.parametrize("key", [b"", bytes(32), bytes(31), b"x" * 33])
def test_a_static_that_cannot_be_is_refused(key: bytes) -> None:
    with pytest.raises(PeerError):
        Statics(key)


def test_a_peer_needs_an_endpoint_and_lets_nobody_in_unless_told() -> None:
    with pytest.raises(PeerError):
        peer(endpoints=())
    assert frozenset() == peer(allowed=frozenset()).allowed
    assert PeerMode.REQUIRED is peer().mode
    assert peer().min_pq


def test_two_workloads_with_one_static_are_refused() -> None:
    with pytest.raises(PeerError, match="one Noise static"):
        PeerDirectory(statics={A: Statics(KEYS[0]), B: Statics(KEYS[1], KEYS[0])})


def test_only_those_on_the_list_are_admitted_and_only_for_the_service() -> None:
    directory = PeerDirectory(peers={"llm": peer()})

    assert directory.admitted(A, B, "llm.internal") == directory.peers["llm"]
    assert directory.admitted(C, B, "llm.internal") is None
    assert directory.admitted(A, B, "other.internal") is None
    assert directory.admitted(A, C, "llm.internal") is None


def test_a_revoked_static_is_nobodys_and_is_not_tried() -> None:
    statics = {B: Statics(KEYS[0], KEYS[1])}
    before = PeerDirectory({"llm": peer()}, statics)
    after = PeerDirectory({"llm": peer()}, statics, revoked=frozenset({KEYS[0]}))

    assert (before.owner_of(KEYS[0]), after.owner_of(KEYS[0])) == (B, None)
    assert (KEYS[0], KEYS[1]) == before.responder_statics(peer())
    assert (KEYS[1],) == after.responder_statics(peer())


def test_a_peer_without_registered_static_cannot_be_reached() -> None:
    assert PeerDirectory({"llm": peer()}).responder_statics(peer()) == ()
