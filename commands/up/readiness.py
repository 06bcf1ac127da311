"""Waits until a program listens, and until the sidecar says that it is ready."""

import asyncio
import http.client
import socket
from collections.abc import Callable
from typing import Final

from commands.up.config import LOOPBACK
from commands.up.errors import NotReadyError

_ANSWER_WITHIN: Final = 2.0
_MAX_ANSWER: Final = 64 * 1024


async def wait_until_ready(port: int, *, within: float, every: float = 0.05) -> None:
    """Return when /healthz/ready answers 200. Raises NotReadyError after `within` seconds, and one look at least."""
    blockers = f"nothing answers on port {port}"

    def is_ready() -> bool:
        nonlocal blockers
        status, body = _ready(port)
        if status:
            blockers = body.strip() or f"status {status}"
        return status == 200

    if not await _holds(is_ready, within, every):
        raise NotReadyError(f"the sidecar is not ready after {within:g} s: {blockers}")


async def wait_until_open(port: int, *, within: float, every: float = 0.02) -> None:
    """Return when something listens on the port. Raises NotReadyError after `within` seconds, and one look at least."""
    if not await _holds(lambda: _open(port), within, every):
        raise NotReadyError(f"nothing answers on port {port} after {within:g} s")


async def _holds(look: Callable[[], bool], within: float, every: float) -> bool:
    """Whether it does, in time. Each look blocks, for _ANSWER_WITHIN at most, in a thread."""
    clock = asyncio.get_running_loop().time
    until = clock() + within
    while not await asyncio.to_thread(look):
        if clock() >= until:
            return False
        await asyncio.sleep(every)
    return True


def _open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(_ANSWER_WITHIN)
        return probe.connect_ex((LOOPBACK, port)) == 0


def _ready(port: int) -> tuple[int, str]:
    """(status, body); status 0 when there is no answer."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=_ANSWER_WITHIN)
    try:
        connection.request("GET", "/healthz/ready")
        answer = connection.getresponse()
        return answer.status, answer.read(_MAX_ANSWER).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()
