"""What documents must be among themselves: unique, referring only to what exists, and never ambiguous."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from policies.errors import Finding
from policies.snapshot import Upstream
from policies.spec import Document, DocumentKey, Kind, RouteSpec
from policies.spec_yaml import Node
from policies.tunnel import MESH, PeerConfig


@dataclass(frozen=True, slots=True)
class Placed:
    """A document and where it was written."""

    document: Document
    file: str
    node: Node


def findings(
    placed: Sequence[Placed], in_force: Mapping[DocumentKey, Document], faulty: AbstractSet[DocumentKey]
) -> list[Finding]:
    """Everything that is wrong with `placed` together with what stays `in_force` beside them.

    `faulty`: documents that were given too but are wrong in themselves; a reference to one of them is not dangling.
    """
    ours: dict[DocumentKey, Placed] = {}
    found: list[Finding] = []
    for each in placed:
        first = ours.setdefault(each.document.key, each)
        if first is not each:
            where = f"{first.file}:{first.node.line}"
            message = f"{each.document.kind} {each.document.name!r} stands twice, first at {where}"
            found.append(_finding(each, ("metadata", "name"), message, "rename or remove one"))
    everything = in_force.keys() | ours.keys() | faulty
    for each in placed:
        found += _dangling(each, everything)
    found += _ambiguous(ours.values(), in_force)
    found += _misnamed(placed)
    found += _two_statics(ours, in_force)
    found += _passed_on(ours, in_force)
    return found


def _misnamed(placed: Sequence[Placed]) -> Iterator[Finding]:
    """There is one TunnelPolicy: two would say different things of one mesh."""
    for each in placed:
        if each.document.kind is Kind.TUNNEL and each.document.name != MESH:
            yield _finding(each, ("metadata", "name"), f"the one TunnelPolicy is named {MESH!r}", "rename it")


def _two_statics(ours: Mapping[DocumentKey, Placed], in_force: Mapping[DocumentKey, Document]) -> Iterator[Finding]:
    """Peers of one workload that disagree about its Noise static: tunnels to one of them could never stand."""
    said: dict[str, tuple[str, PeerConfig]] = {}
    for key, document in in_force.items():
        if isinstance(document.body, PeerConfig) and key not in ours:
            said[document.body.spiffe_id] = document.name, document.body
    for each in ours.values():
        body = each.document.body
        if not isinstance(body, PeerConfig):
            continue
        other, first = said.setdefault(body.spiffe_id, (each.document.name, body))
        if first.statics != body.statics:
            message = f"Peer {other!r} says another Noise static for the same workload"
            yield _finding(each, ("spec", "staticKey"), message, "say the same in both, or in none")


def _passed_on(ours: Mapping[DocumentKey, Placed], in_force: Mapping[DocumentKey, Document]) -> Iterator[Finding]:
    """Routes from a tunnel into a tunnel: two sidecars could send one request to each other for ever."""
    documents = {**in_force, **{key: each.document for key, each in ours.items()}}
    for (kind, name), document in documents.items():
        body = document.body
        if not isinstance(body, RouteSpec) or not body.inbound:
            continue
        key = (Kind.UPSTREAM, body.upstream)
        target = documents[key].body if key in documents else None
        if isinstance(target, Upstream) and target.peer:
            message = f"Route {name!r} leads from the tunnel of a peer into that of {target.peer!r}"
            blamed = ours.get((kind, name)) or ours.get(key)
            if blamed is not None:
                field = "upstream" if blamed.document.kind is Kind.ROUTE else "peer"
                yield _finding(blamed, ("spec", field), message, "name an Upstream that is reached directly")


def _dangling(each: Placed, everything: AbstractSet[DocumentKey]) -> Iterator[Finding]:
    for field, key in each.document.references():
        if key not in everything:
            yield _finding(each, ("spec", field), f"there is no {key[0]} {key[1]!r}", _closest(key, everything))


def _ambiguous(ours: Iterable[Placed], in_force: Mapping[DocumentKey, Document]) -> Iterator[Finding]:
    """Two routes that match the same requests: which policy holds would depend on their names."""
    ours = list(ours)
    taken: dict[tuple[object, ...], str] = {}
    replaced = {each.document.key for each in ours}
    for key, document in in_force.items():
        if isinstance(document.body, RouteSpec) and key not in replaced:
            taken[_matches(document.body)] = document.name
    for each in ours:
        if not isinstance(each.document.body, RouteSpec):
            continue
        other = taken.setdefault(_matches(each.document.body), each.document.name)
        if other != each.document.name:
            message = f"Route {other!r} matches the same requests"
            yield _finding(each, ("spec", "prefix"), message, "give one of them another prefix or header")


def _matches(route: RouteSpec) -> tuple[object, ...]:
    return route.prefix, frozenset(route.headers.items()), route.inbound


def _closest(key: DocumentKey, everything: AbstractSet[DocumentKey]) -> str:
    kind, name = key
    names = [other for other_kind, other in everything if other_kind is kind]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    without = ", or write none" if kind is not Kind.UPSTREAM else ""
    return f"add a document of kind {kind}{without}"


def _finding(each: Placed, steps: tuple[str, str], message: str, hint: str) -> Finding:
    node = each.node
    for step in steps:
        if isinstance(node.value, dict) and step in node.value:
            node = node.value[step]
    return Finding(each.file, node.line, node.column, ".".join(steps), message, hint)
