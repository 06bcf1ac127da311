"""Places the honeypot's traps by what attackers probe: once a day, and when an operator asks for it.

A placement is a policy document of its own (`TrapPlacement/mesh`), so that it travels, is kept and is shown like every
other. Which primes it makes of that on which route only the sidecars know: they draw by a key that is not here.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Final

from controlplane import catalog
from controlplane.catalog import MANAGED_NAME
from controlplane.security.probes import Probes
from controlplane.store.revising import revise
from controlplane.store.store import Origin, PolicyStore, Resources, StoreError
from policies import wire
from policies.errors import SpecError
from policies.honeypot.config import TrapPlacement
from policies.spec import Document, Kind

logger = logging.getLogger(__name__)

_AGAIN_AFTER: Final = 60.0
"""Seconds until a placement that the store did not take is tried again."""


class TrapKeeper:
    """Keeps the placement. `run` must run beside the server."""

    def __init__(
        self,
        store: PolicyStore,
        probes: Probes,
        author: str,
        *,
        changed: Callable[[], Awaitable[None]],
        now: Callable[[], datetime],
        every: float = 86_400.0,
    ) -> None:
        """`author`: SPIFFE id of this control plane. `every`: seconds between placements by probes."""
        self.probes = probes
        self._store = store
        self._author = author
        self._changed = changed
        self._now = now
        self._every = every

    async def run(self) -> None:
        """Move the traps to what was probed, until cancelled. Nothing probed: nothing moves."""
        wait = self._every
        while True:
            await asyncio.sleep(wait)
            try:
                await self.follow_probes()
                wait = self._every
            except (StoreError, SpecError) as error:
                logger.error("traps not placed", extra={"reason": str(error)})
                wait = min(_AGAIN_AFTER, self._every)

    async def follow_probes(self) -> None:
        """A new placement if others are probed than it prefers. Raises StoreError or SpecError."""
        favoured = self.probes.favoured()
        _, placement = await self.placement()
        if favoured and favoured != placement.probed_primes:
            await self.rotate(self._author, f"traps follow what is probed: {_listed(self.probes.counts(), favoured)}")

    async def rotate(self, author: str, reason: str) -> tuple[int, TrapPlacement]:
        """New traps everywhere, preferring what is probed. Raises StoreError or SpecError."""
        favoured = self.probes.favoured()
        origin = Origin(author, reason or "traps rotated", self._now())
        revision, placement = await asyncio.to_thread(revise, self._store, partial(self._moved, favoured), origin)
        self.probes.rotated()
        extra = {"revision": revision, "generation": placement.generation, "author": author}
        logger.info("traps rotated", extra=extra)
        await self._changed()
        return revision, placement

    async def placement(self) -> tuple[int, TrapPlacement]:
        """(newest revision, placement in it). Raises StoreError or SpecError."""
        return await asyncio.to_thread(self._current)

    # --- below: in a thread, on the store ---

    def _current(self) -> tuple[int, TrapPlacement]:
        base = self._store.newest()
        return base, _placement_in(self._store.resources(base))

    def _moved(self, favoured: frozenset[int], base: int) -> tuple[Resources, TrapPlacement]:
        resources = self._store.resources(base)
        before = _placement_in(resources)
        placement = TrapPlacement(before.generation + 1, favoured or before.probed_primes)
        document = Document(MANAGED_NAME, placement)
        return {**resources, document.key: wire.resource(document)}, placement


def _placement_in(resources: Resources) -> TrapPlacement:
    key = (Kind.TRAPS, MANAGED_NAME)
    if key not in resources:
        return TrapPlacement()
    body = catalog.documents_of({key: resources[key]})[key].body
    return body if isinstance(body, TrapPlacement) else TrapPlacement()


def _listed(counts: dict[int, int], primes: frozenset[int]) -> str:
    return ", ".join(f"{prime} ({counts[prime]} times)" for prime in sorted(primes, key=lambda p: -counts[p]))
