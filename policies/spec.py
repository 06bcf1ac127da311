"""Policy documents as values: what a YAML document or a distributed resource says once it has been read.

spec.py           the values (this module)
spec_yaml.py      text -> nodes that know their line and column
spec_models.py    what each kind of document may say, and the JSON schema
spec_load.py      files -> documents, or every finding at once
spec_refs.py      what documents must be among themselves
wire.py           documents <-> the bytes that are distributed
compile.py        documents -> what a sidecar enforces
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from policies.airlock.config import AirlockConfig
from policies.errors import refuse
from policies.firewall_config import FirewallConfig
from policies.honeypot.config import TrapPlacement
from policies.mathprotocol.config import ProtocolConfig
from policies.snapshot import AuditMode, UnknownEndpoint, Upstream
from policies.tunnel import PeerConfig, TunnelConfig

API_VERSION: Final = "aegis.mesh/v1"
NONE: Final = "none"
"""What a Route says in place of a policy's name to go without. No document can have this name."""
MAX_TTL: Final = 30 * 86_400.0
"""Seconds."""
MAX_BODY: Final = 1 << 30
"""Bytes of a request body that a Route may allow at most."""

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")
_PREFIX = re.compile(r"/|(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]{1,64}")
_HEADER_VALUE = re.compile(r"[!-~]([ -~]{0,254}[!-~])?")


class Kind(StrEnum):
    """The kinds of documents, in the order of distribution: what is referred to before what refers to it.

    What switches tunnels comes first, the protocol before the airlock, and routes last: a sidecar never holds a route
    whose parts are still on their way.
    """

    TUNNEL = "TunnelPolicy"
    PEER = "Peer"
    UPSTREAM = "Upstream"
    TRAPS = "TrapPlacement"
    PROTOCOL = "ProtocolPolicy"
    FIREWALL = "FirewallPolicy"
    AIRLOCK = "AirlockPolicy"
    ROUTE = "Route"


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """A route that refers to its parts by name. Construction raises ConfigError, which names every field at fault."""

    prefix: str
    """Path prefix that a request must start with, at a segment border."""
    upstream: str
    """Name of an Upstream."""
    airlock: str
    """Name of an AirlockPolicy, or `none`. Has no default: a forgotten line must not switch protection off."""
    protocol: str = NONE
    """Name of a ProtocolPolicy, or `none`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Lower-case header name -> exact value that must be present too."""
    strip_prefix: bool = True
    unknown_endpoint: UnknownEndpoint = UnknownEndpoint.WALK
    audit: AuditMode = AuditMode.BEST_EFFORT
    max_body: int = 32 * 1024 * 1024
    """Bytes of a request body."""
    firewall: str = NONE
    """Name of a FirewallPolicy, or `none`."""
    inbound: str = ""
    """Name of a Peer: only requests that come through its tunnel. Empty: only those of the application beside us."""

    def __post_init__(self) -> None:
        refuse(self._checks())
        object.__setattr__(self, "headers", MappingProxyType(dict(self.headers)))

    def _checks(self) -> Iterator[tuple[bool, str]]:
        wrong_prefix = not _PREFIX.fullmatch(self.prefix) or len(self.prefix) > 1024
        yield wrong_prefix, "prefix: expected a path such as /openai, without a slash at its end; / matches everything"
        for name in ("upstream", "airlock", "protocol", "firewall"):
            yield not _NAME.fullmatch(getattr(self, name)), f"{name}: expected the name of a document"
        yield self.upstream == NONE, "upstream: a route needs one"
        wrong_inbound = self.inbound != "" and not _NAME.fullmatch(self.inbound)
        yield wrong_inbound, "inbound: expected the name of a document"
        for name, value in self.headers.items():
            yield not _HEADER_NAME.fullmatch(name), f"headers: {name[:64]!r} is not a header name in lower case"
            yield not _HEADER_VALUE.fullmatch(value), f"headers: the value of {name[:64]!r} must be printable ASCII"
        yield len(self.headers) > 16, "headers: expected at most 16"
        yield not 1 <= self.max_body <= MAX_BODY, f"max_body: expected 1 to {MAX_BODY} bytes"


Body = (
    TunnelConfig | PeerConfig | Upstream | TrapPlacement | ProtocolConfig | FirewallConfig | AirlockConfig | RouteSpec
)

KIND_OF_BODY: Final[Mapping[type, Kind]] = {
    TunnelConfig: Kind.TUNNEL,
    PeerConfig: Kind.PEER,
    Upstream: Kind.UPSTREAM,
    TrapPlacement: Kind.TRAPS,
    ProtocolConfig: Kind.PROTOCOL,
    FirewallConfig: Kind.FIREWALL,
    AirlockConfig: Kind.AIRLOCK,
    RouteSpec: Kind.ROUTE,
}


@dataclass(frozen=True, slots=True)
class Document:
    """One policy document. Construction raises ConfigError."""

    name: str
    body: Body
    ttl: float | None = None
    """Seconds that a sidecar may keep this in force without hearing from the control plane; then the stricter
    built-in default takes its place. None: for ever."""

    def __post_init__(self) -> None:
        check_metadata(self.name, self.ttl)

    @property
    def kind(self) -> Kind:
        """What sort of document this is."""
        return KIND_OF_BODY[type(self.body)]

    @property
    def key(self) -> "DocumentKey":
        """What identifies it among all documents."""
        return self.kind, self.name

    def references(self) -> Iterator[tuple[str, "DocumentKey"]]:
        """(field, document that it names)."""
        if isinstance(self.body, Upstream) and self.body.peer:
            yield "peer", (Kind.PEER, self.body.peer)
        if isinstance(self.body, RouteSpec):
            yield "upstream", (Kind.UPSTREAM, self.body.upstream)
            if self.body.airlock != NONE:
                yield "airlock", (Kind.AIRLOCK, self.body.airlock)
            if self.body.protocol != NONE:
                yield "protocol", (Kind.PROTOCOL, self.body.protocol)
            if self.body.firewall != NONE:
                yield "firewall", (Kind.FIREWALL, self.body.firewall)
            if self.body.inbound:
                yield "inbound", (Kind.PEER, self.body.inbound)


DocumentKey = tuple[Kind, str]


class Source(NamedTuple):
    """One file of documents."""

    name: str
    """As findings shall name it."""
    text: str


def check_metadata(name: str, ttl: float | None) -> None:
    """Raise ConfigError if no document can have this name or time to live."""
    wrong_name = not _NAME.fullmatch(name) or name == NONE
    expected = f"name: expected 1 to 63 lower-case letters, digits, dashes and dots, and not {NONE!r}"
    wrong_ttl = ttl is not None and not 1 <= ttl <= MAX_TTL
    refuse(((wrong_name, expected), (wrong_ttl, "ttl: expected 1 second to 30 days")))
