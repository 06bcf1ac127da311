"""Documents as distributed resources (control-api.md rules 2 and 5)."""

import hashlib
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

import pytest
from aegispb.v1 import discovery_pb2, policy_pb2
from hypothesis import given
from hypothesis import strategies as st

from policies import wire
from policies.airlock.config import Action, AirlockConfig
from policies.airlock.labels import Label
from policies.errors import ConfigError, WireError
from policies.firewall_config import FirewallConfig
from policies.honeypot.config import TrapPlacement
from policies.mathprotocol.config import ProtocolConfig
from policies.snapshot import Upstream
from policies.spec import Document, Kind, RouteSpec
from policies.tunnel import PeerConfig, TunnelConfig
from tests.policies.documents import documents


def example(kind: Kind) -> Document:
    match kind:
        case Kind.TUNNEL:
            return Document("mesh", TunnelConfig("public.example"))
        case Kind.PEER:
            return Document("one", PeerConfig("spiffe://mesh/sidecar/llm", "llm", frozenset({"tcp://llm:15008"})))
        case Kind.UPSTREAM:
            return Document("one", Upstream("one", "https://model.example"))
        case Kind.TRAPS:
            return Document("one", TrapPlacement(3, frozenset({43})))
        case Kind.PROTOCOL:
            return Document("one", ProtocolConfig())
        case Kind.FIREWALL:
            return Document("one", FirewallConfig())
        case Kind.AIRLOCK:
            return Document("one", AirlockConfig())
        case Kind.ROUTE:
            return Document("one", RouteSpec("/openai", "one", "one"))


@given(documents())
def test_document_survives_distribution(document: Document) -> None:
    sent = discovery_pb2.Resource.FromString(wire.resource(document).SerializeToString())

    assert wire.read(wire.TYPE_URLS[document.kind], sent) == document


@given(documents())
def test_rule_2_version_is_the_digest_of_the_canonical_body(document: Document) -> None:
    sent = wire.resource(document)

    assert sent.version == hashlib.sha256(sent.body).hexdigest()[:16]
    assert sent == wire.resource(document)


def test_rule_2_equal_documents_have_equal_versions_whatever_the_order_of_their_settings() -> None:
    one = AirlockConfig(actions={Label.SSN: Action.BLOCK, Label.EMAIL: Action.ALLOW})
    two = AirlockConfig(actions={Label.EMAIL: Action.ALLOW, Label.SSN: Action.BLOCK})

    assert wire.resource(Document("a", one)).version == wire.resource(Document("b", two)).version


@pytest.mark.parametrize("kind", Kind)
def test_every_setting_of_every_kind_is_distributed(kind: Kind) -> None:
    """Fails when a config has a field that policy.proto has not: add it there and run `just gen`."""
    value, message = wire.MESSAGES[kind]

    def compare(value: type[Any], descriptor: Any) -> None:
        names = {f.name for f in fields(value)} - ({"name"} if value is Upstream else set())
        assert names == {f.name for f in descriptor.fields}
        for name, field_type in get_type_hints(value).items():
            if is_dataclass(field_type) and isinstance(field_type, type):
                compare(field_type, descriptor.fields_by_name[name].message_type)

    compare(value, message.DESCRIPTOR)


@pytest.mark.parametrize("kind", Kind)
def test_setting_from_a_newer_control_plane_is_refused_not_ignored(kind: Kind) -> None:
    sent = wire.resource(example(kind))
    newer = sent.body + b"\xfa\x3f\x01x"  # field 1023, length-delimited
    received = discovery_pb2.Resource(
        name="one", body=newer, sha256=hashlib.sha256(newer).digest(), version=hashlib.sha256(newer).hexdigest()[:16]
    )

    with pytest.raises(WireError, match="upgrade this sidecar"):
        wire.read(wire.TYPE_URLS[kind], received)


def test_nested_setting_from_a_newer_control_plane_is_refused_too() -> None:
    body = policy_pb2.AirlockPolicy(caps=policy_pb2.Caps.FromString(b"\xfa\x3f\x01x")).SerializeToString()
    digest = hashlib.sha256(body)
    received = discovery_pb2.Resource(name="x", body=body, sha256=digest.digest(), version=digest.hexdigest()[:16])

    with pytest.raises(WireError, match="upgrade this sidecar"):
        wire.read(wire.TYPE_URLS[Kind.AIRLOCK], received)


def test_setting_that_an_older_control_plane_does_not_know_takes_its_default() -> None:
    body = policy_pb2.AirlockPolicy(hint="copy tokens").SerializeToString()
    digest = hashlib.sha256(body)
    received = discovery_pb2.Resource(name="x", body=body, sha256=digest.digest(), version=digest.hexdigest()[:16])

    assert wire.read(wire.TYPE_URLS[Kind.AIRLOCK], received).body == AirlockConfig(hint="copy tokens")


def test_explicitly_empty_set_is_not_the_default() -> None:
    document = Document("x", AirlockConfig(restricted_zip3=frozenset()))

    assert wire.read(wire.TYPE_URLS[Kind.AIRLOCK], wire.resource(document)) == document


@pytest.mark.parametrize("change", [{"body": b"x"}, {"sha256": b"x" * 32}, {"version": "0" * 16}, {"sha256": b""}])
def test_rule_5_body_that_does_not_match_its_digest_is_refused_before_it_is_parsed(change: dict[str, Any]) -> None:
    sent = wire.resource(example(Kind.AIRLOCK))
    for name, value in change.items():
        setattr(sent, name, value)

    with pytest.raises(WireError, match="digest"):
        wire.read(wire.TYPE_URLS[Kind.AIRLOCK], sent)


def test_unknown_value_of_an_enumeration_is_refused_with_its_field() -> None:
    body = policy_pb2.AirlockPolicy(profile="future").SerializeToString()
    digest = hashlib.sha256(body)
    received = discovery_pb2.Resource(name="x", body=body, sha256=digest.digest(), version=digest.hexdigest()[:16])

    with pytest.raises(ConfigError, match="profile: "):
        wire.read(wire.TYPE_URLS[Kind.AIRLOCK], received)


def sent(message: Any, name: str = "x") -> discovery_pb2.Resource:
    body = message.SerializeToString()
    digest = hashlib.sha256(body)
    return discovery_pb2.Resource(name=name, body=body, sha256=digest.digest(), version=digest.hexdigest()[:16])


def test_every_fault_of_a_body_is_named_nested_ones_too() -> None:
    route = sent(policy_pb2.Route(prefix="openai/", audit="never"))
    caps = sent(policy_pb2.AirlockPolicy(caps=policy_pb2.Caps(max_text=0), cache_bytes=10**18))

    with pytest.raises(ConfigError, match=r"audit: this build .*; upstream: is missing; airlock: is missing"):
        wire.read(wire.TYPE_URLS[Kind.ROUTE], route)
    with pytest.raises(ConfigError, match=r"caps\.max_text: expected 1 .*; cache_bytes: "):
        wire.read(wire.TYPE_URLS[Kind.AIRLOCK], caps)


def test_name_that_no_document_can_have_is_refused() -> None:
    resource = wire.resource(example(Kind.AIRLOCK))
    resource.name = "../x"

    with pytest.raises(ConfigError, match="name: expected"):
        wire.read(wire.TYPE_URLS[Kind.AIRLOCK], resource)


def test_resource_above_a_mebibyte_is_refused_on_both_ends() -> None:
    document = Document("x", AirlockConfig(hint="x" * wire.MAX_BODY))

    with pytest.raises(WireError, match="at most"):
        wire.resource(document)
    with pytest.raises(WireError, match="at most"):
        wire.read(wire.TYPE_URLS[Kind.AIRLOCK], discovery_pb2.Resource(name="x", body=b"x" * (wire.MAX_BODY + 1)))


@given(st.sampled_from([*wire.KINDS, "type.googleapis.com/other"]), st.binary(max_size=200), st.text(max_size=10))
def test_garbage_gives_only_our_errors(type_url: str, body: bytes, name: str) -> None:
    digest = hashlib.sha256(body)
    received = discovery_pb2.Resource(name=name, body=body, sha256=digest.digest(), version=digest.hexdigest()[:16])

    try:
        document = wire.read(type_url, received)
    except (WireError, ConfigError):
        return
    assert isinstance(document, Document)


def test_state_digest_tells_different_states_apart() -> None:
    digests = {
        wire.state_digest(state)
        for state in ({}, {"a": "1"}, {"a": "2"}, {"b": "1"}, {"a": "1", "b": "1"}, {"a": "", "b": "1"})
    }

    assert len(digests) == 6
    assert wire.state_digest({"a": "1", "b": "2"}) == wire.state_digest({"b": "2", "a": "1"})
