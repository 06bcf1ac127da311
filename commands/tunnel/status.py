"""The tunnels of one sidecar, as its admin page tells."""

import http.client
import json
from typing import Any, Final

from commands.typed import host_and_port

MAX_PAGE: Final = 4 * 1024 * 1024
_TIMEOUT: Final = 5.0


class StatusError(Exception):
    """There is no such page. Says what to do."""


def fetch(address: str) -> dict[str, Any]:
    """The page `/tunnels`. Raises StatusError."""
    try:
        at = host_and_port(address)
    except ValueError as error:
        raise StatusError(str(error)) from None
    connection = http.client.HTTPConnection(at.host, at.port, timeout=_TIMEOUT)
    try:
        connection.request("GET", "/tunnels")
        response = connection.getresponse()
        body = response.read(MAX_PAGE)
    except (OSError, http.client.HTTPException) as error:
        raise StatusError(f"no sidecar answers at {address} ({type(error).__name__}); is it running?") from None
    finally:
        connection.close()
    if response.status != 200:
        raise StatusError(f"the sidecar at {address} has no page /tunnels (status {response.status})")
    try:
        page = json.loads(body)
    except ValueError:
        page = None
    if not isinstance(page, dict):
        raise StatusError(f"what answers at {address} is no sidecar; is this its admin port?")
    return page
