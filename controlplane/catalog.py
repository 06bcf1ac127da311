"""What a push would make of the policies in force, and everything that is wrong with it. Pure: decides, stores nothing.

Slow: every changed policy is built as a sidecar would build it. Keep it off an event loop.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aegispb.v1 import discovery_pb2 as pb

from controlplane.store.store import Action, Resources, changes_between
from policies import compile as policy_compile
from policies import wire
from policies.errors import Finding, PolicyError, SpecError
from policies.spec import Document, DocumentKey, Kind, Source
from policies.spec_load import load, render

MAX_DOCUMENTS: Final = 4096
"""In force together; as many as a sidecar holds."""
MAX_BYTES: Final = 8 * 1024 * 1024
"""Of all resources together, so that the whole of a type fits one message of 16 MiB."""
MANAGED_NAME: Final = "mesh"
MANAGED: Final[frozenset[DocumentKey]] = frozenset({(Kind.TRAPS, MANAGED_NAME)})
"""Documents that the control plane keeps by itself: no prune takes them away, no rollback turns them back."""
_ANY_KEY: Final = bytes(32)
"""Whether a policy can be built does not depend on the tenant's key, which the control plane does not have."""


@dataclass(frozen=True, slots=True)
class Change:
    """One document that differs."""

    key: DocumentKey
    action: Action
    before: str
    """As YAML; empty: there was none."""
    after: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """A whole set of policies that could be the next revision."""

    resources: Resources
    changes: tuple[Change, ...]
    given: int
    """Documents in the sources."""


def propose(sources: Sequence[Source], in_force: Resources, *, prune: bool) -> Proposal:
    """What is in force afterwards. `prune`: what the sources do not name is removed. Raises SpecError."""
    kept: Resources = _managed(in_force) if prune else in_force
    documents = load(sources, documents_of(kept))
    after = {**kept, **{document.key: _resource(document) for document in documents}}
    _require_bounded(after)
    changes = changes_between(in_force, after)
    _require_buildable([document for document in documents if document.key in changes])
    return Proposal(after, described(changes, in_force, after), len(documents))


def restore(target: Resources, in_force: Resources) -> Proposal:
    """The proposal to make an earlier revision the next one. Raises SpecError when this build cannot use it."""
    target = {**{key: each for key, each in target.items() if key not in MANAGED}, **_managed(in_force)}
    changes = changes_between(in_force, target)
    documents = documents_of(target)
    _require_buildable([documents[key] for key, action in changes.items() if action is not Action.REMOVED])
    return Proposal(target, described(changes, in_force, target), len(target))


def described(changes: Mapping[DocumentKey, Action], before: Resources, after: Resources) -> tuple[Change, ...]:
    """The changes with both texts."""
    return tuple(Change(key, action, text_of(key, before), text_of(key, after)) for key, action in changes.items())


def documents_of(resources: Resources) -> dict[DocumentKey, Document]:
    """The documents that resources carry. Raises SpecError: they were stored by a build that knew more than this."""
    documents: dict[DocumentKey, Document] = {}
    findings: list[Finding] = []
    for key, resource in resources.items():
        try:
            documents[key] = wire.read(wire.TYPE_URLS[key[0]], resource)
        except PolicyError as error:
            findings.append(_finding(key, f"in force, but this control plane cannot read it: {error}"))
    if findings:
        raise SpecError(findings)
    return documents


def text_of(key: DocumentKey, resources: Mapping[DocumentKey, pb.Resource]) -> str:
    """A document as YAML; empty when there is none. Raises SpecError as `documents_of` does."""
    return render(documents_of({key: resources[key]})[key]) if key in resources else ""


def _managed(resources: Resources) -> Resources:
    return {key: resource for key, resource in resources.items() if key in MANAGED}


def _resource(document: Document) -> pb.Resource:
    try:
        return wire.resource(document)
    except PolicyError as error:
        raise SpecError([_finding(document.key, str(error))]) from None


def _require_bounded(resources: Resources) -> None:
    size = sum(resource.ByteSize() for resource in resources.values())
    if len(resources) > MAX_DOCUMENTS or size > MAX_BYTES:
        message = f"{len(resources)} documents of {size} bytes would be in force"
        raise SpecError([Finding("", 0, 0, "", message, f"at most {MAX_DOCUMENTS} of {MAX_BYTES} bytes can be")])


def _require_buildable(documents: Sequence[Document]) -> None:
    findings = []
    for document in documents:
        try:
            policy_compile.build(document, _ANY_KEY)
        except Exception as error:  # noqa: BLE001 boundary: whatever a build raises would be a refusal in every sidecar
            reason = str(error) if isinstance(error, PolicyError) else type(error).__name__
            findings.append(_finding(document.key, f"cannot be built: {reason}"))
    if findings:
        raise SpecError(findings)


def _finding(key: DocumentKey, message: str) -> Finding:
    return Finding("", 0, 0, "", f"{key[0]} {key[1]!r}: {message}")
