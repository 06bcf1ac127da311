"""The policy stream: the asyncio shell around `Session`. One writer per stream; reading goes on beside it.

Frames are written as bytes that all streams share, so that a push to a thousand sidecars serialises once.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from aegispb.v1 import discovery_pb2 as pb
from google.rpc import code_pb2

from controlplane.discovery.desired import Desired, Frames
from controlplane.discovery.roster import Node, Roster
from controlplane.discovery.session import Outcome, Session, SidecarError, drain, welcome
from controlplane.identity.peer import peer_of
from controlplane.identity.spiffe import IdentityError, Role, SpiffeId
from observability import names
from observability.metrics import Registry
from policies import wire

logger = logging.getLogger(__name__)

SERVICE: Final = "aegispb.v1.PolicyDiscovery"
STALE_AFTER: Final = 30.0
"""Seconds that a sidecar may take to a new revision before it counts as stale."""
MAX_TOLD: Final = 1_000_000
"""What one heartbeat may count: one sidecar must not outweigh all others for ever."""
STALE_WHILE_AWAY: Final = 600.0
"""Seconds that a sidecar that left counts as stale; then it is taken for gone, as pods are."""

Call = grpc.aio.ServicerContext[pb.Up, bytes]


@dataclass(frozen=True, slots=True)
class DiscoveryTimes:
    """Seconds, all of them."""

    heartbeat_every: float = 10.0
    reconnect_within: float = 10.0
    """Over how long sidecars spread their return after a Drain."""
    hello_within: float = 5.0
    """Rule 1."""
    tick: float = 1.0
    """How often silence, heartbeats and renewals are looked after."""


@dataclass(slots=True, eq=False)
class _Stream:
    session: Session
    owner: str
    """SPIFFE id of the sidecar."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there is something to write, or the stream is to end."""
    frame: bytes | None = None
    """What to write next."""
    is_ending: bool = False
    ending: tuple[grpc.StatusCode, str] = (grpc.StatusCode.OK, "")
    """Status to end with; OK for an orderly end."""

    def look(self, now: float) -> None:
        """Wake the writer if there is something to write: after most Acks there is nothing, and waking costs."""
        if self.frame is None:
            self.frame = self.session.next_frame(now)
        if self.frame is not None:
            self.wake.set()

    def end(self, code: grpc.StatusCode, reason: str) -> None:
        if not self.is_ending:
            self.is_ending, self.ending = True, (code, reason)
        self.wake.set()


class PolicyDiscovery:
    """Serves the policy stream. `run` must run beside the server."""

    def __init__(
        self,
        trust_domain: str,
        metrics: Registry,
        *,
        server_id: str,
        times: DiscoveryTimes = DiscoveryTimes(),
        max_streams: int = 20_000,
        probed: Callable[[Mapping[int, int]], None] = lambda _probed: None,
    ) -> None:
        """`probed` is told, prime by prime, what sidecars hear attackers probe."""
        self.roster = Roster()
        self.desired = Desired.nothing()
        self._trust_domain = trust_domain
        self._times = times
        self._welcome = welcome(server_id, times.heartbeat_every)
        self._frames = Frames()
        self._streams: set[_Stream] = set()
        self.waiting = 0
        """Streams that have not said Hello yet."""
        self._max_streams = max_streams
        self._draining = False
        self._probed = probed
        self._one_ended = asyncio.Event()
        self._push_seconds = metrics.histogram(names.CP_PUSH_SECONDS)
        self._nacks = metrics.counter(names.CP_NACKS)
        metrics.gauge(names.CP_STREAMS).watch(lambda: {(): len(self._streams)})
        metrics.gauge(names.CP_PUSH_INFLIGHT).watch(lambda: {(): self._inflight()})
        self._stale = metrics.gauge(names.CP_STALE_NODES)
        self._stale_ech = metrics.counter(names.CP_STALE_ECH)

    def handler(self) -> grpc.GenericRpcHandler:
        """To be added to a server: answers leave as the bytes that `Session` built."""
        method: Any = grpc.stream_stream_rpc_method_handler(self._stream, pb.Up.FromString, None)
        return grpc.method_handlers_generic_handler(SERVICE, {"Stream": method})

    def publish(self, desired: Desired) -> None:
        """There is a new revision: every stream compares, and sends what differs."""
        self.desired = desired
        now = _now()
        for stream in self._streams:
            stream.session.want(desired.of(stream.owner))
            stream.look(now)

    async def run(self) -> None:
        """Look after silence, heartbeats and renewals until cancelled."""
        while True:
            await asyncio.sleep(self._times.tick)
            now = _now()
            for stream in self._streams:
                if overdue := stream.session.overdue(now):
                    stream.end(grpc.StatusCode.DEADLINE_EXCEEDED, overdue)
                elif stream.session.wake_at() <= now:
                    stream.look(now)
            self.roster.forget(now)
            self._stale.set(sum(1 for node in self.roster if self._is_stale(node, now)))

    async def drain(self, within: float) -> None:
        """Rule 14: tell every sidecar to come back later, end every stream, accept no new one; `within` seconds.

        Handlers end by themselves: `server.stop(grace)` alone would let them stand until the grace is over and then
        cut them.
        """
        self._draining = True
        for stream in self._streams:
            stream.end(grpc.StatusCode.OK, "draining")
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self._streams:
                    self._one_ended.clear()
                    await self._one_ended.wait()

    def _is_stale(self, node: Node, now: float) -> bool:
        if node.left_at is not None:
            return now - node.left_at < STALE_WHILE_AWAY
        return not node.session.in_sync and now - max(self.desired.since, node.session.since) > STALE_AFTER

    def _inflight(self) -> int:
        return sum(stream.session.outstanding for stream in tuple(self._streams))

    async def _stream(self, _requests: object, call: Call) -> None:
        peer = await self._admit(call)
        self.waiting += 1
        try:
            session = await self._hello(call, peer)
        finally:
            self.waiting -= 1
        stream = _Stream(session, str(peer))
        self._streams.add(stream)
        # What happened while Welcome was written reached only the streams that stood.
        session.want(self.desired.of(stream.owner))
        if self._draining:
            stream.end(grpc.StatusCode.OK, "draining")
        self.roster.join(peer, session, _now())
        logger.info("sidecar connected", extra={"peer": str(peer), "node": session.node_id, "build": session.build})
        try:
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(self._read(call, stream, peer))
                await self._write(call, stream)
                reading.cancel()
        finally:
            self._streams.discard(stream)
            self._one_ended.set()
            self.roster.leave(peer, session, _now())
            reason = stream.ending[1] if stream.is_ending else "the connection was lost"
            extra = {"peer": str(peer), "node": session.node_id, "reason": reason}
            logger.info("sidecar disconnected", extra=extra)
        code, reason = stream.ending
        if code is not grpc.StatusCode.OK:
            await call.abort(code, reason)

    async def _admit(self, call: Call) -> SpiffeId:
        try:
            peer = peer_of(call, self._trust_domain)
        except IdentityError as error:
            logger.warning("peer refused", extra={"reason": str(error)})
            return await call.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        if peer.role is not Role.SIDECAR:
            logger.warning("peer refused", extra={"peer": str(peer), "reason": "not a sidecar"})
            await call.abort(grpc.StatusCode.PERMISSION_DENIED, f"{peer} is not a sidecar; only sidecars get policies")
        if self._draining:
            await call.abort(grpc.StatusCode.UNAVAILABLE, "draining")
        if len(self._streams) + self.waiting >= self._max_streams:
            await call.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{self._max_streams} streams stand already")
        return peer

    async def _hello(self, call: Call, peer: SpiffeId) -> Session:
        """Rule 1: Hello first and soon, then Welcome."""
        try:
            async with asyncio.timeout(self._times.hello_within):
                first: object = await call.read()  # grpc.aio.EOF at the end, which the stubs leave out
        except TimeoutError:
            return await call.abort(grpc.StatusCode.INVALID_ARGUMENT, "no Hello came in time")
        if not isinstance(first, pb.Up) or first.WhichOneof("msg") != "hello":
            await call.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first message must be Hello")
        try:
            mine = self.desired.of(str(peer))
            session = Session(first.hello, mine, self._frames, self._times.heartbeat_every, _now())
        except SidecarError as error:
            return await call.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        for url in session.unknown_types:
            logger.warning("sidecar wants an unknown type", extra={"peer": str(peer), "type": url})
        await call.write(self._welcome)
        return session

    async def _read(self, call: Call, stream: _Stream, peer: SpiffeId) -> None:
        while True:
            up: object = await call.read()
            if not isinstance(up, pb.Up):
                stream.end(grpc.StatusCode.OK, "the sidecar ended the stream")
                return
            try:
                outcome = stream.session.receive(up, now := _now())
            except SidecarError as error:
                stream.end(grpc.StatusCode.INVALID_ARGUMENT, str(error))
                return
            if outcome is not None:
                self._record(outcome, stream.session, peer)
            if up.heartbeat.probed:
                self._probed(up.heartbeat.probed)
            if up.heartbeat.stale_ech:
                # What RFC 9849 calls retry_configs has worked; that it was needed means that keys came late.
                self._stale_ech.add(amount=min(up.heartbeat.stale_ech, MAX_TOLD))
                extra = {
                    "peer": str(peer),
                    "node": stream.session.node_id,
                    "count": min(up.heartbeat.stale_ech, MAX_TOLD),
                }
                logger.warning("sidecar used stale ECH keys", extra=extra)
            stream.look(now)

    async def _write(self, call: Call, stream: _Stream) -> None:
        """The only writer of this stream: concurrent writes on one gRPC call corrupt it."""
        while not stream.is_ending:
            stream.look(_now())
            frame, stream.frame = stream.frame, None
            if frame is not None:
                await call.write(frame)
                continue
            stream.wake.clear()
            await stream.wake.wait()
        if self._draining:
            await call.write(drain(self._times.reconnect_within))

    def _record(self, outcome: Outcome, session: Session, peer: SpiffeId) -> None:
        self._push_seconds.observe(outcome.seconds)
        kind = wire.name_of(outcome.type_url)
        for name, refusal in outcome.refused:
            self._nacks.add((kind,))
            logger.warning(
                "policy refused",
                extra={
                    "peer": str(peer),
                    "node": session.node_id,
                    "kind": kind,
                    "name_of_policy": name,
                    "version": refusal.version,
                    "code": code_pb2.Code.Name(refusal.code) if refusal.code in code_pb2.Code.values() else "UNKNOWN",
                    "reason": refusal.reason,
                },
            )


def server_id() -> str:
    """Which process this is, for logs of sidecars: host name and process id."""
    return f"{os.uname().nodename}/{os.getpid()}"


def _now() -> float:
    return asyncio.get_running_loop().time()
