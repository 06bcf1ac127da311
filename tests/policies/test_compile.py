"""Documents become what a sidecar enforces."""

import pytest

from policies.airlock.config import RESTRICTED_ZIP3, Action, AirlockConfig, Restoration, ToolRestore
from policies.airlock.labels import Label, Profile
from policies.compile import Part, assemble, build, compile_documents
from policies.errors import ReferenceMissingError
from policies.firewall import FirewallPolicy
from policies.firewall_config import FirewallConfig, FirewallMode
from policies.mathprotocol.config import ProtocolConfig, ProtocolMode
from policies.snapshot import AuditMode, PolicySnapshot, UnknownEndpoint, Upstream
from policies.spec import Document, RouteSpec
from policies.strict import stricter

KEY = bytes(32)
UPSTREAM = Document("model", Upstream("model", "https://model.example"))
AIRLOCK = Document("hipaa", AirlockConfig())
PROTOCOL = Document("strict", ProtocolConfig(mode=ProtocolMode.ENFORCE))


def route(name: str, prefix: str, **settings: str) -> Document:
    return Document(name, RouteSpec(prefix, "model", **{"airlock": "none", **settings}))


def compiled(*documents: Document) -> PolicySnapshot:
    return compile_documents(documents, KEY, revision=7, source="file")


def test_protocol_is_asked_before_the_airlock() -> None:
    snapshot = compiled(UPSTREAM, AIRLOCK, PROTOCOL, route("all", "/", airlock="hipaa", protocol="strict"))

    (found,) = snapshot.routes

    assert [policy.name for policy in found.pipeline.policies] == ["mathprotocol", "airlock"]
    assert snapshot.revision == 7


def test_route_without_policies_has_an_empty_pipeline() -> None:
    (found,) = compiled(UPSTREAM, route("all", "/")).routes

    assert found.pipeline.policies == ()


def test_every_setting_of_a_route_reaches_the_snapshot() -> None:
    spec = RouteSpec(
        "/x", "model", "none", "none", {"a": "b"}, False, UnknownEndpoint.REFUSE, AuditMode.REQUIRED, max_body=5
    )

    (found,) = compiled(UPSTREAM, Document("x", spec)).routes

    assert found.upstream == UPSTREAM.body
    for name in ("prefix", "headers", "strip_prefix", "unknown_endpoint", "audit", "max_body"):
        assert getattr(found, name) == getattr(spec, name)


def test_documents_that_do_not_belong_together_are_refused_with_everything_missing() -> None:
    with pytest.raises(ReferenceMissingError, match="Upstream 'model' and AirlockPolicy 'hipaa'"):
        compiled(route("all", "/", airlock="hipaa"))


def test_route_without_its_policy_is_blocked_and_does_not_fall_through_to_a_laxer_one() -> None:
    strict, lax = route("strict", "/openai", airlock="hipaa"), route("lax", "/")
    parts: dict = {document.key: build(document, KEY) for document in (UPSTREAM, strict, lax)}

    snapshot = assemble(parts, revision=1, source="live")

    assert snapshot.route("/openai/v1", {}) is None
    assert snapshot.route("/other", {}) is snapshot.routes[0]
    assert [blocked.name for blocked in snapshot.blocked] == ["strict"]


def test_most_specific_route_wins_blocked_or_not() -> None:
    snapshot = compiled(UPSTREAM, route("all", "/"), route("openai", "/openai"))

    assert [snapshot.route(path, {}).name for path in ("/openai", "/openai/v1", "/openaiX", "/")] == [  # type: ignore[union-attr] # it is there
        "openai",
        "openai",
        "all",
        "all",
    ]


def test_expired_airlock_gives_way_to_a_default_that_is_nowhere_laxer() -> None:
    relaxed = AirlockConfig(
        profile=Profile.PCI,
        actions={Label.SSN: Action.BLOCK, Label.EMAIL: Action.ALLOW, Label.CREDIT_CARD: Action.ALLOW},
        restoration=Restoration(tools=ToolRestore.ALL, links=True, reasoning=True),
        restricted_zip3=frozenset({"331"}),
    )

    strict = stricter(Document("x", relaxed, ttl=60))

    assert strict is not None
    config = strict.body
    assert isinstance(config, AirlockConfig)
    order = [Action.ALLOW, Action.TOKENISE, Action.GENERALISE, Action.REMOVE, Action.BLOCK]
    assert all(order.index(config.action(label)) >= order.index(relaxed.action(label)) for label in Label)
    assert config.action(Label.EMAIL) is Action.TOKENISE
    assert config.restoration.tools is ToolRestore.NEVER
    assert not config.restoration.links
    assert config.restricted_zip3 == RESTRICTED_ZIP3 | {"331"}


def test_expired_protocol_policy_enforces() -> None:
    strict = stricter(Document("x", ProtocolConfig(mode=ProtocolMode.MONITOR, ban_seconds=9), ttl=60))

    assert strict is not None
    assert strict.body == ProtocolConfig(mode=ProtocolMode.ENFORCE, ban_seconds=9)


def test_expired_firewall_blocks_at_a_threshold_that_is_not_laxer() -> None:
    for relaxed, threshold in ((0.7, 0.7), (5.0, 1.0)):
        strict = stricter(Document("x", FirewallConfig(FirewallMode.MONITOR, relaxed), ttl=60))

        assert strict is not None
        assert strict.body == FirewallConfig(FirewallMode.BLOCK, threshold)


@pytest.mark.slow
def test_firewall_stands_between_the_protocol_and_the_airlock() -> None:
    firewall = Document("wall", FirewallConfig(threshold=0.9))
    everything = route("all", "/", airlock="hipaa", protocol="strict", firewall="wall")

    (found,) = compiled(UPSTREAM, AIRLOCK, PROTOCOL, firewall, everything).routes

    assert [policy.name for policy in found.pipeline.policies] == ["mathprotocol", "firewall", "airlock"]
    assert isinstance(found.pipeline.policies[1], FirewallPolicy)


@pytest.mark.parametrize("document", [UPSTREAM, route("all", "/")])
def test_nothing_stands_in_for_an_expired_route_or_upstream(document: Document) -> None:
    assert stricter(document) is None


def test_part_of_a_route_carries_no_policy() -> None:
    assert build(UPSTREAM, KEY) == Part(UPSTREAM, None)
