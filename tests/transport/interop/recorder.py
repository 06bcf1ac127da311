"""A relay between client and server that keeps every byte: what somebody on the path sees."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from transport.tls13.constants import ContentType, ExtensionType, HandshakeType
from transport.tls13.messages import ClientHello, ServerHello


@dataclass
class Recording:
    """One connection."""

    sent: bytearray = field(default_factory=bytearray)
    """By the client."""
    received: bytearray = field(default_factory=bytearray)

    @property
    def client_bodies(self) -> list[bytes]:
        """The ClientHellos as they were sent, without their headers."""
        return [body for kind, body in _messages(bytes(self.sent)) if kind == HandshakeType.CLIENT_HELLO]

    @property
    def client_hellos(self) -> list[ClientHello]:
        return [ClientHello.parse(body) for body in self.client_bodies]

    @property
    def server_hellos(self) -> list[ServerHello]:
        bodies = _messages(bytes(self.received))
        return [ServerHello.parse(body) for kind, body in bodies if kind == HandshakeType.SERVER_HELLO]

    @property
    def group(self) -> int:
        """The group that the ServerHello chose."""
        extension = self.server_hellos[-1].extension(ExtensionType.KEY_SHARE)
        assert extension is not None
        return int.from_bytes(extension.data[:2])


class Recorder:
    """Listens on `port` and hands everything on."""

    def __init__(self, listener: socket.socket, backend: int) -> None:
        self.port: int = listener.getsockname()[1]
        self.recordings: list[Recording] = []
        self._listener = listener
        self._backend = backend
        self._threads: list[threading.Thread] = []

    def run(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            recording = Recording()
            self.recordings.append(recording)
            thread = threading.Thread(target=_relay, args=(client, self._backend, recording))
            thread.start()
            self._threads.append(thread)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(30)


@contextmanager
def recording(backend: int) -> Iterator[Recorder]:
    """A relay to 127.0.0.1:`backend` on a port of its own."""
    listener = socket.create_server(("127.0.0.1", 0))
    recorder = Recorder(listener, backend)
    accepting = threading.Thread(target=recorder.run)
    accepting.start()
    try:
        yield recorder
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(30)
        recorder.join()


def _relay(client: socket.socket, backend: int, recording: Recording) -> None:
    with client, socket.create_connection(("127.0.0.1", backend), timeout=10) as server:
        for each in (client, server):
            each.settimeout(20)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(target=_pump, args=(server, client, recording.received))
        back.start()
        _pump(client, server, recording.sent)
        back.join(30)


def _pump(source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            kept += data
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
    with suppress(OSError):
        source.shutdown(socket.SHUT_RD)


def _messages(stream: bytes) -> list[tuple[int, bytes]]:
    """Type and body of the handshake messages in the clear, before the first protected record."""
    at, handshake = 0, b""
    while at + 5 <= len(stream) and stream[at] != ContentType.APPLICATION_DATA:
        length = int.from_bytes(stream[at + 3 : at + 5])
        if stream[at] == ContentType.HANDSHAKE:
            handshake += stream[at + 5 : at + 5 + length]
        at += 5 + length
    found = []
    while len(handshake) >= 4:
        end = 4 + int.from_bytes(handshake[1:4])
        found.append((handshake[0], handshake[4:end]))
        handshake = handshake[end:]
    return found
