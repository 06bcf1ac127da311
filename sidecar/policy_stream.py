"""One policy stream from Hello to its end, over a gRPC call that somebody else opens.

One task reads, one writes, one beats; the first that has to say why the stream is over ends the others.
(control-api.md §1.3 rules 1, 3, 5, 14 and 15.)
"""

import asyncio
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol

import grpc
from aegispb.v1 import discovery_pb2 as pb

MISSED_HEARTBEATS: Final = 3
_OUTBOX: Final = 16
"""Messages that may wait to be written: at most one Ack per type, and heartbeats."""
_FASTEST, _SLOWEST = 0.05, 300.0
"""Seconds between heartbeats that a server may ask for."""


class Reason(StrEnum):
    """Why a stream is over; a bounded metric label."""

    CONNECTION_ERROR = "connection_error"
    """It never stood."""
    ERROR = "error"
    RECONNECT = "reconnect"
    """The server asked for it, or the stream was old enough."""
    COMPLETE = "complete"
    """The server ended it in good order."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a stream ended."""

    reason: Reason
    detail: str
    within: float | None = None
    """Seconds over which to spread the return; None: back off."""


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """Seconds, all of them."""

    first_answer: float = 5.0
    """Until Welcome."""
    lifetime: float = 3600.0
    """After which a stream is opened anew: with a renewed certificate, and perhaps at another replica."""
    return_within: float = 1.0
    """Over which to spread the return after an end that is nobody's fault."""


class Recipient(Protocol):
    """What the stream's messages are for."""

    def welcomed(self, welcome: pb.Welcome) -> None:
        """The stream stands."""

    def take(self, delta: pb.Delta) -> Awaitable[pb.Ack]:
        """Apply a Delta; the verdict goes back."""

    def heard(self, heartbeat: pb.Heartbeat) -> Awaitable[None]:
        """The server is alive."""

    def digests(self) -> dict[str, str]:
        """type_url -> digest of what is in force."""

    def newly_probed(self) -> dict[int, int]:
        """Prime without a task -> how often attackers tried it since this was asked last."""

    def newly_stale(self) -> int:
        """How often a peer knew a newer ECH key than we did since this was asked last."""


async def converse(call: Any, hello: pb.Hello, recipient: Recipient, times: StreamTimes) -> Ending:
    """Speak over `call` until one side ends. Raises nothing but for cancellation; the call is over afterwards."""
    stands = False
    try:
        async with asyncio.timeout(times.first_answer):
            await call.write(pb.Up(hello=hello))
            first = await call.read()
        if not isinstance(first, pb.Down):
            return await _end_of(call, times, stands=False)
        if not first.HasField("welcome"):
            return _unexpected(first)
        stands = True
        recipient.welcomed(first.welcome)
        return await _conversation(call, recipient, times, _every(first.welcome))
    except TimeoutError:
        return Ending(Reason.CONNECTION_ERROR, f"no answer within {times.first_answer:g} s")
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        # grpc.aio raises the latter when a call has ended before we write to it.
        return await _end_of(call, times, stands=stands)
    finally:
        call.cancel()  # a call that is dropped without this is never collected


async def _conversation(call: Any, recipient: Recipient, times: StreamTimes, every: float) -> Ending:
    outbox: asyncio.Queue[pb.Up] = asyncio.Queue(_OUTBOX)
    over: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()

    async def first_to_end(work: Coroutine[Any, Any, Ending]) -> None:
        ending = await work
        if not over.done():
            over.set_result(ending)

    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(first_to_end(_read(call, outbox, recipient, times, every))),
            tasks.create_task(first_to_end(_grow_old(times))),
            tasks.create_task(_write(call, outbox)),
            tasks.create_task(_beat(outbox, recipient, every)),
        ]
        ending = await over
        for task in running:
            task.cancel()
    return ending


async def _read(
    call: Any, outbox: asyncio.Queue[pb.Up], recipient: Recipient, times: StreamTimes, every: float
) -> Ending:
    silence = MISSED_HEARTBEATS * every
    while True:
        try:
            async with asyncio.timeout(silence):
                down = await call.read()
        except TimeoutError:
            return Ending(Reason.ERROR, f"nothing heard for {silence:g} s")
        except grpc.aio.AioRpcError:
            return await _end_of(call, times, stands=True)
        if not isinstance(down, pb.Down):
            return await _end_of(call, times, stands=True)
        match down.WhichOneof("msg"):
            case "delta":
                await outbox.put(pb.Up(ack=await recipient.take(down.delta)))
            case "heartbeat":
                await recipient.heard(down.heartbeat)
            case "drain":
                within = down.drain.reconnect_within.ToMilliseconds() / 1000
                within = min(max(within, times.return_within), _SLOWEST)
                return Ending(Reason.RECONNECT, "the control plane is draining", within)
            case _:
                return _unexpected(down)


async def _write(call: Any, outbox: asyncio.Queue[pb.Up]) -> None:
    """The only writer: concurrent writes on one gRPC call corrupt it. When the call is over, reading says why."""
    with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        while True:
            await call.write(await outbox.get())


async def _beat(outbox: asyncio.Queue[pb.Up], recipient: Recipient, every: float) -> None:
    seq = 0
    while True:
        await asyncio.sleep(every)
        seq += 1
        if not outbox.full():  # what waits there tells the server that we live as well
            heartbeat = pb.Heartbeat(
                seq=seq,
                applied=recipient.digests(),
                probed=recipient.newly_probed(),
                stale_ech=recipient.newly_stale(),
            )
            outbox.put_nowait(pb.Up(heartbeat=heartbeat))


async def _grow_old(times: StreamTimes) -> Ending:
    await asyncio.sleep(times.lifetime)
    return Ending(Reason.RECONNECT, "the stream is old enough", times.return_within)


async def _end_of(call: Any, times: StreamTimes, *, stands: bool) -> Ending:
    """How a call that is over has ended."""
    code, details = await call.code(), str(await call.details() or "")[:500]
    if code is grpc.StatusCode.OK and stands:
        return Ending(Reason.COMPLETE, "the control plane ended the stream", times.return_within)
    unavailable = code is grpc.StatusCode.UNAVAILABLE
    # The server cuts connections of a certain age, so that they spread over replicas: no error, no backoff.
    if stands and unavailable and any(sign in details for sign in ("max connection age", "max_age", "GOAWAY")):
        return Ending(Reason.RECONNECT, details, times.return_within)
    reason = Reason.CONNECTION_ERROR if unavailable and not stands else Reason.ERROR
    return Ending(reason, f"{code.name}: {details}")


def _unexpected(message: pb.Down) -> Ending:
    return Ending(Reason.ERROR, f"unexpected message: {message.WhichOneof('msg') or 'none'}")


def _every(welcome: pb.Welcome) -> float:
    return min(max(welcome.heartbeat_every.ToNanoseconds() / 1e9, _FASTEST), _SLOWEST)
