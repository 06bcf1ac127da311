"""Who may ask the gateway: whoever has the token; without one, whoever is on this machine and no web page of theirs."""

import hmac
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from sidecar.pages import is_loopback_host

TOKEN_HEADER: Final = "x-aegis-token"  # noqa: S105 the name of a header
_OPEN: Final = frozenset({"/healthz"})
_POLICY_VIOLATION: Final = 1008


class Doorkeeper:
    """ASGI middleware in front of everything but `/healthz`.

    Without a token, a Host that is no loopback name is refused: a web page can make a browser on this machine send
    requests here under its own name (DNS rebinding), and answers hold restored values. A WebSocket has no same-origin
    rule, so one that names an Origin from elsewhere is refused too.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"] in _OPEN:
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(Headers(scope=scope))
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await WebSocketClose(_POLICY_VIOLATION, refusal[1])(scope, receive, send)
        else:
            status, message = refusal
            await JSONResponse({"error": {"code": "forbidden", "message": message}}, status)(scope, receive, send)

    def _refusal(self, headers: Headers) -> tuple[int, str] | None:
        if self._token:
            given = headers.get(TOKEN_HEADER, "").encode()
            return None if hmac.compare_digest(given, self._token) else (401, f"{TOKEN_HEADER}: missing or wrong")
        if not is_loopback_host(headers.get("host", "")):
            return 403, "Host must be a loopback name or address"
        origin = headers.get("origin", "")
        if origin and not is_loopback_host(origin.partition("://")[2]):
            return 403, "web pages from elsewhere may not ask"
        return None
