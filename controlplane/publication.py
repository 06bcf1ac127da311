"""From the store to the streams: what is newest there becomes what every sidecar should hold."""

import asyncio
import logging

from controlplane.discovery.desired import Desired, DesiredType
from controlplane.discovery.server import PolicyDiscovery
from controlplane.store.store import PolicyStore, StoreError
from policies import wire
from policies.spec import Kind

logger = logging.getLogger(__name__)


class Publication:
    """Follows one store for one discovery service. Pushes through this replica are published at once, those through
    others when the store is asked next."""

    def __init__(self, store: PolicyStore, discovery: PolicyDiscovery) -> None:
        self._store = store
        self._discovery = discovery
        self._one_at_a_time = asyncio.Lock()

    async def refresh(self) -> None:
        """Publish the newest revision if it is not published already. Raises StoreError."""
        async with self._one_at_a_time:
            current = self._discovery.desired
            now = asyncio.get_running_loop().time()
            desired = await asyncio.to_thread(self._newer, current, now)
            if desired is not None:
                self._discovery.publish(desired)
                logger.info("policies published", extra={"revision": desired.revision})

    async def follow(self, every: float) -> None:
        """`refresh` until cancelled. A store that fails is asked again; what was published stays."""
        while True:
            await asyncio.sleep(every)
            try:
                await self.refresh()
            except StoreError as error:
                logger.error("policy store failed", extra={"reason": str(error)})

    def _newer(self, current: Desired, now: float) -> Desired | None:
        newest = self._store.newest()
        if newest == current.revision:
            return None
        resources = self._store.resources(newest)
        changed = self._store.last_changes(newest)
        types: dict[str, DesiredType] = {}
        for kind in Kind:
            url, before = wire.TYPE_URLS[kind], current.types[wire.TYPE_URLS[kind]]
            of_kind = [resource for (other, _), resource in resources.items() if other is kind]
            fresh = DesiredType.of(changed.get(kind, 0), of_kind)
            # The same object tells every stream, without a comparison, that there is nothing to send.
            same = (before.revision, before.resources) == (fresh.revision, fresh.resources)
            types[url] = before if same else fresh
        return Desired(newest, types, now)
