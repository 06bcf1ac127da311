"""One pool for each upstream that a snapshot names, kept over pushes that do not change it."""

import asyncio
from collections.abc import Collection

from policies.snapshot import Upstream
from sidecar.deadlines import Deadlines
from sidecar.ports import Telemetry
from sidecar.upstream_pool import TunnelDialler, UpstreamPool


class UpstreamPools:
    """Finds the pool of an upstream, makes it if need be. Owned by one event loop."""

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        deadlines: Deadlines,
        telemetry: Telemetry,
        *,
        max_connections: int,
        tunnels: TunnelDialler | None = None,
    ) -> None:
        """`max_connections`: to one upstream."""
        self._tasks = tasks
        self._deadlines = deadlines
        self._telemetry = telemetry
        self._max_connections = max_connections
        self._tunnels = tunnels
        self._pools: dict[Upstream, UpstreamPool] = {}

    def pool(self, upstream: Upstream) -> UpstreamPool:
        """The pool of connections to `upstream`."""
        pool = self._pools.get(upstream)
        if pool is None:
            pool = self._pools[upstream] = UpstreamPool(
                upstream,
                self._tasks,
                self._deadlines,
                self._telemetry,
                max_connections=self._max_connections,
                tunnels=self._tunnels,
            )
        return pool

    def keep_only(self, wanted: Collection[Upstream]) -> None:
        """Let go of every other upstream; exchanges under way with it end in peace."""
        for upstream in self._pools.keys() - set(wanted):
            self._pools.pop(upstream).close()

    def counts(self) -> dict[str, dict[str, int]]:
        """Upstream -> connections that stand, and how many of them are unused."""
        return {upstream.name: pool.counts() for upstream, pool in self._pools.items()}

    def close(self) -> None:
        """Let go of all."""
        self.keep_only(())
