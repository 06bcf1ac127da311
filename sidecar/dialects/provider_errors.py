"""How each provider says no, in the shapes that its official SDKs turn into their own exceptions."""

import re
from typing import Final

import msgspec

_encode: Final = msgspec.json.encode

_OPENAI_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_ANTHROPIC_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}

# What providers and gateways hand out as credentials, and how error texts quote them. The first characters stay, so
# that an operator can tell which key it was; no pattern matches a quote or a backslash, so JSON stays JSON.
_CREDENTIAL: Final = re.compile(
    rb"\b((?:sk|pk|rk|gsk|xai|hf|pplx|nvapi|r8|key)[-_]|AIza|AKIA|eyJ|ya29\.)[A-Za-z0-9_\-./+=*]{8,}"
    rb"|\b(Bearer |Basic )[A-Za-z0-9_\-./+=*~]{8,}",
)


def openai_error(status: int, code: str, message: str) -> bytes:
    """`{"error": {message, type, param, code}}`."""
    kind = _OPENAI_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return _encode({"error": {"message": message, "type": kind, "param": None, "code": code}})


def anthropic_error(status: int, code: str, message: str, request_id: str) -> bytes:
    """`{"type": "error", "error": {type, message}, "request_id"}`. The API has no field for a code: the message
    ends in it."""
    kind = _ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    shape = {"type": "error", "error": {"type": kind, "message": f"{message} ({code})"}, "request_id": request_id}
    return _encode(shape)


def without_credentials(error_body: bytes) -> bytes:
    """An upstream's error text with everything that looks like a credential cut short.

    Some upstreams quote the key that they refuse; that key may be the gateway's and not the application's.
    """
    return _CREDENTIAL.sub(_cut_short, error_body)


def _cut_short(credential: re.Match[bytes]) -> bytes:
    return (credential[1] or credential[2]) + b"***"
