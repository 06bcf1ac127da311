"""Every reason of our own to refuse an exchange, with what its client is told."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from policies.model import ExchangeId, ResultCode
from sidecar.codecs.http1_errors import BadRequestError
from sidecar.dialects.dialect import MalformedAnswerError
from sidecar.upstream_errors import ConnectTimeoutError, SaturatedError, UpstreamError

_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}
_WORTH_RETRYING: Final = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an exchange goes no further, and what its client is told."""

    result: ResultCode
    status: int
    code: str
    """Bounded machine-readable name."""
    message: str
    """For the application's developer: what was refused and what to do. No part of the request."""
    retry_after: int = 0
    """Seconds after which another attempt makes sense; 0: not said."""


def error_head(refusal: Refusal, exchange: ExchangeId) -> bytes:
    """First line and fields of the answer that carries a refusal, without framing."""
    fields = [
        f"HTTP/1.1 {refusal.status} {_REASONS.get(refusal.status, 'Refused')}",
        "content-type: application/json",
        f"x-aegis-request-id: {exchange}",
        # Where the SDKs look for the id that their exceptions show.
        f"x-request-id: {exchange}",
        f"request-id: {exchange}",
    ]
    if refusal.status not in _WORTH_RETRYING:
        fields.append("x-should-retry: false")
    if refusal.retry_after:
        fields.append(f"retry-after: {refusal.retry_after}")
    return ("\r\n".join(fields) + "\r\n").encode("ascii")


NO_POLICY: Final = Refusal(
    ResultCode.NO_POLICY, 503, "aegis_no_policy", "no policy was received yet; /healthz/ready says why", 5
)
BANNED: Final = Refusal(ResultCode.DENIED_BAN, 403, "aegis_banned", "this client is refused for a while")
NO_AUDIT: Final = Refusal(
    ResultCode.AUDIT_UNAVAILABLE, 503, "aegis_audit_unavailable", "an audit entry is demanded and cannot be kept", 5
)
NO_PLUGIN_ANSWER: Final = Refusal(
    ResultCode.INVALID_ANSWER, 502, "aegis_plugin_failed", "the plugin for this task gave no valid answer"
)
OVERLOADED: Final = Refusal(
    ResultCode.TOO_LARGE, 503, "aegis_overloaded", "too many request bodies are held at this moment", 1
)
CROWDED: Final = Refusal(
    ResultCode.TOO_LARGE, 503, "aegis_overloaded", "too many long prompts wait for their inspection at this moment", 2
)
DEADLINE: Final = Refusal(
    ResultCode.DEADLINE, 504, "aegis_deadline", "the answer was not whole within the route's total_timeout"
)
UPSTREAM_IDLE: Final = Refusal(
    ResultCode.DEADLINE, 504, "aegis_upstream_idle", "the upstream sent nothing for the route's idle_timeout"
)
BODY_TIMEOUT: Final = Refusal(
    ResultCode.MALFORMED_REQUEST, 408, "aegis_body_timeout", "the rest of the request body did not come"
)
STALLED: Final = Refusal(ResultCode.CLIENT_GONE, 408, "aegis_stalled", "the answer was not read")
INTERNAL: Final = Refusal(
    ResultCode.INTERNAL, 500, "aegis_internal", "an error inside the sidecar; its log has the request id"
)
UNSUPPORTED_UPGRADE: Final = Refusal(
    ResultCode.MALFORMED_REQUEST, 501, "aegis_upgrade_unsupported", "WebSocket is not spoken here"
)


def no_route(prefixes: list[str]) -> Refusal:
    """No route of the snapshot matches."""
    known = ", ".join(prefixes[:8]) or "none"
    return Refusal(ResultCode.NO_ROUTE, 404, "aegis_no_route", f"no route for this path; routes here: {known}")


def blocked_route(name: str) -> Refusal:
    """The route is known, but not the policies that it must be held to."""
    message = f"route {name} waits for policies or an upstream that are not there"
    return Refusal(ResultCode.NO_POLICY, 503, "aegis_route_blocked", message, 5)


def unknown_endpoint(route: str) -> Refusal:
    """The route takes only endpoints whose text can be found."""
    message = f"route {route} refuses endpoints that it cannot read (unknown_endpoint: refuse)"
    return Refusal(ResultCode.NO_ROUTE, 403, "aegis_unknown_endpoint", message)


def too_large(limit: int) -> Refusal:
    """The body is longer than the route allows."""
    return Refusal(ResultCode.TOO_LARGE, 413, "aegis_too_large", f"the request body is longer than {limit} bytes")


def malformed(error: BadRequestError) -> Refusal:
    """The bytes are no request."""
    return Refusal(ResultCode.MALFORMED_REQUEST, error.status, "aegis_malformed_request", str(error))


def malformed_answer(error: MalformedAnswerError) -> Refusal:
    """The upstream's answer must be read and cannot."""
    return Refusal(ResultCode.MALFORMED_RESPONSE, 502, "aegis_answer_malformed", str(error))


def upstream_refusal(error: UpstreamError) -> Refusal:
    """The upstream did not answer."""
    match error:
        case ConnectTimeoutError():
            return Refusal(ResultCode.DEADLINE, error.status, error.code, str(error))
        case SaturatedError():
            return Refusal(ResultCode.UPSTREAM_FAILED, error.status, error.code, str(error), 1)
        case _:
            return Refusal(ResultCode.UPSTREAM_FAILED, error.status, error.code, str(error))
