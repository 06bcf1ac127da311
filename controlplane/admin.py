"""PolicyAdmin over gRPC: what `aegis policy` calls. Every method is for operators only."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from typing import Any, Final

import grpc
from aegispb.v1 import admin_pb2 as pb

from controlplane import catalog
from controlplane.catalog import Change, Proposal
from controlplane.discovery.server import PolicyDiscovery
from controlplane.discovery.session import printable
from controlplane.identity.spiffe import SpiffeId
from controlplane.operators import Codes, Method, for_operators
from controlplane.security.traps import TrapKeeper
from controlplane.status import node_status
from controlplane.store.revising import revise
from controlplane.store.store import (
    Action,
    ConflictError,
    NoSuchRevisionError,
    Origin,
    PolicyStore,
    Resources,
    StoreError,
)
from policies.errors import SpecError
from policies.honeypot.config import TrapPlacement
from policies.spec import Source

logger = logging.getLogger(__name__)

SERVICE: Final = "aegispb.v1.PolicyAdmin"
MAX_REASON: Final = 1000
"""Characters."""
MAX_HISTORY: Final = 1000
_ACTIONS: Final = {
    Action.CREATED: pb.Change.CREATED,
    Action.CHANGED: pb.Change.CHANGED,
    Action.REMOVED: pb.Change.REMOVED,
}


class RequestError(Exception):
    """The request cannot be meant as it was sent."""


_CODES: Final[Codes] = (
    (NoSuchRevisionError, grpc.StatusCode.NOT_FOUND),
    (ConflictError, grpc.StatusCode.ABORTED),
    (StoreError, grpc.StatusCode.UNAVAILABLE),
    (SpecError, grpc.StatusCode.FAILED_PRECONDITION),
    (RequestError, grpc.StatusCode.INVALID_ARGUMENT),
)
"""What callers are told of an error; the first that fits."""


class PolicyAdmin:
    """The service. `changed` is awaited after every push, before the caller gets its answer."""

    def __init__(
        self,
        store: PolicyStore,
        discovery: PolicyDiscovery,
        trust_domain: str,
        traps: TrapKeeper,
        *,
        changed: Callable[[], Awaitable[None]],
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._discovery = discovery
        self._trust_domain = trust_domain
        self._traps = traps
        self._changed = changed
        self._now = now

    def handler(self) -> grpc.GenericRpcHandler:
        """To be added to a server."""
        methods: dict[str, tuple[Any, Any, Method]] = {
            "Validate": (pb.ValidateRequest, pb.ValidateResponse, self._validate),
            "Diff": (pb.DiffRequest, pb.DiffResponse, self._diff),
            "Push": (pb.PushRequest, pb.PushResponse, self._push),
            "Rollback": (pb.RollbackRequest, pb.PushResponse, self._rollback),
            "Status": (pb.StatusRequest, pb.StatusResponse, self._status),
            "List": (pb.ListRequest, pb.ListResponse, self._list),
            "History": (pb.HistoryRequest, pb.HistoryResponse, self._history),
            "Traps": (pb.TrapsRequest, pb.TrapsResponse, self._show_traps),
            "RotateTraps": (pb.RotateTrapsRequest, pb.TrapsResponse, self._rotate_traps),
        }
        return for_operators(SERVICE, methods, self._trust_domain, _CODES)

    async def _validate(self, request: pb.ValidateRequest, _operator: SpiffeId) -> pb.ValidateResponse:
        try:
            _, proposal = await asyncio.to_thread(self._proposed, request.sources, prune=request.prune)
        except SpecError as error:
            return pb.ValidateResponse(findings=_findings(error))
        return pb.ValidateResponse(documents=proposal.given)

    async def _diff(self, request: pb.DiffRequest, _operator: SpiffeId) -> pb.DiffResponse:
        try:
            revision, proposal = await asyncio.to_thread(self._proposed, request.sources, prune=request.prune)
        except SpecError as error:
            return pb.DiffResponse(findings=_findings(error))
        return pb.DiffResponse(revision=revision, changes=map(_change, proposal.changes))

    async def _push(self, request: pb.PushRequest, operator: SpiffeId) -> pb.PushResponse:
        origin = Origin(str(operator), _reason(request.reason), self._now())
        expected = request.expect_revision if request.HasField("expect_revision") else None
        propose = partial(self._propose, request.sources, prune=request.prune)
        return await self._make_revision(propose, origin, expected)

    async def _rollback(self, request: pb.RollbackRequest, operator: SpiffeId) -> pb.PushResponse:
        reason = _reason(request.reason) or f"rollback to revision {request.revision}"
        origin = Origin(str(operator), reason, self._now(), request.revision)
        expected = request.expect_revision if request.HasField("expect_revision") else None
        return await self._make_revision(partial(self._restore, request.revision), origin, expected)

    async def _status(self, request: pb.StatusRequest, _operator: SpiffeId) -> pb.StatusResponse:
        desired, now, elapsed = self._discovery.desired, self._now(), asyncio.get_running_loop().time()
        every = request.every_resource
        nodes = [node_status(node, desired, now, elapsed, every_resource=every) for node in self._discovery.roster]
        response = pb.StatusResponse(revision=desired.revision, nodes=nodes)
        response.at.FromDatetime(now)
        return response

    async def _list(self, request: pb.ListRequest, _operator: SpiffeId) -> pb.ListResponse:
        return await asyncio.to_thread(self._documents, request.revision)

    async def _history(self, request: pb.HistoryRequest, _operator: SpiffeId) -> pb.HistoryResponse:
        records = await asyncio.to_thread(self._store.history, min(request.limit or 50, MAX_HISTORY))
        response = pb.HistoryResponse()
        for record in records:
            origin = record.origin
            revision = response.revisions.add(
                number=record.number, author=origin.author, reason=origin.reason, restored=origin.restored or 0
            )
            revision.at.FromDatetime(origin.at)
            for (kind, name), action in record.changes.items():
                getattr(revision, action.value).append(f"{kind}/{name}")
        return response

    async def _show_traps(self, _request: pb.TrapsRequest, _operator: SpiffeId) -> pb.TrapsResponse:
        return self._placed(*await self._traps.placement())

    async def _rotate_traps(self, request: pb.RotateTrapsRequest, operator: SpiffeId) -> pb.TrapsResponse:
        return self._placed(*await self._traps.rotate(str(operator), _reason(request.reason)))

    def _placed(self, revision: int, placement: TrapPlacement) -> pb.TrapsResponse:
        return pb.TrapsResponse(
            revision=revision,
            generation=placement.generation,
            probed_primes=sorted(placement.probed_primes),
            probes=self._traps.probes.counts(),
        )

    async def _make_revision(
        self, propose: Callable[[int], Proposal], origin: Origin, expected: int | None
    ) -> pb.PushResponse:
        def make(base: int) -> tuple[Resources, Proposal]:
            proposal = propose(base)
            return proposal.resources, proposal

        try:
            number, proposal = await asyncio.to_thread(revise, self._store, make, origin, expected=expected)
        except SpecError as error:
            return pb.PushResponse(findings=_findings(error), revision=self._discovery.desired.revision)
        if proposal.changes:
            extra = {"revision": number, "author": origin.author, "changes": len(proposal.changes)}
            logger.info("policy revision made", extra=extra)
        await self._changed()
        return pb.PushResponse(revision=number, changes=map(_change, proposal.changes))

    # --- below: in a thread, on the store ---

    def _proposed(self, sources: Iterable[pb.SourceFile], *, prune: bool) -> tuple[int, Proposal]:
        base = self._store.newest()
        return base, self._propose(sources, base, prune=prune)

    def _propose(self, sources: Iterable[pb.SourceFile], base: int, *, prune: bool) -> Proposal:
        files = [Source(source.name[:500], source.text) for source in sources]
        return catalog.propose(files, self._store.resources(base), prune=prune)

    def _restore(self, revision: int, base: int) -> Proposal:
        return catalog.restore(self._store.resources(revision), self._store.resources(base))

    def _documents(self, revision: int) -> pb.ListResponse:
        number = revision or self._store.newest()
        resources = self._store.resources(number)
        response = pb.ListResponse(revision=number)
        for key, resource in resources.items():
            text = catalog.text_of(key, resources)
            response.documents.add(kind=key[0].value, name=key[1], version=resource.version, text=text)
        return response


def _reason(given: str) -> str:
    if len(given) > MAX_REASON:
        raise RequestError(f"the reason has more than {MAX_REASON} characters")
    return printable(given, MAX_REASON)


def _change(change: Change) -> pb.Change:
    return pb.Change(
        kind=change.key[0].value,
        name=change.key[1],
        action=_ACTIONS[change.action],
        before=change.before,
        after=change.after,
    )


def _findings(error: SpecError) -> Iterator[pb.Finding]:
    for each in error.findings:
        yield pb.Finding(
            file=each.file, line=each.line, column=each.column, field=each.field, message=each.message, hint=each.hint
        )
