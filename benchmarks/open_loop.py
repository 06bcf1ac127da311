"""A load of so many requests a second, whatever the answers do: the latency of each counts from when it was due.

    python benchmarks/open_loop.py PORT PATH BODY_FILE [--rate 4000] [--seconds 3] [--connections 64]

A closed loop (wrk) waits for a slow answer and so leaves out those who would have come meanwhile. Prints JSON: `p50`
and `p99` in microseconds, `count`, and `failed`: what was no 200 or did not come.
"""

import argparse
import json
import select
import socket
import time
from pathlib import Path

FIELDS = (
    "Content-Type: application/json\r\nAuthorization: Bearer sk-0123456789abcdef0123456789abcdef\r\n"
    "User-Agent: OpenAI/Python 2.54.0\r\n"
)


class Connection:
    """One connection, on which requests wait for each other."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.waiting: list[float] = []
        """When each request was due whose answer has not come; the first of them was sent."""
        self.received = b""

    def answered(self) -> bool | None:
        """Whether a whole answer came, and was good; None: not whole yet."""
        self.received += self.socket.recv(65536)
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found:
            return None
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return None
        self.received = b""
        return head.startswith(b"HTTP/1.1 200")


def load(port: int, request: bytes, rate: int, seconds: float, connections: int) -> dict[str, float]:
    """Measure."""
    pool = {connection.socket: connection for connection in (Connection(port) for _ in range(connections))}
    order = list(pool.values())
    latencies: list[float] = []
    failed = sent = 0
    began = time.perf_counter()
    total = int(rate * seconds)
    while len(latencies) + failed < total and time.perf_counter() < began + seconds + 5:
        due = began + sent / rate
        wait = max(0.0, due - time.perf_counter()) if sent < total else 0.1
        for ready in select.select(list(pool), [], [], wait)[0]:
            connection = pool[ready]
            good = connection.answered()
            if good is None:
                continue
            latency = time.perf_counter() - connection.waiting.pop(0)
            if good:
                latencies.append(latency)
            else:
                failed += 1
            if connection.waiting:
                connection.socket.sendall(request)
        while sent < total and began + sent / rate <= time.perf_counter():
            connection = order[sent % connections]
            connection.waiting.append(began + sent / rate)
            if len(connection.waiting) == 1:
                connection.socket.sendall(request)
            sent += 1
    latencies.sort()
    count = len(latencies)
    p50, p99 = (round(latencies[int(count * share)] * 1e6) if count else 0 for share in (0.5, 0.99))
    return {"p50": p50, "p99": p99, "count": count, "failed": total - count}


def main() -> None:
    """As the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("body", type=Path)
    parser.add_argument("--rate", type=int, default=4000)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    body = options.body.read_bytes()
    head = f"POST {options.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{FIELDS}Content-Length: {len(body)}\r\n\r\n"
    print(json.dumps(load(options.port, head.encode() + body, options.rate, options.seconds, options.connections)))


if __name__ == "__main__":
    main()
