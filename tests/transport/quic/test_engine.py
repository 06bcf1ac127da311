"""aioquic with our TLS: in memory, then over UDP; in both roles, with and without ECH (RFC 9001, RFC 9849)."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest

pytest.importorskip("aioquic", reason="the extra quic is not installed")

from aioquic._buffer import Buffer
from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, QuicEvent, StreamDataReceived
from aioquic.quic.packet import QuicPacketType, pull_quic_header
from aioquic.tls import Alert, Epoch

from tests.fakes.tls13 import NOW, Pki
from tests.transport.ech.hellos import KEY
from transport.ech.config import EchConfig, generate_key
from transport.quic.endpoint import attach, quic_configuration, tls_of, with_tls
from transport.quic.engine import QuicTls
from transport.tls13.alerts import AlertDescription, EchRejectedError
from transport.tls13.certificates import Credential
from transport.tls13.config import ClientConfig, ServerConfig
from transport.tls13.constants import NamedGroup
from transport.tls13.events import EchStatus

STALE = generate_key("public.example", os.urandom, live_ids=[KEY.config.config_id])
CRYPTO_ERROR = 0x100
P384 = NamedGroup.SECP384R1


@pytest.fixture(scope="module")
def pki() -> Pki:
    return Pki()


@pytest.fixture(scope="module")
def credentials(pki: Pki) -> tuple[Credential, ...]:
    return pki.credential("public.example"), pki.credential("secret.internal")


def client_config(pki: Pki, ech: EchConfig | None = None, **changes: object) -> ClientConfig:
    config = ClientConfig("secret.internal", pki.trust, ech=ech, alpn=(b"h3",), outer_alpn=(b"h3",))
    return replace(config, **changes)  # type: ignore[arg-type]  # names of fields


def server_config(credentials: tuple[Credential, ...], **changes: object) -> ServerConfig:
    return replace(ServerConfig(credentials, alpn=(b"h3",), ech_keys=(KEY,)), **changes)  # type: ignore[arg-type]


class Wire:
    """Client and server in memory, with a clock of their own and every datagram kept."""

    def __init__(self, client: ClientConfig, server: ServerConfig) -> None:
        self.now = 0.0
        self.datagrams: list[bytes] = []
        self.client = QuicConnection(configuration=quic_configuration(client))
        attach(self.client, lambda: QuicTls(client, random=os.urandom, now=NOW))
        self.server = QuicConnection(
            configuration=quic_configuration(server),
            original_destination_connection_id=self.client.original_destination_connection_id,
        )
        attach(self.server, lambda: QuicTls(server, random=os.urandom, now=NOW))
        self.client.connect(("server", 443), now=self.now)

    def run(self) -> "Wire":
        """Until both are silent."""
        for _ in range(30):
            moved = self._carry(self.client, self.server, "client") + self._carry(self.server, self.client, "server")
            if not moved:
                break
        return self

    def ended(self, connection: QuicConnection) -> list[ConnectionTerminated]:
        """How the connection ended, after it has drained."""
        connection.handle_timer(now=self.now + 60)
        return [event for event in events_of(connection) if isinstance(event, ConnectionTerminated)]

    def _carry(self, sender: QuicConnection, receiver: QuicConnection, name: str) -> int:
        self.now += 0.01
        out = sender.datagrams_to_send(now=self.now)
        for data, _ in out:
            self.datagrams.append(data)
            receiver.receive_datagram(data, (name, 443), now=self.now)
        return len(out)


def events_of(connection: QuicConnection) -> Iterator[QuicEvent]:
    while (event := connection.next_event()) is not None:
        yield event


def completed(connection: QuicConnection) -> HandshakeCompleted:
    (event,) = [event for event in events_of(connection) if isinstance(event, HandshakeCompleted)]
    return event


@pytest.mark.parametrize("groups", [(NamedGroup.X25519MLKEM768,), (NamedGroup.X25519,), (NamedGroup.SECP256R1,)])
@pytest.mark.parametrize("ech", [KEY.config, None], ids=["ech", "grease"])
def test_handshake_completes_with_every_group(
    pki: Pki, credentials: tuple[Credential, ...], ech: EchConfig | None, groups: tuple[int, ...]
) -> None:
    wire = Wire(client_config(pki, ech, groups=groups), server_config(credentials)).run()

    for end in (wire.client, wire.server):
        assert completed(end).alpn_protocol == "h3"
        complete = tls_of(end).complete
        assert complete is not None
        assert (complete.group, complete.server_name) == (groups[0], "secret.internal")
    statuses = [tls_of(end).complete.ech for end in (wire.client, wire.server)]  # type: ignore[union-attr]
    expected = [EchStatus.ACCEPTED] * 2 if ech else [EchStatus.NOT_OFFERED, EchStatus.REJECTED]
    assert statuses == expected
    assert tls_of(wire.client).export(b"EXPORTER-x", b"", 32) == tls_of(wire.server).export(b"EXPORTER-x", b"", 32)


@pytest.mark.parametrize("ech", [KEY.config, None], ids=["ech", "grease"])
def test_server_may_ask_for_another_group(pki: Pki, credentials: tuple[Credential, ...], ech: EchConfig | None) -> None:
    wire = Wire(client_config(pki, ech), server_config(credentials, groups=(P384,))).run()

    assert completed(wire.client).alpn_protocol == "h3"
    complete = tls_of(wire.client).complete
    assert complete is not None
    assert complete.group == P384


def test_streams_carry_data_after_the_handshake(pki: Pki, credentials: tuple[Credential, ...]) -> None:
    wire = Wire(client_config(pki, KEY.config), server_config(credentials)).run()
    list(events_of(wire.server))

    wire.client.send_stream_data(0, b"question", end_stream=True)
    wire.run()

    received = [event for event in events_of(wire.server) if isinstance(event, StreamDataReceived)]
    assert b"".join(event.data for event in received) == b"question"


@pytest.mark.parametrize("retries", [False, True])
def test_stale_key_is_rejected_with_ech_required(pki: Pki, credentials: tuple[Credential, ...], retries: bool) -> None:
    server = server_config(credentials, **({"groups": (P384,)} if retries else {}))
    wire = Wire(client_config(pki, STALE.config), server).run()

    failure = tls_of(wire.client).failure
    assert isinstance(failure, EchRejectedError)
    assert failure.retry_configs == server.retry_configs
    assert tls_of(wire.client).complete is None
    assert [event.error_code for event in wire.ended(wire.server)] == [CRYPTO_ERROR + AlertDescription.ECH_REQUIRED]
    # The reason is in a Handshake packet. Initial packets can be opened by whoever sees them.
    assert pull_quic_header(Buffer(data=wire.datagrams[-1]), 8).packet_type is QuicPacketType.HANDSHAKE


def test_certificate_for_another_name_is_refused(pki: Pki) -> None:
    wire = Wire(client_config(pki, None), server_config((pki.credential("public.example"),))).run()

    assert tls_of(wire.client).failure is not None
    assert not any(isinstance(event, HandshakeCompleted) for event in events_of(wire.client))


def test_no_common_protocol_is_refused(pki: Pki, credentials: tuple[Credential, ...]) -> None:
    wire = Wire(client_config(pki, KEY.config, alpn=(b"other",)), server_config(credentials)).run()

    failure = tls_of(wire.server).failure
    assert failure is not None
    assert failure.alert == AlertDescription.NO_APPLICATION_PROTOCOL


def test_inner_name_is_in_no_datagram_that_an_observer_can_open(pki: Pki, credentials: tuple[Credential, ...]) -> None:
    """Initial packets are protected by keys that everybody has (RFC 9001 section 5.2), so they are opened here."""
    config = client_config(pki, KEY.config)
    tls = QuicTls(replace(config, shared_extensions=()), random=os.urandom, now=NOW)
    tls.handshake_extensions = [(57, b"\x01\x02\x40\x64")]
    connection = QuicConnection(configuration=quic_configuration(config))
    attach(connection, lambda: tls)
    connection.connect(("server", 443), now=0.0)

    hello = bytes(connection._crypto_streams[Epoch.INITIAL].sender._buffer)

    assert b"public.example" in hello
    assert b"secret" not in hello


@pytest.mark.parametrize("space", [2, 3])
def test_handshake_bytes_in_another_space_are_refused(
    pki: Pki, credentials: tuple[Credential, ...], space: int
) -> None:
    """RFC 9001 section 4.1.3."""
    wire = Wire(client_config(pki, KEY.config), server_config(credentials))
    tls = tls_of(wire.client)
    tls.arriving = list(Epoch)[space]

    with pytest.raises(Alert) as alert:
        tls.handle_message(b"\x02\0\0\0", {})

    assert int(alert.value.description) == AlertDescription.UNEXPECTED_MESSAGE


def test_configuration_needs_a_protocol(pki: Pki, credentials: tuple[Credential, ...]) -> None:
    for tls in (client_config(pki, alpn=()), server_config(credentials, alpn=())):
        with pytest.raises(ValueError, match="application protocol"):
            quic_configuration(tls)


# --- over UDP, by aioquic's own connect and serve


class Echo(QuicConnectionProtocol):
    """Answers a stream with what came in it."""

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived):
            self._quic.send_stream_data(event.stream_id, event.data, event.end_stream)


def now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 certificates are judged by the real clock


@asynccontextmanager
async def listening(config: ServerConfig, protocol: Callable[..., QuicConnectionProtocol] = Echo):  # type: ignore[no-untyped-def]
    server = await serve(
        "127.0.0.1",
        0,
        configuration=quic_configuration(config),
        create_protocol=with_tls(config, random=os.urandom, now=now, protocol=protocol),
        retry=True,
    )
    try:
        yield server._transport.get_extra_info("sockname")[1]
    finally:
        server.close()


@pytest.mark.looptime(False)
async def test_echo_over_udp_with_ech_and_an_address_check(pki: Pki, credentials: tuple[Credential, ...]) -> None:
    config = client_config(pki, KEY.config)
    async with asyncio.timeout(20), listening(server_config(credentials)) as port:
        create = with_tls(config, random=os.urandom, now=now)
        async with connect(
            "127.0.0.1", port, configuration=quic_configuration(config), create_protocol=create
        ) as client:
            reader, writer = await client.create_stream()
            writer.write(b"question" * 1000)
            writer.write_eof()

            assert await reader.read() == b"question" * 1000
            complete = tls_of(client).complete
            assert complete is not None
            assert complete.ech is EchStatus.ACCEPTED


@pytest.mark.looptime(False)
async def test_rejection_over_udp_tells_what_to_retry_with(pki: Pki, credentials: tuple[Credential, ...]) -> None:
    config = client_config(pki, STALE.config)
    made: list[QuicConnectionProtocol] = []

    def remembered(*arguments: object, **named: object) -> QuicConnectionProtocol:
        made.append(QuicConnectionProtocol(*arguments, **named))  # type: ignore[arg-type]
        return made[-1]

    async with asyncio.timeout(20), listening(server_config(credentials)) as port:
        create = with_tls(config, random=os.urandom, now=now, protocol=remembered)
        with pytest.raises(ConnectionError):
            async with connect("127.0.0.1", port, configuration=quic_configuration(config), create_protocol=create):
                pass

    failure = tls_of(made[0]).failure
    assert isinstance(failure, EchRejectedError)
    assert failure.retry_configs == server_config(credentials).retry_configs
