"""Puts one sidecar process together, runs it and takes it apart. The only place that builds concrete things."""

import asyncio
import gc
import logging
import os
import secrets
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from observability.exposition import render
from observability.logs import set_level
from observability.metrics import Registry
from observability.telemetry import Telemetry
from policies.mathprotocol.manifest import PluginTask
from policies.model import Alert, ExchangeId, UnixNanos
from policies.snapshot import AuditMode, PolicySnapshot
from policies.spec import Source
from settings import Address
from settings.key_files import read_key, read_or_make_key
from sidecar.admin import Subject, admin_site, describe, metrics_site, readiness_site, worker_site
from sidecar.audit.adoption import Orphans
from sidecar.audit.auditing import Auditing, spool_path
from sidecar.audit.flusher import TrailLimits
from sidecar.config import SidecarConfig
from sidecar.deadlines import Deadlines
from sidecar.dialects.registry import Dialects
from sidecar.effects import LocalEffects
from sidecar.inbound import InboundStreams
from sidecar.inspector import SWITCH_INTERVAL, Inspector
from sidecar.listener import ConnectionLimits, Listener
from sidecar.memory import give_back_memory, keep_memory
from sidecar.pages import PageServer, Site
from sidecar.plan import Planner
from sidecar.plugins.tasks import PluginTasks, code_tasks, plugin_hosts
from sidecar.policy_file import PolicyFile
from sidecar.services import Limits, Services
from sidecar.upstream_pools import UpstreamPools
from transport.rollout import Switches

# A sidecar imports what its settings ask for, where it is asked for: gRPC takes 15 MB, what tunnels need takes 10.
if TYPE_CHECKING:
    import grpc.aio

    from sidecar.policy_client import PolicyClient
    from sidecar.tunnels import SidecarTunnels

POLICY_FILE_EVERY: Final = 2.0
"""Seconds between two looks at the policy files."""
POOLS_EVERY: Final = 5.0
"""Seconds between two looks at whether the policies changed: upstreams may have gone, memory may be free."""
AUDIT_CLOSE: Final = 5.0
"""Seconds for the last leaves to reach the ledger; after that they wait in the spool for the next start."""

CompileFiles = Callable[[Mapping[int, PluginTask], Sequence[Source], int], PolicySnapshot]
"""(prime -> task that a plugin's code answers here, files, revision) -> snapshot. Raises PolicyError. May take a second
of CPU."""

_now: Final = cast(Callable[[], UnixNanos], time.time_ns)  # asked five times an exchange: no function of ours between

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
    """One process of the data plane. Make it on its event loop, `run` it once."""

    def __init__(
        self,
        config: SidecarConfig,
        registry: Registry,
        telemetry: Telemetry,
        compile_files: CompileFiles,
        place: Place,
        build: str,
    ) -> None:
        """`compile_files(hosted, files, revision)` is only called with policy files. Raises KeyFileError, SpoolError,
        PluginsRefusedError or RolloutError."""
        self._config = config
        self._registry = registry
        self._telemetry = telemetry
        self._place = place
        data = config.data.expanduser()
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._plugin_hosts = plugin_hosts(config.plugins, registry)
        hosted = code_tasks(self._plugin_hosts)
        self._policies: PolicyFile | PolicyClient
        self._client: PolicyClient | None = None
        """The same, if they come from a control plane."""
        if config.policy_file:
            self._policies = PolicyFile(config.policy_file, partial(compile_files, hosted))
        else:
            self._policies = self._client = _policy_client(config, data, registry, place, build, hosted)
        limits = _trail_limits(config)
        self._auditing = Auditing(spool_path(data, place.index), registry, limits, ships=_ships(config), build=build)
        # One of the workers looks after what others left behind, when there were more of them.
        self._orphans = Orphans(data, config.workers, registry, limits, build=build) if place.index == 0 else None
        self._switches = Switches.of(os.environ)
        self._tunnels: SidecarTunnels | None = None
        self._inbound: InboundStreams
        self._draining = asyncio.Event()
        self._listener: Listener
        self._pools: UpstreamPools
        self.ports: dict[str, int] = {}
        """Setting -> port: `listen`, and the pages if this process serves them. Complete when `run` calls `ready`."""

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
            "tunnel": self._tunnels.blocker if self._tunnels is not None else "",
        }
        return {name: reason for name, reason in found.items() if reason}

    def _audit_blocker(self) -> str:
        snapshot = self._policies.current
        if snapshot is None or self._auditing.trail.accepting:
            return ""
        demanded = any(route.audit is AuditMode.REQUIRED for route in snapshot.routes)
        return "audit: the spool takes no more entries and policy demands them" if demanded else ""

    async def counts(self) -> object:
        """Connections by kind."""
        listener = self._listener
        return {
            "clients": listener.connections + self._inbound.connections,
            "exchanges": listener.exchanges + self._inbound.exchanges,
            "tunnels": self._tunnels.counts() if self._tunnels is not None else {},
            "upstreams": self._pools.counts(),
            "audit_leaves_waiting": self._auditing.waiting,
        }

    async def tunnels(self) -> object:
        """Shares, rates, times and key ages of tunnels."""
        from sidecar import tunnel_page
        from sidecar.tunnel_keys import TunnelView

        view = self._client.tunnels if self._client is not None else TunnelView()
        return tunnel_page.describe(self._registry, view, _now() / 1e9)

    async def set_log_level(self, level: str) -> None:
        """One of `admin.LOG_LEVELS`."""
        set_level(level)

    def drain(self) -> None:
        """Finish what is under way and end. May be called again."""
        self._draining.set()

    async def metrics(self, accept: str) -> tuple[str, bytes]:
        """(content type, page) for a scraper."""
        return render([self._telemetry.snapshot()], accept)

    # --- its life ---

    async def run(self, ready: Callable[["Sidecar"], None]) -> None:
        """Serve until `drain`, then finish. Calls `ready` when connections are accepted. Raises CannotListenError."""
        config, loop = self._config, asyncio.get_running_loop()
        deadlines = Deadlines(loop.time)
        inspector = Inspector(loop)
        sys.setswitchinterval(SWITCH_INTERVAL)
        keep_memory()
        async with asyncio.TaskGroup() as tasks, self._audited(tasks), self._following_policies(tasks):
            effects = LocalEffects(self._registry)
            self._tunnels = tunnels = self._made_tunnels(effects, tasks)
            self._pools = pools = UpstreamPools(
                tasks, deadlines, self._telemetry, max_connections=config.max_upstream_connections, tunnels=tunnels
            )
            plugins = PluginTasks(self._plugin_hosts, tasks)
            services = Services(
                snapshots=self._policies,
                planner=Planner(Dialects(), pools.pool),
                audit=self._auditing.trail,
                telemetry=self._telemetry,
                effects=effects,
                inspector=inspector,
                limits=_limits(config),
                peer=config.peer,
                plugins=plugins,
                clock=loop.time,
                now=_now,
            )
            self._listener = listener = Listener(services, deadlines, _connection_limits(config))
            self._inbound = inbound = InboundStreams(services, deadlines, _connection_limits(config))
            background = [
                tasks.create_task(work)
                for work in (
                    deadlines.run(),
                    self._telemetry.run(),
                    self._settle_after_policies(pools),
                    *_sharing_bans(config, effects),
                )
            ]
            pages = await self._serve_pages(tasks)
            try:
                self.ports["listen"] = await _listen(listener, config.listen, shared=self._place.socket is not None)
                if tunnels is not None and config.tunnel_listen is not None:
                    self.ports["tunnel_listen"] = await self._listen_for_tunnels(tunnels, config.tunnel_listen)
                # What stands by now lives as long as the process: no collection has to look at it again, 40 ms each.
                gc.collect()
                gc.freeze()
                ready(self)
                await self._draining.wait()
                await self._finish(listener, tunnels)
            finally:
                listener.abort()
                inbound.abort()
                await asyncio.sleep(0)  # let the aborted exchanges write their leaves
                pools.close()
                if tunnels is not None:
                    tunnels.close()
                await plugins.stop()
                inspector.close()
                for server in pages:
                    server.close()
                for task in background:
                    task.cancel()

    def _made_tunnels(self, effects: LocalEffects, tasks: asyncio.TaskGroup) -> "SidecarTunnels | None":
        policies, directory = self._client, self._config.tunnel_identity
        if directory is None or policies is None:
            return None
        from sidecar.tunnels import SidecarTunnels, TunnelFiles

        files = TunnelFiles(directory.expanduser(), time.monotonic)

        def alert(raised: Alert) -> None:
            effects.carry_out((raised,), ExchangeId(""), _now())

        tunnels = SidecarTunnels(lambda: policies.tunnels, files, self._switches, self._registry, alert, tasks)
        policies.on_tunnels = tunnels.changed
        policies.prove_by(tunnels.can_prove)
        return tunnels

    async def _listen_for_tunnels(self, tunnels: "SidecarTunnels", address: Address) -> int:
        shared = self._place.socket is not None
        try:
            return await tunnels.listen(
                self._inbound, address.host, address.port, shared_port=shared, quic=self._config.tunnel_quic
            )
        except OSError as error:
            raise CannotListenError(f"--tunnel-listen {address}: {error.strerror or error}") from None

    async def _finish(self, listener: Listener, tunnels: "SidecarTunnels | None") -> None:
        """Readiness fails already; let every exchange under way end, within the time there is."""
        logger.info("draining", extra={"connections": listener.connections, "exchanges": listener.exchanges})
        listener.stop_accepting()
        self._inbound.stop_accepting()
        try:
            async with asyncio.timeout(self._config.drain_timeout):
                await listener.drained()
                await self._inbound.drained()
                if tunnels is not None:
                    await tunnels.drain(self._config.drain_timeout)
        except TimeoutError:
            logger.warning("exchanges cut off", extra={"exchanges": listener.exchanges})

    @asynccontextmanager
    async def _audited(self, tasks: asyncio.TaskGroup) -> AsyncIterator[None]:
        """Closed after everything that writes leaves."""
        config = self._config
        if config.ledger is not None and config.identity is not None:
            from sidecar.ledger_link import keep_shipping

            auditing = tasks.create_task(keep_shipping(str(config.ledger), config.identity, self._ship))
        else:
            auditing = tasks.create_task(self._look_after_orphans(None))
        try:
            yield
        finally:
            await self._auditing.close(AUDIT_CLOSE, shipping=_ships(config))
            auditing.cancel()

    async def _ship(self, channel: "grpc.aio.Channel") -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._auditing.run(channel))
            tasks.create_task(self._look_after_orphans(channel))

    async def _look_after_orphans(self, channel: "grpc.aio.Channel | None") -> None:
        if self._orphans is not None:
            await self._orphans.run(channel)

    @asynccontextmanager
    async def _following_policies(self, tasks: asyncio.TaskGroup) -> AsyncIterator[None]:
        policies = self._policies
        if isinstance(policies, PolicyFile):
            await policies.load()
            following = tasks.create_task(policies.run(POLICY_FILE_EVERY))
        else:
            await policies.start()
            following = tasks.create_task(policies.run())
        try:
            yield
        finally:
            following.cancel()

    async def _settle_after_policies(self, pools: UpstreamPools) -> None:
        seen = None
        while True:
            await asyncio.sleep(POOLS_EVERY)
            current = self._policies.current
            if current is not seen and current is not None:
                seen = current
                pools.keep_only({route.upstream for route in current.routes})
                give_back_memory()

    async def _serve_pages(self, tasks: asyncio.TaskGroup) -> list[PageServer]:
        if self._place.socket is not None:
            server = PageServer(worker_site(self._config, self, self._telemetry.snapshot), tasks)
            await server.listen_unix(self._place.socket)
            return [server]
        servers = await pages_on_ports(self._config, self, tasks)
        self.ports.update({name: server.port for name, server in servers.items()})
        return list(servers.values())


def _sharing_bans(config: SidecarConfig, effects: LocalEffects) -> Iterable[Coroutine[None, None, None]]:
    if config.bans_redis:
        from sidecar.shared_bans import SharedBans  # needs the extra `redis`

        shared = SharedBans(config.bans_redis, effects, _now, lambda: secrets.randbelow(1 << 16) / (1 << 16))
        effects.on_ban = shared.tell
        yield shared.run()


async def pages_on_ports(config: SidecarConfig, subject: Subject, tasks: asyncio.TaskGroup) -> dict[str, PageServer]:
    """Setting -> readiness, metrics and admin pages of `subject`, each on its port. Raises CannotListenError."""
    sites: Iterable[tuple[str, Address, Site]] = (
        ("ready", config.ready, readiness_site(subject)),
        ("metrics", config.metrics, metrics_site(subject)),
        ("admin", config.admin, admin_site(config, subject)),
    )
    servers: dict[str, PageServer] = {}
    for name, address, site in sites:
        server = PageServer(site, tasks)
        try:
            await server.listen(address.host, address.port)
        except OSError as error:
            for opened in servers.values():
                opened.close()
            raise CannotListenError(f"--{name} {address}: {error.strerror or error}") from None
        servers[name] = server
    return servers


def _policy_client(
    config: SidecarConfig,
    data: Path,
    registry: Registry,
    place: Place,
    build: str,
    hosted: Mapping[int, PluginTask],
) -> "PolicyClient":
    from sidecar.lkg import LastKnownGoodFile
    from sidecar.policy_client import ControlPlane, PolicyClient, Surroundings
    from sidecar.policy_state import PolicyState

    assert config.controlplane is not None  # noqa: S101 SidecarConfig.check
    assert config.identity is not None  # noqa: S101 SidecarConfig.check
    name = f"{config.peer}@{socket.gethostname()}"
    control_plane = ControlPlane(str(config.controlplane), config.identity, f"{name}/{place.index}", build)
    kept = LastKnownGoodFile(data / f"worker-{place.index}.lkg", read_or_make_key(data / "lkg.key"), config.peer)
    surroundings = Surroundings(_now, lambda: secrets.randbelow(1 << 53) / (1 << 53), os.urandom)
    return PolicyClient(control_plane, PolicyState(tenant_key(config), hosted), kept, registry, surroundings)


def _ships(config: SidecarConfig) -> bool:
    return config.ledger is not None and config.identity is not None


def tenant_key(config: SidecarConfig) -> bytes:
    """The secret that tokens are derived from. Raises KeyFileError."""
    if config.tenant_key_file is not None:
        return read_key(config.tenant_key_file.expanduser())
    return read_or_make_key(config.data.expanduser() / "tenant.key")


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


def _trail_limits(config: SidecarConfig) -> TrailLimits:
    return TrailLimits(
        linger=config.audit_linger,
        max_waiting=config.audit_max_waiting,
        max_openings=config.audit_max_openings,
        keep_openings=config.audit_keep_openings,
    )


def _connection_limits(config: SidecarConfig) -> ConnectionLimits:
    return ConnectionLimits(
        head_timeout=config.head_timeout, idle_timeout=config.idle_timeout, connections=config.max_connections
    )
