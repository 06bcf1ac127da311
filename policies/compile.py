"""Documents -> what a sidecar enforces. Pure: equal documents and keys give equal decisions.

The parts are built one by one, so that a push of one document costs one build and a document that cannot be built
leaves its predecessor in force; putting them together is cheap and done anew with every change.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace

from policies.airlock.config import AirlockConfig
from policies.airlock.redact import AirlockPolicy
from policies.errors import ReferenceMissingError
from policies.firewall import FirewallPolicy, injection_scanner
from policies.firewall_config import FirewallConfig
from policies.honeypot.config import TrapPlacement
from policies.mathprotocol.config import ProtocolConfig, ProtocolMode
from policies.mathprotocol.manifest import PluginTask
from policies.mathprotocol.policy import ProtocolPolicy
from policies.mathprotocol.registered import RegisteredTask
from policies.model import Policy
from policies.pipeline import Pipeline
from policies.snapshot import BlockedRoute, PolicySnapshot, Route, Upstream
from policies.spec import NONE, Document, DocumentKey, Kind, RouteSpec


@dataclass(frozen=True, slots=True)
class Part:
    """A document, and the policy that it describes if it describes one."""

    document: Document
    policy: Policy | None = None


def build(document: Document, tenant_key: bytes) -> Part:
    """The part that `document` describes.

    An AirlockPolicy or a FirewallPolicy takes up to a second of CPU: keep it off an event loop.
    """
    match document.body:
        case AirlockConfig():
            return Part(document, AirlockPolicy(document.body, tenant_key))
        case ProtocolConfig():
            return Part(document, ProtocolPolicy(document.body, tenant_key))
        case FirewallConfig():
            return Part(document, FirewallPolicy(document.body, injection_scanner()))
        case _:
            return Part(document)


def assemble(
    parts: Mapping[DocumentKey, Part], *, revision: int, source: str, unbuilt: Iterable[tuple[str, RouteSpec]] = ()
) -> PolicySnapshot:
    """All routes among `parts`. A route whose references are missing, and every `unbuilt` (name, spec), is blocked."""
    placements = [part.document.body for part in parts.values() if isinstance(part.document.body, TrapPlacement)]
    if placements:
        parts = {key: _placed(part, placements) for key, part in parts.items()}
    routes: list[Route] = []
    blocked = [_blocked(name, spec) for name, spec in unbuilt]
    for (_, name), part in parts.items():
        if not isinstance(part.document.body, RouteSpec):
            continue
        try:
            routes.append(_route(part.document, part.document.body, parts))
        except ReferenceMissingError:
            blocked.append(_blocked(name, part.document.body))
    return PolicySnapshot(routes, revision=revision, source=source, blocked=blocked)


def require_references(document: Document, present: Container[DocumentKey]) -> None:
    """Raise ReferenceMissingError, which names everything that `document` refers to and that is not `present`."""
    missing = [f"{kind} {name!r}" for _, (kind, name) in document.references() if (kind, name) not in present]
    if missing:
        raise ReferenceMissingError(f"needs {' and '.join(missing)}, not there or not accepted")


def require_plugins(document: Document, hosted: Mapping[int, PluginTask]) -> None:
    """Raise ReferenceMissingError, which names every task that only code could answer and no plugin here does.

    `hosted`: prime -> the task that a plugin's code answers. A route that enforces such a task would refuse every
    request for it, and whoever pushed it would not hear of that.
    """
    if not isinstance(document.body, ProtocolConfig) or document.body.mode is not ProtocolMode.ENFORCE:
        return
    missing = [each for each in document.body.registered if each.code and not _answers(hosted.get(each.prime), each)]
    if missing:
        wanted = " and ".join(f"{each.prime} ({each.name})" for each in missing)
        raise ReferenceMissingError(
            f"needs plugin code for task {wanted}, of the same kind and with these params: name its folder in --plugins"
        )


def _answers(hosted: PluginTask | None, wanted: RegisteredTask) -> bool:
    return hosted is not None and hosted.kind is wanted.kind and wanted.params <= frozenset(hosted.params)


def compile_documents(
    documents: Iterable[Document],
    tenant_key: bytes,
    *,
    revision: int,
    source: str,
    hosted: Mapping[int, PluginTask] | None = None,
) -> PolicySnapshot:
    """The snapshot of documents that belong together. Raises ReferenceMissingError if they do not.

    `hosted`: see `require_plugins`; None: whoever compiles has no plugins to ask.
    """
    parts = {document.key: build(document, tenant_key) for document in documents}
    for part in parts.values():
        require_references(part.document, parts)
        if hosted is not None:
            require_plugins(part.document, hosted)
    return assemble(parts, revision=revision, source=source)


def _placed(part: Part, placements: Iterable[TrapPlacement]) -> Part:
    if not isinstance(part.policy, ProtocolPolicy):
        return part
    return replace(part, policy=part.policy.with_traps(placements))


def _blocked(name: str, spec: RouteSpec) -> BlockedRoute:
    return BlockedRoute(name, spec.prefix, spec.headers, spec.inbound)


def _route(document: Document, spec: RouteSpec, parts: Mapping[DocumentKey, Part]) -> Route:
    require_references(document, parts)
    require_references(parts[Kind.UPSTREAM, spec.upstream].document, parts)
    upstream = parts[Kind.UPSTREAM, spec.upstream].document.body
    assert isinstance(upstream, Upstream)  # noqa: S101 the key says so
    # The order in which policies are asked: a request is held to the protocol and scored before the airlock takes
    # identifiers out of it; the answer gets its values back before the protocol judges it.
    named = ((Kind.PROTOCOL, spec.protocol), (Kind.FIREWALL, spec.firewall), (Kind.AIRLOCK, spec.airlock))
    asked = [parts[key].policy for key in named if key[1] != NONE]
    return Route(
        name=document.name,
        prefix=spec.prefix,
        upstream=upstream,
        pipeline=Pipeline([policy for policy in asked if policy is not None]),
        headers=spec.headers,
        strip_prefix=spec.strip_prefix,
        unknown_endpoint=spec.unknown_endpoint,
        audit=spec.audit,
        max_body=spec.max_body,
        inbound=spec.inbound,
    )
