"""Our engine over blocking sockets: the least that drives it, so that a failure is the engine's."""

import json
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.transport.interop.lab import PUBLIC, SECRET, Chain, Lab, first_key
from tests.transport.interop.scenarios import Ech, Outcome, Running, Scenario, Seen, cells
from transport.tls13.alerts import EchRejectedError, TlsError
from transport.tls13.certificates import Credential, Trust
from transport.tls13.client import connect
from transport.tls13.config import ClientConfig, ServerConfig
from transport.tls13.connection import Connection
from transport.tls13.events import ApplicationData, CloseNotify, EchStatus, HandshakeComplete
from transport.tls13.server import accept

EXPORTER: Final = b"EXPORTER-interop"
REQUEST: Final = b"GET / HTTP/1.0\r\n\r\n"


class Driver:
    """Moves bytes between a socket and a connection."""

    def __init__(self, sock: socket.socket, connection: Connection) -> None:
        self._sock = sock
        self.connection = connection
        self.handshake: HandshakeComplete | None = None
        self.received = b""
        self.is_open = True

    def flush(self) -> None:
        if data := self.connection.data_to_send():
            self._sock.sendall(data)

    def step(self) -> None:
        """Receive once. Raises TlsError after its alert has been sent."""
        self.flush()
        count = self._sock.recv_into(self.connection.get_buffer())
        if not count:
            self.is_open = False
            return
        self.connection.buffer_updated(count)
        try:
            self._take_events()
        finally:
            self.flush()

    def _take_events(self) -> None:
        while (event := self.connection.next_event()) is not None:
            match event:
                case HandshakeComplete():
                    self.handshake = event
                case ApplicationData(data=data):
                    self.received += data
                case CloseNotify():
                    self.is_open = False


class OwnClient:
    name = "own"
    cells = cells()
    checks_inner_name = False
    recovers = False
    tells_retry = True

    def fetch(self, lab: Lab, scenario: Scenario, port: int) -> Outcome:
        ech = {Ech.REAL: lab.key.config, Ech.STALE: lab.stale.config}.get(scenario.ech)
        config = ClientConfig(
            server_name=PUBLIC if scenario.ech is Ech.GREASE else SECRET,
            trust=Trust([lab.root]),
            ech=ech,
            grease_ech=scenario.ech is Ech.GREASE,
            groups=scenario.client_groups,
        )
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
            driver = Driver(sock, connect(config, random=os.urandom, now=datetime.now(UTC)))  # noqa: TID251 as the peers do
            try:
                while driver.handshake is None and driver.is_open:
                    driver.step()
                driver.connection.send(REQUEST)
                while driver.is_open:
                    driver.step()
            except EchRejectedError as error:
                return Outcome(succeeded=False, accepted=False, retry_key=first_key(error.retry_configs or b""))
            except TlsError as error:
                return Outcome(succeeded=False, text=str(error))
        assert driver.handshake is not None
        return Outcome(
            succeeded=bool(driver.received),
            accepted=driver.handshake.ech is EchStatus.ACCEPTED,
            exported=driver.connection.export(EXPORTER, b"", 32),
            text=repr(driver.received),
        )


class OwnServer:
    name = "own"
    cells = cells()

    @contextmanager
    def serve(self, lab: Lab, scenario: Scenario, chains: Sequence[Chain]) -> Iterator[Running]:
        config = ServerConfig(
            credentials=tuple(credential(chain) for chain in chains),
            alpn=(b"mesh/1", b"http/1.1"),
            groups=scenario.server_groups,
            ech_keys=(lab.key,),
        )
        with socket.create_server(("127.0.0.1", 0)) as listener:
            running = Running(listener.getsockname()[1], seen=[])
            assert running.seen is not None
            serving = threading.Thread(target=serve, args=(listener, config, running.seen))
            serving.start()
            try:
                yield running
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                serving.join(30)


def credential(chain: Chain) -> Credential:
    """The certificate and key as the engine takes them."""
    key = chain.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Credential.from_pem(chain.certificate.public_bytes(Encoding.PEM), key)


def serve(listener: socket.socket, config: ServerConfig, seen: list[Seen]) -> None:
    """Answer one connection after the other until the listener is shut down."""
    while True:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        with sock, suppress(TlsError, OSError):
            sock.settimeout(10)
            _answer(Driver(sock, accept(config, random=os.urandom)), seen)


def _answer(driver: Driver, seen: list[Seen]) -> None:
    while driver.handshake is None and driver.is_open:
        driver.step()
    if driver.handshake is None:
        return
    handshake, connection = driver.handshake, driver.connection
    is_accepted = handshake.ech is EchStatus.ACCEPTED
    seen.append(Seen(is_accepted, handshake.server_name or "", connection.export(EXPORTER, b"", 32)))
    while driver.is_open and b"\r\n\r\n" not in driver.received:
        driver.step()
    body = json.dumps({"accepted": is_accepted, "name": handshake.server_name, "group": handshake.group})
    connection.send(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + body.encode())
    connection.close()
    driver.flush()
