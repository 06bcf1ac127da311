"""Bans shared over a real Redis: told, learnt, caught up on, and bounded."""

import asyncio
import logging
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from observability.metrics import Registry
from policies.model import Ban, ExchangeId, UnixNanos
from sidecar.effects import LONGEST_BAN, LocalEffects
from sidecar.shared_bans import CHANNEL, KEY, SharedBans

pytestmark = [
    pytest.mark.peers,
    pytest.mark.looptime(False),
    pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs redis-server"),
]


def now() -> UnixNanos:
    return UnixNanos(time.time_ns())


class RedisServer:
    """A real Redis on a socket of its own, without persistence."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "redis.sock"
        self.url = f"unix://{self.socket}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        flags = ["--port", "0", "--unixsocket", str(self.socket), "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(["redis-server", *flags], stdout=subprocess.DEVNULL)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


@asynccontextmanager
async def sidecar(url: str) -> AsyncIterator[tuple[LocalEffects, SharedBans]]:
    effects = LocalEffects(Registry())
    shared = SharedBans(url, effects, now, lambda: 0.1)
    effects.on_ban = shared.tell
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(shared.run())
        async with asyncio.timeout(10):
            await shared.connected.wait()
        yield effects, shared
        running.cancel()


def ban(effects: LocalEffects, peer: str, seconds: float = 60) -> None:
    effects.carry_out((Ban(peer, seconds, "HONEYPOT_TRIGGERED"),), ExchangeId("x"), now())


async def answers(client: Any) -> None:
    """Returns once Redis has started."""
    from redis.exceptions import RedisError

    async with asyncio.timeout(10):
        while True:
            with suppress(RedisError):
                await client.ping()
                return
            await asyncio.sleep(0.01)


async def eventually(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0.01)


async def test_who_is_banned_by_one_is_refused_by_all(server: RedisServer) -> None:
    async with sidecar(server.url) as (one, _), sidecar(server.url) as (two, _):
        ban(one, "spiffe://mallory")

        await eventually(lambda: two.banned("spiffe://mallory", now()))
        assert not two.banned("spiffe://alice", now())
        assert 50 < two.bans(now())["spiffe://mallory"] <= 60


async def test_sidecar_that_starts_later_catches_up_on_what_still_stands(server: RedisServer) -> None:
    async with sidecar(server.url) as (one, _), sidecar(server.url) as (two, _):
        ban(one, "short", 0.05)
        ban(one, "long", 60)
        await eventually(lambda: two.banned("long", now()))

    await asyncio.sleep(0.1)
    async with sidecar(server.url) as (late, _):
        assert late.banned("long", now())
        assert not late.banned("short", now())


async def test_bans_outlive_an_outage_and_are_shared_once_redis_is_back(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with sidecar(server.url) as (one, shared), sidecar(server.url) as (two, _):
        server.stop()
        await eventually(lambda: not shared.connected.is_set())
        ban(one, "mallory")
        assert one.banned("mallory", now())

        server.start()

        await eventually(lambda: two.banned("mallory", now()))
    assert "bans are local for now" in caplog.messages


async def test_what_others_write_is_bounded_and_garbage_is_nothing(server: RedisServer) -> None:
    from redis.asyncio import Redis

    async with sidecar(server.url) as (one, _), Redis.from_url(server.url) as client:
        far = time.time_ns() // 1_000_000 + 10**11
        for message in ("x", "1 ", f"{far} {'p' * 600}", "-5 a", "٣٣ a", f"{far} forever", b"\xff\xfe"):
            await client.publish(CHANNEL, message)

        await eventually(lambda: one.banned("forever", now()))
        assert set(one.bans(now())) == {"forever"}
        assert one.bans(now())["forever"] <= LONGEST_BAN


async def test_ban_without_end_that_another_wrote_is_taken_for_the_longest(server: RedisServer) -> None:
    from redis.asyncio import Redis

    async with Redis.from_url(server.url) as client:
        await answers(client)
        await client.zadd(KEY, {"forever": "inf", "later": 10**14})

        async with sidecar(server.url) as (one, _):
            assert set(one.bans(now())) == {"forever", "later"}
            assert LONGEST_BAN - 60 < one.bans(now())["forever"] <= LONGEST_BAN


async def test_shorter_ban_of_another_never_shortens_one(server: RedisServer) -> None:
    from redis.asyncio import Redis

    async with sidecar(server.url) as (one, _), sidecar(server.url) as (two, _), Redis.from_url(server.url) as client:
        ban(one, "mallory", 600)
        await eventually(lambda: two.banned("mallory", now()))
        two.learn("mallory", now() + 10**9, now())
        await client.zadd(KEY, {"mallory": 1}, gt=True)

        assert two.bans(now())["mallory"] > 500
        assert float(await client.zscore(KEY, "mallory") or 0) > time.time_ns() // 1_000_000
