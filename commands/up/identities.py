"""Certificates of one machine's programs: made before the start, renewed while they run."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

from commands.up.directory import Directory
from controlplane.identity.ca import LOOPBACK, LocalAuthority
from controlplane.identity.spiffe import IdentityError

TRUST_DOMAIN: Final = "aegis.local"
_SERVERS: Final = ("controlplane", "ledger")
_CLIENTS: Final = ("sidecar", "operator")
_LOOK_EVERY: Final = 600.0
"""Seconds. Certificates live for a day and are due after 70 % of it."""


def enroll_all(directory: Directory, now: datetime) -> None:
    """A valid certificate for every program. Raises IdentityError."""
    authority = LocalAuthority.open_or_create(directory.authority, TRUST_DOMAIN, now)
    for name in _SERVERS:
        authority.enroll(directory.identity(name), f"{name}/local", now=now, hosts=LOOPBACK)
    for name in _CLIENTS:
        authority.enroll(directory.identity(name), f"{name}/local", now=now)


async def keep_enrolled(directory: Directory, clock: Callable[[], datetime], say: Callable[[str], None]) -> None:
    """Renew what is due, until cancelled. The programs take renewed files up by themselves.

    What cannot be renewed now, on a full disk for one, is told and tried again: there are hours left.
    """
    while True:
        await asyncio.sleep(_LOOK_EVERY)
        try:
            await asyncio.to_thread(enroll_all, directory, clock())
        except (IdentityError, OSError) as error:
            say(f"certificates cannot be renewed now: {error}")
