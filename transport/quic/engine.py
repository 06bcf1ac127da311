"""What aioquic's QuicConnection takes for its TLS: our handshakes, with CRYPTO frames instead of records (RFC 9001).

The names of attributes and callbacks are aioquic's. It reads and sets them, and calls `handle_message` with what the
CRYPTO frames of one packet space brought; everything we send goes into the buffer of our current space.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from aioquic._buffer import Buffer
from aioquic.tls import Alert, Direction, Epoch, State
from aioquic.tls import CipherSuite as QuicSuite

from transport.ech.hpke import Random
from transport.tls13.alerts import AlertDescription, TlsError, illegal_parameter, unexpected_message
from transport.tls13.client import ClientHandshake
from transport.tls13.config import ClientConfig, ClientOffer, ServerChoice, ServerConfig
from transport.tls13.connection import Handshake
from transport.tls13.constants import ExtensionType, HandshakeType
from transport.tls13.events import HandshakeComplete
from transport.tls13.flight import MAX_MESSAGE
from transport.tls13.key_schedule import Suite
from transport.tls13.messages import Extension, Extensions, NewSessionTicket
from transport.tls13.server import ServerHandshake

_SPACES: Final = (Epoch.INITIAL, Epoch.HANDSHAKE, Epoch.ONE_RTT)
"""In the order in which a handshake goes through them; there is no 0-RTT."""
_MAX_TICKETS: Final = 16


class QuicAlert(Alert):
    """A TlsError in aioquic's terms, which closes the connection with CRYPTO_ERROR + alert (RFC 9001 section 4.8)."""

    def __init__(self, error: TlsError) -> None:
        """`description` may be an alert that aioquic has no name for, such as ech_required."""
        super().__init__(error.why)
        self.description = error.alert  # type: ignore[assignment]  # a number is all that is made of it


class QuicTls:
    """One connection's TLS. Made anew when aioquic starts over after a Retry packet."""

    def __init__(self, config: ClientConfig | ServerConfig, *, random: Random, now: datetime) -> None:
        """`now`: UTC, for the server's certificate; a server does not look at it."""
        self._config: Final = config
        self._random: Final = random
        self._now: Final = now
        self._handshake: Handshake | None = None
        self._buffers: Mapping[Epoch, Buffer] = {}
        self._read = self._write = 0
        """Places in `_SPACES`."""
        self._partial = bytearray()
        self._tickets = 0
        self.arriving: Epoch | None = None
        """The space of the CRYPTO frame that is being handled; whoever calls `handle_message` sets it."""
        self.complete: HandshakeComplete | None = None
        """What was negotiated; for a client also: authenticated."""
        self.failure: TlsError | None = None
        """Why it failed; an EchRejectedError has the configurations to retry with."""

        # What QuicConnection sets
        self.handshake_extensions: list[tuple[int, bytes]] = []
        self.alpn_cb: Callable[[str], None] | None = None
        self.update_traffic_key_cb: Callable[[Direction, Epoch, QuicSuite, bytes], None] = lambda *_: None
        self.get_session_ticket_cb: Any = None
        self.new_session_ticket_cb: Any = None
        self.session_ticket: Any = None

        # What QuicConnection reads
        is_client = isinstance(config, ClientConfig)
        self.state = State.CLIENT_HANDSHAKE_START if is_client else State.SERVER_EXPECT_CLIENT_HELLO
        self.received_extensions: list[tuple[int, bytes]] = []
        self.alpn_negotiated: str | None = None
        self.early_data_accepted: Final = False
        self.session_resumed: Final = False
        self.legacy_session_id: Final = b""
        """A server refuses any other by itself (RFC 9001 section 8.4)."""

    @property
    def has_protection(self) -> bool:
        """Whether this is a client that has read a ServerHello: both ends have keys that nobody else has."""
        return self._read > 0 and self._handshake is not None and self._handshake.is_client

    @property
    def client_random(self) -> bytes:
        """For a log of secrets, which there is none of."""
        raise NotImplementedError("secrets are not logged")

    def export(self, label: bytes, context: bytes, length: int) -> bytes:
        """TLS-Exporter (RFC 8446 section 7.5). Raises RuntimeError before the handshake is complete."""
        if self._handshake is None or self.complete is None:
            raise RuntimeError("nothing can be exported before the handshake is complete")
        return self._handshake.export(label, context, length)

    def handle_message(self, input_data: bytes, output_buf: Mapping[Epoch, Buffer]) -> None:
        """Take what came in CRYPTO frames, in order; a client that has not begun begins. Raises QuicAlert."""
        self._buffers = output_buf
        try:
            if self._handshake is None:
                self._begin()
            if input_data:
                self._feed(input_data)
        except TlsError as error:
            self.failure = self.failure or error
            raise QuicAlert(error) from error

    # The Flight of our handshakes

    def send(self, message: bytes, *, pad_to: int = 1) -> None:  # noqa: ARG002 the signature is that of Flight
        """Into the CRYPTO stream of the current space. `pad_to` is for records; QUIC pads packets, as it likes."""
        buffer = self._buffers[_SPACES[self._write]]
        if buffer.tell() + len(message) > buffer.capacity:
            raise TlsError(AlertDescription.INTERNAL_ERROR, "the flight is longer than aioquic takes")
        buffer.push_bytes(message)

    def send_change_cipher_spec(self) -> None:
        """Nothing: QUIC has no middleboxes to please (RFC 9001 section 8.4)."""

    def expect_silence(self) -> None:
        """Raise TlsError(unexpected_message) if the peer has sent more than the message that is being handled."""
        if self._partial:
            raise unexpected_message("handshake bytes go on where they must end")

    def read_with(self, suite: Suite, secret: bytes) -> None:
        """The peer's next messages come in the next space."""
        self.expect_silence()
        self._read += 1
        self.update_traffic_key_cb(Direction.DECRYPT, _SPACES[self._read], QuicSuite(suite.id), secret)

    def write_with(self, suite: Suite, secret: bytes) -> None:
        """Our next messages go into the next space."""
        self._write += 1
        self.update_traffic_key_cb(Direction.ENCRYPT, _SPACES[self._write], QuicSuite(suite.id), secret)

    # Messages

    def _begin(self) -> None:
        if isinstance(self._config, ClientConfig):
            config = replace(self._config, shared_extensions=(*self._config.shared_extensions, *self._parameters()))
            # RFC 9001 section 8.4: "clients MUST NOT request the use of the TLS 1.3 compatibility mode".
            self._handshake = ClientHandshake(config, self, self._random, self._now, session_id=b"")
            self.state = State.CLIENT_EXPECT_SERVER_HELLO
        else:
            self._handshake = ServerHandshake(replace(self._config, choose=self._choose), self, self._random)
        self._handshake.start()

    def _parameters(self) -> Extensions:
        """Our transport parameters, as aioquic has written them."""
        return tuple(Extension(kind, data) for kind, data in self.handshake_extensions)

    def _feed(self, data: bytes) -> None:
        """RFC 9001 section 4.1.3: what comes in a space whose keys are not the current ones is an error."""
        if self.arriving is not _SPACES[self._read]:
            raise unexpected_message("handshake bytes in a packet of another encryption level")
        self._partial += data
        while len(self._partial) >= 4:
            size = 4 + int.from_bytes(self._partial[1:4], "big")
            if size > MAX_MESSAGE:
                raise illegal_parameter("a handshake message is too long")
            if len(self._partial) < size:
                return
            message = bytes(self._partial[:size])
            del self._partial[:size]
            self._take(message)

    def _take(self, message: bytes) -> None:
        if self._handshake is None:
            raise RuntimeError("a message before the beginning")
        if self.complete is not None:
            self._take_late(message, self._handshake)
            return
        complete = self._handshake.handle(message[0], message)
        if complete is not None:
            self._finish(complete, self._handshake)
        elif self._handshake.is_client and self._read:
            self.state = State.CLIENT_EXPECT_FINISHED
        elif self._read:
            self.state = State.SERVER_EXPECT_FINISHED

    def _take_late(self, message: bytes, handshake: Handshake) -> None:
        """RFC 9001 section 6: "Endpoints MUST NOT send a TLS KeyUpdate message"; tickets are parsed and forgotten."""
        self._tickets += 1
        if not handshake.is_client or message[0] != HandshakeType.NEW_SESSION_TICKET or self._tickets > _MAX_TICKETS:
            raise unexpected_message("a handshake message after the handshake")
        NewSessionTicket.parse(message[4:])

    def _finish(self, complete: HandshakeComplete, handshake: Handshake) -> None:
        if handshake.is_client:
            self._negotiated(complete.alpn, complete.extensions)
        self.complete = complete
        self.state = State.CLIENT_POST_HANDSHAKE if handshake.is_client else State.SERVER_POST_HANDSHAKE

    def _choose(self, offer: ClientOffer) -> ServerChoice:
        """RFC 9001 section 8.1; aioquic reads the transport parameters of the hello that counts, and sets its own."""
        if not isinstance(self._config, ServerConfig):
            raise RuntimeError("a client chooses nothing")
        choice = (self._config.choose or self._config.choose_by_name)(offer)
        self._negotiated(choice.alpn, offer.extensions)
        return replace(choice, extensions=(*choice.extensions, *self._parameters()))

    def _negotiated(self, protocol: bytes | None, extensions: Extensions) -> None:
        if protocol is None:
            raise TlsError(AlertDescription.NO_APPLICATION_PROTOCOL, "QUIC needs an application protocol")
        if not any(extension.type == ExtensionType.QUIC_TRANSPORT_PARAMETERS for extension in extensions):
            raise TlsError(AlertDescription.MISSING_EXTENSION, "the peer has no transport parameters")
        self.received_extensions = [(extension.type, extension.data) for extension in extensions]
        self.alpn_negotiated = protocol.decode("latin-1")
        if self.alpn_cb is not None:
            self.alpn_cb(self.alpn_negotiated)
