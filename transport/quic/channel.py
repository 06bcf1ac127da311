"""A tunnel's channel over QUIC: our TLS inside aioquic, and what records are over TCP as frames on one stream.

    u16 length, 1 to 16384 | as many bytes

QUIC protects packets, and its keys cannot be exchanged for others. So the keys that need both handshakes, TLS and
Noise, are not used here: what Noise adds over QUIC is who the peers are, bound to this very connection by the exporter
that its message 3 needs. The bytes are as safe as TLS alone makes them, post-quantum key exchange included.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from transport.ech.hpke import Random
from transport.quic.engine import QuicTls
from transport.tls13.alerts import AlertDescription, PeerAlertError, TlsError
from transport.tls13.config import ClientConfig, ServerConfig
from transport.tls13.events import ApplicationData, CloseNotify, Event, HandshakeComplete

MAX_FRAME: Final = 1 << 14
"""Bytes in one frame: as in one record."""
_CRYPTO_ERROR: Final = 0x100
_HEADER: Final = 2


class QuicChannel:
    """One end of one tunnel. Implements `transport.tunnel.channel.Channel`; `transport.quic.tunnels` feeds it."""

    def __init__(self, config: ClientConfig | ServerConfig, *, random: Random, now: Callable[[], datetime]) -> None:
        """`now`: UTC, asked once for each handshake."""
        self.config: Final = config
        self.close_code = int(AlertDescription.CLOSE_NOTIFY)
        """With which the QUIC connection is to be closed: an alert, as over TCP."""
        self.wants_update = False
        """Whether the packet keys should be updated."""
        self._random = random
        self._now = now
        self._tls: QuicTls | None = None
        self._inbound = bytearray()
        self._outbound = bytearray()
        self._is_reported = False
        self._is_closed = False
        self._peer_closed = False
        self._failure: TlsError | None = None

    def make_tls(self) -> QuicTls:
        """For `transport.quic.endpoint.attach`; the last one made counts."""
        self._tls = QuicTls(self.config, random=self._random, now=self._now())
        return self._tls

    @property
    def has_failed(self) -> bool:
        """Whether `next_event` would raise."""
        return self._failure is not None or (self._tls is not None and self._tls.failure is not None)

    # From the QUIC connection

    def received(self, data: bytes, *, ended: bool) -> None:
        """More of the stream."""
        self._inbound += data
        self._peer_closed |= ended

    def closed_by_peer(self, code: int, *, by_application: bool) -> None:
        """The connection is gone; `code` is that of QUIC, or an alert of the peer's tunnel."""
        if by_application and code == AlertDescription.CLOSE_NOTIFY:
            self._peer_closed = True
        elif self._failure is None:
            alert = code if by_application else code - _CRYPTO_ERROR
            if 0 <= alert <= 0xFF:
                self._failure = PeerAlertError(alert, "the peer ended the connection")
            else:
                self._failure = TlsError(AlertDescription.INTERNAL_ERROR, "the QUIC connection broke")

    # As records have it

    def get_buffer(self) -> memoryview:
        """Nothing is received this way."""
        return memoryview(b"")

    def buffer_updated(self, count: int) -> None:
        """Nothing is received this way."""

    def next_event(self) -> Event | None:
        """As `Connection.next_event`. Raises TlsError."""
        tls = self._tls
        if tls is not None and tls.failure is not None:
            raise tls.failure
        if tls is not None and tls.complete is not None and not self._is_reported:
            self._is_reported = True
            return tls.complete
        if (frame := self._frame()) is not None:
            return ApplicationData(memoryview(frame))
        if self._failure is not None:
            raise self._failure
        return CloseNotify() if self._peer_closed else None

    def burst(self, take: Callable[[memoryview, float], None], now: float) -> int:
        """All whole frames that are here, and how many. Raises TlsError, and what `take` raises."""
        taken = 0
        while (frame := self._frame()) is not None:
            taken += 1
            take(memoryview(frame), now)
        return taken

    def data_to_send(self) -> bytes | bytearray:
        """More for the stream."""
        data, self._outbound = self._outbound, bytearray()
        return data

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Queue `data` in as many frames as it takes. Raises RuntimeError before the handshake and after the end."""
        self._check_open()
        for start in range(0, len(data), MAX_FRAME):
            piece = data[start : start + MAX_FRAME]
            self._outbound += len(piece).to_bytes(_HEADER) + piece

    def send_inner(self, plaintexts: Sequence[bytes]) -> None:
        """Queue one frame for each; the byte behind the content, which is the type of a record, is left out."""
        self._check_open()
        for plaintext in plaintexts:
            self._outbound += (len(plaintext) - 1).to_bytes(_HEADER) + plaintext[:-1]

    @property
    def handshake(self) -> HandshakeComplete | None:
        """What was negotiated, once the handshake is complete."""
        return None if self._tls is None else self._tls.complete

    def export(self, label: bytes, context: bytes, length: int) -> bytes:
        """TLS-Exporter (RFC 8446 section 7.5). Raises RuntimeError before the handshake is complete."""
        if self._tls is None:
            raise RuntimeError("the connection has not begun")
        return self._tls.export(label, context, length)

    def replace_traffic_secrets(self, *, read: bytes | None = None, write: bytes | None = None) -> None:
        """Not with QUIC: see above."""

    def update_keys(self) -> None:
        """Ask for a key update of QUIC (RFC 9001 section 6)."""
        self.wants_update = True

    def close(self) -> None:
        """Say nothing more."""
        self._is_closed = True

    def abort(self, alert: AlertDescription, why: str) -> None:
        """End with this alert; `next_event` raises it from now on."""
        self._is_closed = True
        if self._failure is None:
            self._failure, self.close_code = TlsError(alert, why), int(alert)

    # ---

    def _check_open(self) -> None:
        if self._tls is None or self._tls.complete is None or self._is_closed or self.has_failed:
            raise RuntimeError("the connection is not open for sending")

    def _frame(self) -> bytes | None:
        if len(self._inbound) < _HEADER:
            return None
        size = int.from_bytes(self._inbound[:_HEADER])
        if not 1 <= size <= MAX_FRAME:
            self.abort(AlertDescription.RECORD_OVERFLOW, "a frame has 1 to 16384 bytes")
            raise TlsError(AlertDescription.RECORD_OVERFLOW, "a frame has 1 to 16384 bytes")
        if len(self._inbound) < _HEADER + size:
            return None
        frame = bytes(self._inbound[_HEADER : _HEADER + size])
        del self._inbound[: _HEADER + size]
        return frame
