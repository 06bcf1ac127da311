"""What each kind of document may say: the public form of policies, and its JSON schema.

Field names are camelCase as in Kubernetes. Durations are seconds or texts such as `30s`, `5m`; sizes are bytes or
texts such as `32MiB`. What values mean and which of them fit together is checked by the values that the models become.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr
from pydantic.alias_generators import to_camel

from policies.airlock.config import (
    RESTRICTED_ZIP3,
    Action,
    AirlockConfig,
    Caps,
    Restoration,
    ToolRestore,
)
from policies.airlock.labels import Label, Profile
from policies.errors import ConfigError
from policies.firewall_config import FirewallConfig, FirewallMode
from policies.honeypot.config import HoneypotConfig, TrapPlacement
from policies.mathprotocol.codes import Kind as TaskKind
from policies.mathprotocol.config import ProtocolConfig, ProtocolMode
from policies.mathprotocol.context import ContextRules, Damaged, Presence
from policies.mathprotocol.registered import RegisteredTask
from policies.model import UnreadablePart
from policies.snapshot import AuditMode, UnknownEndpoint, Upstream
from policies.spec import API_VERSION, NONE, Kind, RouteSpec
from policies.tunnel import EchMode, PeerConfig, TunnelConfig

_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_SIZE: Final = re.compile(r"(\d{1,12})(B|KiB|MiB|GiB)?")
_BYTES: Final = {None: 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def _seconds(value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and (matched := _DURATION.fullmatch(value)):
        return float(matched[1]) * _SECONDS[matched[2]]
    raise ValueError("expected a duration such as 30s, 5m or 500ms")


def _bytes(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and (matched := _SIZE.fullmatch(value)):
        return int(matched[1]) * _BYTES[matched[2]]
    raise ValueError("expected a size such as 65536 or 32MiB")


Duration = Annotated[
    float,
    BeforeValidator(_seconds, json_schema_input_type=float | Annotated[str, Field(pattern=f"^{_DURATION.pattern}$")]),
]
Size = Annotated[
    int,
    BeforeValidator(_bytes, json_schema_input_type=int | Annotated[str, Field(pattern=f"^{_SIZE.pattern}$")]),
]
Name = Annotated[StrictStr, Field(max_length=63)]


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, validate_by_alias=True, validate_by_name=False
    )


class Metadata(_Model):
    """What identifies a document."""

    name: Name = Field(description="Lower-case letters, digits, dashes and dots; unique per kind.")
    ttl: Duration | None = Field(
        None,
        description="How long a sidecar may keep this in force without hearing from the control plane; then the "
        "stricter built-in default takes its place. For relaxed policies that must not outlive their control.",
    )


class UpstreamModel(_Model):
    """A model server."""

    url: StrictStr = Field(description="http(s)://host[:port][/base/path], without a slash at its end.")
    ca_file: StrictStr = Field("", description="PEM bundle that verifies the server; empty: the system's CAs.")
    connect_timeout: Duration = Field(5.0, description="Until TCP and TLS stand.")
    idle_timeout: Duration = Field(300.0, description="Without a byte from the server while an answer is due.")
    total_timeout: Duration = Field(600.0, description="For the whole exchange.")
    peer: Name = Field("", description="Name of a Peer: reached through its tunnel, never in another way.")


class TunnelModel(_Model):
    """How the mesh uses ECH, and how often its keys change. There is one, and its name is `mesh`."""

    public_name: StrictStr = Field(description="The name in the clear; serving sidecars need a certificate for it.")
    enabled: StrictBool | None = Field(None, description="false: peers that are opportunistic go without ECH.")
    rollout_percentage: float | None = Field(None, description="0 to 100, where ECH is opportunistic; default 100.")
    salt: StrictStr | None = Field(None, description="Another one deals the (workload, service) pairs anew.")
    rotate_every: Duration | None = Field(None, description="Between two ECH keys: 1h to 24h; default 6h.")
    rotate_statics_every: Duration | None = Field(None, description="Between two Noise statics; default 30d.")
    max_name_length: Size | None = Field(None, description="Bytes that hidden names are padded to; default 64.")


class PeerModel(_Model):
    """A service that is reached through a tunnel, and who may reach it."""

    spiffe_id: StrictStr = Field(description="The workload behind it.")
    service: StrictStr = Field(description="The name that the tunnel hides and the peer's certificate is for.")
    endpoints: frozenset[StrictStr] = Field(description="tcp://host:port or quic://host:port; the fastest is taken.")
    mode: EchMode = Field(description="required, opportunistic or off: ECH, never whether there is a tunnel.")
    min_pq: StrictBool | None = Field(None, description="Refuse what is not post-quantum; default true.")
    allow: frozenset[StrictStr] | None = Field(None, description="SPIFFE ids that may open tunnels; default: nobody.")
    static_key: StrictStr | None = Field(None, description="Base64 Noise static of a peer with keys of its own.")
    other_static_key: StrictStr | None = Field(None, description="A second one while such a peer changes it.")


class RouteModel(_Model):
    """Which requests go where, and under which policies."""

    prefix: StrictStr = Field(description="Path prefix at a segment border: /openai. / matches everything.")
    headers: dict[StrictStr, StrictStr] = Field(
        default_factory=dict, description="Lower-case header name -> exact value that must be present too."
    )
    upstream: Name = Field(description="Name of an Upstream.")
    airlock: Name = Field(description="Name of an AirlockPolicy; `none`: no text is inspected. Must be said.")
    protocol: Name = Field(NONE, description="Name of a ProtocolPolicy, or `none`.")
    firewall: Name = Field(NONE, description="Name of a FirewallPolicy, or `none`.")
    strip_prefix: StrictBool = Field(True, description="Cut the prefix off before the path goes to the upstream.")
    unknown_endpoint: UnknownEndpoint = Field(
        UnknownEndpoint.WALK, description="JSON endpoints that no dialect knows: walk over every text, or refuse."
    )
    audit: AuditMode = Field(
        AuditMode.BEST_EFFORT, description="required: refuse exchanges whose audit leaf cannot be kept."
    )
    max_body: Size = Field(32 << 20, description="Of a request body.")
    inbound: Name = Field("", description="Name of a Peer: only requests that come through its tunnel, and no others.")


class ContextModel(_Model):
    """CONTEXT as Unicode: always NFC."""

    max_bytes: Size | None = Field(None, description="UTF-8 bytes of a CONTEXT.")
    max_code_points: StrictInt | None = Field(None, description="Code points of a CONTEXT.")
    damaged: Damaged | None = Field(None, description="U+FFFD and lone surrogates: keep (as U+FFFD), strip or refuse.")
    bidi: Presence | None = Field(None, description="Bidirectional controls: keep or strip.")
    emoji: Presence | None = Field(None, description="Emoji: keep or strip.")


class HoneypotModel(_Model):
    """Traps that move, and what they answer."""

    rotating_traps: StrictInt | None = Field(None, description="Traps drawn anew in every period, 0 to 10.")
    rotation_seconds: Duration | None = Field(None, description="How long a draw holds; default: a day.")
    generation: StrictInt | None = Field(None, description="Raise it to draw new traps at once.")
    probed_primes: frozenset[StrictInt] | None = Field(None, description="Three times as likely to become traps.")
    decoy: StrictBool | None = Field(None, description="Give a caught prober a false answer instead of 403.")


class TrapsModel(_Model):
    """Where the traps of every route belong now. The control plane keeps the document named `mesh` itself."""

    generation: StrictInt | None = Field(None, description="Grows with every rotation.")
    probed_primes: frozenset[StrictInt] | None = Field(None, description="What attackers tried most of late.")


class RegisteredTaskModel(_Model):
    """A task beside those of v2.1; `aegis protocol plugins DIR --policy` writes them from a plugin's templates."""

    prime: StrictInt = Field(description="A prime without a task.")
    name: StrictStr = Field(description="What the model is told the task is called.")
    kind: TaskKind = Field(description="classification: answered by a code alone; generative: by a code and a text.")
    params: frozenset[StrictInt] = Field(description="Fibonacci params that the task takes.")
    instruction: StrictStr | None = Field(None, description="What the model is told of the task, on one line.")
    code: StrictBool | None = Field(None, description="A plugin of the sidecar answers (`--plugins`), not the model.")


class ProtocolModel(_Model):
    """How a route holds its exchanges to MathProtocol."""

    mode: ProtocolMode = Field(description="off, monitor (record only) or enforce.")
    tasks: frozenset[StrictInt] | None = Field(None, description="Task primes that are served; default: all of v2.1.")
    params: frozenset[StrictInt] | None = Field(None, description="Fibonacci params that are registered.")
    trap_primes: frozenset[StrictInt] | None = Field(None, description="Primes that no honest client sends.")
    canary_params: frozenset[StrictInt] | None = Field(None, description="Traps unless `params` registers them.")
    ban_seconds: Duration | None = Field(None, description="How long a peer that touched a trap is refused; 0: not.")
    max_protocol_retries: StrictInt | None = Field(None, description="Asking again after an invalid answer, 0 to 5.")
    system_prompt_version: StrictInt | None = Field(None, description="Text that teaches the protocol; 0: none.")
    max_answer: StrictInt | None = Field(None, description="Characters of an answer.")
    context: ContextModel | None = None
    honeypot: HoneypotModel | None = None
    registered: list[RegisteredTaskModel] | None = Field(None, description="Tasks beside those of v2.1.")


class FirewallModel(_Model):
    """How much instruction a route tolerates in the texts of users and tools."""

    mode: FirewallMode = Field(description="monitor (alert only) or block.")
    threshold: float | None = Field(
        None, description="Score from which a prompt is suspected: 0.7 is strict, 1.0 balanced (default), 1.5 lax."
    )


class RestorationModel(_Model):
    """Where values may come back."""

    tools: ToolRestore | None = Field(None, description="What the model hands to tools: never, allow-list or all.")
    tool_names: frozenset[StrictStr] | None = Field(None, description="Tools that may receive values (allow-list).")
    reasoning: StrictBool | None = Field(None, description="In the model's unsigned reasoning.")
    links: StrictBool | None = Field(None, description="Inside web addresses: an image link carries them away.")
    system_values: StrictBool | None = Field(None, description="Values that stand only in the system prompt.")


class CapsModel(_Model):
    """Bounds that fail closed."""

    max_text: Size | None = Field(None, description="Characters of all texts of a prompt together.")
    max_spans_per_kib: StrictInt | None = Field(None, description="Identifiers per 1,024 characters.")
    min_spans: StrictInt | None = Field(None, description="Identifiers that any text may hold.")
    max_spans: StrictInt | None = Field(None, description="Identifiers of all texts of a prompt together.")
    max_candidates_per_kib: StrictInt | None = Field(None, description="Unconfirmed matches per 1,024.")


class AirlockModel(_Model):
    """What is taken out of prompts, and what comes back."""

    profile: Profile = Field(description="The set of labels that are tokenised: hipaa_safe_harbor, gdpr, pci, seed18.")
    actions: dict[Label, Action] | None = Field(None, description="Label -> action, where they differ.")
    restoration: RestorationModel | None = None
    caps: CapsModel | None = None
    quote_literals: StrictBool | None = Field(None, description="Tokenise what looks like a token already.")
    allow_unreadable: frozenset[UnreadablePart] | None = Field(
        None, description="Images, audio, files, token numbers that may pass although nobody can read them."
    )
    hint: StrictStr | None = Field(None, description="Instruction to copy tokens verbatim.")
    restricted_zip3: frozenset[StrictStr] | None = Field(
        None, description=f"Three-digit ZIP areas that become 000; default: the {len(RESTRICTED_ZIP3)} of the census."
    )
    cache_bytes: Size | None = Field(None, description="Memory for spans of texts seen before; 0: none.")


SPECS: Final[Mapping[Kind, type[_Model]]] = {
    Kind.TUNNEL: TunnelModel,
    Kind.PEER: PeerModel,
    Kind.UPSTREAM: UpstreamModel,
    Kind.TRAPS: TrapsModel,
    Kind.PROTOCOL: ProtocolModel,
    Kind.FIREWALL: FirewallModel,
    Kind.AIRLOCK: AirlockModel,
    Kind.ROUTE: RouteModel,
}

_NESTED: Final[Mapping[str, type[Any]]] = {
    "restoration": Restoration,
    "caps": Caps,
    "context": ContextRules,
    "honeypot": HoneypotConfig,
}
_LISTED: Final[Mapping[str, type[Any]]] = {"registered": RegisteredTask}
_VALUES: Final[Mapping[Kind, type[Any]]] = {
    Kind.TUNNEL: TunnelConfig,
    Kind.PEER: PeerConfig,
    Kind.UPSTREAM: Upstream,
    Kind.TRAPS: TrapPlacement,
    Kind.PROTOCOL: ProtocolConfig,
    Kind.FIREWALL: FirewallConfig,
    Kind.AIRLOCK: AirlockConfig,
    Kind.ROUTE: RouteSpec,
}


def value_of(kind: Kind, name: str, model: BaseModel) -> Any:
    """The value that a parsed `spec` stands for. Raises ConfigError."""
    given = _said(model)
    faults: list[str] = []
    for field, value in given.items():
        if isinstance(value, BaseModel):
            given[field] = _nested(_NESTED[field], value, field, faults)
        elif isinstance(value, list):
            each = [_nested(_LISTED[field], item, f"{field}.{at}", faults) for at, item in enumerate(value)]
            given[field] = tuple(each)
    if faults:
        raise ConfigError(faults)
    return _VALUES[kind](**({"name": name} if kind is Kind.UPSTREAM else {}), **given)


def _nested(kind: type[Any], model: BaseModel, where: str, faults: list[str]) -> Any:
    try:
        return kind(**_said(model))
    except ConfigError as error:
        faults += [f"{where}.{fault}" for fault in error.faults]
        return None


def _said(model: BaseModel) -> dict[str, Any]:
    return {name: getattr(model, name) for name in model.model_fields_set if getattr(model, name) is not None}


def json_schema() -> dict[str, Any]:
    """The JSON schema (2020-12) of one policy document, for editors and other tools."""
    definitions: dict[str, Any] = {}
    variants = []
    for kind, model in SPECS.items():
        schema = model.model_json_schema(by_alias=True, ref_template="#/$defs/{model}")
        definitions.update(schema.pop("$defs", {}))
        definitions[kind.value] = schema
        variants.append(
            {
                "type": "object",
                "title": kind.value,
                "properties": {
                    "apiVersion": {"const": API_VERSION},
                    "kind": {"const": kind.value},
                    "metadata": {"$ref": "#/$defs/Metadata"},
                    "spec": {"$ref": f"#/$defs/{kind.value}"},
                },
                "required": ["apiVersion", "kind", "metadata", "spec"],
                "additionalProperties": False,
            }
        )
    definitions["Metadata"] = Metadata.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "oneOf": variants, "$defs": definitions}
