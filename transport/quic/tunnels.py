"""Tunnels over QUIC: a `Link` as over TCP, whose socket is stream 0 of a QUIC connection.

The mux's credit bounds what lies in the buffers of the stream; QUIC's own flow control stands behind it. Addresses are
proved by a Retry packet before anything is computed for a hello (RFC 9000 section 8.1.2).
"""

import asyncio
import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import QuicServer
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, QuicEvent, StreamDataReceived

from transport.quic.channel import QuicChannel
from transport.quic.endpoint import attach, quic_configuration
from transport.tcp.link import Link
from transport.tcp.server import TunnelServer
from transport.tls13.config import ClientConfig, ServerConfig
from transport.tunnel.channel import Channel
from transport.tunnel.prologue import Carrier

DATAGRAM: Final = 1350
"""Bytes of UDP payload. Fits what overlay networks leave of 1500; aioquic does not look for more."""
STREAM: Final = 0
"""The first one that a client opens, in both directions."""
_UNEXPECTED: Final = 10
"""unexpected_message, for a peer that uses another stream."""


def utc() -> datetime:
    """For certificates."""
    return datetime.now(UTC)  # noqa: TID251 the rim


def client_channel(config: ClientConfig) -> QuicChannel:
    """What `Dialling` is made over."""
    return QuicChannel(config, random=os.urandom, now=utc)


def server_channel(config: ServerConfig) -> QuicChannel:
    """What `Accepting` is made over."""
    return QuicChannel(config, random=os.urandom, now=utc)


async def dial(link: Link, channel: Channel, host: str, port: int) -> None:
    """Have `link`, made over `channel`, talk to this address. Raises OSError; the rest the link's watcher hears."""
    if not isinstance(channel, QuicChannel):
        raise TypeError("this link was not made for QUIC")
    loop = asyncio.get_running_loop()
    family, _, _, _, address = (await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM))[0]
    connection = QuicConnection(configuration=quic_configuration(channel.config, max_datagram_size=DATAGRAM))
    attach(connection, channel.make_tls)
    local = "::" if family == socket.AF_INET6 else "0.0.0.0"  # noqa: S104 an ephemeral port, as TCP takes one
    transport, carried = await loop.create_datagram_endpoint(
        lambda: Carried(connection, channel, link), local_addr=(local, 0), family=family
    )
    carried.at_end = transport.close
    carried.begin(address)
    carried.connect(address)


class Listener:
    """Takes tunnels over UDP until it is closed."""

    def __init__(self, server: QuicServer, transport: asyncio.DatagramTransport) -> None:
        self._server = server
        self.port: Final = int(transport.get_extra_info("sockname")[1])

    def close(self) -> None:
        """End everything now. Tunnels that stand are ended by the TunnelServer, before."""
        self._server.close()


async def listen(
    server: TunnelServer, certificates: ServerConfig, host: str, port: int, *, reuse_port: bool = False
) -> Listener:
    """Take tunnels over UDP at this address, too. Raises OSError.

    `certificates` are for aioquic, which will not listen without; each connection asks `server` for its own.
    """
    configuration = quic_configuration(certificates, max_datagram_size=DATAGRAM)

    def create(connection: QuicConnection, **_: Any) -> QuicConnectionProtocol:
        made: list[QuicChannel] = []

        def over(config: ServerConfig) -> Channel:
            made.append(server_channel(config))
            return made[0]

        link = server.accept_over(Carrier.QUIC, over)
        if link is None:
            return Shut(connection)
        attach(connection, made[0].make_tls)
        return Carried(connection, made[0], link)

    loop = asyncio.get_running_loop()
    transport, listener = await loop.create_datagram_endpoint(
        lambda: QuicServer(configuration=configuration, create_protocol=create, retry=True),
        local_addr=(host, port),
        reuse_port=reuse_port or None,
    )
    return Listener(listener, transport)


class Shut(QuicConnectionProtocol):
    """Lets a datagram pass without a word, and is forgotten."""

    def datagram_received(self, data: bytes | str, addr: Any) -> None:  # noqa: ARG002 nothing is looked at
        self._connection_terminated_handler()


class Carried(QuicConnectionProtocol):
    """Between a QUIC connection and the link on it."""

    def __init__(self, connection: QuicConnection, channel: QuicChannel, link: Link) -> None:
        super().__init__(connection)
        self.at_end: Callable[[], None] = _nothing
        """Called when the connection is over, or our last word said: a dialler's port is of no further use."""
        self._channel = channel
        self._link = link
        self._pipe = Pipe(self, channel)
        self._has_begun = False
        self._was_told = False

    def begin(self, address: Any) -> None:
        """The other end's address is known."""
        if not self._has_begun:
            self._has_begun = True
            self._pipe.address = address
            self._link.connection_made(self._pipe)

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        self.begin(addr)
        super().datagram_received(data, addr)
        if self._channel.has_failed and not self._was_told:
            self._was_told = True
            self._tell()

    def quic_event_received(self, event: QuicEvent) -> None:
        match event:
            case HandshakeCompleted():
                self._tell()
            case StreamDataReceived(stream_id=stream) if stream != STREAM:
                self._quic.close(error_code=_UNEXPECTED)
            case StreamDataReceived(data=data, end_stream=ended):
                self._channel.received(data, ended=ended)
                self._tell()
            case ConnectionTerminated(error_code=code, frame_type=frame_type):
                self._channel.closed_by_peer(code, by_application=frame_type is None)
                self._tell()
                self._link.connection_lost(None)
                self.at_end()
            case _:
                pass

    def _tell(self) -> None:
        """Have the link look at its channel."""
        self._link.buffer_updated(0)
        if self._channel.wants_update:
            self._channel.wants_update = False
            self._quic.request_key_update()
        self._transmit_soon()


class Pipe(asyncio.Transport):
    """Stream 0 as a Link sees its socket."""

    def __init__(self, carried: Carried, channel: QuicChannel) -> None:
        super().__init__()
        self.address: Any = None
        self._carried = carried
        self._channel = channel
        self._is_closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if data and not self._is_closing:
            self._carried._quic.send_stream_data(STREAM, bytes(data))
            self._carried._transmit_soon()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The mux's credit is the limit."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.address if name == "peername" else default

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        """What was written goes first, as far as the congestion window lets it."""
        if not self._is_closing:
            self._is_closing = True
            self._carried.transmit()
            self._carried.close(error_code=self._channel.close_code)
            self._carried.at_end()

    def abort(self) -> None:
        self.close()


def _nothing() -> None:
    pass
