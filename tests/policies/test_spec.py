"""Policy documents: everything that is wrong, at once, with its place and what to do."""

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from policies import spec_yaml
from policies.airlock.config import Action, AirlockConfig, Caps, Restoration, ToolRestore
from policies.airlock.labels import Label
from policies.errors import Finding, SpecError
from policies.firewall_config import FirewallConfig
from policies.honeypot.config import HoneypotConfig
from policies.mathprotocol.codes import Kind as TaskKind
from policies.mathprotocol.config import ProtocolConfig, ProtocolMode
from policies.mathprotocol.context import ContextRules
from policies.mathprotocol.registered import RegisteredTask
from policies.model import UnreadablePart
from policies.snapshot import AuditMode, UnknownEndpoint, Upstream
from policies.spec import Document, Kind, RouteSpec, Source
from policies.spec_load import load, render
from policies.spec_models import (
    SPECS,
    AirlockModel,
    CapsModel,
    ContextModel,
    HoneypotModel,
    RestorationModel,
    json_schema,
)
from tests.policies.documents import documents

EXAMPLES = sorted((Path(__file__).parents[2] / "examples/policies").glob("*.yaml"))

HEAD = "apiVersion: aegis.mesh/v1\n"
UPSTREAM = HEAD + "kind: Upstream\nmetadata: {name: model}\nspec: {url: http://127.0.0.1:8000}\n"
AIRLOCK = HEAD + "kind: AirlockPolicy\nmetadata: {name: hipaa}\nspec: {profile: hipaa_safe_harbor}\n"
ROUTE = HEAD + "kind: Route\nmetadata: {name: all}\nspec: {prefix: /, upstream: model, airlock: hipaa}\n"


def read(*texts: str) -> list[Document]:
    return load(Source(f"{number}.yaml", text) for number, text in enumerate(texts))


def findings(*texts: str) -> list[str]:
    with pytest.raises(SpecError) as refused:
        read(*texts)
    return [str(finding) for finding in refused.value.findings]


def found_in(text: str) -> tuple[Finding, ...]:
    try:
        load([Source("garbage", text)])
    except SpecError as error:
        return error.findings
    return ()


def airlock(spec: str) -> str:
    return f"{HEAD}kind: AirlockPolicy\nmetadata: {{name: hipaa}}\nspec:\n{spec}"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_loads(path: Path) -> None:
    assert {document.kind for document in load([Source(path.name, path.read_text())])} >= {Kind.UPSTREAM, Kind.ROUTE}


def test_documents_in_the_manual_load() -> None:
    manual = (EXAMPLES[0].parents[2] / "docs/policies.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", manual, re.DOTALL)

    assert len(read(block)) == 3
    assert all(f"| {kind} |" in manual for kind in Kind)


def test_documents_of_several_files_refer_to_each_other() -> None:
    upstream, route, policy = read(UPSTREAM + "---\n" + ROUTE, AIRLOCK)

    assert upstream == Document("model", Upstream("model", "http://127.0.0.1:8000"))
    assert route == Document("all", RouteSpec("/", "model", "hipaa"))
    assert policy == Document("hipaa", AirlockConfig())


def test_every_setting_can_be_said() -> None:
    text = airlock(
        """
  profile: pci
  actions: {SSN: block, AGE_OVER_89: generalise}
  restoration: {tools: allow-list, toolNames: [b, a], reasoning: true, links: true, systemValues: false}
  caps: {maxText: 1MiB, maxSpansPerKib: 1, minSpans: 2, maxCandidatesPerKib: 3, maxSpans: 4}
  quoteLiterals: false
  allowUnreadable: [image]
  hint: copy
  restrictedZip3: ["036"]
  cacheBytes: 0
"""
    )

    (document,) = read(text)

    assert document.body == AirlockConfig(
        profile=AirlockConfig().profile.PCI,
        actions={Label.SSN: Action.BLOCK, Label.AGE_OVER_89: Action.GENERALISE},
        restoration=Restoration(ToolRestore.ALLOW_LIST, frozenset({"a", "b"}), True, True, False),
        caps=Caps(1 << 20, 1, 2, 3, 4),
        quote_literals=False,
        allow_unreadable=frozenset({UnreadablePart.IMAGE}),
        hint="copy",
        restricted_zip3=frozenset({"036"}),
        cache_bytes=0,
    )


@pytest.mark.parametrize(
    ("model", "value"),
    [
        (SPECS[Kind.UPSTREAM], Upstream),
        (SPECS[Kind.PROTOCOL], ProtocolConfig),
        (SPECS[Kind.FIREWALL], FirewallConfig),
        (ContextModel, ContextRules),
        (HoneypotModel, HoneypotConfig),
        (SPECS[Kind.ROUTE], RouteSpec),
        (AirlockModel, AirlockConfig),
        (RestorationModel, Restoration),
        (CapsModel, Caps),
    ],
)
def test_documents_have_a_field_for_every_setting(model: type[Any], value: type[Any]) -> None:
    """Fails when a config has a field that policies/spec_models.py has not."""
    assert set(model.model_fields) == {f.name for f in fields(value)} - ({"name"} if value is Upstream else set())


def test_durations_and_sizes_are_read_with_their_units() -> None:
    text = UPSTREAM.replace("}\n", ", connectTimeout: 500ms, idleTimeout: 2m, totalTimeout: 90}\n", 2).replace(
        "{name: model, connectTimeout: 500ms, idleTimeout: 2m, totalTimeout: 90}", "{name: model, ttl: 1h}"
    )

    (document,) = read(text)

    assert document.ttl == 3600
    assert document.body == Upstream("model", "http://127.0.0.1:8000", "", 0.5, 120, 90)


def test_off_is_a_mode_and_not_the_boolean_of_yaml_1_1() -> None:
    (document,) = read(HEAD + "kind: ProtocolPolicy\nmetadata: {name: no}\nspec: {mode: off}\n")

    assert document == Document("no", ProtocolConfig(mode=ProtocolMode.OFF))


def test_all_errors_of_all_files_are_named_at_once_with_their_places() -> None:
    broken = airlock("  profile: hippa\n  actons: {SSN: block}\n  actions:\n    SNN: block\n    EMAIL: tokenize\n")
    route = (
        HEAD
        + "kind: Route\nmetadata: {name: Bad Name}\nspec:\n  prefix: openai/\n  upstream: model-1\n  airlock: hipaa\n"
        + "  maxBody: 1 potato\n"
    )

    assert findings(UPSTREAM, broken, route, "kind: Routes\n", "a: b: c\n  - d") == [
        "1.yaml:5:12: spec.profile: unknown value 'hippa'; use one of hipaa_safe_harbor, seed18, gdpr, pci",
        "1.yaml:6:3: spec.actons: unknown field; did you mean actions?",
        "1.yaml:8:5: spec.actions.SNN: unknown value 'SNN'; did you mean SSN?",
        "1.yaml:9:12: spec.actions.EMAIL: unknown value 'tokenize'; did you mean tokenise?",
        "2.yaml:3:18: metadata.name: expected 1 to 63 lower-case letters, digits, dashes and dots, and not 'none'",
        "2.yaml:8:12: spec.maxBody: expected a size such as 65536 or 32MiB, got '1 potato'",
        "3.yaml:1:1: apiVersion: is missing; write aegis.mesh/v1",
        "3.yaml:1:1: metadata: is missing",
        "3.yaml:1:7: kind: unknown kind 'Routes'; did you mean Route?",
        "4.yaml:1:5: not YAML: mapping values are not allowed in this context",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "kind: Route\n" + HEAD + "metadatas: {}\nspec: {}\n",
            "0.yaml:3:1: metadatas: unknown field; did you mean metadata?",
        ),
        (UPSTREAM + "zzz: 1\n", "0.yaml:5:1: zzz: unknown field; remove it"),
        (UPSTREAM.replace("/v1", "/v2"), "0.yaml:1:13: apiVersion: expected aegis.mesh/v1, got 'aegis.mesh/v2'"),
        (UPSTREAM.replace("{name: model}", "model"), "0.yaml:3:11: metadata: expected a mapping of fields"),
        (HEAD + "metadata: {name: x}\nspec: {}\n", "kind: is missing; write one of TunnelPolicy,"),
        (HEAD + "kind: [Route]\nmetadata: {name: x}\nspec: {}\n", "0.yaml:2:7: kind: unknown kind a list"),
        (UPSTREAM.replace("name: model", "name: none"), "0.yaml:3:18: metadata.name: expected 1 to 63"),
        (UPSTREAM.replace("name: model", "name: model, ttl: 0.5"), "metadata.ttl: expected 1 second to 30 days"),
        (UPSTREAM.replace("name: model", "name: model, ttl: soon"), "0.yaml:3:30: metadata.ttl: expected a duration"),
        (
            airlock("  profile: pci\n  caps: {maxTxt: 1}\n"),
            "0.yaml:6:10: spec.caps.maxTxt: unknown field; did you mean maxText?",
        ),
        (airlock("  profile: pci\n  caps: {minSpans: x}\n"), "spec.caps.minSpans: expected a whole number, got 'x'"),
        (airlock("  profile: pci\n  caps: 1\n"), "0.yaml:6:9: spec.caps: "),
        (airlock("  profile: pci\n  actions: [SSN]\n"), "0.yaml:6:12: spec.actions: "),
    ],
)
def test_finding_names_its_place_and_what_to_do(text: str, said: str) -> None:
    assert any(said in finding for finding in findings(text)), findings(text)


def test_anchor_and_alias_stand_for_the_same_value() -> None:
    text = airlock("  profile: pci\n  actions: {SSN: &what block, EMAIL: *what}\n  hint: |\n    two\n    lines\n")

    (document,) = read(text)

    assert isinstance(document.body, AirlockConfig)
    assert document.body.actions[Label.EMAIL] is Action.BLOCK
    assert load([Source("again", render(document))]) == [document]
    assert "hint: |" in render(document)


def test_faults_of_values_stand_at_their_field() -> None:
    route = HEAD + "kind: Route\nmetadata: {name: all}\nspec:\n  prefix: openai/\n  maxBody: 0\n  upstream: model\n"

    assert findings(UPSTREAM, route + "  airlock: none\n") == [
        "1.yaml:5:11: spec.prefix: expected a path such as /openai, without a slash at its end; / matches everything",
        "1.yaml:6:12: spec.maxBody: expected 1 to 1073741824 bytes",
    ]


def test_label_that_cannot_be_generalised_is_named_at_its_place() -> None:
    (finding,) = findings(airlock("  profile: pci\n  actions:\n    EMAIL: block\n    SSN: generalise\n"))

    assert finding.startswith("0.yaml:8:10: spec.actions.SSN: SSN cannot be generalised")


def test_faults_of_nested_values_stand_at_their_field() -> None:
    text = airlock(
        "  profile: pci\n  caps:\n    maxText: 0\n    minSpans: -1\n  cacheBytes: 2GiB\n  restrictedZip3: ['1']\n"
    )

    assert findings(text.replace("  cacheBytes: 2GiB\n  restrictedZip3: ['1']\n", "")) == [
        "0.yaml:7:14: spec.caps.maxText: expected 1 to 1073741824",
        "0.yaml:8:15: spec.caps.minSpans: expected 0 to 1073741824",
    ]
    assert [line.split(": ")[1] for line in findings(text.replace("maxText: 0", "maxText: 1").replace("-1", "1"))] == [
        "spec.cacheBytes",
        "spec.restrictedZip3",
    ]


def test_forgotten_airlock_is_an_error_and_going_without_one_must_be_said() -> None:
    without = HEAD + "kind: Route\nmetadata: {name: all}\nspec: {prefix: /, upstream: model}\n"

    assert findings(UPSTREAM, without) == ["1.yaml:4:7: spec.airlock: is missing"]
    assert read(UPSTREAM, without.replace("model}", "model, airlock: none}"))


def test_dangling_reference_is_found_and_the_near_name_proposed() -> None:
    assert findings(UPSTREAM, ROUTE.replace("hipaa", "hippa"), AIRLOCK) == [
        "1.yaml:4:45: spec.airlock: there is no AirlockPolicy 'hippa'; did you mean 'hipaa'?"
    ]


def test_reference_to_a_document_that_is_wrong_itself_is_no_second_finding() -> None:
    assert len(findings(UPSTREAM, ROUTE, AIRLOCK.replace("hipaa_safe_harbor", "x"))) == 1


def test_reference_may_be_to_what_is_in_force() -> None:
    in_force = {document.key: document for document in read(UPSTREAM, AIRLOCK)}

    assert load([Source("route.yaml", ROUTE)], in_force)


def test_document_that_stands_twice_is_refused_with_both_places() -> None:
    (finding,) = findings(UPSTREAM, UPSTREAM)

    assert finding.startswith("1.yaml:3:18: metadata.name: Upstream 'model' stands twice, first at 0.yaml:1")


def test_routes_that_match_the_same_requests_are_refused() -> None:
    (finding,) = findings(UPSTREAM, AIRLOCK, ROUTE, ROUTE.replace("name: all", "name: other"))

    assert "Route 'all' matches the same requests" in finding


def test_second_key_of_one_name_is_refused() -> None:
    (finding,) = findings(airlock("  profile: pci\n  profile: gdpr\n"))

    assert finding == "0.yaml:6:3: the key 'profile' stands twice, first on line 5; remove one of them"


def test_unquoted_zip_code_is_answered_with_what_to_do() -> None:
    (finding,) = findings(airlock("  profile: pci\n  restrictedZip3: [036]\n"))

    assert finding == "0.yaml:6:20: spec.restrictedZip3.0: expected a text, got 36; put it in quotes"


@pytest.mark.parametrize("value", ['"yes"', "1", "yes", "[true]"])
def test_nothing_is_coerced_to_a_boolean(value: str) -> None:
    (finding,) = findings(airlock(f"  profile: pci\n  quoteLiterals: {value}\n"))

    assert "spec.quoteLiterals: expected true or false" in finding


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x",
        "http://",
        "https://x/",
        "https://user:secret@x",
        "https://x?q",
        "https://x#f",
        "https://x:0",
        "https://x:99999",
        "https://a b",
        "x",
        "http://api..example.com",
        "http://.example.com",
        f"http://{'a' * 64}.example.com",
        f"http://{'a.' * 127}com",
    ],
)
def test_url_that_is_no_base_is_refused(url: str) -> None:
    (finding,) = findings(UPSTREAM.replace("{url: http://127.0.0.1:8000}", "{url: '" + url + "'}"))

    assert "spec.url: expected http(s)://host" in finding
    assert "secret" not in finding


@pytest.mark.parametrize("prefix", ["openai", "/openai/", "//", "/a//b", "/a?b", "/a b", "", "/%2e"])
def test_prefix_that_could_be_read_two_ways_is_refused(prefix: str) -> None:
    (finding,) = findings(UPSTREAM, AIRLOCK, ROUTE.replace("prefix: /,", f"prefix: '{prefix}',"))

    assert "spec.prefix: expected a path" in finding


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            "{mode: enforce, honeypot: {rotatingTraps: 99}}",
            "0.yaml:4:49: spec.honeypot.rotatingTraps: expected 0 to 10",
        ),
        ("{mode: enforce, context: {maxBytes: 0}}", "spec.context.maxBytes: expected 1 to"),
        ("{mode: enforce, registered: [{prime: 2, name: x, kind: generative, params: [1]}]}", "registered.0.prime"),
    ],
)
def test_value_out_of_range_in_a_nested_part_is_a_finding_like_any_other(spec: str, said: str) -> None:
    (finding,) = findings(HEAD + f"kind: ProtocolPolicy\nmetadata: {{name: p}}\nspec: {spec}\n")

    assert said in finding


def test_billion_laughs_are_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]

    (finding,) = findings("\n".join(lines))

    assert "more than 50000 values" in finding


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 500 + "]" * 500, "nested deeper"),
        ("x: " + "y" * (1 << 20), "split it"),
        ("a: &a [*a]", "no anchor"),
        ("!!python/object/apply:os.system ['true']", "not allowed"),
        ("a: !!binary aGk=", "not allowed"),
        ("<<: {a: b}", "merge keys"),
        ("[a]: b", "a key must be a text"),
        ("a: \x00", "not YAML"),
        ("- a", "expected a document"),
    ],
)
def test_yaml_that_is_no_plain_document_is_refused(text: str, said: str) -> None:
    assert said in findings(text)[0]


def test_findings_are_bounded() -> None:
    text = "---\n".join(["kind: x\n"] * 300)

    found = findings(text)

    assert len(found) == 201
    assert "more findings" in found[0] + found[-1]


@given(documents())
def test_rendered_document_reads_back_as_itself(document: Document) -> None:
    in_force = {key: Document(key[1], AirlockConfig()) for _, key in document.references()}

    assert load([Source("x", render(document))], in_force) == [document]


@given(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\n \t\x85:#-|'\"{}[]&*!"), max_size=40))
def test_any_text_can_be_written_and_read_back(text: str) -> None:
    (node,), _ = spec_yaml.documents("x", spec_yaml.dump({"x": {"y": text, "z": 1}}))

    assert node.plain() == {"x": {"y": text, "z": 1}}


@given(st.text())
@example("a: &a\n  - *a\n")
@example("? {a: b}\n: c\n")
@example("--- |\n...\n--- >\n")
@example("\ud800")
@example("%YAML 9.9\n---\n")
def test_garbage_text_gives_only_a_spec_error(text: str) -> None:
    assert all(isinstance(finding.message, str) for finding in found_in(text))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "profile", "actions", "caps", "restoration", "tools", "x"]), inner)
    ),
    max_leaves=8,
)


@given(st.sampled_from(sorted(Kind)), PLAIN, PLAIN)
def test_garbage_document_gives_only_a_spec_error(kind: Kind, metadata: Any, spec: Any) -> None:
    text = yaml.dump({"apiVersion": "aegis.mesh/v1", "kind": kind.value, "metadata": metadata, "spec": spec})

    assert all(finding.line for finding in found_in(text))


WRITABLE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(1 - 10**18, 10**18 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "008"]), inner),
    max_leaves=8,
)


@given(WRITABLE)
@example("0E0")
@example("off")
@example(1e300)
@example(5e-324)
def test_values_are_read_as_they_were_written(value: Any) -> None:
    (node,), found = spec_yaml.documents("x", spec_yaml.dump({"x": value}))

    assert not found
    assert json.dumps(node.plain()["x"]) == json.dumps(value)  # JSON tells 1 from True and -0.0 from 0


def test_schema_knows_every_kind_and_names_no_field_in_snake_case() -> None:
    schema = json_schema()

    assert {variant["title"] for variant in schema["oneOf"]} == {kind.value for kind in Kind}
    assert "unknownEndpoint" in schema["$defs"]["Route"]["properties"]
    assert not [
        name for definition in schema["$defs"].values() for name in definition.get("properties", {}) if "_" in name
    ]


def test_enumerations_are_written_as_in_the_values() -> None:
    text = (
        UPSTREAM + "---\n" + ROUTE.replace("airlock: hipaa", "airlock: none, audit: required, unknownEndpoint: refuse")
    )

    route = read(text)[1].body

    assert isinstance(route, RouteSpec)
    assert (route.audit, route.unknown_endpoint) == (AuditMode.REQUIRED, UnknownEndpoint.REFUSE)


def test_registered_tasks_are_read_and_what_is_wrong_with_one_is_found_in_its_place() -> None:
    head = (
        "apiVersion: aegis.mesh/v1\nkind: ProtocolPolicy\nmetadata: {name: p}\nspec:\n  mode: enforce\n  registered:\n"
    )
    good = "    - {prime: 31, name: Rhyme, kind: generative, params: [1], instruction: Make it rhyme.}\n"
    bad = "    - {prime: 37, name: Rhyme, kind: generative, params: [4]}\n"

    (document,) = read(head + good)
    with pytest.raises(SpecError) as raised:
        read(head + good + bad)

    assert document.body == ProtocolConfig(
        mode=ProtocolMode.ENFORCE,
        registered=(RegisteredTask(31, "Rhyme", TaskKind.GENERATIVE, frozenset({1}), "Make it rhyme."),),
    )
    assert read(render(document)) == [document]
    (finding,) = raised.value.findings
    assert (finding.line, finding.field) == (8, "spec.registered.1.params")
