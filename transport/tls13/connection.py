"""One TLS connection: records to messages to the handshake, and everything after it (RFC 8446 sections 4.6, 5, 6).

Made by `client.connect` and `server.accept`; how it is driven is told in `transport.tls13`.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from transport.tls13.alerts import AlertDescription, PeerAlertError, TlsError, illegal_parameter, unexpected_message
from transport.tls13.constants import ContentType, HandshakeType
from transport.tls13.events import ApplicationData, CloseNotify, Event, HandshakeComplete
from transport.tls13.flight import RecordedFlight
from transport.tls13.key_schedule import SUITES, Suite
from transport.tls13.messages import NewSessionTicket, handshake_message, parse_key_update
from transport.tls13.record import RecordReader, RecordWriter

MAX_KEY_UPDATES: Final = 32
"""KeyUpdates and tickets of the peer without application data in between: each costs us more than the peer."""
MAX_USER_CANCELED: Final = 4
MAX_CHANGE_CIPHER_SPECS: Final = 8
"""One is what a peer sends for the sake of middleboxes (appendix D.4); a few more do no harm."""
_WARNING: Final = 1
_FATAL: Final = 2
_DATA: Final = int(ContentType.APPLICATION_DATA)


class Handshake(Protocol):
    """A client's or a server's handshake."""

    @property
    def is_client(self) -> bool:
        """Whether this is the client's."""

    def start(self) -> None:
        """Send the first flight, if it is ours."""

    def handle(self, kind: int, message: bytes) -> HandshakeComplete | None:
        """Take the peer's next message, header included. Raises TlsError."""

    def export(self, label: bytes, context: bytes, length: int) -> bytes:
        """TLS-Exporter (RFC 8446 section 7.5)."""


class Connection:
    """A TLS 1.3 connection without a socket. Not thread-safe."""

    def __init__(
        self, reader: RecordReader, writer: RecordWriter, flight: RecordedFlight, handshake: Handshake
    ) -> None:
        self._reader: Final = reader
        self._writer: Final = writer
        self._flight: Final = flight
        self._handshake: Final = handshake
        self._suite: Suite | None = None
        self._complete: HandshakeComplete | None = None
        self._failure: TlsError | None = None
        self._read_closed = False
        self._write_closed = False
        self._update_owed = False
        self._key_updates = 0
        self._user_canceled = 0
        self._hello_passed = handshake.is_client
        self._change_cipher_specs = 0
        handshake.start()

    # From the network

    def get_buffer(self) -> memoryview:
        """Where the next received bytes go. Empty only if events wait to be taken, at least one whole record."""
        return self._reader.get_buffer()

    def buffer_updated(self, count: int) -> None:
        """`count` bytes have been written to the start of what `get_buffer` returned."""
        self._reader.buffer_updated(count)

    def next_event(self) -> Event | None:
        """The next event, or None until more is received. The data of the last event becomes invalid.

        Raises TlsError when the connection fails, and at every call after that; `data_to_send` then holds our alert.
        """
        if self._failure is not None:
            self._reader.discard()
            raise self._failure
        try:
            return self._next_event()
        except TlsError as error:
            self._fail(error)
            raise

    def burst(self, take: Callable[[memoryview, float], None], now: float) -> int:
        """Hand the application data of all whole records that come next to `take`, which gets `now`, too; how many.

        What a user of much data calls before each `next_event`; the data stays valid until then.
        Raises TlsError as `next_event` does, and what `take` raises.
        """
        if self._complete is None or self._failure is not None or self._read_closed or self._flight.partial:
            return 0
        try:
            if taken := self._reader.burst(take, now):
                self._key_updates = 0
            return taken
        except TlsError as error:
            self._fail(error)
            raise

    def receive(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """All events of `data`, with data that stays valid: convenient where copies do not matter."""
        events: list[Event] = []
        view = memoryview(data)
        while view:
            buffer = self.get_buffer()
            count = min(len(buffer), len(view))
            buffer[:count] = view[:count]
            self.buffer_updated(count)
            view = view[count:]
            while (event := self.next_event()) is not None:
                if isinstance(event, ApplicationData):
                    event = ApplicationData(memoryview(bytes(event.data)))
                events.append(event)
        return events

    # To the network

    def data_to_send(self) -> bytes | bytearray:
        """What is to be written to the socket now. The caller owns it; it is never changed afterwards."""
        return self._writer.take()

    def send(self, data: bytes | bytearray | memoryview, *, pad_to: int = 1) -> None:
        """Queue application data, its last record padded to a multiple of `pad_to` bytes (section 5.4).

        Raises RuntimeError before the handshake is complete and after `close`."""
        if self._complete is None or self._write_closed or self._failure is not None:
            raise RuntimeError("the connection is not open for sending")
        if self._update_owed or self._writer.wants_update:
            self.update_keys()
        if data:
            self._writer.write(_DATA, data, multiple=pad_to)

    def send_inner(self, plaintexts: Sequence[bytes]) -> None:
        """Queue one record for each of `plaintexts`: content of 1 to 2^14 bytes, and behind it the byte 23.

        Raises RuntimeError as `send` does.
        """
        self.send(b"")
        self._writer.write_inner(plaintexts)

    def update_keys(self, *, request: bool = False) -> None:
        """Send a KeyUpdate (RFC 8446 section 4.6.3) and go on under new keys; `request` asks the peer for the same."""
        if self._complete is None or self._write_closed:
            raise RuntimeError("the connection has no application keys")
        self._update_owed = False
        self._flight.send(handshake_message(HandshakeType.KEY_UPDATE, b"\1" if request else b"\0"))
        self._writer.update()

    def close(self) -> None:
        """Queue close_notify: we send nothing more. Reading goes on."""
        if not self._write_closed and self._failure is None:
            self._write_closed = True
            self._send_alert(_WARNING, AlertDescription.CLOSE_NOTIFY)

    def abort(self, alert: AlertDescription, why: str) -> None:
        """Queue a fatal `alert` and end the connection; `next_event` raises it from now on."""
        self._fail(TlsError(alert, why))

    # Keys

    def export(self, label: bytes, context: bytes, length: int) -> bytes:
        """TLS-Exporter (RFC 8446 section 7.5). Raises RuntimeError before the handshake is complete."""
        if self._complete is None:
            raise RuntimeError("nothing can be exported before the handshake is complete")
        return self._handshake.export(label, context, length)

    def replace_traffic_secrets(self, *, read: bytes | None = None, write: bytes | None = None) -> None:
        """Go on under these secrets, at least 32 bytes each, from the next record on, in the suite of the handshake.

        The peer must change at the very same record. Raises RuntimeError before the handshake is complete.
        """
        if self._complete is None or self._suite is None:
            raise RuntimeError("the handshake is not complete")
        if min(len(secret) for secret in (read, write, bytes(32)) if secret is not None) < 32:
            raise ValueError("a traffic secret has at least 32 bytes")
        if read is not None:
            self._flight.read_with(self._suite, read)
        if write is not None:
            self._flight.write_with(self._suite, write)

    @property
    def handshake(self) -> HandshakeComplete | None:
        """What was negotiated, once the handshake is complete."""
        return self._complete

    # What records and messages do

    def _next_event(self) -> Event | None:
        flight = self._flight
        while not self._read_closed:
            if flight.partial and (message := flight.take()) is not None:
                if (event := self._take_message(*message)) is not None:
                    return event
                continue
            if (record := self._reader.next_record()) is None:
                return None
            kind, content = record
            if kind == ContentType.HANDSHAKE:
                flight.feed(content)
            elif flight.partial:  # section 5.1: "there MUST NOT be any other records between them"
                raise unexpected_message("a record between the parts of a handshake message")
            elif kind == _DATA and self._complete is not None:
                if content:
                    self._key_updates = 0
                    return ApplicationData(content)
            elif kind == ContentType.ALERT:
                if (closed := self._take_alert(bytes(content))) is not None:
                    return closed
            elif kind == ContentType.CHANGE_CIPHER_SPEC:
                self._drop_change_cipher_spec(bytes(content))
            else:
                raise unexpected_message("a record of a type that has no place here")
        self._reader.discard()  # section 6.1: data after close_notify MUST be ignored
        return None

    def _take_message(self, kind: int, message: bytes) -> HandshakeComplete | None:
        if self._complete is not None:
            self._take_late_message(kind, message)
            return None
        self._hello_passed = True
        if (complete := self._handshake.handle(kind, message)) is not None:
            self._complete = complete
            self._suite = SUITES[complete.cipher_suite]
        return complete

    def _take_late_message(self, kind: int, message: bytes) -> None:
        """Section 4.6. A request for a client certificate is unexpected: we never offer post_handshake_auth."""
        self._key_updates += 1
        if self._key_updates > MAX_KEY_UPDATES:
            raise unexpected_message("too many messages between data")
        if kind == HandshakeType.KEY_UPDATE:
            self._update_owed |= parse_key_update(message[4:])
            self._flight.expect_silence()
            self._reader.update()
        elif kind == HandshakeType.NEW_SESSION_TICKET and self._handshake.is_client:
            NewSessionTicket.parse(message[4:])
        else:
            raise unexpected_message("a handshake message after the handshake")

    def _take_alert(self, content: bytes) -> CloseNotify | None:
        """Section 6: all alerts but two are fatal whatever level they carry, and TLS 1.3 has no other warnings."""
        if len(content) != 2:
            raise TlsError(AlertDescription.DECODE_ERROR, "an alert is not two bytes")
        level, description = content
        if level not in (_WARNING, _FATAL):
            raise illegal_parameter("an alert of an unknown level")
        if description == AlertDescription.CLOSE_NOTIFY and self._complete is not None:
            self._read_closed = True
            return CloseNotify()
        if description == AlertDescription.USER_CANCELED and level == _WARNING:
            self._user_canceled += 1
            if self._user_canceled > MAX_USER_CANCELED:
                raise unexpected_message("too many user_canceled alerts")
            return None
        if level == _WARNING and description != AlertDescription.CLOSE_NOTIFY:
            raise TlsError(AlertDescription.DECODE_ERROR, "a warning that TLS 1.3 does not have")
        raise PeerAlertError(description, "the peer ended the connection")

    def _drop_change_cipher_spec(self, content: bytes) -> None:
        """Section 5: exactly one byte 0x01, after the first ClientHello and before the peer's Finished."""
        self._change_cipher_specs += 1
        if not self._hello_passed or self._complete is not None or content != b"\1":
            raise unexpected_message("a ChangeCipherSpec where none may be")
        if self._change_cipher_specs > MAX_CHANGE_CIPHER_SPECS:
            raise unexpected_message("too many ChangeCipherSpecs")

    def _fail(self, error: TlsError) -> None:
        if self._failure is not None:
            return
        self._failure = error
        self._reader.discard()
        if not isinstance(error, PeerAlertError) and not self._write_closed:
            self._send_alert(_FATAL, error.alert)
        self._write_closed = True

    def _send_alert(self, level: int, description: int) -> None:
        self._writer.write(ContentType.ALERT, bytes((level, description)))
