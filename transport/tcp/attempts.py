"""From "a tunnel to this peer" to a tunnel that stands: mode, endpoint, attempt, and what follows when it fails.

This module carries out what rollout.py, fallback.py, breaker.py and preference.py say, and decides nothing itself.
Plaintext is not among the things it can do.
"""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol

from transport.breaker import Breaker
from transport.decisions import Decision, Reason, SecurityEvent, TunnelMode
from transport.ech.config import EchConfig, EchConfigError, choose_config, parse_config_list
from transport.fallback import Action, Attempt, Counts, Outcome, Step, after
from transport.mux.limits import Limits
from transport.noise.suite import StaticKey
from transport.peers import Carrier, Endpoint, Peer, PeerDirectory, SpiffeId
from transport.preference import HandshakeTimes, Option, in_order
from transport.rollout import Rollout, Switches, choose
from transport.tcp.link import Link
from transport.tcp.meter import Meter, Role
from transport.tls13.certificates import Trust
from transport.tls13.config import ClientConfig
from transport.tls13.record import BufferPool
from transport.tunnel import prologue
from transport.tunnel.channel import Channel
from transport.tunnel.dialling import Dialling, Plan
from transport.tunnel.errors import End, HandshakeError, RejectedError, TunnelError, TunnelLostError
from transport.tunnel.session import Times

ATTEMPT_WITHIN: Final = 5.0
"""Seconds for connection and handshake."""
MAX_TRIES: Final = 4
"""Attempts in one mode, over all endpoints, until whoever asks is told."""
BACKOFF: Final = 0.05
"""Seconds before the second attempt; doubled for each further one."""


_NO_KEY: Final = "the ECH configuration cannot be encrypted to"


class NoTunnelError(TunnelError):
    """There is no tunnel, and nothing was sent another way. `decision` says why, in words that are metric labels."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(f"no tunnel: {decision.reason.value}")
        self.decision = decision


@dataclass(frozen=True, slots=True)
class Mesh:
    """What decides how a peer is reached, at one moment. Immutable; a push makes another."""

    spiffe_id: SpiffeId
    """Who we are..."""
    static: StaticKey
    """... and prove to be."""
    directory: PeerDirectory
    public_name: str
    trust: Trust
    """Authorities for the certificates of services and of the public name."""
    ech_configs: bytes | None = field(default=None, repr=False)
    """ECHConfigList of the active key; None: none was ever received."""
    rollout: Rollout = field(default_factory=Rollout)
    switches: Switches = field(default_factory=Switches)
    epoch: int = 0
    """Grows with every policy."""


class Datagrams(Protocol):
    """What carries tunnels to endpoints `quic://`: the module transport.quic.tunnels, where the extra is installed."""

    def client_channel(self, config: ClientConfig, /) -> Channel:
        """What a `Dialling` is made over."""

    async def dial(self, link: Link, channel: Channel, host: str, port: int, /) -> None:
        """Have `link` talk to this address. Raises OSError."""


OnEvent = Callable[[SecurityEvent, str], None]
"""(event, name of the peer) -> whoever guards the mesh hears of it."""


class Attempts:
    """Dials one peer, one attempt at a time, and remembers how it went. Implements `Watcher` for its links."""

    def __init__(
        self,
        name: str,
        *,
        meter: Meter,
        buffers: BufferPool,
        on_event: OnEvent,
        times: Times | None = None,
        limits: Limits | None = None,
        datagrams: Datagrams | None = None,
    ) -> None:
        """Without `datagrams` endpoints `quic://` are passed over."""
        self._name = name
        self._datagrams = datagrams
        self._meter = meter
        self._buffers = buffers
        self._on_event = on_event
        self._times = times
        self._limits = limits
        self._handshakes = HandshakeTimes()
        self._breaker = Breaker()
        """Of the peer: authentication and rejections, which no other endpoint would cure."""
        self._breakers: dict[Endpoint, Breaker] = {}
        """Of the endpoints that the peer has now."""
        self._waiting: dict[Link, asyncio.Future[Link]] = {}
        self._endpoints: dict[Link, Endpoint] = {}
        """Where each link that is not over goes to."""

    async def dial(self, mesh: Mesh) -> Link:
        """A tunnel that stands; raises NoTunnelError. At most MAX_TRIES attempts in a mode, each of five seconds."""
        peer = mesh.directory.peers.get(self._name)
        statics = mesh.directory.responder_statics(peer) if peer is not None else ()
        if peer is None:
            raise self._refused(Reason.UNKNOWN_PEER)
        if not statics:
            raise self._refused(Reason.REVOKED)
        self._breakers = {each: breaker for each, breaker in self._breakers.items() if each in peer.endpoints}
        decision = choose(peer.mode, mesh.rollout, mesh.switches, mesh.spiffe_id, peer.service)
        self._tell(decision)
        attempt, configs, tries = Attempt(decision.mode), mesh.ech_configs, 0
        endpoint = self._endpoint(peer)
        while True:
            try:
                ech = _config(configs) if attempt.mode is TunnelMode.ECH else None
                # After an alert the peer may know us by its other static: a rotation reaches not everybody at once.
                plan = self._plan(mesh, peer, statics[tries % len(statics)], ech)
                return await self._attempt(endpoint, plan)
            except HandshakeError as error:
                step = after(error.outcome, peer.mode, attempt)
                self._count(step, endpoint)
                match step.action:
                    case Action.FAIL:
                        raise NoTunnelError(step.decision) from error
                    case Action.RETRY_SAME_MODE:
                        tries += 1
                        if tries >= MAX_TRIES:
                            raise self._refused(step.decision.reason) from error
                        await asyncio.sleep(BACKOFF * 2 ** (tries - 1))
                        endpoint = self._endpoint(peer)
                    case Action.RETRY_WITH_CONFIGS:
                        configs = error.retry_configs if isinstance(error, RejectedError) else None
                        attempt = Attempt(TunnelMode.ECH, with_retry_configs=True)
                    case Action.RETRY_WITHOUT_ECH:
                        attempt = Attempt(TunnelMode.NO_ECH)

    # ---

    def _endpoint(self, peer: Peer) -> Endpoint:
        """Where to try next. Raises NoTunnelError when breakers shut all there is."""
        now = asyncio.get_running_loop().time()
        is_open = {Carrier.TCP: True, Carrier.QUIC: self._datagrams is not None}
        options = [Option(endpoint) for endpoint in peer.endpoints if is_open[endpoint.carrier]]
        closed = [each for each in options if self._breaker_of(each.endpoint).retry_at(now) <= now]
        order = in_order(closed, self._handshakes, lambda _: True, now)
        for endpoint in order:
            if self._breaker.allow(now) and self._breaker_of(endpoint).allow(now):
                return endpoint
        raise self._refused(Reason.BREAKER_OPEN)

    async def _attempt(self, endpoint: Endpoint, plan: Plan) -> Link:
        loop = asyncio.get_running_loop()
        began = loop.time()
        datagrams = self._datagrams if endpoint.carrier is Carrier.QUIC else None
        dialling = self._dialling(plan, datagrams)
        link = Link(dialling, self, loop, deadline=ATTEMPT_WITHIN, times=self._times, limits=self._limits)
        waiting: asyncio.Future[Link] = loop.create_future()
        self._waiting[link] = waiting
        self._endpoints[link] = endpoint
        try:
            async with asyncio.timeout(ATTEMPT_WITHIN):
                if datagrams is None:
                    await loop.create_connection(lambda: link, endpoint.host, endpoint.port)
                else:
                    await datagrams.dial(link, dialling.connection, endpoint.host, endpoint.port)
                found = await waiting
        except TimeoutError:
            raise self._failed(link, Outcome.TIMEOUT, "no tunnel in time; a NetworkPolicy may block the port") from None
        except OSError as error:
            raise self._failed(link, Outcome.RESET, error.strerror or "the peer cannot be reached") from error
        except UnicodeError as error:  # a label that is empty or too long
            raise self._failed(link, Outcome.RESET, "the endpoint's host is no name") from error
        except ValueError as error:  # over QUIC the hello is made only now
            raise self._failed(link, Outcome.CONFIG_UNUSABLE, _NO_KEY) from error
        except asyncio.CancelledError:
            del self._waiting[link]  # nobody waits, who could be told
            link.close()
            raise
        finally:
            self._waiting.pop(link, None)
        self._handshakes.observe(endpoint, loop.time() - began, loop.time())
        self._breaker_of(endpoint).succeeded()
        return found

    def _dialling(self, plan: Plan, datagrams: Datagrams | None) -> Dialling:
        """The handshake, its first flight ready. Raises HandshakeError if there can be none."""
        try:
            return Dialling(
                plan,
                random=os.urandom,
                now=datetime.now(UTC),  # noqa: TID251 the rim
                buffers=self._buffers,
                carrier=prologue.Carrier.TCP if datagrams is None else prologue.Carrier.QUIC,
                over=None if datagrams is None else datagrams.client_channel,
            )
        except ValueError as error:
            if plan.ech is None:
                raise
            # Its public key may come from a server: of the right length, and no point that a secret can be agreed with.
            raise HandshakeError(Outcome.CONFIG_UNUSABLE, _NO_KEY) from error

    def _failed(self, link: Link, outcome: Outcome, message: str) -> HandshakeError:
        error = HandshakeError(outcome, message)
        self._waiting.pop(link, None)
        link.give_up(error)
        return error

    def _plan(self, mesh: Mesh, peer: Peer, remote: bytes, ech: EchConfig | None) -> Plan:
        return Plan(
            peer.service,
            mesh.public_name,
            mesh.trust,
            mesh.static,
            peer.spiffe_id,
            remote,
            ech=ech,
            min_pq=peer.min_pq,
            epoch=mesh.epoch,
        )

    def _breaker_of(self, endpoint: Endpoint) -> Breaker:
        return self._breakers.setdefault(endpoint, Breaker())

    def _count(self, step: Step, endpoint: Endpoint) -> None:
        now = asyncio.get_running_loop().time()
        if step.counts is Counts.TRANSPORT:
            self._handshakes.observe_failure(endpoint, now)
            self._breaker_of(endpoint).failed(step.counts, now)
            self._breaker.inconclusive()
        else:
            self._breaker.failed(step.counts, now)
            self._breaker_of(endpoint).inconclusive()
        self._tell(step.decision)

    def _tell(self, decision: Decision) -> None:
        self._meter.decided(*decision.labels)
        if decision.event is not None:
            self._on_event(decision.event, self._name)

    def _refused(self, reason: Reason) -> NoTunnelError:
        decision = Decision(TunnelMode.REFUSED, reason)
        self._tell(decision)
        return NoTunnelError(decision)

    # --- Watcher ---

    def established(self, link: Link) -> None:
        """It stands."""
        self._meter.handshake(Role.DIALLER, link.standing.established.mode, link.loop.time() - link.opened_at)
        self._meter.opened(Role.DIALLER)
        waiting = self._waiting.get(link)
        if waiting is not None and not waiting.done():
            waiting.set_result(link)

    def confirmed(self, link: Link) -> None:  # noqa: ARG002 whichever it is
        """And the peer admitted us."""
        self._breaker.succeeded()

    def doubted(self, link: Link) -> None:
        """Nobody answers: the next tunnel goes to another endpoint, if there is one, in the mode that policy says."""
        endpoint, now = self._endpoints[link], link.loop.time()
        self._handshakes.observe_failure(endpoint, now)
        self._breaker_of(endpoint).failed(Counts.TRANSPORT, now)

    def failed(self, link: Link, error: TunnelError) -> None:
        """It does not."""
        self._endpoints.pop(link, None)
        failure = _as_handshake_error(error)
        self._meter.handshake(Role.DIALLER, failure.outcome.name.lower(), link.loop.time() - link.opened_at)
        waiting = self._waiting.get(link)
        if waiting is not None and not waiting.done():
            waiting.set_exception(failure)

    def ended(self, link: Link, error: TunnelLostError) -> None:
        """It does not stand any more."""
        self._endpoints.pop(link, None)
        self._meter.ended(Role.DIALLER, error.end)
        if error.end is End.NOT_ADMITTED:
            self._breaker.failed(Counts.AUTHENTICATION, link.loop.time())
            self._on_event(SecurityEvent.AUTHENTICATION_FAILED, self._name)


def _as_handshake_error(error: TunnelError) -> HandshakeError:
    match error:
        case HandshakeError():
            return error
        case TunnelLostError(end=End.SILENT):
            return HandshakeError(Outcome.TIMEOUT, str(error))
        case _:
            return HandshakeError(Outcome.RESET, str(error))


def _config(configs: bytes | None) -> EchConfig:
    """What to encrypt to. Raises HandshakeError, before anything is sent."""
    if configs is None:
        raise HandshakeError(Outcome.NO_CONFIG, "no ECHConfigList was ever received")
    try:
        config = choose_config(parse_config_list(configs))
    except EchConfigError:
        config = None
    if config is None:
        raise HandshakeError(Outcome.CONFIG_UNUSABLE, "the ECHConfigList offers nothing that we can use")
    return config
