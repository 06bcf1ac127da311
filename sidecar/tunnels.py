"""The sidecar's two ends of tunnels: streams to the peers that upstreams name, and streams that others open to us.

What decides is pushed (`TunnelView`): who we are, who others are, with which keys, and in which mode. Each new tunnel
asks for the newest; a key that was revoked ends the tunnels that were made with it at once.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from observability.metrics import Registry
from policies.model import Alert, Severity
from settings.key_files import KeyFileError
from sidecar.inbound import InboundStreams
from sidecar.tunnel_keys import TunnelView
from sidecar.upstream import UpstreamConnection
from sidecar.upstream_errors import NoTunnelToPeerError
from transport.decisions import Decision, PeerMode, Reason, SecurityEvent, TunnelMode
from transport.ech.config import EchConfig, EchKey, parse_config_list
from transport.keyring import NoiseStatic
from transport.noise.suite import StaticKey
from transport.peers import SpiffeId
from transport.quic.optional import datagrams
from transport.replays import ReplayCache
from transport.rollout import Switches
from transport.tcp.attempts import Attempts, Mesh, NoTunnelError
from transport.tcp.dialler import Tunnels
from transport.tcp.meter import Meter
from transport.tcp.server import BUFFER, StreamInfo, TunnelServer
from transport.threats import Report, ThreatLimits, Watch
from transport.tls13.certificates import Credential, Trust
from transport.tls13.config import ServerConfig
from transport.tls13.record import BufferPool
from transport.tunnel.accepting import Reception
from transport.tunnel.binding import Established
from transport.tunnel.prologue import ALPN

logger = logging.getLogger(__name__)

FILES_EVERY: Final = 10.0
"""Seconds between two looks whether certificates were renewed."""


_ORDINARY: Final = frozenset(
    (SecurityEvent.ECH_KEY_STALE, SecurityEvent.REPLAYED_FIRST_FLIGHT, SecurityEvent.HANDSHAKE_FLOOD)
)
"""Events that the Internet makes by itself; everything else is somebody's doing, or something that is misconfigured."""


class Closable(Protocol):
    """What listens."""

    def close(self) -> None:
        """Stop."""


class TunnelFiles:
    """Certificate, key and authorities of tunnels: read again when they were renewed."""

    def __init__(self, directory: Path, now: Callable[[], float]) -> None:
        """`directory`: `tls.crt`, `tls.key`, `ca.crt`. Raises KeyFileError. `now`: seconds, never goes back."""
        self._directory = directory
        self._now = now
        self._stamp = self._looked_at()
        self.credential, self.trust = self._read()
        self._look_at = now() + FILES_EVERY

    def refresh(self) -> None:
        """Take up renewed files. Those that cannot be used leave the former ones in force, and are told of."""
        if self._now() < self._look_at:
            return
        self._look_at = self._now() + FILES_EVERY
        try:
            stamp = self._looked_at()
            if stamp != self._stamp:
                self.credential, self.trust = self._read()
                self._stamp = stamp
        except KeyFileError as error:
            logger.error("renewed tunnel certificate unusable", extra={"reason": str(error)})

    def _looked_at(self) -> tuple[int, ...]:
        try:
            return tuple((self._directory / name).stat().st_mtime_ns for name in ("tls.crt", "tls.key", "ca.crt"))
        except OSError as error:
            raise KeyFileError(f"{error.filename}: {error.strerror}") from None

    def _read(self) -> tuple[Credential, Trust]:
        try:
            chain, key, roots = ((self._directory / name).read_bytes() for name in ("tls.crt", "tls.key", "ca.crt"))
            return Credential.from_pem(chain, key), Trust.from_pem(roots)
        except OSError as error:
            raise KeyFileError(f"{error.filename}: {error.strerror}") from None
        except (ValueError, TypeError):  # not PEM, another's key, an encrypted key
            raise KeyFileError(
                f"{self._directory}: expected tls.crt with the unencrypted tls.key of it, and ca.crt"
            ) from None


class SidecarTunnels:
    """Both ends. Owned by one event loop."""

    def __init__(
        self,
        view: Callable[[], TunnelView],
        files: TunnelFiles,
        switches: Switches,
        registry: Registry,
        alert: Callable[[Alert], None],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._view = view
        self._files = files
        self._switches = switches
        self._meter = Meter(registry)
        self._alert = alert
        self._buffers = BufferPool(BUFFER, keep=2)
        self._epoch = 0
        self._mesh_of: tuple[TunnelView, Trust, Mesh] | None = None
        self._reception_of: tuple[TunnelView, Credential, Reception] | None = None
        self._tunnels = Tunnels(self._mesh, tasks, self._attempts)
        self._server: TunnelServer | None = None
        self._datagrams: Closable | None = None
        """What takes tunnels over QUIC."""

    @property
    def blocker(self) -> str:
        """Why we cannot take tunnels although policy says that we serve a peer; empty: we can."""
        self._files.refresh()
        view = self._view()
        wrong = self._is_not_for(view) if self._server is not None and view.served else ""
        return f"tunnel_identity: the certificate is not for {wrong}" if wrong else ""

    # --- out ---

    async def connect(self, connection: UpstreamConnection, peer: str, within: float) -> None:
        """Give `connection` a stream to a peer. Raises NoTunnelToPeerError; nothing is ever sent another way."""
        try:
            await self._tunnels.create_connection(lambda: connection, peer, deadline=within)
        except NoTunnelError as error:
            raise NoTunnelToPeerError(f"peer {peer}: {error.decision.reason.value}") from error

    # --- in ---

    async def listen(
        self, inbound: InboundStreams, host: str, port: int, *, shared_port: bool, quic: bool = False
    ) -> int:
        """Take tunnels; the port, which was chosen when 0 was given; `quic`: over UDP, too. Raises OSError."""
        watch = Watch(ThreatLimits(), ReplayCache(os.urandom(32)), self._report)
        self._server = TunnelServer(
            self._reception, lambda stream: self._serve(inbound, watch, stream), meter=self._meter, guard=watch
        )
        port = await self._server.listen(host, port, reuse_port=shared_port)
        self._look_at_certificate()  # keys may have been there before we listened: the last known good
        if quic:
            from transport.quic import tunnels as over_quic  # the extra, and most sidecars take none

            self._datagrams = await over_quic.listen(self._server, self._tls(), host, port, reuse_port=shared_port)
        return port

    async def drain(self, within: float) -> None:
        """Take no new tunnels and streams, and let those that stand end in peace, for `within` seconds."""
        if self._server is not None:
            await self._server.drain(within)

    def close(self) -> None:
        """End everything now."""
        self._tunnels.close()
        if self._server is not None:
            self._server.close()
        if self._datagrams is not None:
            self._datagrams.close()

    # --- policy ---

    def changed(self, before: TunnelView, after: TunnelView) -> None:
        """There is another view: who may not come any more is cut off, what only became old ends in peace."""
        closed = self._tunnels.revoke(after.directory.revoked - before.directory.revoked)
        if self._server is not None:
            closed += self._server.review(partial(_may_stay, after))
        if closed:
            logger.warning("tunnels closed: their keys or rights were taken away", extra={"tunnels": closed})
        if (before.static, before.directory.peers) != (after.static, after.directory.peers):
            self._tunnels.renew()
        self._epoch += 1
        self._look_at_certificate()

    def can_prove(self, public_name: str) -> bool:
        """Whether our certificate is for this name. From any thread."""
        return self._files.credential.covers(public_name)

    def counts(self) -> dict[str, object]:
        """Tunnels that stand: dialled, by peer, and accepted."""
        return {
            "dialled": self._tunnels.counts(),
            "accepted": self._server.tunnels if self._server is not None else 0,
        }

    # --- below: private ---

    def _mesh(self) -> Mesh:
        """What the next attempt to dial goes by. Raises NoTunnelError."""
        view = self._view()
        self._files.refresh()
        if view.keys is None or not view.public_name:  # no Peer document names us, or there is no TunnelPolicy
            raise NoTunnelError(Decision(TunnelMode.REFUSED, Reason.NO_KEYS))
        if self._mesh_of is None or self._mesh_of[:2] != (view, self._files.trust):
            mesh = Mesh(
                view.keys.spiffe_id,
                _static(view.keys.static),
                view.directory,
                view.public_name,
                self._files.trust,
                view.ech_configs or None,
                view.rollout,
                self._switches,
                self._epoch,
            )
            self._mesh_of = view, self._files.trust, mesh
        return self._mesh_of[2]

    def _attempts(self, peer: str) -> Attempts:
        return Attempts(peer, meter=self._meter, buffers=self._buffers, on_event=self._raised, datagrams=datagrams())

    def _reception(self) -> Reception:
        view = self._view()
        self._files.refresh()
        if self._reception_of is None or self._reception_of[:2] != (view, self._files.credential):
            self._reception_of = view, self._files.credential, self._made_reception(view)
        return self._reception_of[2]

    def _made_reception(self, view: TunnelView) -> Reception:
        keys = view.keys
        ring = keys.ech if keys is not None else None
        offered = ring.offered(self.can_prove) if ring is not None else None
        # Whoever can prove no public name cannot reject, either: it has no ECH to speak of, and is not ready.
        tls = self._tls(ring.accepted, (offered.config,)) if ring is not None and offered is not None else self._tls()
        statics = keys.statics if keys is not None else ()
        return Reception(tls, tuple(map(_static, statics)), _admission(view))

    def _tls(self, ech_keys: tuple[EchKey, ...] = (), offered: tuple[EchConfig, ...] = ()) -> ServerConfig:
        return ServerConfig((self._files.credential,), alpn=(ALPN,), ech_keys=ech_keys, ech_retry=offered)

    def _look_at_certificate(self) -> None:
        """Without a certificate for the public name no client would believe which key to use instead of a stale one."""
        if blocker := self.blocker:
            logger.error("tunnel certificate does not fit", extra={"reason": blocker})

    def _is_not_for(self, view: TunnelView) -> str:
        """A name that we serve and that our certificate is not for; empty: none."""
        configs = parse_config_list(view.ech_configs) if view.ech_configs else []
        wanted = [*(config.public_name for config in configs), *(peer.service for peer in view.served)]
        return next((name for name in wanted if not self._files.credential.covers(name)), "")

    def _serve(self, inbound: InboundStreams, watch: Watch, stream: StreamInfo) -> asyncio.Protocol | None:
        view = self._view()
        if view.keys is None:
            return None
        peer = view.directory.admitted(SpiffeId(stream.peer), view.keys.spiffe_id, stream.service)
        if peer is None:
            return None
        if stream.mode is TunnelMode.NO_ECH and peer.mode is PeerMode.REQUIRED:
            # Its kill switch, or somebody talked it out of ECH. The tunnel is as safe; ECH is what policy demands.
            watch.observed(SecurityEvent.DOWNGRADE_ATTEMPT, stream.peer, asyncio.get_running_loop().time())
        return inbound.stream(stream.peer, peer.name)

    def _report(self, report: Report) -> None:
        self._alert(Alert(report.event.value, _severity(report.event), f"{report.source or 'all'} x{report.count}"))

    def _raised(self, event: SecurityEvent, peer: str) -> None:
        self._alert(Alert(event.value, _severity(event), peer))


def _severity(event: SecurityEvent) -> Severity:
    return Severity.WARNING if event in _ORDINARY else Severity.CRITICAL


def _may_stay(view: TunnelView, tunnel: Established) -> bool:
    """A static that was merely replaced may stay until the tunnel is old; one that was revoked may not."""
    if view.keys is None or tunnel.peer_static in view.directory.revoked:
        return False
    return view.directory.admitted(SpiffeId(tunnel.identity), view.keys.spiffe_id, tunnel.service) is not None


def _admission(view: TunnelView) -> Callable[[bytes, str], str | None]:
    def admit(static: bytes, service: str) -> str | None:
        who = view.directory.owner_of(static)
        if who is None or view.keys is None:
            return None
        return who if view.directory.admitted(who, view.keys.spiffe_id, service) is not None else None

    return admit


def _static(key: NoiseStatic) -> StaticKey:
    return StaticKey(X25519PrivateKey.from_private_bytes(key.private), key.public)
