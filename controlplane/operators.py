"""gRPC services that only operators may call: who calls, and what errors become."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import grpc

from controlplane.identity.peer import peer_of
from controlplane.identity.spiffe import IdentityError, Role, SpiffeId

logger = logging.getLogger(__name__)

Method = Callable[[Any, SpiffeId], Awaitable[Any]]
Codes = tuple[tuple[type[Exception], grpc.StatusCode], ...]


class NotAnOperatorError(Exception):
    """The peer's certificate does not name an operator."""


_CODES: Final[Codes] = (
    (IdentityError, grpc.StatusCode.UNAUTHENTICATED),
    (NotAnOperatorError, grpc.StatusCode.PERMISSION_DENIED),
)


def for_operators(
    service: str, methods: Mapping[str, tuple[Any, Any, Method]], trust_domain: str, codes: Codes
) -> grpc.GenericRpcHandler:
    """The service, to be added to a server. `methods`: name -> (request, response, what answers it).

    `codes`: what callers are told of an error, the first that fits; every other error is ours.
    """
    everything = (*_CODES, *codes)
    return grpc.method_handlers_generic_handler(
        service,
        {
            name: grpc.unary_unary_rpc_method_handler(
                _serving(method, trust_domain, everything), request.FromString, response.SerializeToString
            )
            for name, (request, response, method) in methods.items()
        },
    )


def _serving(method: Method, trust_domain: str, codes: Codes) -> Any:
    async def serve(request: Any, call: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await method(request, _operator(call, trust_domain))
        except tuple(kind for kind, _ in codes) as error:
            code = next(code for kind, code in codes if isinstance(error, kind))
            logger.warning("request refused", extra={"code": code.name, "reason": str(error)[:500]})
            return await call.abort(code, str(error)[:2000])

    return serve


def _operator(call: grpc.aio.ServicerContext[Any, Any], trust_domain: str) -> SpiffeId:
    peer = peer_of(call, trust_domain)
    if peer.role is not Role.OPERATOR:
        needed = f"spiffe://{trust_domain}/operator/..."
        raise NotAnOperatorError(f"{peer} is not an operator; use a certificate for {needed}")
    return peer
