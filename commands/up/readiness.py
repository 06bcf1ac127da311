"""Waits until the sidecar says that it is ready."""

import asyncio
import http.client
from contextlib import suppress
from typing import Final

from commands.up.config import LOOPBACK

_ANSWER_WITHIN: Final = 2.0
_MAX_ANSWER: Final = 64 * 1024


class NotReadyError(Exception):
    """Not ready in time; the message holds what the sidecar named as missing."""


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
