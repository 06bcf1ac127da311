"""TunnelAdmin over gRPC: what `aegis tunnel` calls. For operators only, and none of it tells a private key."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final

import grpc
from aegispb.v1 import tunnel_pb2 as pb

from controlplane.identity.spiffe import SpiffeId
from controlplane.operators import Codes, Method, for_operators
from controlplane.store.store import StoreError
from controlplane.tunnels.keeper import NoSuchWorkloadError, NotNowError, Report, TunnelKeeper
from transport.keyring import KeyRingError
from transport.peers import fingerprint

logger = logging.getLogger(__name__)

SERVICE: Final = "aegispb.v1.TunnelAdmin"
_CODES: Final[Codes] = (
    (NoSuchWorkloadError, grpc.StatusCode.NOT_FOUND),
    (NotNowError, grpc.StatusCode.FAILED_PRECONDITION),
    (KeyRingError, grpc.StatusCode.FAILED_PRECONDITION),
    (StoreError, grpc.StatusCode.UNAVAILABLE),
)


class TunnelAdmin:
    """The service. `changed` is awaited after every change, before the caller gets its answer."""

    def __init__(
        self,
        keeper: TunnelKeeper,
        trust_domain: str,
        *,
        changed: Callable[[], Awaitable[None]],
        now: Callable[[], datetime],
    ) -> None:
        self._keeper = keeper
        self._trust_domain = trust_domain
        self._changed = changed
        self._now = now

    def handler(self) -> grpc.GenericRpcHandler:
        """To be added to a server."""
        methods: dict[str, tuple[Any, Any, Method]] = {
            "Show": (pb.ShowTunnelsRequest, pb.TunnelsResponse, self._show),
            "Rotate": (pb.RotateTunnelsRequest, pb.TunnelsResponse, self._rotate),
            "Revoke": (pb.RevokeStaticRequest, pb.TunnelsResponse, self._revoke),
        }
        return for_operators(SERVICE, methods, self._trust_domain, _CODES)

    async def _show(self, _request: pb.ShowTunnelsRequest, _operator: SpiffeId) -> pb.TunnelsResponse:
        return await self._response()

    async def _rotate(self, request: pb.RotateTunnelsRequest, operator: SpiffeId) -> pb.TunnelsResponse:
        if request.force:
            await asyncio.to_thread(self._keeper.force)
        else:
            await asyncio.to_thread(
                self._keeper.announce,
                ech=request.ech,
                statics=list(request.statics),
                all_statics=request.all_statics,
            )
        extra = {"author": str(operator), "ech": request.ech, "force": request.force}
        logger.info("tunnel keys rotated by an operator", extra=extra)
        await self._changed()
        return await self._response()

    async def _revoke(self, request: pb.RevokeStaticRequest, operator: SpiffeId) -> pb.TunnelsResponse:
        await asyncio.to_thread(self._keeper.revoke, request.spiffe_id)
        logger.warning("static revoked", extra={"author": str(operator), "workload": request.spiffe_id[:2100]})
        await self._changed()
        return await self._response()

    async def _response(self) -> pb.TunnelsResponse:
        return described(await asyncio.to_thread(self._keeper.report), self._now())


def described(report: Report, now: datetime) -> pb.TunnelsResponse:
    """A report as a message: public keys by fingerprint, private ones not at all."""
    state, waiting = report.kept.state, report.waiting_for
    response = pb.TunnelsResponse(
        epoch=report.kept.epoch, revoked=len(state.revoked), confirmed=len(report.nodes) - len(waiting)
    )
    response.at.FromDatetime(now)
    for key in state.ring.keys if state.ring is not None else ():
        each = response.ech.add(config_id=key.config_id, public_name=key.key.config.public_name, state=key.state.value)
        each.since.FromDatetime(_at(key.since))
    if state.ring is not None:
        response.ech_configs = state.ring.client_configs
    for who, keys in sorted(state.workloads.items()):
        static = response.statics.add(
            spiffe_id=who,
            phase=keys.phase.value,
            current=fingerprint(keys.current.public),
            other=fingerprint(keys.other.public) if keys.other is not None else "",
        )
        static.since.FromDatetime(_at(keys.since))
    for node in waiting:
        waited = response.waiting_for.add(spiffe_id=node.spiffe_id, node_id=node.node_id)
        waited.last_seen.FromDatetime(_at(node.last_seen))
    return response


def _at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
