"""The tunnels of one sidecar, as its admin page tells."""

import http.client
import json
from typing import Any, Final

MAX_PAGE: Final = 4 * 1024 * 1024
_TIMEOUT: Final = 5.0


class StatusError(Exception):
    """There is no such page. Says what to do."""


def fetch(address: str) -> dict[str, Any]:
    """The page `/tunnels`. Raises StatusError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise StatusError(f"expected HOST:PORT, got {address[:100]!r}")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=_TIMEOUT)
    try:
        connection.request("GET", "/tunnels")
        response = connection.getresponse()
        page: dict[str, Any] = json.loads(response.read(MAX_PAGE))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise StatusError(f"no sidecar answers at {address} ({type(error).__name__}); is it running?") from None
    finally:
        connection.close()
    if response.status != 200:
        raise StatusError(f"the sidecar at {address} has no page /tunnels (status {response.status})")
    return page
