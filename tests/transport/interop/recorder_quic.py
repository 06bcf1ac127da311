"""A relay for QUIC that keeps every datagram, and opens the Initial packets as anybody on the path can (RFC 9001)."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from aioquic._buffer import Buffer, BufferReadError
from aioquic.quic.crypto import CryptoError, CryptoPair
from aioquic.quic.packet import QuicFrameType, QuicPacketType, pull_quic_header

from transport.tls13.constants import ExtensionType, HandshakeType
from transport.tls13.messages import ClientHello, ServerHello

ACKS = (QuicFrameType.ACK, QuicFrameType.ACK_ECN)


@dataclass
class QuicRecording:
    """One connection, by the address of the client."""

    sent_datagrams: list[bytes] = field(default_factory=list)
    received_datagrams: list[bytes] = field(default_factory=list)

    @property
    def sent(self) -> bytes:
        """What the client sent: as it is on the wire, and what of it can be opened."""
        return b"".join(self.sent_datagrams) + self._opened(by_client=True)

    @property
    def received(self) -> bytes:
        return b"".join(self.received_datagrams) + self._opened(by_client=False)

    @property
    def client_hellos(self) -> list[ClientHello]:
        messages = _messages(self._opened(by_client=True))
        return [ClientHello.parse(body) for kind, body in messages if kind == HandshakeType.CLIENT_HELLO]

    @property
    def group(self) -> int:
        """The group that the ServerHello chose."""
        messages = _messages(self._opened(by_client=False))
        hellos = [ServerHello.parse(body) for kind, body in messages if kind == HandshakeType.SERVER_HELLO]
        extension = hellos[-1].extension(ExtensionType.KEY_SHARE)
        assert extension is not None
        return int.from_bytes(extension.data[:2])

    def _opened(self, *, by_client: bool) -> bytes:
        """The CRYPTO stream of the Initial packets."""
        first = pull_quic_header(Buffer(data=self.sent_datagrams[0]), 8)
        assert first.version is not None
        keys = CryptoPair()
        keys.setup_initial(cid=first.destination_cid, is_client=not by_client, version=first.version)
        pieces: dict[int, bytes] = {}
        for datagram in self.sent_datagrams if by_client else self.received_datagrams:
            for plain in _initial_payloads(datagram, keys):
                pieces |= _crypto_frames(plain)
        stream = b""
        for offset, data in sorted(pieces.items()):
            if offset <= len(stream):
                stream = stream[:offset] + data + stream[offset + len(data) :]
        return stream


class QuicRecorder:
    """Listens on `port` and hands everything on, each client by a socket of its own."""

    def __init__(self, backend: int) -> None:
        self._front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._front.bind(("127.0.0.1", 0))
        self._backend = ("127.0.0.1", backend)
        self._sockets: dict[object, socket.socket] = {}
        self._threads: list[threading.Thread] = []
        self._by_address: dict[object, QuicRecording] = {}
        self.is_closed = False

    @property
    def port(self) -> int:
        port: int = self._front.getsockname()[1]
        return port

    @property
    def recordings(self) -> list[QuicRecording]:
        return list(self._by_address.values())

    def run(self) -> None:
        while not self.is_closed:
            with suppress(TimeoutError, ConnectionError):
                self._front.settimeout(0.1)
                data, address = self._front.recvfrom(65536)
                if address not in self._sockets:
                    self._open(address)
                self._by_address[address].sent_datagrams.append(data)
                self._sockets[address].sendto(data, self._backend)

    def close(self) -> None:
        self.is_closed = True
        for thread in self._threads:
            thread.join(10)
        for each in (self._front, *self._sockets.values()):
            each.close()

    def _open(self, address: tuple[str, int]) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(0.1)
        sock.connect(self._backend)
        recording = QuicRecording()
        self._sockets[address], self._by_address[address] = sock, recording
        thread = threading.Thread(target=self._back, args=(sock, address, recording))
        thread.start()
        self._threads.append(thread)

    def _back(self, sock: socket.socket, address: tuple[str, int], recording: QuicRecording) -> None:
        while not self.is_closed:
            with suppress(TimeoutError, ConnectionError):
                data = sock.recv(65536)
                recording.received_datagrams.append(data)
                self._front.sendto(data, address)


@contextmanager
def recording_quic(backend: int) -> Iterator[QuicRecorder]:
    """A relay to 127.0.0.1:`backend` on a port of its own."""
    recorder = QuicRecorder(backend)
    running = threading.Thread(target=recorder.run)
    running.start()
    try:
        yield recorder
    finally:
        recorder.is_closed = True
        running.join(10)
        recorder.close()


def _initial_payloads(datagram: bytes, keys: CryptoPair) -> Iterator[bytes]:
    """What is in the Initial packets of a datagram, of which several may stand in one."""
    start = 0
    while start < len(datagram) and datagram[start] & 0x80:
        buffer = Buffer(data=datagram[start:])
        try:
            header = pull_quic_header(buffer, 8)
        except ValueError:
            return
        packet = datagram[start : start + header.packet_length]
        start += header.packet_length
        if header.packet_type is QuicPacketType.INITIAL:
            with suppress(CryptoError):
                _, payload, _ = keys.decrypt_packet(packet, buffer.tell(), 0)
                yield payload


def _crypto_frames(payload: bytes) -> dict[int, bytes]:
    buffer, found = Buffer(data=payload), {}
    with suppress(BufferReadError):
        while not buffer.eof():
            kind = buffer.pull_uint_var()
            if kind in ACKS:
                _skip_ack(buffer, kind)
            elif kind == QuicFrameType.CRYPTO:
                offset = buffer.pull_uint_var()
                found[offset] = buffer.pull_bytes(buffer.pull_uint_var())
            elif kind not in (QuicFrameType.PADDING, QuicFrameType.PING):
                break
    return found


def _skip_ack(buffer: Buffer, kind: int) -> None:
    buffer.pull_uint_var(), buffer.pull_uint_var()
    ranges = buffer.pull_uint_var()
    for _ in range(1 + 2 * ranges + (3 if kind == QuicFrameType.ACK_ECN else 0)):
        buffer.pull_uint_var()


def _messages(stream: bytes) -> list[tuple[int, bytes]]:
    found = []
    while len(stream) >= 4 and len(stream) >= 4 + int.from_bytes(stream[1:4]):
        end = 4 + int.from_bytes(stream[1:4])
        found.append((stream[0], stream[4:end]))
        stream = stream[end:]
    return found
