"""The audit trail put together, for the sidecar's composition root: open, run, close."""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from observability.metrics import Registry
from sidecar.audit.flusher import Flusher, TrailLimits
from sidecar.audit.spool import SUFFIX, Batch, open_spool
from sidecar.audit.trail import Trail

if TYPE_CHECKING:
    import grpc.aio

    from sidecar.audit.shipper import Shipper, ShipperPace

logger = logging.getLogger(__name__)

_POLL: Final = 0.01
"""Seconds between two looks at whether everything is durable, while closing."""
_CLOSE: Final = 5.0
"""Seconds for the last commit, whatever the deadline: what is in memory must reach the disk."""


class Auditing:
    """One producer: a spool, the thread that fills it, the stream that empties it. Belongs to one event loop."""

    def __init__(
        self,
        path: Path,
        registry: Registry,
        limits: TrailLimits | None = None,
        pace: "ShipperPace | None" = None,
        *,
        ships: bool = True,
        build: str = "",
        clock: Callable[[], int] = time.time_ns,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Open the spool at `path` (see `spool_path`). Call it on the loop. Raises SpoolError.

        `ships`: whether there is a ledger for `run` to ship to; without one gRPC is not imported.
        """
        limits = limits or TrailLimits()
        spool = open_spool(path, entropy=entropy, now_us=clock() // 1000)
        self._shipper = _shipper(spool.producer_id, registry, pace) if ships else None
        outlet = self._shipper or _Nowhere()
        self._flusher = Flusher(spool, outlet, registry, limits, build=build, clock=clock, entropy=entropy)
        self.trail = Trail(self._flusher, registry, limits)
        """Give this to the data path."""
        self.trail.start()

    @property
    def waiting(self) -> int:
        """Leaves on disk that no ledger has acknowledged."""
        return self._flusher.waiting

    async def run(self, channel: "grpc.aio.Channel") -> None:
        """Ship over `channel` until cancelled. Without this the leaves stay in the spool."""
        assert self._shipper is not None  # noqa: S101 made with `ships`
        await self._shipper.run(channel, self.trail)

    async def close(self, timeout: float, *, shipping: bool = True) -> bool:  # noqa: ASYNC109 it bounds the way out, not a wait
        """Call it when the last exchange was appended and while `run` still runs (or with `shipping` False).

        True when everything up to EPOCH_END is durable elsewhere within `timeout` seconds. If not, what is left is on
        disk and the next life of this spool sends it.
        """
        self.trail.finish()
        durable = False
        try:
            async with asyncio.timeout(timeout):
                while not self.trail.finished or (shipping and self.waiting):  # noqa: ASYNC110 another thread knows
                    await asyncio.sleep(_POLL)
                durable = shipping
        except TimeoutError:
            logger.warning("audit leaves left in the spool", extra={"leaves": self.waiting})
        if not await asyncio.to_thread(self.trail.close, _CLOSE):
            logger.error("audit spool did not close", extra={"seconds": _CLOSE})
        return durable


class _Nowhere:
    """The outlet where there is no ledger: what is on disk stays there."""

    def offer(self, batches: list[Batch], *, afresh: bool) -> None:
        """See `sidecar.audit.flusher.Outlet`."""


def _shipper(producer_id: bytes, registry: Registry, pace: "ShipperPace | None") -> "Shipper":
    from sidecar.audit.shipper import Shipper  # gRPC takes 15 MB

    return Shipper(producer_id, registry, pace)


def spool_path(directory: Path, worker: int) -> Path:
    """Where worker number `worker` of a sidecar keeps its spool."""
    return directory / f"worker-{worker}{SUFFIX}"
