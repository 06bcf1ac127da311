"""Policies from the control plane: stays connected, survives its absence, and tells why when there is no policy.

    client = PolicyClient(...)
    await client.start()            # what was in force before the restart, if it can be believed
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(client.run())
    client.current                  # ports.Snapshots
    client.blocker                  # for readiness; empty: ready

Fail mode (control-api.md rule 10): no policy ever received and no last known good -> `current` is None, and every
exchange is refused. An empty set of routes counts as none. The control plane going away changes nothing.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
from aegispb.v1 import discovery_pb2 as pb
from aegispb.v1 import discovery_pb2_grpc
from google.rpc import code_pb2

from observability import names
from observability.metrics import Labels, Registry
from policies import wire
from policies.mathprotocol.policy import PROBED_LABEL
from policies.model import UnixNanos
from policies.snapshot import PolicySnapshot
from sidecar.backoff import Backoff
from sidecar.lkg import NONCE_BYTES, LastKnownGoodError, LastKnownGoodFile
from sidecar.policy_state import PolicyState
from sidecar.policy_stream import Ending, Reason, StreamTimes, converse
from sidecar.tunnel_keys import TunnelView
from transport.decisions import SecurityEvent

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

MAX_MESSAGE: Final = 16 * 1024 * 1024
CHANNEL_OPTIONS: Final[tuple[tuple[str, int | str], ...]] = (
    # gRPC ignores a misspelt option without a word: tests/controlplane/test_options.py sees them work.
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    # Room for a whole Delta from the start, instead of a PING after each to learn how much would be good (ADR 52).
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 4 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Our own backoff decides when to try; gRPC's only must not be in its way.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
)
EAGER_ATTEMPTS: Final = 40
"""About 20 s in which a control plane that starts beside us is found within a second."""
_WRITE_AGAIN: Final = 60.0
"""Seconds until a last known good that could not be written is tried again: disks get room again."""
_LOOK_AT_CLOCK: Final = 60.0
"""Seconds: the wall clock may be set, so that an expiry is never waited for in one go."""


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """Where the control plane is, and who we are to it."""

    address: str
    """`host:port` or a gRPC target such as `dns:///controlplane:8443`."""
    identity: Path
    """Directory with `tls.crt`, `tls.key` and `ca.crt`; looked at before every stream, so renewed files are used."""
    node_id: str
    """Pod or host name, for people. Who we are is in the certificate."""
    build: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is not decided here."""

    now: Callable[[], UnixNanos]
    """Wall clock: times to live go on while the sidecar is down."""
    fraction: Callable[[], float]
    """Random, from 0 to 1."""
    random_bytes: Callable[[int], bytes]


class PolicyClient:
    """Implements `ports.Snapshots` from a policy stream."""

    def __init__(
        self,
        control_plane: ControlPlane,
        state: PolicyState,
        kept: LastKnownGoodFile | None,
        metrics: Registry,
        surroundings: Surroundings,
        times: StreamTimes | None = None,
    ) -> None:
        self.current: PolicySnapshot | None = None
        self.tunnels = TunnelView()
        """Keys and peers of tunnels, in force together with `current`."""
        self.on_tunnels: Callable[[TunnelView, TunnelView], None] = _nobody_listens
        """Called with the former and the present view when something of it changed: tunnels that may not stand any more
        must be closed. On the event loop; must not block."""
        self.connected = False
        self._control_plane = control_plane
        self._state = state
        self._kept = kept
        self._around = surroundings
        self._times = times or StreamTimes()
        self._backoff = Backoff(eager=EAGER_ATTEMPTS)
        self._problems: dict[str, str] = {}
        """What to name as blockers: topic -> text."""
        self._whole = False
        """Whether what is held has ever been a whole set of policies, not the beginning of one."""
        self._source = "default"
        self._published = (-1, "")
        """(generation of the state, source) of `current`."""
        self._in_force: dict[str, int] = {}
        """type_url -> latest revision wholly in force."""
        self._synced = False
        """Whether this stream has brought everything that was wanted when it began."""
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="policy")
        """Everything that changes `_state` runs here, in order: policies are built off the event loop, and what a
        stream began to apply when it was cut is finished before the next one says Hello."""
        self._changed = asyncio.Event()
        """Set when the last known good on disk is not the latest any more."""
        self._rearm = asyncio.Event()
        """Set when the next expiry may be another one."""
        self._channel: grpc.aio.Channel | None = None
        self._channel_files: tuple[bytes, ...] = ()
        self._metrics = metrics
        self._probed: dict[int, int] = {}
        """Prime -> probes that the control plane has been told of."""
        self._stale = 0
        """ECH keys found stale that the control plane has been told of."""
        metrics.gauge(names.TUNNEL_KEY_AGE).watch(self._key_age)
        self._nacks = metrics.counter(names.CONFIG_NACKS)
        self._reconnects = metrics.counter(names.CONTROL_RECONNECTS)
        self._show()

    def prove_by(self, can_prove: Callable[[str], bool]) -> None:
        """How to tell whether we have a certificate for a public name; it is asked in another thread. Before `start`:
        keys that we cannot prove are refused, see PolicyState."""
        self._state.can_prove = can_prove

    @property
    def blocker(self) -> str:
        """Why the sidecar is not ready; empty: it is."""
        if self.current is not None:
            return ""
        return "; ".join(["no snapshot yet", *self._problems.values()])

    async def start(self) -> None:
        """Take over what was in force before a restart. Once, before `run`."""
        if self._kept is None:
            return
        try:
            kept = await asyncio.to_thread(self._kept.read)
        except LastKnownGoodError as error:
            self._problems["lkg"] = f"last known good refused: {error}"
            logger.error("last known good refused", extra={"reason": str(error)})
            return
        if kept is None:
            return
        refused = await self._work(self._state.restore, kept, self._around.now())
        for each in refused:
            logger.error("kept policy refused", extra={"reason": each})
        self._in_force = dict(kept.revisions)
        self._whole = True
        self._publish("lkg")

    async def run(self) -> None:
        """Stay connected until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep())
                tasks.create_task(self._expire())
                await self._stay_connected()
        finally:
            self._worker.shutdown(wait=False, cancel_futures=True)
            if self._channel is not None:
                await asyncio.shield(self._channel.close(None))

    # --- policy_stream.Recipient ---

    def welcomed(self, welcome: pb.Welcome) -> None:
        """The stream stands."""
        self.connected, self._synced = True, False
        self._problems.pop("connection", None)
        logger.info("control plane connected", extra={"server": welcome.server_id})
        self._show()

    async def take(self, delta: pb.Delta) -> pb.Ack:
        """Apply a Delta; its verdict."""
        ack: pb.Ack = await self._work(self._state.apply, delta, self._around.now())
        await self._work(self._state.tunnels)  # put together here, off the event loop
        kind = wire.name_of(delta.type_url) if delta.type_url in wire.ORDER else names.OTHER
        if ack.HasField("error_detail"):
            self._count_refusals(kind, ack)
        elif delta.last_of_type:
            self._in_force[delta.type_url] = delta.revision
        self._metrics.gauge(names.CONFIG_LAST_ACK).set(self._around.now() / 1e9, (kind,))
        self._changed.set()
        self._rearm.set()
        if self._whole:
            self._publish(self._source)
        return ack

    async def heard(self, heartbeat: pb.Heartbeat) -> None:
        """The server is alive. The first heartbeat of a stream says that everything wanted has come."""
        news = await self._work(self._state.confirm, heartbeat.in_force)
        self._in_force.update(heartbeat.in_force)
        lag: dict[Labels, float] = {
            (wire.name_of(url),): max(0, revision - self._in_force.get(url, 0))
            for url, revision in heartbeat.revisions.items()
            if url in wire.ORDER
        }
        self._metrics.gauge(names.CONFIG_REVISION_LAG).replace(lag)
        if self._synced and not news:
            return
        self._synced = self._whole = True
        self._backoff.reset()
        self._problems.pop("lkg", None)
        self._changed.set()
        self._publish("live")

    def digests(self) -> dict[str, str]:
        """type_url -> digest of what is in force."""
        return self._state.digests()

    def newly_probed(self) -> dict[int, int]:
        """Prime without a task -> how often attackers tried it since this was asked last."""
        before, self._probed = self._probed, probed_primes(self._metrics)
        return {prime: more for prime, count in self._probed.items() if (more := count - before.get(prime, 0)) > 0}

    def newly_stale(self) -> int:
        """How often a peer knew a newer ECH key than we did since this was asked last."""
        alerts = self._metrics.counter(names.ALERTS).values()
        count = sum(int(n) for (code, _), n in alerts.items() if code == SecurityEvent.ECH_KEY_STALE.value)
        before, self._stale = self._stale, count
        return max(0, count - before)

    # --- below: private ---

    def _key_age(self) -> dict[Labels, float]:
        since = self.tunnels.ech_since
        return {(): self._around.now() / 1e9 - since} if since else {}

    def _publish(self, source: str) -> None:
        """Put what is held in force, unless it is already."""
        if self._published == (self._state.generation, source):
            return
        self._published = self._state.generation, source
        self._source = source
        before, self.current = self.current, self._state.snapshot(source)
        former, self.tunnels = self.tunnels, self._state.tunnels()
        if self.tunnels is not former:
            self.on_tunnels(former, self.tunnels)
        self._problems.pop("empty", None)
        if self.current is None:
            self._problems["empty"] = "there is no Route; push one with `aegis policy push`"
        if self.current is not None:
            extra = {"revision": self.current.revision, "source": source, "routes": len(self.current.routes)}
            logger.info("policy swapped", extra=extra)
            for blocked in self.current.blocked:
                logger.error("route blocked: its policies are not there", extra={"route": blocked.name})
        elif before is not None:
            logger.error("no route is left: every exchange is refused")
        self._show()

    def _show(self) -> None:
        applied: dict[Labels, float] = {
            (wire.name_of(url), name, version): 1.0
            for url, versions in self._state.versions().items()
            for name, version in versions.items()
        }
        self._metrics.gauge(names.CONFIG_APPLIED).replace(applied)
        self._metrics.gauge(names.CONTROL_CONNECTED).set(float(self.connected))
        source = self._source if self.current is not None else "default"
        self._metrics.gauge(names.CONFIG_SOURCE).replace({(source,): 1.0})

    def _count_refusals(self, kind: str, ack: pb.Ack) -> None:
        for rejected in ack.rejected or [pb.Rejected(why=ack.error_detail)]:
            code = code_pb2.Code.Name(rejected.why.code) if rejected.why.code in code_pb2.Code.values() else "UNKNOWN"
            self._nacks.add((kind, code.lower()))
            logger.error(
                "policy refused",
                extra={"kind": kind, "policy": rejected.name, "code": code, "reason": rejected.why.message},
            )

    async def _stay_connected(self) -> None:
        while True:
            ending = await self._one_stream()
            self.connected = False
            self._show()
            self._reconnects.add((ending.reason.value,))
            if ending.within is None:
                wait = self._backoff.delay(self._around.fraction())
                self._problems["connection"] = f"control plane {self._control_plane.address}: {ending.detail}"
                logger.warning("control plane lost", extra={"reason": ending.detail, "retry_in": round(wait, 3)})
            else:
                wait = ending.within * self._around.fraction()
                logger.info("control plane left", extra={"reason": ending.detail, "retry_in": round(wait, 3)})
            await asyncio.sleep(wait)

    async def _one_stream(self) -> Ending:
        try:
            channel = await self._current_channel()
        except OSError as error:
            return Ending(Reason.CONNECTION_ERROR, f"cannot read {error.filename}: {error.strerror}")
        node = pb.Node(id=self._control_plane.node_id, build=self._control_plane.build)
        versions = await self._work(self._state.versions)
        if self._whole:
            self._publish(self._source)  # with what a former stream applied when it was cut
        types = [pb.TypeState(type_url=url, versions=held) for url, held in versions.items()]
        call = discovery_pb2_grpc.PolicyDiscoveryStub(channel).Stream()
        return await converse(call, pb.Hello(node=node, types=types), self, self._times)

    async def _current_channel(self) -> grpc.aio.Channel:
        """The one channel. gRPC's client certificate is fixed per channel, so renewed files mean a new one."""
        files = await asyncio.to_thread(_identity_files, self._control_plane.identity)
        if self._channel is not None and files == self._channel_files:
            return self._channel
        if self._channel is not None:
            await self._channel.close(None)
        credentials = grpc.ssl_channel_credentials(*files)
        self._channel = grpc.aio.secure_channel(self._control_plane.address, credentials, CHANNEL_OPTIONS)
        self._channel_files = files
        return self._channel

    async def _keep(self) -> None:
        """Write the last known good after every change; changes during a write make one more."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._kept is None or not self._whole:
                continue
            nonce = self._around.random_bytes(NONCE_BYTES)
            try:
                await asyncio.to_thread(self._kept.write, self._state.last_known_good(), nonce)
            except OSError as error:
                logger.error("last known good not written", extra={"reason": error.strerror})
                await asyncio.sleep(_WRITE_AGAIN)
                self._changed.set()

    async def _expire(self) -> None:
        """Put stricter defaults in the place of policies that were not renewed in time (rule 9)."""
        while True:
            self._rearm.clear()
            due = self._state.next_expiry()
            wait = None if due is None else min(max(0.0, (due - self._around.now()) / 1e9), _LOOK_AT_CLOCK)
            try:
                async with asyncio.timeout(wait):
                    await self._rearm.wait()
            except TimeoutError:
                expired = await self._work(self._state.expire, self._around.now())
                for kind, name in expired:
                    extra = {"kind": kind, "policy": name}
                    logger.error("policy expired: its stricter default is in force", extra=extra)
                if expired and self._whole:
                    self._publish(self._source)

    async def _work(self, change: Callable[..., Result], *arguments: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._worker, change, *arguments)


def _nobody_listens(_former: TunnelView, _present: TunnelView) -> None:
    """No tunnels are run here."""


def probed_primes(metrics: Registry) -> dict[int, int]:
    """Prime -> how often it was probed, over all routes: what ProtocolPolicy found, as it was counted."""
    found: dict[int, int] = {}
    for (_route, label), count in metrics.counter(names.POLICY_FINDINGS).values().items():
        if label.startswith(PROBED_LABEL):
            prime = int(label.removeprefix(PROBED_LABEL))
            found[prime] = found.get(prime, 0) + int(count)
    return found


def _identity_files(directory: Path) -> tuple[bytes, bytes, bytes]:
    """CA, key and certificate chain, PEM. Raises OSError."""
    return (
        (directory / "ca.crt").read_bytes(),
        (directory / "tls.key").read_bytes(),
        (directory / "tls.crt").read_bytes(),
    )
