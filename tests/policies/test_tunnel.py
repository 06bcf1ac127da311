"""TunnelPolicy and Peer: what they may say, and that nobody reaches a peer in another way than its tunnel."""

import pytest

from policies.compile import assemble, build, compile_documents
from policies.errors import ConfigError, ReferenceMissingError, SpecError
from policies.snapshot import Upstream
from policies.spec import Document, Kind, RouteSpec, Source
from policies.spec_load import load
from policies.strict import stricter
from policies.tunnel import EchMode, PeerConfig, TunnelConfig
from transport.decisions import PeerMode
from transport.peers import Endpoint

PEER = """
apiVersion: aegis.mesh/v1
kind: Peer
metadata: {name: llm}
spec:
  spiffeId: spiffe://mesh.local/ns/models/sa/llm
  service: llm.internal
  endpoints: ["tcp://10.0.0.1:15008", "quic://[::1]:15008"]
  mode: off
  allow: [spiffe://mesh.local/ns/app/sa/bot]
"""
POLICY = """
apiVersion: aegis.mesh/v1
kind: TunnelPolicy
metadata: {name: mesh}
spec: {publicName: mesh.example, rolloutPercentage: 12.5, rotateEvery: 2h}
"""
STATIC = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="


def read(*texts: str) -> list[Document]:
    return load([Source(f"{number}.yaml", text) for number, text in enumerate(texts)])


def test_documents_say_what_they_mean() -> None:
    peer, policy = read(PEER, POLICY)

    assert peer == Document(
        "llm",
        PeerConfig(
            "spiffe://mesh.local/ns/models/sa/llm",
            "llm.internal",
            frozenset({"tcp://10.0.0.1:15008", "quic://[::1]:15008"}),
            EchMode.OFF,
            allow=frozenset({"spiffe://mesh.local/ns/app/sa/bot"}),
        ),
    )
    assert policy == Document("mesh", TunnelConfig("mesh.example", rollout_percentage=12.5, rotate_every=7200.0))


def test_modes_and_endpoints_are_those_of_the_transport() -> None:
    assert [mode.value for mode in PeerMode] == [mode.value for mode in EchMode]
    peer = read(PEER)[0].body
    assert isinstance(peer, PeerConfig)
    assert {str(Endpoint.parse(text)) for text in peer.endpoints} == peer.endpoints


@pytest.mark.parametrize(
    ("changed", "finding"),
    [
        ("service: LLM", "spec.service"),
        ("spiffeId: https://mesh.local/llm", "spec.spiffeId"),
        ("spiffeId: spiffe://mesh.local/../llm", "spec.spiffeId"),
        ('endpoints: ["http://10.0.0.1:15008"]', "spec.endpoints"),
        ('endpoints: ["tcp://10.0.0.1:70000"]', "spec.endpoints"),
        ("endpoints: []", "spec.endpoints"),
        ('endpoints: ["tcp://llm..internal:15008"]', "spec.endpoints"),
        ("mode: plaintext", "spec.mode"),
        ('allow: ["*"]', "spec.allow"),
        ("staticKey: c2hvcnQ=", "spec.staticKey"),
        ("otherStaticKey: " + STATIC, "spec.otherStaticKey"),
    ],
)
def test_what_cannot_be_is_found_at_its_place(changed: str, finding: str) -> None:
    field = changed.split(":", maxsplit=1)[0]
    lines = [line for line in PEER.splitlines() if not line.strip().startswith(field)]

    with pytest.raises(SpecError) as refused:
        read("\n".join([*lines, f"  {changed}"]))

    assert [finding] == [each.field for each in refused.value.findings]


@pytest.mark.parametrize(
    "wrong",
    [
        {"public_name": "10.0.0.1"},
        {"public_name": "Mesh.Example"},
        {"public_name": ""},
        {"rotate_every": 60.0},
        {"rotate_every": 90_000.0},
        {"rollout_percentage": 100.1},
        {"rollout_percentage": float("nan")},
        {"salt": ""},
        {"max_name_length": 256},
    ],
)
def test_a_tunnel_policy_that_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        TunnelConfig(**{"public_name": "mesh.example", **wrong})  # type: ignore[arg-type] # that is the point


def test_there_is_one_tunnel_policy() -> None:
    with pytest.raises(SpecError, match="named 'mesh'"):
        read(POLICY.replace("name: mesh}", "name: other}"))


def test_two_peers_of_one_workload_must_agree_about_its_static() -> None:
    second = PEER.replace("name: llm", "name: llm-2").replace("llm.internal", "llm-2.internal")

    assert len(read(PEER, second)) == 2
    with pytest.raises(SpecError, match="another Noise static"):
        read(PEER, second + f"  staticKey: {STATIC}\n")


def test_an_upstream_names_a_peer_that_must_be_there() -> None:
    upstream = (
        "apiVersion: aegis.mesh/v1\nkind: Upstream\nmetadata: {name: model}\nspec: {url: 'http://llm', peer: llm}\n"
    )

    assert Upstream("model", "http://llm", peer="llm") == read(PEER, upstream)[1].body
    with pytest.raises(SpecError, match="there is no Peer 'llm'"):
        read(upstream)


def test_a_route_whose_peer_is_gone_is_blocked_not_sent_another_way() -> None:
    documents = [
        Document("model", Upstream("model", "http://llm", peer="llm")),
        Document("all", RouteSpec("/", "model", "none")),
    ]
    parts = {document.key: build(document, bytes(32)) for document in documents}

    snapshot = assemble(parts, revision=1, source="live")

    assert list(snapshot.routes) == []
    assert [route.name for route in snapshot.blocked] == ["all"]


def test_expiry_never_relaxes() -> None:
    policy = Document("mesh", TunnelConfig("mesh.example", enabled=False, rollout_percentage=1.0), ttl=5)
    peer = Document("llm", read(PEER)[0].body, ttl=5)

    strict = stricter(policy)

    assert strict is not None
    assert strict.body == TunnelConfig("mesh.example")
    assert stricter(peer) is None
    assert Kind.PEER in [key[0] for _, key in Document("m", Upstream("m", "http://x", peer="llm")).references()]


def test_what_comes_through_a_tunnel_and_what_does_not_never_share_a_route() -> None:
    local = Document("local", RouteSpec("/", "model", "none"))
    inbound = Document("inbound", RouteSpec("/", "model", "none", inbound="llm"))
    documents = [read(PEER)[0], Document("model", Upstream("model", "http://127.0.0.1:8000")), local, inbound]

    snapshot = compile_documents(documents, bytes(32), revision=1, source="file")

    found = [snapshot.route("/v1", {}, peer) for peer in ("", "llm", "other")]
    assert [route.name if route else None for route in found] == ["local", "inbound", None]


def test_a_route_for_a_peer_that_is_not_there_is_refused() -> None:
    with pytest.raises(ReferenceMissingError, match="Peer"):
        compile_documents(
            [
                Document("model", Upstream("model", "http://127.0.0.1:8000")),
                Document("in", RouteSpec("/", "model", "none", inbound="llm")),
            ],
            bytes(32),
            revision=1,
            source="file",
        )


@pytest.mark.parametrize("given", ["route", "upstream"])
def test_no_route_leads_from_a_tunnel_into_a_tunnel(given: str) -> None:
    head = "apiVersion: aegis.mesh/v1\n"
    upstream = head + "kind: Upstream\nmetadata: {name: far}\nspec: {url: http://llm.internal, peer: llm}\n"
    route = head + "kind: Route\nmetadata: {name: in}\nspec: {prefix: /, upstream: far, airlock: none, inbound: llm}\n"
    near = upstream.replace(", peer: llm", "")
    (peer,) = read(PEER)
    in_force = {
        "route": {peer.key: peer, **{each.key: each for each in read(PEER, upstream)}},
        "upstream": {peer.key: peer, **{each.key: each for each in read(PEER, near, route)}},
    }[given]

    with pytest.raises(SpecError) as raised:
        load([Source("x.yaml", route if given == "route" else upstream)], in_force)

    (finding,) = raised.value.findings
    assert finding.field == ("spec.upstream" if given == "route" else "spec.peer")
    assert "into that of 'llm'" in finding.message
