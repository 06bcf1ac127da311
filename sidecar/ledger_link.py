"""The way to the ledger: a channel with this sidecar's certificate, made anew when the certificate is."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from sidecar.audit.shipper import CHANNEL_OPTIONS

LOOK_EVERY: Final = 60.0
"""Seconds between two looks at the files."""

logger = logging.getLogger(__name__)

Ship = Callable[[grpc.aio.Channel], Awaitable[None]]


async def keep_shipping(address: str, identity: Path, ship: Ship) -> None:
    """Run `ship` over a current channel until cancelled. `identity`: directory with tls.crt, tls.key and ca.crt."""
    while True:
        try:
            files = _read(identity)
        except OSError as error:
            logger.error("identity unreadable", extra={"file": str(error.filename), "reason": error.strerror})
            await asyncio.sleep(LOOK_EVERY)
            continue
        async with grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(*files), CHANNEL_OPTIONS) as channel:
            await _until_changed(identity, files, ship, channel)


async def _until_changed(identity: Path, files: tuple[bytes, ...], ship: Ship, channel: grpc.aio.Channel) -> None:
    async with asyncio.TaskGroup() as tasks:
        shipping = tasks.create_task(_run(ship, channel))
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                changed = _read(identity) != files
            except OSError:
                continue  # in the middle of being replaced
            if changed:
                shipping.cancel()
                return


async def _run(ship: Ship, channel: grpc.aio.Channel) -> None:
    await ship(channel)


def _read(identity: Path) -> tuple[bytes, ...]:
    return tuple((identity / name).read_bytes() for name in ("ca.crt", "tls.key", "tls.crt"))
