"""A sidecar's verdict on what it is sent (control-api.md rules 5, 7, 8, 9 and 10)."""

import hashlib
from dataclasses import replace

import pytest
from aegispb.v1 import discovery_pb2 as pb
from google.rpc import code_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import wire
from policies.airlock.config import Action, AirlockConfig
from policies.airlock.labels import Label, Profile
from policies.airlock.redact import AirlockPolicy
from policies.mathprotocol.codes import Kind as TaskKind
from policies.mathprotocol.config import ProtocolConfig, ProtocolMode
from policies.mathprotocol.manifest import PluginTask
from policies.mathprotocol.registered import RegisteredTask
from policies.model import UnixNanos
from policies.snapshot import Upstream
from policies.spec import Body, Document, Kind, RouteSpec
from sidecar.policy_state import MAX_RESOURCES, PolicyState

SECOND = 1_000_000_000
NOW = UnixNanos(1_800_000_000 * SECOND)
UPSTREAM = Document("model", Upstream("model", "https://model.example"))
AIRLOCK = Document("hipaa", AirlockConfig())
ROUTE = Document("all", RouteSpec("/", "model", "hipaa"))


@pytest.fixture
def state() -> PolicyState:
    return PolicyState(bytes(32))


def delta(*documents: Document, removed: tuple[str, ...] = (), kind: Kind | None = None) -> pb.Delta:
    url = wire.TYPE_URLS[kind or documents[0].kind]
    return pb.Delta(type_url=url, nonce="n", upserts=map(wire.resource, documents), removed=removed, revision=1)


def broken(document: Document) -> pb.Resource:
    """A resource in good order that no build can accept."""
    resource = wire.resource(document)
    resource.body += b"\xfa\x3f\x01x"
    resource.sha256 = hashlib.sha256(resource.body).digest()
    resource.version = resource.sha256.hex()[:16]
    return resource


def feed(state: PolicyState, *documents: Document) -> None:
    for document in documents:
        assert not state.apply(delta(document), NOW).rejected


def airlock_in_force(state: PolicyState) -> AirlockConfig:
    snapshot = state.snapshot("live")
    assert snapshot is not None
    (policy,) = snapshot.routes[0].pipeline.policies
    assert isinstance(policy, AirlockPolicy)
    return policy.config


def test_rule_10_there_is_no_snapshot_before_a_route_came(state: PolicyState) -> None:
    feed(state, UPSTREAM, AIRLOCK)

    assert state.snapshot("live") is None

    feed(state, ROUTE)
    assert airlock_in_force(state) == AirlockConfig()


def test_acknowledged_delta_names_nonce_and_type_and_has_no_error(state: PolicyState) -> None:
    ack = state.apply(delta(UPSTREAM), NOW)

    assert (ack.nonce, ack.type_url) == ("n", wire.TYPE_URLS[Kind.UPSTREAM])
    assert not ack.HasField("error_detail")


def test_rule_5_failing_resource_leaves_its_predecessor_and_the_others_are_applied(state: PolicyState) -> None:
    feed(state, UPSTREAM, AIRLOCK, ROUTE)
    other = Document("other", AirlockConfig(hint="x"))
    sent = delta(other)
    sent.upserts.insert(0, broken(AIRLOCK))

    ack = state.apply(sent, NOW)

    assert [rejected.name for rejected in ack.rejected] == ["hipaa"]
    assert ack.rejected[0].in_force == wire.resource(AIRLOCK).version
    assert ack.HasField("error_detail")
    versions = state.versions()[wire.TYPE_URLS[Kind.AIRLOCK]]
    assert versions == {"hipaa": wire.resource(AIRLOCK).version, "other": wire.resource(other).version}
    assert airlock_in_force(state) == AirlockConfig()


def test_rule_5_policy_that_cannot_be_built_is_named_without_stopping_the_others() -> None:
    state = PolicyState(b"too short for an airlock")

    ack = state.apply(delta(AIRLOCK), NOW)
    assert ack.rejected[0].why.code == code_pb2.INTERNAL
    assert "short" not in ack.rejected[0].why.message

    assert not state.apply(delta(UPSTREAM), NOW).rejected


def test_changed_policy_takes_effect_in_the_routes_that_name_it(state: PolicyState) -> None:
    feed(state, UPSTREAM, AIRLOCK, ROUTE)

    feed(state, Document("hipaa", AirlockConfig(hint="changed")))

    assert airlock_in_force(state).hint == "changed"


def test_snapshot_that_an_exchange_holds_is_never_touched(state: PolicyState) -> None:
    feed(state, UPSTREAM, AIRLOCK, ROUTE)
    before = state.snapshot("live")

    feed(state, Document("hipaa", AirlockConfig(hint="changed")))

    assert before is not None
    assert before.routes[0].pipeline.policies[0].config.hint == ""  # type: ignore[attr-defined] # an AirlockPolicy


def test_rule_7_unknown_type_is_refused_as_unimplemented(state: PolicyState) -> None:
    ack = state.apply(pb.Delta(type_url="type.googleapis.com/aegispb.v1.Future", nonce="n"), NOW)

    assert ack.error_detail.code == code_pb2.UNIMPLEMENTED


@pytest.mark.parametrize("removed", [(), ("model",)])
def test_rule_8_name_that_stands_twice_refuses_the_whole_delta(state: PolicyState, removed: tuple[str, ...]) -> None:
    twice = (UPSTREAM,) if removed else (UPSTREAM, UPSTREAM)

    ack = state.apply(delta(*twice, removed=removed), NOW)

    assert ack.error_detail.code == code_pb2.INVALID_ARGUMENT
    assert not ack.rejected
    assert state.versions()[wire.TYPE_URLS[Kind.UPSTREAM]] == {}


def test_route_whose_policy_was_refused_is_refused_and_blocked_until_both_come(state: PolicyState) -> None:
    lax = Document("lax", RouteSpec("/", "model", "none"))
    strict = Document("strict", RouteSpec("/openai", "model", "hipaa"))
    feed(state, UPSTREAM, lax)

    ack = state.apply(delta(strict), NOW)

    assert ack.rejected[0].why.code == code_pb2.FAILED_PRECONDITION
    assert "AirlockPolicy 'hipaa'" in ack.rejected[0].why.message
    snapshot = state.snapshot("live")
    assert snapshot is not None
    assert snapshot.route("/openai/v1", {}) is None

    feed(state, AIRLOCK, strict)
    snapshot = state.snapshot("live")
    assert snapshot is not None
    found = snapshot.route("/openai/v1", {})
    assert found is not None
    assert found.name == "strict"


def test_refused_change_of_a_route_leaves_the_old_route_serving(state: PolicyState) -> None:
    feed(state, UPSTREAM, AIRLOCK, ROUTE)

    ack = state.apply(delta(Document("all", RouteSpec("/", "model", "missing"))), NOW)

    assert ack.rejected[0].in_force == wire.resource(ROUTE).version
    assert airlock_in_force(state) == AirlockConfig()


def test_removed_refused_route_no_longer_blocks(state: PolicyState) -> None:
    feed(state, UPSTREAM, Document("lax", RouteSpec("/", "model", "none")))
    state.apply(delta(Document("strict", RouteSpec("/openai", "model", "hipaa"))), NOW)

    state.apply(delta(removed=("strict",), kind=Kind.ROUTE), NOW)

    snapshot = state.snapshot("live")
    assert snapshot is not None
    assert snapshot.route("/openai/v1", {}) is not None


def test_removed_policy_blocks_the_routes_that_need_it(state: PolicyState) -> None:
    feed(state, UPSTREAM, AIRLOCK, ROUTE)

    state.apply(delta(removed=("hipaa",), kind=Kind.AIRLOCK), NOW)

    snapshot = state.snapshot("live")
    assert snapshot is not None
    assert snapshot.route("/", {}) is None


def test_complete_delta_removes_what_it_does_not_name(state: PolicyState) -> None:
    feed(state, UPSTREAM, Document("old", Upstream("old", "http://old.example")))

    complete = delta(UPSTREAM)
    complete.complete = True
    state.apply(complete, NOW)

    assert set(state.versions()[wire.TYPE_URLS[Kind.UPSTREAM]]) == {"model"}


def expiring(body: Body, name: str = "hipaa") -> Document:
    return Document(name, body, ttl=60)


def test_rule_9_expiry_falls_back_to_the_stricter_default_never_to_off(state: PolicyState) -> None:
    feed(state, UPSTREAM, expiring(AirlockConfig(profile=Profile.PCI)), ROUTE)
    assert state.next_expiry() == NOW + 60 * SECOND

    assert state.expire(UnixNanos(NOW + 59 * SECOND)) == []
    assert airlock_in_force(state).action(Label.SSN) is Action.ALLOW

    assert state.expire(UnixNanos(NOW + 60 * SECOND)) == [(Kind.AIRLOCK, "hipaa")]
    assert airlock_in_force(state).action(Label.SSN) is Action.TOKENISE
    assert state.next_expiry() is None
    assert state.versions()[wire.TYPE_URLS[Kind.AIRLOCK]] == {}


def test_rule_9_same_version_without_a_body_renews(state: PolicyState) -> None:
    feed(state, UPSTREAM, expiring(AirlockConfig(profile=Profile.PCI)), ROUTE)
    renewal = delta(expiring(AirlockConfig(profile=Profile.PCI)))
    renewal.upserts[0].ClearField("body")

    ack = state.apply(renewal, UnixNanos(NOW + 50 * SECOND))

    assert not ack.rejected
    assert state.next_expiry() == NOW + 110 * SECOND


def test_rule_9_renewal_of_another_version_is_refused(state: PolicyState) -> None:
    feed(state, expiring(AirlockConfig()))
    renewal = delta(expiring(AirlockConfig(hint="other")))
    renewal.upserts[0].ClearField("body")

    assert state.apply(renewal, NOW).rejected[0].why.code == code_pb2.FAILED_PRECONDITION


def test_expired_policy_comes_back_when_it_is_sent_again(state: PolicyState) -> None:
    relaxed = expiring(AirlockConfig(profile=Profile.PCI))
    feed(state, UPSTREAM, relaxed, ROUTE)
    state.expire(UnixNanos(NOW + 60 * SECOND))

    feed(state, relaxed)

    assert airlock_in_force(state).profile is Profile.PCI


@pytest.mark.parametrize("relaxed", [replace(UPSTREAM, ttl=60), replace(ROUTE, ttl=60)])
def test_expired_upstream_or_route_blocks_its_requests(state: PolicyState, relaxed: Document) -> None:
    lax = Document("lax", RouteSpec("/", "elsewhere", "none"))
    strict = Document(
        "all", RouteSpec("/openai", "model", "hipaa"), relaxed.ttl if relaxed.kind is Kind.ROUTE else None
    )
    elsewhere = Document("elsewhere", Upstream("elsewhere", "http://elsewhere.example"))
    feed(state, relaxed if relaxed.kind is Kind.UPSTREAM else UPSTREAM, elsewhere, AIRLOCK, strict, lax)

    state.expire(UnixNanos(NOW + 60 * SECOND))

    snapshot = state.snapshot("live")
    assert snapshot is not None
    assert snapshot.route("/openai", {}) is None
    assert snapshot.route("/", {}) is not None


def test_last_known_good_restores_versions_and_enforcement(state: PolicyState) -> None:
    feed(state, UPSTREAM, AIRLOCK, ROUTE)
    restarted = PolicyState(bytes(32))

    refused = restarted.restore(state.last_known_good(), NOW)

    assert refused == []
    assert restarted.versions() == state.versions()
    assert restarted.digests() == state.digests()
    assert airlock_in_force(restarted) == AirlockConfig()


def test_time_to_live_runs_on_while_the_sidecar_is_down(state: PolicyState) -> None:
    feed(state, UPSTREAM, expiring(AirlockConfig(profile=Profile.PCI)), ROUTE)
    restarted = PolicyState(bytes(32))

    restarted.restore(state.last_known_good(), UnixNanos(NOW + 61 * SECOND))

    assert airlock_in_force(restarted).action(Label.SSN) is Action.TOKENISE


def test_clock_that_went_back_does_not_lengthen_a_life(state: PolicyState) -> None:
    feed(state, UPSTREAM, expiring(AirlockConfig(profile=Profile.PCI)), ROUTE)
    restarted = PolicyState(bytes(32))
    earlier = UnixNanos(NOW - 3600 * SECOND)

    restarted.restore(state.last_known_good(), earlier)

    assert restarted.next_expiry() == earlier + 60 * SECOND


def test_kept_resource_that_was_tampered_with_is_refused_by_its_digest(state: PolicyState) -> None:
    feed(state, UPSTREAM)
    kept = state.last_known_good()
    kept.entries[0].resource.body += b"x"

    assert PolicyState(bytes(32)).restore(kept, NOW) == [
        "Upstream model: the body does not match its digest",
    ]


def test_resources_are_bounded(state: PolicyState) -> None:
    many = [Document(f"u{n}", Upstream(f"u{n}", "http://x")) for n in range(MAX_RESOURCES + 3)]

    ack = state.apply(delta(*many), NOW)

    assert {rejected.why.code for rejected in ack.rejected} == {code_pb2.RESOURCE_EXHAUSTED}
    assert len(ack.rejected) == 3


def deltas() -> st.SearchStrategy[pb.Delta]:
    names = st.sampled_from(["a", "b", "none", "", "\n"])
    resources = st.builds(
        lambda name, body, honest: pb.Resource(
            name=name,
            body=body,
            version=hashlib.sha256(body).hexdigest()[:16],
            sha256=hashlib.sha256(body).digest() if honest else b"",
        ),
        names,
        st.binary(max_size=60) | st.sampled_from([wire.resource(d).body for d in (UPSTREAM, AIRLOCK, ROUTE)]),
        st.booleans(),
    )
    return st.builds(
        lambda url, upserts, removed, complete: pb.Delta(
            type_url=url, upserts=upserts, removed=removed, complete=complete
        ),
        st.sampled_from([*wire.KINDS, "x"]),
        st.lists(resources, max_size=3),
        st.lists(names, max_size=2),
        st.booleans(),
    )


@settings(deadline=None)  # the first firewall that is built compiles its expressions
@given(st.lists(deltas(), max_size=5))
def test_any_sequence_of_deltas_gets_a_verdict_that_agrees_with_the_state(sequence: list[pb.Delta]) -> None:
    state = PolicyState(bytes(32))
    for sent in sequence:
        before = state.versions()

        ack = state.apply(sent, NOW)

        assert ack.HasField("error_detail") or not ack.rejected
        rejected = {each.name for each in ack.rejected}
        whole = ack.HasField("error_detail") and not rejected
        if whole:
            assert state.versions() == before
            continue
        versions = state.versions()[sent.type_url]
        assert all(versions[r.name] == r.version for r in sent.upserts if r.name not in rejected)
        assert all(versions.get(each.name, "") == each.in_force for each in ack.rejected if not sent.complete)
        state.snapshot("live")


CODE = RegisteredTask(31, "ProductSentiment", TaskKind.CLASSIFICATION, frozenset({1, 13}), code=True)
ENFORCED = Document("codes", ProtocolConfig(mode=ProtocolMode.ENFORCE, registered=(CODE,)))
PLUGIN = PluginTask(31, "ProductSentiment", TaskKind.CLASSIFICATION, frozenset({1, 13}), entry="sentiment:answer")


@pytest.mark.parametrize(
    "hosted",
    [
        {},
        {37: replace(PLUGIN, prime=37)},
        {31: replace(PLUGIN, params=frozenset({1}))},
        {31: replace(PLUGIN, kind=TaskKind.GENERATIVE)},
    ],
)
def test_policy_whose_plugin_is_missing_here_is_refused_and_its_predecessor_goes_on(
    hosted: dict[int, PluginTask],
) -> None:
    state = PolicyState(bytes(32), hosted)
    before = Document("codes", ProtocolConfig(mode=ProtocolMode.ENFORCE))
    feed(state, UPSTREAM, AIRLOCK, before, Document("all", RouteSpec("/", "model", "hipaa", protocol="codes")))

    ack = state.apply(delta(ENFORCED), NOW)

    (rejected,) = ack.rejected
    assert rejected.why.code == code_pb2.FAILED_PRECONDITION  # sent again when the sidecar comes back
    assert "plugin code for task 31 (ProductSentiment)" in rejected.why.message
    assert "--plugins" in rejected.why.message
    assert rejected.in_force == wire.resource(before).version
    snapshot = state.snapshot("live")
    assert snapshot is not None
    assert len(snapshot.routes) == 1


def test_new_route_whose_plugin_is_missing_is_blocked() -> None:
    state = PolicyState(bytes(32), {})
    feed(state, UPSTREAM, AIRLOCK)
    assert state.apply(delta(ENFORCED), NOW).rejected

    ack = state.apply(delta(Document("all", RouteSpec("/", "model", "hipaa", protocol="codes"))), NOW)

    assert "ProtocolPolicy 'codes'" in ack.rejected[0].why.message
    snapshot = state.snapshot("live")
    assert snapshot is not None
    assert (len(snapshot.routes), len(snapshot.blocked)) == (0, 1)


@pytest.mark.parametrize(
    ("mode", "hosted"),
    [(ProtocolMode.ENFORCE, {31: PLUGIN}), (ProtocolMode.MONITOR, {}), (ProtocolMode.OFF, {}), ("enforce", None)],
)
def test_policy_with_its_plugin_or_that_asks_none_is_in_force(
    mode: ProtocolMode | str, hosted: dict[int, PluginTask] | None
) -> None:
    state = PolicyState(bytes(32), hosted)

    document = Document("codes", ProtocolConfig(mode=ProtocolMode(mode), registered=(CODE,)))

    assert not state.apply(delta(document), NOW).rejected
