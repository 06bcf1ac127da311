"""Connections to upstreams: kept alive, bounded, verified."""

import asyncio
import logging
import ssl
from typing import Protocol
from urllib.parse import urlsplit

from policies.snapshot import Upstream
from sidecar.codecs.http1_head import AnswerHeads
from sidecar.deadlines import Deadlines
from sidecar.ports import Telemetry
from sidecar.upstream import KEEP_ALIVE, Caller, UpstreamConnection
from sidecar.upstream_errors import (
    ConnectTimeoutError,
    NoTunnelToPeerError,
    SaturatedError,
    UnreachableError,
    UpstreamError,
)

logger = logging.getLogger(__name__)


class TunnelDialler(Protocol):
    """Reaches peers."""

    async def connect(self, connection: UpstreamConnection, peer: str, within: float) -> None:
        """Give `connection` a stream to the Peer of this name. Raises NoTunnelToPeerError. `within`: seconds."""


class UpstreamPool:
    """Connections to one upstream. The one used last is taken first, so that the others can expire."""

    def __init__(
        self,
        upstream: Upstream,
        tasks: asyncio.TaskGroup,
        deadlines: Deadlines,
        telemetry: Telemetry,
        *,
        max_connections: int,
        tunnels: TunnelDialler | None = None,
    ) -> None:
        url = urlsplit(upstream.url)
        self.upstream = upstream
        self.host = url.hostname or ""
        self.port = url.port or (443 if url.scheme == "https" else 80)
        self.authority = url.netloc.rpartition("@")[2]
        """What stands in Host."""
        self.base_path = url.path.rstrip("/")
        self._is_tls = url.scheme == "https"
        self._tasks = tasks
        self._deadlines = deadlines
        self._telemetry = telemetry
        self._max = max_connections
        self._tunnels = tunnels
        self._heads = AnswerHeads()
        self._context: ssl.SSLContext | None = None
        self._idle: dict[UpstreamConnection, None] = {}
        self._open: set[UpstreamConnection] = set()
        """Connections that stand or are being made."""
        self._closed = False

    def request(self, caller: Caller, *, fresh: bool = False) -> None:
        """Calls `caller.upstream_ready` or `caller.upstream_failed`, now or later. `fresh`: with a new connection,
        because a kept one was dead and the others may be, too."""
        while self._idle and not fresh:
            connection, _ = self._idle.popitem()
            if connection.is_usable:
                self._telemetry.upstream_connected(self.upstream.name, reused=True)
                if not caller.upstream_ready(connection):
                    self._release(connection)
                return
        if len(self._open) >= self._max:
            caller.upstream_failed(SaturatedError(f"{self.upstream.name}: all {self._max} connections are busy"))
            return
        self._tasks.create_task(self._connect(caller))

    def counts(self) -> dict[str, int]:
        """How many connections stand, and how many of them are unused."""
        return {"open": len(self._open), "idle": len(self._idle)}

    def close(self) -> None:
        """Close what is idle now, and the others as they become idle."""
        self._closed = True
        for connection in list(self._idle):
            connection.close()

    async def _connect(self, caller: Caller) -> None:
        connection = UpstreamConnection(self._heads, self._deadlines.now, released=self._release, closed=self._forget)
        self._open.add(connection)
        try:
            await self._connect_for(caller, connection)
        except Exception as fault:
            # The task's root: one exchange's fault must not end the others, as it would in their task group.
            logger.error(
                "fault while connecting to an upstream", extra={"upstream": self.upstream.name}, exc_info=fault
            )
            connection.abandon()
            self._open.discard(connection)
            caller.upstream_failed(UnreachableError(f"{self.upstream.name}: an error inside the sidecar"))

    async def _connect_for(self, caller: Caller, connection: UpstreamConnection) -> None:
        name = self.upstream.name
        try:
            async with asyncio.timeout(self.upstream.connect_timeout):
                await self._stand(connection)
        except UpstreamError as no_tunnel:
            error: UpstreamError = no_tunnel
        except TimeoutError:
            waited = f"{self.upstream.connect_timeout:g} s"
            error = ConnectTimeoutError(f"{name}: no connection in {waited}; a firewall may block it")
        except ssl.SSLError as tls_error:
            error = UnreachableError(f"{name}: TLS failed: {tls_error.reason or 'no reason given'}")
        except OSError as os_error:
            error = UnreachableError(f"{name}: {os_error.strerror or 'cannot be reached'}")
        else:
            self._telemetry.upstream_connected(name, reused=False)
            if not caller.upstream_ready(connection):
                self._release(connection)
            return
        self._open.discard(connection)
        caller.upstream_failed(error)

    async def _stand(self, connection: UpstreamConnection) -> None:
        if self.upstream.peer:
            if self._tunnels is None:
                raise NoTunnelToPeerError(f"peer {self.upstream.peer}: this sidecar has no tunnel_identity")
            await self._tunnels.connect(connection, self.upstream.peer, self.upstream.connect_timeout)
        else:
            await self._connect_to_host(connection)
        connection.due = self._deadlines.now() + KEEP_ALIVE
        self._deadlines.watch(connection)

    async def _connect_to_host(self, connection: UpstreamConnection) -> None:
        loop = asyncio.get_running_loop()
        if self._is_tls and self._context is None:
            # Reading the system's CAs takes some 20 ms, too long for the loop.
            self._context = await loop.run_in_executor(None, tls_context, self.upstream.ca_file)
        await loop.create_connection(
            lambda: connection,
            self.host,
            self.port,
            ssl=self._context,
            server_hostname=self.host if self._is_tls else None,
        )

    def _release(self, connection: UpstreamConnection) -> None:
        if self._closed:
            connection.close()
        else:
            self._idle[connection] = None

    def _forget(self, connection: UpstreamConnection) -> None:
        self._open.discard(connection)
        self._idle.pop(connection, None)
        self._deadlines.forget(connection)


def tls_context(ca_file: str) -> ssl.SSLContext:
    """Verifies chain and host name against `ca_file`, or the system's CAs when it is empty. Raises OSError."""
    context = ssl.create_default_context(cafile=ca_file or None)
    context.set_alpn_protocols(["http/1.1"])
    return context
