"""From the store to the streams: what is newest there becomes what every sidecar should hold."""

import asyncio
import logging
from collections.abc import Callable, Iterable

from aegispb.v1 import discovery_pb2 as pb

from controlplane.discovery.desired import Desired, DesiredType
from controlplane.discovery.server import PolicyDiscovery
from controlplane.store.store import PolicyStore, Resources, StoreError
from controlplane.tunnels.keeper import KeyResources, TunnelKeeper, acknowledgements
from controlplane.tunnels.vault import Acknowledged
from policies import wire
from policies.spec import Kind

logger = logging.getLogger(__name__)


class Publication:
    """Follows one store for one discovery service. Pushes through this replica are published at once, those through
    others when the store is asked next; keys of tunnels likewise."""

    def __init__(
        self, store: PolicyStore, discovery: PolicyDiscovery, keys: TunnelKeeper, *, now: Callable[[], float]
    ) -> None:
        """`now`: seconds since 1970."""
        self._store = store
        self._discovery = discovery
        self._keys = keys
        self._now = now
        self._one_at_a_time = asyncio.Lock()

    async def refresh(self) -> None:
        """Publish the newest revision and keys if they are not published already. Raises StoreError."""
        async with self._one_at_a_time:
            current = self._discovery.desired
            elapsed = asyncio.get_running_loop().time()
            acknowledged = acknowledgements(self._discovery.roster, self._now())
            desired = await asyncio.to_thread(self._newer, current, acknowledged, elapsed)
            if desired is not None:
                self._discovery.publish(desired)
                extra = {"revision": desired.revision, "keys_epoch": desired.keys_epoch}
                logger.info("policies published", extra=extra)

    async def follow(self, every: float) -> None:
        """`refresh` until cancelled. A store that fails is asked again; what was published stays."""
        while True:
            await asyncio.sleep(every)
            try:
                await self.refresh()
            except StoreError as error:
                logger.error("policy store failed", extra={"reason": str(error)})

    def _newer(self, current: Desired, acknowledged: Iterable[Acknowledged], elapsed: float) -> Desired | None:
        newest = self._store.newest()
        types = dict(current.types)
        if newest != current.revision:
            resources = self._store.resources(newest)
            self._keys.want(resources)
            types.update(self._policies(newest, resources, current))
        keys = self._keys.settle(acknowledged)
        if newest == current.revision and keys.epoch == current.keys_epoch:
            return None
        for url in wire.KEY_TYPES:
            types[url] = _kept(current.types[url], newest, keys.shared.get(url, ()))
        return Desired(newest, types, elapsed, keys.epoch, _personal(current, newest, keys))

    def _policies(self, newest: int, resources: Resources, current: Desired) -> dict[str, DesiredType]:
        changed = self._store.last_changes(newest)
        types: dict[str, DesiredType] = {}
        for kind in Kind:
            url, before = wire.TYPE_URLS[kind], current.types[wire.TYPE_URLS[kind]]
            of_kind = [resource for (other, _), resource in resources.items() if other is kind]
            fresh = DesiredType.of(changed.get(kind, 0), of_kind)
            # The same object tells every stream, without a comparison, that there is nothing to send.
            same = (before.revision, before.resources) == (fresh.revision, fresh.resources)
            types[url] = before if same else fresh
        return types


def _personal(current: Desired, revision: int, keys: KeyResources) -> dict[str, DesiredType]:
    nothing = DesiredType(0, {})
    return {who: _kept(current.personal.get(who, nothing), revision, (each,)) for who, each in keys.personal.items()}


def _kept(before: DesiredType, revision: int, resources: Iterable[pb.Resource]) -> DesiredType:
    """The type with these resources; the same object if it has them already."""
    fresh = DesiredType.of(revision, resources)
    return before if before.resources == fresh.resources else fresh
