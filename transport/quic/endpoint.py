"""Where our engine is put into aioquic's connections: `create_protocol` of its `connect` and `serve`."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from aioquic._buffer import Buffer
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection, QuicConnectionError, QuicReceiveContext
from aioquic.quic.packet import QuicFrameType
from aioquic.tls import Epoch
from cryptography import x509

from transport.ech.hpke import Random
from transport.quic.engine import QuicTls
from transport.tls13.config import ClientConfig, ServerConfig
from transport.tls13.messages import Certificate

FRAME_HANDLERS: Final = "_QuicConnection__frame_handlers"
"""Where aioquic keeps what handles each type of frame."""


def quic_configuration(tls: ClientConfig | ServerConfig, **parameters: Any) -> QuicConfiguration:
    """A QuicConfiguration for `tls`; `parameters` are its own fields, all but those about certificates and names.

    Raises ValueError for `tls` without an application protocol, which QUIC cannot do without (RFC 9001 section 8.1).
    """
    protocols = [protocol.decode("ascii") for protocol in tls.alpn]
    if not protocols and not (isinstance(tls, ServerConfig) and tls.choose is not None):
        raise ValueError("QUIC needs an application protocol")
    if isinstance(tls, ClientConfig):
        return QuicConfiguration(is_client=True, alpn_protocols=protocols, server_name=tls.server_name, **parameters)
    # aioquic will not make a server without a certificate, and never looks at this one.
    leaf = Certificate.parse(tls.credentials[0].message).entries[0].data
    return QuicConfiguration(
        is_client=False,
        alpn_protocols=protocols,
        certificate=x509.load_der_x509_certificate(leaf),
        private_key=tls.credentials[0].key,
        **parameters,
    )


def with_tls(
    tls: ClientConfig | ServerConfig,
    *,
    random: Random,
    now: Callable[[], datetime],
    protocol: Callable[..., QuicConnectionProtocol] = QuicConnectionProtocol,
) -> Callable[..., QuicConnectionProtocol]:
    """For `create_protocol`: a `protocol` over a connection whose TLS is ours."""

    def create(connection: QuicConnection, **arguments: Any) -> QuicConnectionProtocol:
        attach(connection, lambda: QuicTls(tls, random=random, now=now()))
        return protocol(connection, **arguments)

    return create


def attach(connection: QuicConnection, make: Callable[[], QuicTls]) -> None:
    """Have `connection`, which has not begun, use what `make` returns instead of aioquic's TLS.

    aioquic makes its TLS when a connection begins, and again after a Retry packet. We let it, take over the callbacks
    and transport parameters that it has set, and drop it before it was given a byte.
    """
    initialize = connection._initialize

    def initialize_with_ours(peer_cid: bytes) -> None:
        initialize(peer_cid)
        theirs, ours = connection.tls, make()
        ours.handshake_extensions = list(theirs.handshake_extensions)
        ours.alpn_cb = theirs.alpn_cb
        ours.update_traffic_key_cb = theirs.update_traffic_key_cb
        connection.tls = ours  # type: ignore[assignment]  # the contract test holds the two alike

    connection._initialize = initialize_with_ours  # type: ignore[method-assign]  # called by name on the instance
    handlers = getattr(connection, FRAME_HANDLERS)
    handle_crypto, spaces = handlers[QuicFrameType.CRYPTO]

    def handle_crypto_in_its_space(context: QuicReceiveContext, frame_type: int, buffer: Buffer) -> None:
        tls = tls_of(connection)
        tls.arriving = context.epoch
        try:
            handle_crypto(context, frame_type, buffer)
        except QuicConnectionError:
            if tls.has_protection:
                # aioquic would tell the reason in an Initial packet as well, which anybody on the path can open: that
                # ECH was offered for real, and rejected. RFC 9000 section 10.2.3: a client whose server has Handshake
                # keys, as it must to have sent ServerHello, sends it under those.
                connection._discard_epoch(Epoch.INITIAL)
            raise

    handlers[QuicFrameType.CRYPTO] = (handle_crypto_in_its_space, spaces)


def tls_of(connection: QuicConnection | QuicConnectionProtocol) -> QuicTls:
    """Our engine in a connection: `complete`, `failure`, `export`. Raises TypeError for a connection without it."""
    inner = connection if isinstance(connection, QuicConnection) else connection._quic
    tls: object = inner.tls
    if not isinstance(tls, QuicTls):
        raise TypeError("this QUIC connection has the TLS of aioquic")
    return tls
