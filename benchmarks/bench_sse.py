"""A streamed answer through us, beside nginx and Envoy: CPU for each event, and the delay of the first one.

    python benchmarks/bench_sse.py [--rounds 5] [--streams 50] [--events 100] [--only aegis,nginx] [--json FILE]

Each stream has 100 events, one every 5 ms; 50 streams at a time. `inspected`: the prompt held an identifier, so every
event is looked at for its token; `restored`: every event holds that token. Read side_by_side.py for the method and
compiled_tree.py for the compiled rows.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import uvloop
from bench_http import FOUND, KEY, prompt, tokens_of, trees
from rich.console import Console
from rich.table import Table
from side_by_side import (
    LOAD_CORE,
    Stage,
    Target,
    aegis_proxy,
    envoy_proxy,
    free_port,
    median,
    nginx_proxy,
    policy,
    stage,
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--only", default="nginx,envoy,aegis,compiled", help="comma-separated")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, stage(Path(directory)) as it:
        targets = measure(it, options)
    show(targets)
    if options.json:
        options.json.write_text(json.dumps(list(map(figures, targets)), indent=2))


def measure(it: Stage, options: argparse.Namespace) -> list[Target]:
    """Every target, measured."""
    only = set(options.only.split(","))
    found = streamed(FOUND)
    token = tokens_of(prompt(FOUND)).split(", ")[0]
    plain = upstream(it, "plain", event("Rain tonight"), options.events)
    tokens = upstream(it, "tokens", event(f"Dear {token}"), options.events)
    targets: list[tuple[Target, bytes]] = []
    for name, start in (("nginx", nginx_proxy), ("envoy", envoy_proxy)):
        if name in only:
            try:
                targets.append((start(it, plain), streamed("Say something.")))
            except RuntimeError as error:
                Console(stderr=True).print(f"{name}: {error}")
    clean = streamed("Say something.")
    for name, tree in trees(only):
        targets += [
            (aegis_proxy(it, f"{name}, pass-through", policy(plain, airlock=False), KEY, tree), clean),
            (aegis_proxy(it, f"{name}, full, clean", policy(plain, airlock=True), KEY, tree), clean),
            (aegis_proxy(it, f"{name}, full, inspected", policy(plain, airlock=True), KEY, tree), found),
            (aegis_proxy(it, f"{name}, full, restored", policy(tokens, airlock=True), KEY, tree), found),
        ]
    for number in range(options.rounds + 1):
        for target, body in targets:
            one_round(target, body, options, warm_up=not number)
    for target, _ in targets:
        target.weigh()
    return [target for target, _ in targets]


def one_round(target: Target, body: bytes, options: argparse.Namespace, *, warm_up: bool) -> None:
    """All streams at once for the CPU, then one alone for the first byte."""
    before = target.cpu_seconds()
    whole = uvloop.run(streams(target, body, options.streams, options.events))
    used = target.cpu_seconds() - before
    if warm_up:
        return
    if not whole:
        target.void += 1
        return
    target.cpu.append(used / (options.streams * options.events) * 1e6)
    target.p50.append(uvloop.run(first_byte(target, body)))


async def streams(target: Target, body: bytes, count: int, events: int) -> bool:
    """Whether each of `count` streams had all of its events and its end."""

    async def one() -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port, limit=1 << 20)
        writer.write(request(target, body))
        seen = ended = 0
        while not ended:
            data = await reader.read(65536)
            if not data:
                break
            seen += data.count(b"data: {")
            ended = data.count(b"[DONE]")
        writer.close()
        return seen == events and bool(ended)

    return all(await asyncio.gather(*(one() for _ in range(count))))


async def first_byte(target: Target, body: bytes) -> float:
    """Median time to the first event of 10 streams, one after the other, in microseconds."""
    took = []
    for _ in range(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
        began = time.perf_counter()
        writer.write(request(target, body))
        await reader.readuntil(b"data: {")
        took.append((time.perf_counter() - began) * 1e6)
        writer.close()
    return median(took)


def request(target: Target, body: bytes) -> bytes:
    """Head and body."""
    head = f"POST {target.path} HTTP/1.1\r\nHost: model\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def streamed(text: str) -> bytes:
    """A chat request that asks for a stream."""
    return json.dumps(json.loads(prompt(text)) | {"stream": True}).encode()


def event(text: str) -> bytes:
    """One event of a streamed chat answer, 250 bytes or so."""
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    whole = {"id": "chatcmpl-123", "object": "chat.completion.chunk", "created": 1795132800, "model": "gpt-4o-mini"}
    return f"data: {json.dumps({**whole, 'system_fingerprint': 'fp_44709d6fcb', 'choices': [choice]})}\n\n".encode()


def upstream(it: Stage, name: str, piece: bytes, events: int) -> int:
    """A server that streams `piece` again and again; its port."""
    port = free_port()
    file = it.directory / f"event-{name}"
    file.write_bytes(piece)
    script = Path(__file__).with_name("upstream.py")
    argv = [sys.executable, script, str(port), "--event", file, "--events", str(events)]
    it.start(f"upstream-{name}", argv, port, core=LOAD_CORE)
    return port


def figures(target: Target) -> dict[str, object]:
    """What one target came to."""
    return {
        "target": target.name,
        "cpu_us_per_event": round(median(target.cpu), 2),
        "first_event_us": round(median(target.p50)),
        "rss_mib": round(target.rss, 1),
        "rounds": len(target.cpu),
        "void": target.void,
    }


def show(targets: list[Target]) -> None:
    """One table."""
    base = {target.name.split(",")[0]: median(target.cpu) for target in targets}
    table = Table(title="SSE: CPU of the proxy for each event, medians of interleaved rounds")
    for column in ("target", "CPU us", "x nginx", "x Envoy", "first event us", "RSS MiB", "void"):
        table.add_column(column, justify="left" if column == "target" else "right")
    for target in targets:
        cpu = median(target.cpu)
        ratios = [f"{cpu / base[peer]:.2f}" if base.get(peer) else "" for peer in ("nginx", "envoy")]
        table.add_row(
            target.name, f"{cpu:.1f}", *ratios, f"{median(target.p50):.0f}", f"{target.rss:.0f}", str(target.void)
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
