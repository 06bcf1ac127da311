"""The end that is dialled: answers Noise message 1 in EncryptedExtensions, and trusts nobody before message 3.

Until message 3 the peer is anybody who knows our static public key. What it costs us until then is bounded by the
caller (deadline, rates, connections at a time); what it gets is our certificate and a Noise message, no data. A name
that we do not serve gets the same flight, and the same refusal after message 3, as a peer who is not allowed to.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from transport.decisions import TunnelMode
from transport.ech.hpke import Random
from transport.noise.errors import NoiseError
from transport.noise.package import responder
from transport.noise.suite import KEY_LENGTH, Handshake, StaticKey
from transport.tls13 import server
from transport.tls13.alerts import AlertDescription, PeerAlertError, TlsError
from transport.tls13.config import POST_QUANTUM_GROUPS, ClientOffer, ServerChoice, ServerConfig
from transport.tls13.constants import ExtensionType
from transport.tls13.events import ApplicationData, EchStatus, HandshakeComplete
from transport.tls13.extensions import parse_code_points, parse_supported_versions
from transport.tls13.messages import Extension, Extensions
from transport.tls13.record import BufferPool
from transport.tunnel.binding import Established, psk, record_secrets
from transport.tunnel.channel import Channel
from transport.tunnel.dialling import NOISE, OUTER_ALPN
from transport.tunnel.errors import Refusal, RefusedError
from transport.tunnel.greeting import Greeting, encode_reply, parse_service
from transport.tunnel.prologue import ALPN, Carrier, Prologue

Admit = Callable[[bytes, str], str | None]
"""(proved static key, service) -> whose key it is, or None: unknown, revoked, or not allowed for the service."""


@dataclass(frozen=True, slots=True)
class Reception:
    """Who we are, and whom we let in. Immutable; a change of keys makes another one for the next connections."""

    tls: ServerConfig
    """Certificates and ECH keys; `choose` is ours."""
    statics: tuple[StaticKey, ...]
    """The current one first; each costs an unknown peer two Diffie-Hellmans, so there are few."""
    admit: Admit


class Accepting:
    """One attempt. Drive `connection` as `transport.tls13` tells, but ask `advance` instead of `next_event`."""

    def __init__(
        self,
        reception: Reception,
        *,
        random: Random,
        buffers: BufferPool | None = None,
        is_replay: Callable[[bytes], bool] | None = None,
        carrier: Carrier = Carrier.TCP,
        over: Callable[[ServerConfig], Channel] | None = None,
    ) -> None:
        """`is_replay`: whether this Noise ephemeral, 32 bytes, was seen before.

        `over` makes the channel of another `carrier` than TCP; `random` and `buffers` are not used then.
        """
        self._reception: Final = reception
        self._noise: Handshake | None = None
        self._is_replay: Final = is_replay
        self._refused: Refusal | None = None
        """Why Noise ended the TLS handshake."""
        self._greeting: Greeting | None = None
        self._done: HandshakeComplete | None = None
        self._carrier: Final = carrier
        config = replace(reception.tls, choose=self._choose)
        self.connection: Final[Channel] = (
            server.accept(config, random=random, buffers=buffers) if over is None else over(config)
        )

    def advance(self) -> Established | None:
        """The tunnel once it stands, and then the peer's streams may follow in what was received already.

        Raises RefusedError; the connection may then have an alert to send, and is over.
        """
        try:
            while (event := self.connection.next_event()) is not None:
                match event:
                    case HandshakeComplete():
                        self._finished(event)
                    case ApplicationData(data=message):
                        return self._third(bytes(message))
                    case _:
                        raise RefusedError(Refusal.NOT_A_TUNNEL, "the peer left before Noise was done")
        except TlsError as error:
            raise RefusedError(self._refusal(error), str(error)) from error
        except NoiseError as error:
            self.connection.abort(AlertDescription.DECRYPT_ERROR, str(error))
            raise RefusedError(Refusal.NOISE, str(error)) from error
        return None

    def _choose(self, offer: ClientOffer) -> ServerChoice:
        """Noise messages 1 and 2, inside the TLS handshake."""
        tls = self._reception.tls
        credential = tls.credential_for(offer.server_name)
        body = _body(offer.extensions, ExtensionType.MESH_NOISE)
        if body is None or ALPN not in offer.alpn:
            # A browser, a probe, or a client whose ECH we cannot open: it sees a web server and gets no further.
            return ServerChoice(credential, self._decoy(offer))
        try:
            self._greeting = greeting = Greeting.parse(body)
            self._look_for_replay(greeting)
            self._noise, _ = self._first(self._view(offer, greeting).encode(), greeting.message)
        except NoiseError as error:
            self._refused = self._refused or Refusal.NOISE
            raise TlsError(AlertDescription.HANDSHAKE_FAILURE, str(error)) from error
        reply = Extension(ExtensionType.MESH_NOISE, encode_reply(self._noise.write_message()))
        return ServerChoice(credential, ALPN, (reply,))

    def _decoy(self, offer: ClientOffer) -> bytes | None:
        """QUIC has no handshake without a protocol, and a client with an old ECH key must get to the end of it."""
        is_browser = self._carrier is Carrier.QUIC and OUTER_ALPN[Carrier.QUIC][0] in offer.alpn
        return OUTER_ALPN[Carrier.QUIC][0] if is_browser else None

    def _view(self, offer: ClientOffer, greeting: Greeting) -> Prologue:
        return Prologue(
            offer.ech_config if offer.ech is EchStatus.ACCEPTED else None,
            parse_supported_versions(_body(offer.extensions, ExtensionType.SUPPORTED_VERSIONS) or b""),
            parse_code_points(_body(offer.extensions, ExtensionType.SUPPORTED_GROUPS) or b""),
            greeting.min_pq,
            offer.server_name or "",
            greeting.epoch,
            self._carrier,
        )

    def _first(self, prologue: bytes, message: bytes) -> tuple[Handshake, bytes]:
        """Read message 1 with the static key that it was written to. Raises NoiseError when it is none of ours."""
        for static in self._reception.statics:
            noise = responder(NOISE, prologue, static)
            try:
                return noise, noise.read_message(message)
            except NoiseError:
                continue
        raise NoiseError("the first Noise message is for no static key of ours, or of another prologue")

    def _look_for_replay(self, greeting: Greeting) -> None:
        """Before anything is computed for it. It could get no further than our flight, but that costs us 0.8 ms."""
        if self._is_replay is not None and self._is_replay(greeting.message[:KEY_LENGTH]):
            self._refused = Refusal.REPLAY
            raise NoiseError("this first flight was seen before")

    def _refusal(self, error: TlsError) -> Refusal:
        if self._refused is not None:
            return self._refused
        if isinstance(error, PeerAlertError) and error.alert == AlertDescription.ECH_REQUIRED:
            return Refusal.STALE_ECH
        return Refusal.TLS

    def _finished(self, done: HandshakeComplete) -> None:
        if self._noise is None or self._greeting is None:
            if done.ech is EchStatus.REJECTED:
                return  # it has our certificate and our retry configurations, and says ech_required next
            raise self._no_tunnel()
        if self._greeting.min_pq and done.group not in POST_QUANTUM_GROUPS:
            self.connection.abort(AlertDescription.INSUFFICIENT_SECURITY, "the key exchange is not post-quantum")
            raise RefusedError(Refusal.MIN_PQ, "the key exchange is not post-quantum")
        self._noise.set_psk(psk(self.connection))
        self._done = done

    def _third(self, message: bytes) -> Established:
        """Who is it, and may it? Whatever follows in the same segment is under the new keys already."""
        noise, done, greeting = self._noise, self._done, self._greeting
        if noise is None or done is None or greeting is None:
            raise self._no_tunnel()
        service = parse_service(noise.read_message(message))
        static = noise.remote_static
        keys = noise.split()
        write, read = record_secrets(self.connection, keys)
        self.connection.replace_traffic_secrets(read=read, write=write)
        has_ech = done.ech is EchStatus.ACCEPTED
        identity = self._reception.admit(static, service) if static is not None else None
        if static is None or identity is None or (has_ech and service != done.server_name):
            self.connection.abort(AlertDescription.ACCESS_DENIED, "this peer is not admitted")
            raise RefusedError(Refusal.NOT_ADMITTED, "a peer proved its key, but is not admitted to the service")
        return Established(
            TunnelMode.ECH if has_ech else TunnelMode.NO_ECH,
            service,
            static,
            identity,
            done.group,
            done.cipher_suite,
            greeting.epoch,
            keys.handshake_hash,
        )

    def _no_tunnel(self) -> RefusedError:
        self.connection.close()
        return RefusedError(Refusal.NOT_A_TUNNEL, "nobody asked for a tunnel")


def _body(extensions: Extensions, kind: int) -> bytes | None:
    return next((extension.data for extension in extensions if extension.type == kind), None)
