"""That the gRPC options do what they are set for: gRPC ignores a misspelt one without a word."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from controlplane import app
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
