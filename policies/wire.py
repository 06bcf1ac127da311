"""Documents <-> the resources that are distributed: deterministic bytes whose digest is their version.

The messages of policy.proto have the fields of the values they carry, by name, so that one walk over the fields
serves all kinds. Nothing about a document is lost: `read(resource(document)) == document`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from typing import Any, Final, get_args, get_origin, get_type_hints

from aegispb.v1 import discovery_pb2, policy_pb2
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from policies.airlock.config import AirlockConfig
from policies.errors import ConfigError, WireError
from policies.firewall_config import FirewallConfig
from policies.honeypot.config import TrapPlacement
from policies.mathprotocol.config import ProtocolConfig
from policies.snapshot import Upstream
from policies.spec import Document, Kind, RouteSpec
from policies.tunnel import PeerConfig, TunnelConfig

TYPE_URLS: Final[Mapping[Kind, str]] = {kind: f"type.googleapis.com/aegispb.v1.{kind.value}" for kind in Kind}
"""In the order of distribution."""
KINDS: Final[Mapping[str, Kind]] = {url: kind for kind, url in TYPE_URLS.items()}

TUNNEL_KEYS: Final = "type.googleapis.com/aegispb.v1.TunnelKeys"
MESH_KEYS: Final = "type.googleapis.com/aegispb.v1.MeshKeys"
WORKLOADS: Final = "type.googleapis.com/aegispb.v1.Workload"
KEY_TYPES: Final = (TUNNEL_KEYS, MESH_KEYS, WORKLOADS)
"""What the control plane makes and nobody pushes, see tunnel.proto. In the order of distribution."""
PERSONAL: Final = frozenset({TUNNEL_KEYS})
"""Types whose resources are for one sidecar each: private keys are in them."""
ORDER: Final = (TYPE_URLS[Kind.TUNNEL], *KEY_TYPES, *(url for url, kind in KINDS.items() if kind is not Kind.TUNNEL))
"""Every type, in the order of distribution (control API, rule 4): flags, keys, then what refers to them."""

MAX_BODY: Final = 1 << 20
"""Bytes of one resource."""

MAX_NUMBER: Final = 10**18 - 1
"""The largest whole number that a document can say."""

MESSAGES: Final[Mapping[Kind, tuple[type[Any], type[Message]]]] = {
    Kind.TUNNEL: (TunnelConfig, policy_pb2.TunnelPolicy),
    Kind.PEER: (PeerConfig, policy_pb2.Peer),
    Kind.UPSTREAM: (Upstream, policy_pb2.Upstream),
    Kind.TRAPS: (TrapPlacement, policy_pb2.TrapPlacement),
    Kind.PROTOCOL: (ProtocolConfig, policy_pb2.ProtocolPolicy),
    Kind.FIREWALL: (FirewallConfig, policy_pb2.FirewallPolicy),
    Kind.AIRLOCK: (AirlockConfig, policy_pb2.AirlockPolicy),
    Kind.ROUTE: (RouteSpec, policy_pb2.Route),
}
"""Kind -> (value, message). A value's `name` is not part of its message: it is `Resource.name`."""


def resource(document: Document) -> discovery_pb2.Resource:
    """The one resource that carries `document`. Raises WireError when it is too large."""
    message = MESSAGES[document.kind][1]()
    _write(document.body, message)
    body = message.SerializeToString(deterministic=True)
    if len(body) > MAX_BODY:
        raise WireError(f"{document.kind} {document.name} takes {len(body)} bytes, at most {MAX_BODY} can be sent")
    sent = resource_of(document.name, body)
    if document.ttl is not None:
        sent.ttl.FromMilliseconds(round(document.ttl * 1000))
    return sent


def resource_of(name: str, body: bytes) -> discovery_pb2.Resource:
    """The resource with this body, which is a deterministic serialisation."""
    digest = hashlib.sha256(body)
    return discovery_pb2.Resource(name=name, version=digest.hexdigest()[:16], body=body, sha256=digest.digest())


def name_of(type_url: str) -> str:
    """What people and metrics call a type that is in ORDER."""
    return type_url.rpartition(".")[2]


def read(type_url: str, received: discovery_pb2.Resource) -> Document:
    """The document that a resource carries. Raises WireError or ConfigError, and nothing else."""
    if type_url not in KINDS:
        raise WireError(f"unknown type {type_url[:100]!r}: this build is older than the control plane")
    value, message_type = MESSAGES[KINDS[type_url]]
    message = message_type()
    parse(received, message)
    given = {"name": received.name} if value is Upstream else {}
    ttl = received.ttl.ToMilliseconds() / 1000 if received.HasField("ttl") else None
    return Document(received.name, _value(value, message, given), ttl)


def parse(received: discovery_pb2.Resource, message: Message) -> None:
    """Fill `message` with the body of a resource, checked against its digest. Raises WireError, and nothing else."""
    if len(received.body) > MAX_BODY:
        raise WireError(f"the body has {len(received.body)} bytes, at most {MAX_BODY} are accepted")
    digest = hashlib.sha256(received.body)
    if digest.digest() != received.sha256 or digest.hexdigest()[:16] != received.version:
        raise WireError("the body does not match its digest")
    try:
        message.ParseFromString(received.body)
    except DecodeError:
        raise WireError("the body is not a message of its type") from None
    if _has_unknown_fields(message):
        raise WireError("the body has fields that this build does not know: upgrade this sidecar")


def state_digest(versions: Mapping[str, str]) -> str:
    """One short text for a set of (name, version): equal on both ends when they agree."""
    lines = "".join(f"{name}\0{version}\n" for name, version in sorted(versions.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:32]


def _write(value: Any, message: Any) -> None:
    for name in _field_types(type(value)):
        content = getattr(value, name)
        match content:
            case Enum():
                setattr(message, name, content.value)
            case bool() | int() | float() | str():
                setattr(message, name, content)
            case Mapping():
                pairs = sorted((str(key), str(item)) for key, item in content.items())
                getattr(message, name).extend(policy_pb2.Pair(key=key, value=item) for key, item in pairs)
            case tuple():
                for item in content:
                    _write(item, getattr(message, name).add())
            case frozenset():
                getattr(message, name).SetInParent()
                values: list[Any] = [item.value if isinstance(item, Enum) else item for item in content]
                getattr(message, name).values.extend(sorted(values))
            case _:
                getattr(message, name).SetInParent()
                _write(content, getattr(message, name))


def _value(kind: type[Any], message: Any, given: dict[str, Any]) -> Any:
    """A `kind` with the fields of `message` on top of `given`."""
    faults = []
    for name, field_type in _field_types(kind).items():
        try:
            _take(name, field_type, message, given)
        except ConfigError as error:
            faults += [f"{name}.{fault}" for fault in error.faults]
        except ValueError:
            faults.append(f"{name}: this build does not know this value")
    missing = [f.name for f in fields(kind) if f.name not in given and _is_required(f)]
    faults += [f"{name}: is missing" for name in missing]
    if faults:
        raise ConfigError(faults)
    return kind(**given)


def _take(name: str, field_type: Any, message: Any, given: dict[str, Any]) -> None:
    origin, arguments = get_origin(field_type), get_args(field_type)
    content = getattr(message, name)
    if origin is not None and issubclass(origin, Mapping):
        given[name] = {_scalar(arguments[0], pair.key): _scalar(arguments[1], pair.value) for pair in content}
    elif origin is tuple:
        given[name] = tuple(_value(arguments[0], item, {}) for item in content)
    elif not message.HasField(name):
        return
    elif origin is frozenset:
        given[name] = frozenset(_scalar(arguments[0], item) for item in content.values)
    elif is_dataclass(field_type) and isinstance(field_type, type):
        given[name] = _value(field_type, content, {})
    else:
        given[name] = _scalar(field_type, content)


def _scalar(kind: type[Any], value: Any) -> Any:
    if kind is int and value > MAX_NUMBER:
        raise ValueError
    return kind(value) if issubclass(kind, Enum) else value


def _field_types(kind: type[Any]) -> Mapping[str, Any]:
    hints = get_type_hints(kind)
    return {f.name: hints[f.name] for f in fields(kind) if not (kind is Upstream and f.name == "name")}


def _is_required(field: Any) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _has_unknown_fields(message: Message) -> bool:
    if len(UnknownFieldSet(message)):
        return True
    for descriptor, content in message.ListFields():
        if descriptor.message_type is None:
            continue
        if any(map(_has_unknown_fields, [content] if isinstance(content, Message) else content)):
            return True
    return False
