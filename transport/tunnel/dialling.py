"""The end that dials: TLS with the first Noise messages inside, then message 3 and data in one flight.

    ClientHello(inner: service, 0xff77 = Noise 1)   ─►
                                                    ◄─  ..., EncryptedExtensions(0xff77 = Noise 2), ..., Finished
    Finished, record(Noise 3) ║ records of streams  ─►
                                                    ◄─ ║ records of streams
                                                       ║ = record keys of `binding`

Data needs no more round trips than with plain TLS. Nothing here falls back: an error says what happened (`outcome`),
fallback.py says what follows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Final

from transport.decisions import TunnelMode
from transport.ech.config import EchConfig, EchConfigError, choose_config, parse_config_list
from transport.ech.hpke import Random
from transport.fallback import Outcome
from transport.noise.errors import NoiseError
from transport.noise.package import initiator
from transport.noise.suite import StaticKey, Suite
from transport.tls13 import client
from transport.tls13.alerts import AlertDescription, EchRejectedError, EchUnprovedError, PeerAlertError, TlsError
from transport.tls13.certificates import Trust
from transport.tls13.config import DEFAULT_GROUPS, POST_QUANTUM_GROUPS, ClientConfig
from transport.tls13.constants import TLS13, ExtensionType
from transport.tls13.events import EchStatus, HandshakeComplete
from transport.tls13.messages import Extension
from transport.tls13.record import BufferPool
from transport.tunnel.binding import Established, psk, record_secrets
from transport.tunnel.channel import Channel
from transport.tunnel.errors import HandshakeError, RejectedError
from transport.tunnel.greeting import Greeting, encode_service, parse_reply
from transport.tunnel.prologue import ALPN, Carrier, Prologue

NOISE: Final = Suite()
"""Noise_XKpsk3_25519_AESGCM_SHA256."""
OUTER_ALPN: Final[Mapping[Carrier, tuple[bytes, ...]]] = MappingProxyType(
    {Carrier.TCP: (b"h2", b"http/1.1"), Carrier.QUIC: (b"h3",)}
)
"""What the outer hello asks for: what a web browser would."""
_UNAUTHENTIC: Final = frozenset(
    (
        AlertDescription.BAD_RECORD_MAC,
        AlertDescription.BAD_CERTIFICATE,
        AlertDescription.UNSUPPORTED_CERTIFICATE,
        AlertDescription.CERTIFICATE_REVOKED,
        AlertDescription.CERTIFICATE_EXPIRED,
        AlertDescription.CERTIFICATE_UNKNOWN,
        AlertDescription.UNKNOWN_CA,
        AlertDescription.DECRYPT_ERROR,
    )
)


@dataclass(frozen=True, slots=True)
class Plan:
    """Whom to reach, and how."""

    service: str
    """The name in the inner hello, or inside Noise; never on the wire."""
    public_name: str
    """The name on the wire."""
    trust: Trust
    static: StaticKey
    """Who we are."""
    identity: str
    """Whom `remote_static` belongs to: a SPIFFE ID."""
    remote_static: bytes
    """Whom we expect: 32 bytes, from the control plane, never from the wire."""
    ech: EchConfig | None = field(default=None, repr=False)
    """None: the tunnel without ECH."""
    min_pq: bool = True
    epoch: int = 0
    """Of the policy that made this plan."""


class Dialling:
    """One attempt. Drive `connection` as `transport.tls13` tells, but ask `advance` instead of `next_event`."""

    def __init__(
        self,
        plan: Plan,
        *,
        random: Random,
        now: datetime,
        buffers: BufferPool | None = None,
        carrier: Carrier = Carrier.TCP,
        over: Callable[[ClientConfig], Channel] | None = None,
    ) -> None:
        """`now`: UTC, for certificates. The first flight is ready. Raises ValueError for a plan that cannot be.

        `over` makes the channel of another `carrier` than TCP; `random`, `now` and `buffers` are not used then.
        """
        groups = POST_QUANTUM_GROUPS if plan.min_pq else DEFAULT_GROUPS
        view = Prologue(plan.ech, (TLS13,), groups, plan.min_pq, plan.service, plan.epoch, carrier)
        self._plan: Final = plan
        self._noise = initiator(NOISE, view.encode(), plan.static, plan.remote_static)
        greeting = Greeting(plan.min_pq, plan.epoch, self._noise.write_message())
        config = ClientConfig(
            plan.service if plan.ech is not None else plan.public_name,
            plan.trust,
            ech=plan.ech,
            alpn=(ALPN,),
            outer_alpn=OUTER_ALPN[carrier],
            groups=groups,
            extensions=(Extension(ExtensionType.MESH_NOISE, greeting.encode()),),
        )
        self.connection: Final[Channel] = (
            client.connect(config, random=random, now=now, buffers=buffers) if over is None else over(config)
        )

    def advance(self) -> Established | None:
        """The tunnel once it stands, and then the peer's streams may follow in what was received already.

        Raises HandshakeError; the connection may then have an alert to send, and is over.
        """
        try:
            event = self.connection.next_event()
            if event is None:
                return None
            if not isinstance(event, HandshakeComplete):
                raise self._failed(Outcome.RESET, "the server ended the connection before the handshake")
            return self._bind(event)
        except TlsError as error:
            raise self._explained(error) from error
        except NoiseError as error:
            raise self._failed(Outcome.NOISE_AUTHENTICATION, str(error)) from error

    def _bind(self, done: HandshakeComplete) -> Established:
        plan = self._plan
        if plan.ech is not None and done.ech is not EchStatus.ACCEPTED:
            raise self._failed(Outcome.CONFIRMATION, "the handshake ended without ECH")
        if done.alpn != ALPN:
            raise self._failed(Outcome.NOISE_AUTHENTICATION, "the server does not speak mesh/1")
        if plan.min_pq and done.group not in POST_QUANTUM_GROUPS:
            raise self._failed(Outcome.MIN_PQ, "the key exchange is not post-quantum")
        reply = next((each.data for each in done.extensions if each.type == ExtensionType.MESH_NOISE), b"")
        self._noise.read_message(parse_reply(reply))
        self._noise.set_psk(psk(self.connection))
        self.connection.send(self._noise.write_message(encode_service(plan.service)))
        keys = self._noise.split()
        write, read = record_secrets(self.connection, keys)
        self.connection.replace_traffic_secrets(read=read, write=write)
        return Established(
            TunnelMode.NO_ECH if plan.ech is None else TunnelMode.ECH,
            plan.service,
            plan.remote_static,
            plan.identity,
            done.group,
            done.cipher_suite,
            plan.epoch,
            keys.handshake_hash,
        )

    def _failed(self, outcome: Outcome, message: str) -> HandshakeError:
        self.connection.abort(AlertDescription.HANDSHAKE_FAILURE, message)
        return HandshakeError(outcome, message)

    def _explained(self, error: TlsError) -> HandshakeError:
        if isinstance(error, EchRejectedError):
            return RejectedError(_usable(error.retry_configs))
        if isinstance(error, EchUnprovedError):
            return HandshakeError(Outcome.REJECTED_UNAUTHENTICATED, str(error))
        if isinstance(error, PeerAlertError):
            return HandshakeError(Outcome.ALERT, str(error))
        if error.alert in _UNAUTHENTIC:
            return HandshakeError(Outcome.TLS_AUTHENTICATION, str(error))
        if error.alert == AlertDescription.ILLEGAL_PARAMETER and self._plan.ech is not None:
            return HandshakeError(Outcome.CONFIRMATION, str(error))
        return HandshakeError(Outcome.RESET, str(error))


def _usable(retry_configs: bytes | None) -> bytes | None:
    """None as well for a list with nothing in it that we can use: the server has turned off what we know."""
    try:
        found = choose_config(parse_config_list(retry_configs)) if retry_configs is not None else None
    except EchConfigError:
        return None
    return None if found is None else retry_configs
