"""Puts one sidecar process together, runs it and takes it apart. The only place that builds concrete things."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from observability.exposition import render
from observability.logs import set_level
from observability.metrics import Registry
from observability.telemetry import Telemetry
from policies.model import UnixNanos
from policies.snapshot import AuditMode
from settings import Address
from sidecar.admin import Subject, admin_site, describe, metrics_site, readiness_site, worker_site
from sidecar.config import SidecarConfig
from sidecar.deadlines import Deadlines
from sidecar.dialects.registry import Dialects
from sidecar.effects import LocalEffects
from sidecar.inspection import Inspector
from sidecar.listener import ConnectionLimits, Listener
from sidecar.pages import PageServer, Site
from sidecar.plan import Planner
from sidecar.policy_file import Compile, PolicyFile
from sidecar.ports import AuditEntry, AuditTrail
from sidecar.services import Limits, Services
from sidecar.upstream_pools import UpstreamPools

POLICY_FILE_EVERY: Final = 2.0
"""Seconds between two looks at the policy files."""
POOLS_EVERY: Final = 5.0
"""Seconds between two looks at whether upstreams have gone from the policy."""

logger = logging.getLogger(__name__)


class CannotListenError(Exception):
    """An address cannot be had. Says which setting, and why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which of how many processes this is."""

    index: int = 0
    socket: Path | None = None
    """Where a worker of several shows its pages to its parent; None: it is alone and serves the ports itself."""


class Sidecar:
    """One process of the data plane. `run` it once."""

    def __init__(self, config: SidecarConfig, registry: Registry, compile_files: Compile, place: Place) -> None:
        self.config = config
        self.telemetry = Telemetry(registry, sample_ratio=config.trace_ratio)
        self._registry = registry
        self._place = place
        self._policies = PolicyFile(config.policy_file, compile_files)
        self._trail: AuditTrail = NoTrail()
        self._draining = asyncio.Event()
        self._listener: Listener
        self._pools: UpstreamPools
        self.port = 0
        """Where applications connect, once `run` has called `ready`."""

    # --- what the pages ask ---

    async def snapshot(self) -> object:
        """The policies in force."""
        return describe(self._policies.current)

    async def blockers(self) -> Mapping[str, str]:
        """Name -> reason of everything that keeps it from being ready."""
        found = {
            "draining": "it was told to end" if self._draining.is_set() else "",
            "policy": self._policies.blocker,
            "audit": self._audit_blocker(),
        }
        return {name: reason for name, reason in found.items() if reason}

    def _audit_blocker(self) -> str:
        snapshot = self._policies.current
        if self._trail.accepting or snapshot is None or not any(r.audit is AuditMode.REQUIRED for r in snapshot.routes):
            return ""
        return "policy demands audit entries and the trail takes none"

    async def counts(self) -> object:
        """Connections by kind."""
        listener = self._listener
        return {"clients": listener.connections, "exchanges": listener.exchanges, "upstreams": self._pools.counts()}

    async def set_log_level(self, level: str) -> None:
        """One of `admin.LOG_LEVELS`."""
        set_level(level)

    def drain(self) -> None:
        """Finish what is under way and end. May be called again."""
        self._draining.set()

    async def metrics(self, accept: str) -> tuple[str, bytes]:
        """(content type, page) for a scraper."""
        return render([self.telemetry.snapshot()], accept)

    # --- its life ---

    async def run(self, ready: Callable[["Sidecar"], None]) -> None:
        """Serve until `drain`, then finish. Calls `ready` when connections are accepted. Raises CannotListenError."""
        loop = asyncio.get_running_loop()
        config = self.config
        deadlines = Deadlines(loop.time)
        inspector = Inspector(loop)
        async with asyncio.TaskGroup() as tasks, self._following_policies(tasks):
            self._pools = pools = UpstreamPools(
                tasks, deadlines, self.telemetry, max_connections=config.max_upstream_connections
            )
            services = Services(
                snapshots=self._policies,
                planner=Planner(Dialects(), pools.pool),
                audit=self._trail,
                telemetry=self.telemetry,
                effects=LocalEffects(self._registry),
                inspector=inspector,
                limits=_limits(config),
                peer=config.peer,
                clock=loop.time,
                now=lambda: UnixNanos(time.time_ns()),
            )
            self._listener = listener = Listener(services, deadlines, _connection_limits(config))
            background = [
                tasks.create_task(work)
                for work in (deadlines.run(), self.telemetry.run(), self._let_go_of_upstreams(pools))
            ]
            pages = await self._serve_pages(tasks)
            try:
                self.port = await _listen(listener, config.listen, shared=self._place.socket is not None)
                ready(self)
                await self._draining.wait()
                await self._finish(listener)
            finally:
                listener.abort()
                pools.close()
                inspector.close()
                for server in pages:
                    server.close()
                for task in background:
                    task.cancel()

    async def _finish(self, listener: Listener) -> None:
        """Readiness fails already; let every exchange under way end, within the time there is."""
        logger.info("draining", extra={"connections": listener.connections})
        listener.stop_accepting()
        try:
            async with asyncio.timeout(self.config.drain_timeout):
                await listener.drained()
        except TimeoutError:
            logger.warning("exchanges cut off", extra={"connections": listener.connections})

    @asynccontextmanager
    async def _following_policies(self, tasks: asyncio.TaskGroup) -> AsyncIterator[None]:
        await self._policies.load()
        following = tasks.create_task(self._policies.run(POLICY_FILE_EVERY))
        try:
            yield
        finally:
            following.cancel()

    async def _let_go_of_upstreams(self, pools: UpstreamPools) -> None:
        seen = None
        while True:
            await asyncio.sleep(POOLS_EVERY)
            current = self._policies.current
            if current is not seen and current is not None:
                seen = current
                pools.keep_only([route.upstream for route in current.routes])

    async def _serve_pages(self, tasks: asyncio.TaskGroup) -> list[PageServer]:
        if self._place.socket is not None:
            server = PageServer(worker_site(self.config, self, self.telemetry.snapshot), tasks)
            await server.listen_unix(self._place.socket)
            return [server]
        return await pages_on_ports(self.config, self, tasks)


class NoTrail:
    """In place of an audit trail where there is none: routes that demand one are refused."""

    accepting = False

    def append(self, entry: AuditEntry) -> None:
        """Nothing keeps it."""


async def pages_on_ports(config: SidecarConfig, subject: Subject, tasks: asyncio.TaskGroup) -> list[PageServer]:
    """Readiness, metrics and admin of `subject` on their ports. Raises CannotListenError."""
    sites: Sequence[tuple[str, Address, Site]] = (
        ("ready", config.ready, readiness_site(subject)),
        ("metrics", config.metrics, metrics_site(subject)),
        ("admin", config.admin, admin_site(config, subject)),
    )
    servers = []
    for name, address, site in sites:
        server = PageServer(site, tasks)
        servers.append(server)
        try:
            await server.listen(address.host, address.port)
        except OSError as error:
            for opened in servers:
                opened.close()
            raise CannotListenError(f"--{name} {address}: {error.strerror or error}") from None
    return servers


async def _listen(listener: Listener, address: Address, *, shared: bool) -> int:
    try:
        return await listener.listen(address.host, address.port, shared_port=shared)
    except OSError as error:
        raise CannotListenError(f"--listen {address}: {error.strerror or error}") from None


def _limits(config: SidecarConfig) -> Limits:
    return Limits(
        body_timeout=config.body_timeout,
        stall_timeout=config.stall_timeout,
        inline_body=config.inspect_inline,
        gathered_bodies=config.max_held_bodies,
    )


def _connection_limits(config: SidecarConfig) -> ConnectionLimits:
    return ConnectionLimits(
        head_timeout=config.head_timeout, idle_timeout=config.idle_timeout, connections=config.max_connections
    )
