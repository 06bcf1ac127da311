"""Waits until a program listens, and until the sidecar says that it is ready."""

import asyncio
import http.client
import socket
from contextlib import suppress
from typing import Final

from commands.up.config import LOOPBACK
from commands.up.errors import NotReadyError

_ANSWER_WITHIN: Final = 2.0
_MAX_ANSWER: Final = 64 * 1024


async def wait_until_ready(port: int, *, within: float, every: float = 0.05) -> None:
    """Return when /healthz/ready answers 200. Raises NotReadyError after `within` seconds."""
    blockers = f"nothing answers on port {port}"
    with suppress(TimeoutError):
        async with asyncio.timeout(within):
            while True:
                status, body = await asyncio.to_thread(_ready, port)
                if status == 200:
                    return
                if status:
                    blockers = body.strip() or f"status {status}"
                await asyncio.sleep(every)
    raise NotReadyError(f"the sidecar is not ready after {within:g} s: {blockers}")


async def wait_until_open(port: int, *, within: float, every: float = 0.02) -> None:
    """Return when something listens on the port. Raises NotReadyError after `within` seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within):
            while True:
                if await asyncio.to_thread(_open, port):
                    return
                await asyncio.sleep(every)
    raise NotReadyError(f"nothing answers on port {port} after {within:g} s")


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
