"""A model server for benchmarks that does nothing but its framing: a JSON answer once the request is whole, or SSE.

    python benchmarks/upstream.py PORT [--answer FILE | --echo] [--events 100] [--every 0.005] [--event FILE]

nginx would be faster for short requests, but answers before it has read a long one, and cannot stream.
"""

import argparse
import asyncio
import json
import re
from pathlib import Path

import uvloop

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


class Connection(asyncio.Protocol):
    """Reads requests of known length, one at a time."""

    def __init__(self, answer: bytes, event: bytes, events: int, every: float, *, echoes: bool) -> None:
        self.answer = framed(answer)
        self.heard: list[bytes] | None = [] if echoes else None
        """The body so far, if it is to be sent back."""
        self.event = b"%x\r\n%b\r\n" % (len(event), event)
        self.last = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
        self.events, self.every = events, every
        self.head = b""
        self.left = -1
        self.streams = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.left < 0:
            self.head += data
            end = self.head.find(b"\r\n\r\n") + 4
            if end == 3:
                return
            length = LENGTH.search(self.head, 0, end)
            self.left = int(length[1]) if length else 0
            data, self.head = self.head[end:], b""
            self.streams = False
        self.left -= len(data)
        if self.heard is not None:
            self.heard.append(data)
        self.streams = self.streams or b'"stream": true' in data
        if self.left <= 0:
            self.left = -1
            if self.streams:
                self.transport.write(SSE_HEAD)
                self._stream(self.events)
            elif self.heard is not None:
                self.transport.write(framed(repeated(b"".join(self.heard))))
                self.heard.clear()
            else:
                self.transport.write(self.answer)

    def _stream(self, left: int) -> None:
        if self.transport.is_closing():
            return
        if not left:
            self.transport.write(self.last)
            return
        self.transport.write(self.event)
        asyncio.get_running_loop().call_later(self.every, self._stream, left - 1)


def framed(answer: bytes) -> bytes:
    """An answer with its head."""
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(answer), answer)


def repeated(request: bytes) -> bytes:
    """A completion that says what the last message of a chat request said."""
    message = {"role": "assistant", "content": json.loads(request)["messages"][-1]["content"]}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps({"id": "c", "object": "chat.completion", "model": "m", "choices": [choice]}).encode()


async def serve(options: argparse.Namespace) -> None:
    """Until killed."""
    answer = options.answer.read_bytes() if options.answer else b"{}"
    event = options.event.read_bytes() if options.event else b"data: {}\n\n"
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(answer, event, options.events, options.every, echoes=options.echo),
        "127.0.0.1",
        options.port,
        backlog=4096,
    )
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--answer", type=Path)
    parser.add_argument("--echo", action="store_true")
    parser.add_argument("--event", type=Path)
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--every", type=float, default=0.005)
    uvloop.run(serve(parser.parse_args()))
