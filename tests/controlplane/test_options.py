"""That the gRPC options do what they are set for: gRPC ignores a misspelt one without a word."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from controlplane import app
from controlplane.discovery.desired import MAX_FRAME
from observability.exposition import render
from observability.metrics import Registry
from sidecar import policy_client
from tests.controlplane.plane import Plane, Stream, running
from tests.sidecar.test_policy_client import sidecar, until

pytestmark = pytest.mark.slow
Options = tuple[tuple[str, Any], ...]


def changed(options: Options, **values: int) -> Options:
    """`options` with other values; a name that does not stand there already is a mistake of the test."""
    named = {"grpc." + name.replace("__", "."): value for name, value in values.items()}
    assert set(named) <= dict(options).keys()
    return tuple({**dict(options), **named}.items())


def without(options: Options, name: str) -> Options:
    return tuple(option for option in options if option[0] != name)


async def pinging(plane: Plane, seconds: float) -> grpc.StatusCode | None:
    """How a stream ends on which a client pings twice a second; None: it still stands after `seconds`."""
    identity = plane.identity("sidecar/pinging")
    credentials = grpc.ssl_channel_credentials(plane.authority.ca_pem, identity.key_pem, identity.cert_pem)
    options = [("grpc.keepalive_time_ms", 500), ("grpc.http2.max_pings_without_data", 0)]
    channel = grpc.aio.secure_channel(plane.address, credentials, options)
    plane.channels.append(channel)
    stream = Stream(channel)
    await stream.hello()
    try:
        async with asyncio.timeout(seconds):
            return await stream.status()
    except TimeoutError:
        return None


async def test_server_bears_the_pings_of_its_sidecars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A twentieth of every interval, so that the test takes seconds.
    lenient = changed(app.SERVER_OPTIONS, http2__min_ping_interval_without_data_ms=400)
    monkeypatch.setattr(app, "SERVER_OPTIONS", lenient)
    async with running(tmp_path / "lenient") as plane:
        assert await pinging(plane, 6) is None

    monkeypatch.setattr(app, "SERVER_OPTIONS", without(lenient, "grpc.http2.min_ping_interval_without_data_ms"))
    async with running(tmp_path / "default") as plane:
        assert await pinging(plane, 10) is grpc.StatusCode.UNAVAILABLE


async def test_connection_of_a_certain_age_is_ended_and_the_sidecar_returns_without_backoff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = changed(app.SERVER_OPTIONS, max_connection_age_ms=500, max_connection_age_grace_ms=200)
    monkeypatch.setattr(app, "SERVER_OPTIONS", short)
    metrics = Registry()
    async with running(tmp_path) as plane, sidecar(tmp_path, plane.address, metrics=metrics) as client:

        def page() -> str:
            return render([metrics.snapshot()])[1].decode()

        await until(lambda: 'reconnects_total{reason="reconnect"} 2.0' in page())

        assert client._backoff.attempts == 0
        assert 'reason="error"' not in page()


FIVE_MIB = 5 * 1024 * 1024
"""Above gRPC's own limit of 4 MiB."""


async def test_server_receives_up_to_16_mib(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        assert await plane.stream().hello(node="x" * FIVE_MIB)


async def received(options: Options) -> int:
    """Bytes that a channel with these options gets of a large answer."""

    async def large(_request: bytes, _call: object) -> bytes:
        return b"x" * FIVE_MIB

    server = grpc.aio.server(options=app.SERVER_OPTIONS)
    handler: Any = grpc.unary_unary_rpc_method_handler(large)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Large", {"Get": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            return len(await channel.unary_unary("/test.Large/Get")(b""))
    finally:
        await server.stop(0)


async def test_sidecar_receives_up_to_16_mib() -> None:
    assert await received(policy_client.CHANNEL_OPTIONS) == FIVE_MIB

    with pytest.raises(grpc.aio.AioRpcError, match="larger than max"):
        await received(without(policy_client.CHANNEL_OPTIONS, "grpc.max_receive_message_length"))


class Wire:
    """A proxy that writes down what one HTTP/2 connection carries, without TLS."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.sent: dict[str, bytearray] = {"client": bytearray(), "server": bytearray()}
        self.listens = True
        self.closed = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = await asyncio.open_connection("127.0.0.1", self._port)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pass_on("client", reader, upstream[1]))
            tasks.create_task(self._pass_on("server", upstream[0], writer))
        self.closed.set()

    async def _pass_on(self, side: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):  # one end may be gone before the other has said all
            while data := await reader.read(65536):
                if self.listens:
                    self.sent[side] += data
                writer.write(data)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    def frames(self, side: str) -> Iterator[tuple[int, int, bytes]]:
        """(type, flags, payload) of each frame: RFC 9113 section 4.1."""
        sent, at = self.sent[side], len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") if side == "client" else 0
        while at + 9 <= len(sent):
            end = at + 9 + int.from_bytes(sent[at : at + 3], "big")
            yield sent[at + 3], sent[at + 4], bytes(sent[at + 9 : end])
            at = end

    def pings(self, side: str) -> int:
        """PING frames that are no answers: RFC 9113 section 6.7."""
        return sum(kind == 6 and not flags & 1 for kind, flags, _ in self.frames(side))

    def window(self, side: str) -> int:
        """The last SETTINGS_INITIAL_WINDOW_SIZE: RFC 9113 section 6.5.2."""
        settings = b"".join(payload for kind, flags, payload in self.frames(side) if kind == 4 and not flags & 1)
        entries = [settings[at : at + 6] for at in range(0, len(settings), 6)]
        windows = [int.from_bytes(each[2:], "big") for each in entries if each[:2] == b"\x00\x04"]
        return windows[-1] if windows else 65_535


async def wire_of(server_options: Options, client_options: Options) -> Wire:
    """What a few messages of a policy's size in both directions look like."""

    async def echo(_requests: object, call: Any) -> None:
        while isinstance(message := await call.read(), bytes):
            await call.write(message)

    server = grpc.aio.server(options=server_options)
    handler: Any = grpc.stream_stream_rpc_method_handler(echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"Stream": handler}),))
    wire = Wire(server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    proxy = await asyncio.start_server(wire, "127.0.0.1", 0)
    try:
        port = proxy.sockets[0].getsockname()[1]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", client_options) as channel:
            call: Any = channel.stream_stream("/test.Echo/Stream")()
            for _ in range(5):
                await call.write(bytes(4096))
                assert await call.read() == bytes(4096)
            wire.listens = False  # a server that ends pings, too, to learn when its GOAWAY has arrived
    finally:
        proxy.close()
        await server.stop(0)
    await wire.closed.wait()
    return wire


async def test_neither_end_pings_to_measure_the_bandwidth() -> None:
    wire = await wire_of(app.SERVER_OPTIONS, policy_client.CHANNEL_OPTIONS)
    assert (wire.pings("server"), wire.pings("client")) == (0, 0)

    default = await wire_of(
        without(app.SERVER_OPTIONS, "grpc.http2.bdp_probe"),
        without(policy_client.CHANNEL_OPTIONS, "grpc.http2.bdp_probe"),
    )
    assert default.pings("server") > 0
    assert default.pings("client") > 0


async def test_sidecar_has_room_for_a_whole_frame_of_policies() -> None:
    """Or the first of 4 MiB would take a round trip for each 64 KiB, now that nothing measures the bandwidth."""
    wire = await wire_of(app.SERVER_OPTIONS, policy_client.CHANNEL_OPTIONS)
    assert wire.window("client") >= MAX_FRAME

    narrow = await wire_of(app.SERVER_OPTIONS, without(policy_client.CHANNEL_OPTIONS, "grpc.http2.lookahead_bytes"))
    assert narrow.window("client") < MAX_FRAME
