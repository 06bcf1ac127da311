"""Bans that sidecars share over Redis: who touched a trap of one is refused by all, workers and pods alike.

One sorted set holds peer -> end of its ban; additions are published. A sidecar that starts or comes back reads the set,
then listens. Redis is never on the path of an exchange: bans are looked up in this process, and without Redis they stay
local until it is back. What others write is bounded like a ban of our own.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from policies.model import UnixNanos
from sidecar.backoff import Backoff
from sidecar.effects import MAX_BANS, LocalEffects

logger = logging.getLogger(__name__)

KEY: Final = "aegis:bans"
CHANNEL: Final = "aegis:bans:added"
MAX_WAITING: Final = 1_000
"""Bans of ours that wait for Redis; later ones stay local."""
_LONGEST_PEER: Final = 512
"""Characters; a longer name is nobody's."""
_FURTHEST: Final = 10**15
"""Milliseconds since 1970: beyond every ban."""
_TIMEOUT: Final = 5.0
"""Seconds for one command."""


class SharedBans:
    """Tells others of bans and learns of theirs. Owned by one event loop."""

    def __init__(
        self, url: str, effects: LocalEffects, now: Callable[[], UnixNanos], fraction: Callable[[], float]
    ) -> None:
        """`url`: redis://, rediss:// or unix://. `fraction`: random, from 0 to 1."""
        self._url = url
        self._effects = effects
        self._now = now
        self._fraction = fraction
        self._waiting: asyncio.Queue[tuple[str, int]] = asyncio.Queue(MAX_WAITING)
        self._unsent: tuple[str, int] | None = None
        self.connected = asyncio.Event()
        """Set while bans are shared."""

    def tell(self, peer: str, until: int) -> None:
        """Share a ban that ends at `until` (nanoseconds since 1970). Never blocks."""
        try:
            self._waiting.put_nowait((peer, until))
        except asyncio.QueueFull:
            logger.warning("ban stays local", extra={"reason": "too many wait for redis"})

    async def run(self) -> None:
        """Share until cancelled, over any number of failures."""
        backoff = Backoff()
        while True:
            wait = 0.0
            try:
                await self._share(backoff)
            except* (RedisError, OSError, TimeoutError) as errors:
                wait = backoff.delay(self._fraction())
                reason = type(errors.exceptions[0]).__name__
                logger.warning("bans are local for now", extra={"reason": reason, "retry_in": round(wait, 3)})
            finally:
                self.connected.clear()
            await asyncio.sleep(wait)

    async def _share(self, backoff: Backoff) -> None:
        # A subscription waits without end; every command has its time.
        client = Redis.from_url(
            self._url, decode_responses=True, socket_connect_timeout=_TIMEOUT, encoding_errors="replace"
        )
        try:
            async with client.pubsub(ignore_subscribe_messages=True) as subscription:
                # First listen, then read: what is added in between comes twice rather than never.
                await subscription.subscribe(CHANNEL)
                await self._catch_up(client)
                backoff.reset()
                self.connected.set()
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._publish(client))
                    async for message in subscription.listen():
                        self._learn(str(message["data"]))
        finally:
            await client.aclose()

    async def _catch_up(self, client: Redis) -> None:
        now = self._now() // 1_000_000
        async with asyncio.timeout(_TIMEOUT):
            await client.zremrangebyscore(KEY, "-inf", now)
            standing: Any = await client.zrange(
                KEY, "+inf", now, desc=True, byscore=True, offset=0, num=MAX_BANS, withscores=True
            )
        for peer, until in standing:
            self._take(str(peer), int(min(until, _FURTHEST)))  # a score may be infinite

    async def _publish(self, client: Redis) -> None:
        while True:
            # Kept until Redis has it: an outage must not lose the ban that met it.
            self._unsent = self._unsent or await self._waiting.get()
            peer, until = self._unsent
            milliseconds = until // 1_000_000
            async with asyncio.timeout(_TIMEOUT):
                await client.zadd(KEY, {peer: milliseconds}, gt=True)  # never shortens a ban
                await client.publish(CHANNEL, f"{milliseconds} {peer}")
            self._unsent = None

    def _learn(self, told: str) -> None:
        until, _, peer = told.partition(" ")
        if until.isascii() and until.isdigit() and len(until) <= 15:
            self._take(peer, int(until))

    def _take(self, peer: str, until_milliseconds: int) -> None:
        if peer and len(peer) <= _LONGEST_PEER:
            self._effects.learn(peer, until_milliseconds * 1_000_000, self._now())
