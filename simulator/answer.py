"""Sends one answer over ASGI: paced, cut, and broken off as the behaviour asks."""

import asyncio
from collections.abc import AsyncIterator, Iterable

from starlette.types import Receive, Scope, Send

from simulator.config import SimulatorConfig
from simulator.errors import BrokenOffError
from simulator.seen import Sighting
from simulator.wire import Event, event_bytes, writes


class Answer:
    """An ASGI response. Notes in its sighting how it ended; a client that went away ends it at once."""

    def __init__(
        self, status: int, headers: dict[str, str], body: AsyncIterator[bytes], sighting: Sighting, length: int | None
    ) -> None:
        self._status = status
        self._headers = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        if length is not None:
            self._headers.append((b"content-length", b"%d" % length))
        self._body = body
        self._sighting = sighting

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 ASGI's signature
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self._send(send))
            watching = group.create_task(self._watch(receive, sending))
            await asyncio.wait([sending])
            watching.cancel()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self._status, "headers": self._headers})
        try:
            async for data in self._body:
                await send({"type": "http.response.body", "body": data, "more_body": True})
        except BrokenOffError:
            # Returning without the last body message makes uvicorn close the connection in the middle of the answer.
            self._sighting.outcome = "broken off"
            return
        self._sighting.outcome = "complete" if self._status < 400 else "refused"
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _watch(self, receive: Receive, sending: asyncio.Task[None]) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        if not sending.done():
            self._sighting.outcome = "client gone"
            sending.cancel()


async def streamed(events: Iterable[Event], error: Event, behaviour: SimulatorConfig) -> AsyncIterator[bytes]:
    """The bytes of an event stream, one item per write."""
    await asyncio.sleep(behaviour.ttft)
    held = b""
    for number, event in enumerate(events):
        if number and behaviour.event_delay:
            await asyncio.sleep(behaviour.event_delay)
        if number == behaviour.stall_after:
            await asyncio.Event().wait()
        if number == behaviour.die_after:
            if held:
                yield held
            raise BrokenOffError
        failing = number == behaviour.error_after
        encoded = event_bytes(error if failing else event, behaviour.framing)
        cuts, held = writes(encoded, held, behaviour.write_bytes)
        for cut in cuts:
            yield cut
        if failing:
            break
    if held:
        yield held


async def whole(body: bytes, behaviour: SimulatorConfig) -> AsyncIterator[bytes]:
    """The bytes of an unstreamed answer."""
    await asyncio.sleep(behaviour.ttft)
    if behaviour.die_after is not None:
        yield body[: len(body) // 2]
        raise BrokenOffError
    cuts, held = writes(body, b"", behaviour.write_bytes)
    for cut in [*cuts, held]:
        yield cut
