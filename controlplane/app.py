"""The composition root of the control plane: the only place that builds concrete things."""

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import grpc
import msgspec
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client import start_http_server
from prometheus_client.registry import Collector, CollectorRegistry

from controlplane.admin import PolicyAdmin
from controlplane.config import ControlPlaneConfig
from controlplane.discovery.server import DiscoveryTimes, PolicyDiscovery, server_id
from controlplane.grpc_options import LONG_LIVED
from controlplane.identity.credentials import server_credentials
from controlplane.identity.identity import Identity
from controlplane.publication import Publication
from controlplane.security.probes import Probes
from controlplane.security.traps import TrapKeeper
from controlplane.store.store import PolicyStore
from controlplane.tunnels.admin import TunnelAdmin
from controlplane.tunnels.keeper import TunnelKeeper
from controlplane.tunnels.vault import TunnelVault
from observability.exposition import Merged
from observability.metrics import Registry, Snapshot
from settings import Address
from settings.key_files import read_key, read_or_make_key

logger = logging.getLogger(__name__)

MAX_MESSAGE: Final = 16 * 1024 * 1024
_STOP_GRACE: Final = 2.0
"""Seconds for calls of operators to end; streams have ended before."""
SERVER_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    # What comes in is small. Each Ack would be answered by a PING to measure a bandwidth that nobody needs (ADR 52).
    ("grpc.http2.bdp_probe", 0),
    *LONG_LIVED,
)


class CannotListenError(Exception):
    """A port cannot be opened."""


@dataclass(frozen=True, slots=True)
class Ports:
    """What was opened."""

    listen: int
    health: int
    metrics: int | None


class LiveMetrics(Collector):
    """Shows a registry to prometheus_client at the moment somebody looks."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def collect(self) -> Any:
        """Every family that has a value."""
        return Merged([msgspec.msgpack.decode(self._registry.snapshot(), type=Snapshot)]).collect()


async def serve(
    config: ControlPlaneConfig,
    metrics: Registry,
    stop: asyncio.Event,
    *,
    now: Callable[[], datetime],
    ready: Callable[[Ports], None],
) -> None:
    """Run a control plane until `stop`, then drain. Raises IdentityError, KeyFileError, StoreError or
    CannotListenError at the start.

    `ready` is called once everything listens.
    """
    config.data.expanduser().mkdir(parents=True, exist_ok=True, mode=0o700)
    directory = config.identity.expanduser()
    trust_domain = Identity.read(directory).spiffe_id.trust_domain
    credentials = server_credentials(directory, lambda reason: logger.warning("identity unusable: %s", reason))
    async with AsyncExitStack() as stack:
        store = await asyncio.to_thread(PolicyStore.open, config.store_url)
        stack.callback(store.close)
        times = DiscoveryTimes(
            config.heartbeat_every, config.drain_within, config.hello_within, tick=min(1.0, config.heartbeat_every / 4)
        )
        probes = Probes()
        discovery = PolicyDiscovery(
            trust_domain,
            metrics,
            server_id=server_id(),
            times=times,
            max_streams=config.max_streams,
            probed=probes.heard,
        )
        keeper = TunnelKeeper(TunnelVault(store, _tunnel_key(config)), now=lambda: now().timestamp(), random=os.urandom)
        keeper.watch(metrics)
        publication = Publication(store, discovery, keeper, now=lambda: now().timestamp())
        await publication.refresh()
        author = str(Identity.read(directory).spiffe_id)
        traps = TrapKeeper(
            store, probes, author, changed=publication.refresh, now=now, every=config.traps_follow_probes_every
        )
        tunnels = TunnelAdmin(keeper, trust_domain, changed=publication.refresh, now=now)
        admin = PolicyAdmin(store, discovery, trust_domain, traps, changed=publication.refresh, now=now)

        server = grpc.aio.server(options=SERVER_OPTIONS)
        server.add_generic_rpc_handlers((discovery.handler(), admin.handler(), tunnels.handler()))
        probe_server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        alive = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(alive, probe_server)
        ports = Ports(
            _listening(config.listen, lambda address: server.add_secure_port(address, credentials)),
            _listening(config.health, probe_server.add_insecure_port),
            _metrics_page(config.metrics, metrics, stack),
        )
        for each in (server, probe_server):
            await each.start()
            stack.push_async_callback(each.stop, _STOP_GRACE)
        await alive.set("", health_pb2.HealthCheckResponse.SERVING)

        async with asyncio.TaskGroup() as tasks:
            duties = (discovery.run(), publication.follow(config.poll_every), traps.run())
            work = [tasks.create_task(duty) for duty in duties]
            ready(ports)
            await stop.wait()
            # Probes first: nobody new is sent here. Then the sidecars are told when to come back.
            await alive.enter_graceful_shutdown()
            await discovery.drain(within=_STOP_GRACE)
            for task in work:
                task.cancel()


def _tunnel_key(config: ControlPlaneConfig) -> bytes:
    if config.tunnel_key_file is not None:
        return read_key(config.tunnel_key_file.expanduser())
    return read_or_make_key(config.data.expanduser() / "tunnel.key")


def _listening(address: Address, open_port: Callable[[str], int]) -> int:
    try:
        port = open_port(str(address))
    except RuntimeError:
        port = 0
    if port == 0:
        raise CannotListenError(f"cannot listen on {address}: the port is in use, or the address is not of this host")
    return port


def _metrics_page(address: Address | None, metrics: Registry, stack: AsyncExitStack) -> int | None:
    if address is None:
        return None
    registry = CollectorRegistry(auto_describe=False)
    registry.register(LiveMetrics(metrics))
    try:
        server, thread = start_http_server(address.port, addr=address.host, registry=registry)
    except OSError as error:
        raise CannotListenError(f"cannot listen on {address}: {error.strerror}") from None
    stack.callback(thread.join, 5)
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
    return int(server.server_port)
