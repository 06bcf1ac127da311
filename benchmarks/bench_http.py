"""A JSON exchange of 1 KB (and a request of 1 MB) through us, beside nginx, Envoy, LiteLLM and Portkey.

    python benchmarks/bench_http.py [--rounds 5] [--seconds 2] [--only aegis,nginx] [--json FILE]

Needs wrk and nginx (apt); the others are left out where they are not installed (.ci/install-bench-peers). 16
connections from wrk with a Lua POST; the upstream is nginx with a fixed completion. `clean`: full pipeline, nothing to
find. `identifiers`: some are taken out and all of them put back into the answer; `unseen`: out of another text each
time, as the airlock remembers where it found something. side_by_side.py has the method. The open loop (open_loop.py)
shows what a proxy adds to the latency of going there directly. Where there is a C compiler the same is measured with
the hot path compiled (compiled_tree.py).
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from compiled_tree import compiled_tree
from rich.console import Console
from rich.table import Table
from side_by_side import (
    LOAD_CORE,
    ROOT,
    Stage,
    Target,
    aegis_proxy,
    envoy_proxy,
    free_port,
    litellm_proxy,
    median,
    nginx,
    nginx_proxy,
    policy,
    portkey_proxy,
    stage,
)

from policies.airlock.config import AirlockConfig
from policies.airlock.redact import AirlockPolicy
from policies.model import DialectName, Exchange, ExchangeId, Forward, UnixNanos
from policies.pipeline import Pipeline
from sidecar.dialects.registry import Dialects

KEY = bytes(range(32))
CLEAN = "The report says that the river will rise a little after the rain tonight. " * 11
FOUND = (
    "Summarise: Ms Ada Byron, SSN 536-22-8726, MRN: 48120931, reached at ada.byron@example.org or (212) 555-0142, "
    "was seen on 2026-03-14. "
)
PEERS_BESIDE = {"nginx": nginx_proxy, "envoy": envoy_proxy, "litellm": litellm_proxy, "portkey": portkey_proxy}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rate", type=int, default=4000, help="requests a second of the open loop; 0: leave it out")
    parser.add_argument("--only", default="nginx,envoy,litellm,portkey,aegis,compiled", help="comma-separated")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, stage(Path(directory)) as it:
        groups = measure(it, options)
    show(groups)
    if options.json:
        options.json.write_text(
            json.dumps({name: list(map(figures, targets)) for name, targets in groups.items()}, indent=2)
        )


def measure(it: Stage, options: argparse.Namespace) -> dict[str, list[Target]]:
    """Group -> its targets, measured."""
    only = set(options.only.split(","))
    clean, found, large = prompt(CLEAN), prompt(FOUND + CLEAN[: 1024 - len(FOUND) - 180]), prompt(CLEAN * 1290)
    plain = upstream(it, "plain", completion("Heavy rain is expected tonight, and the river will rise a little."))
    echoing = upstream(it, "echoing", completion("You said: " + tokens_of(found)))
    beside: list[Target] = []
    for name, start in PEERS_BESIDE.items():
        if name in only:
            try:
                beside.append(start(it, plain))
            except RuntimeError as error:
                Console(stderr=True).print(f"{name}: {error}")
    small = [(target, clean) for target in beside]
    for name, tree in trees(only):
        full = aegis_proxy(it, f"{name}, full, identifiers", policy(echoing, airlock=True), KEY, tree)
        small += [
            (aegis_proxy(it, f"{name}, pass-through", policy(plain, airlock=False), KEY, tree), clean),
            (aegis_proxy(it, f"{name}, full, clean", policy(plain, airlock=True), KEY, tree), clean),
            (full, found),
            # A text that was seen before is not searched again; a new one with each request shows what that spares.
            (Target(f"{name}, full, identifiers, unseen", full.port, full.process), found),
        ]
    rounds(it, small, options)
    groups = {"1 KB": [target for target, _ in small]}
    if options.rate:
        groups[f"{options.rate} requests a second, open loop"] = open_loop(it, plain, small, options)
    if {"nginx", "aegis"} <= only:
        # nginx as an upstream answers before it has read a long request.
        slow = reading_upstream(it, completion("Understood."))
        big = [
            nginx_proxy(it, slow, "nginx-large"),
            aegis_proxy(it, "aegis, pass-through, large", policy(slow, airlock=False), KEY),
            aegis_proxy(it, "aegis, full, large", policy(slow, airlock=True), KEY),
        ]
        # The airlock remembers where it found nothing; a text that it never saw shows what it costs to look.
        unseen = Target("aegis, full, large, unseen", big[-1].port, big[-1].process)
        big.append(unseen)
        rounds(it, [(target, large) for target in big], options)
        groups["1 MB request"] = big
    return groups


def trees(only: set[str]) -> list[tuple[str, Path]]:
    """Name and sources of our own targets. Says why there is no compiled one."""
    found = [("aegis", ROOT)] if "aegis" in only else []
    if "compiled" in only:
        try:
            found.append(("compiled", compiled_tree()))
        except RuntimeError as reason:
            Console(stderr=True).print(f"compiled: {reason}")
    return found


def rounds(it: Stage, targets: list[tuple[Target, bytes]], options: argparse.Namespace) -> None:
    """Load every target in turn, round by round; the first round warms up."""
    for number in range(options.rounds + 1):
        for target, body in targets:
            seconds = options.seconds if number else 1
            run = wrk(it, target, body, seconds, options.connections)
            if not number:
                continue
            if run is None:
                target.void += 1
                continue
            cpu, rate, p50, p99 = run
            target.cpu.append(cpu)
            target.rate.append(rate)
            target.p50.append(p50)
            target.p99.append(p99)
    for target, _ in targets:
        target.weigh()


def open_loop(it: Stage, upstream: int, small: list[tuple[Target, bytes]], options: argparse.Namespace) -> list[Target]:
    """The same targets, and the upstream itself, under a load that does not wait for answers. Those that cannot keep
    up are left out: their queue would be measured."""
    direct = Target("directly", upstream, small[0][0].process)
    slow = ("litellm", "portkey")
    able = [(t, body) for t, body in small if not t.name.startswith(slow) and "identifiers" not in t.name]
    measured = [(replace(target, cpu=[], p50=[], p99=[], rate=[], void=0), body) for target, body in able]
    measured.insert(0, (direct, small[0][1]))
    for _ in range(options.rounds):
        for target, body in measured:
            (it.directory / "body.json").write_bytes(body)
            argv = [sys.executable, Path(__file__).with_name("open_loop.py"), target.port, target.path]
            argv += [it.directory / "body.json", "--rate", options.rate, "--seconds", options.seconds]
            before = target.cpu_seconds()
            out = subprocess.run(
                ["taskset", "-c", str(LOAD_CORE), *map(str, argv)], capture_output=True, text=True, check=True
            ).stdout
            used = target.cpu_seconds() - before
            result = json.loads(out)
            if result["failed"]:
                target.void += 1
                continue
            target.cpu.append(used / result["count"] * 1e6 if target is not direct else 0.0)
            target.rate.append(result["count"] / options.seconds)
            target.p50.append(result["p50"])
            target.p99.append(result["p99"])
    for target, _ in measured:
        target.weigh()
    return [target for target, _ in measured]


def wrk(
    it: Stage, target: Target, body: bytes, seconds: int, connections: int
) -> tuple[float, float, float, float] | None:
    """(CPU us a request, requests a second, p50 us, p99 us), or None: something went wrong and nothing counts."""
    script = it.directory / "post.lua"
    (it.directory / "body.json").write_bytes(body)
    headers = {
        "Content-Type": "application/json",
        "Authorization": "Bearer sk-0123456789abcdef0123456789abcdef",
        "User-Agent": "OpenAI/Python 2.54.0",
        "X-Stainless-Lang": "python",
        "X-Stainless-Package-Version": "2.54.0",
        "X-Stainless-OS": "Linux",
        "X-Stainless-Arch": "x64",
        "X-Stainless-Runtime": "CPython",
        "X-Stainless-Async": "false",
        "x-stainless-retry-count": "0",
    }
    if target.name.startswith("portkey"):
        headers |= {"x-portkey-provider": "openai", "x-portkey-custom-host": target.problem}
    lines = [f'wrk.headers["{name}"]="{value}"' for name, value in headers.items()]
    script.write_text(
        "\n".join(
            [
                'wrk.method="POST"',
                f'local f=io.open("{it.directory}/body.json","rb")',
                'wrk.body=f:read("*a")',
                "f:close()",
                *lines,
                *(_CHANGING if target.name.endswith("unseen") else ()),
            ]
        )
    )
    argv = [
        "taskset",
        "-c",
        str(LOAD_CORE),
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--latency",
        "-s",
        script,
    ]
    before = target.cpu_seconds()
    out = subprocess.run(
        [*map(str, argv), f"http://127.0.0.1:{target.port}{target.path}"], capture_output=True, text=True, check=True
    ).stdout
    used = target.cpu_seconds() - before
    count = re.search(r"(\d+) requests in", out)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
    if count is None or rate is None or int(count[1]) == 0 or "Non-2xx" in out or "Socket errors" in out:
        return None
    return used / int(count[1]) * 1e6, float(rate[1]), _latency(out, "50%"), _latency(out, "99%")


_CHANGING = (
    "local middle,n=math.floor(#wrk.body/2),os.time()*100000",
    'while wrk.body:sub(middle,middle)~="." do middle=middle+1 end',
    "local front,back=wrk.body:sub(1,middle),wrk.body:sub(middle+1)",
    'local word=function() return (string.format("%x",n):gsub("%d",function(d) return string.char(103+d) end)) end',
    'request=function() n=n+1; return wrk.format(nil,nil,nil,front.." "..word()..back) end',
)
"""Lua for a body that is another one with every request of every round: a word of letters behind the full stop in its
middle, counted on from the time."""


def _latency(out: str, which: str) -> float:
    found = re.search(rf"{which}\s+([\d.]+)(us|ms|s)", out)
    return float(found[1]) * {"us": 1, "ms": 1e3, "s": 1e6}[found[2]] if found else 0.0


def upstream(it: Stage, name: str, body: str) -> int:
    """nginx that answers everything the same; its port."""
    port = free_port()
    quoted = body.replace("\\", "\\\\").replace("'", "\\'")
    location = f"location / {{ default_type application/json; return 200 '{quoted}'; }}"
    # A location that returns does not read the body; large ones must be taken in all the same.
    large = f"client_body_in_single_buffer on; server {{ listen 127.0.0.1:{port} backlog=4096; {location} }}"
    nginx(it, f"upstream-{name}", port, large, core=LOAD_CORE)
    return port


def reading_upstream(it: Stage, body: str) -> int:
    """A server that answers once it has read the whole request; its port."""
    port = free_port()
    answer = it.directory / "answer.json"
    answer.write_text(body)
    script = Path(__file__).with_name("upstream.py")
    it.start("upstream-reading", [sys.executable, script, str(port), "--answer", answer], port, core=LOAD_CORE)
    return port


def prompt(text: str) -> bytes:
    """An OpenAI chat request."""
    messages = [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": text}]
    return json.dumps({"model": "gpt-4o-mini", "temperature": 0.2, "messages": messages}).encode()


def completion(text: str) -> str:
    """An OpenAI chat answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 210, "completion_tokens": 15, "total_tokens": 225}
    whole = {"id": "chatcmpl-123", "object": "chat.completion", "created": 1795132800, "model": "gpt-4o-mini"}
    return json.dumps({**whole, "choices": [choice], "usage": usage})


def tokens_of(body: bytes) -> str:
    """The tokens that this prompt's identifiers become under KEY: an upstream with a fixed answer has to know them."""
    read = Dialects().choose("POST", "/v1/chat/completions", {}).read(body)
    exchange = Exchange(
        ExchangeId("0" * 26), "local", DialectName.OPENAI_CHAT, read.model, "everything", False, UnixNanos(0)
    )
    policy = AirlockPolicy(AirlockConfig(profile="hipaa_safe_harbor"), KEY)  # type: ignore[arg-type]  # a StrEnum
    verdict = Pipeline([policy]).open(exchange).request(read.segments, UnixNanos(0))
    assert isinstance(verdict, Forward)
    found = re.findall(r"\[[A-Z_]+-[0-9A-Z]+\]", " ".join(verdict.edits.values()))
    assert len(set(found)) >= 4, found
    return ", ".join(dict.fromkeys(found))


def figures(target: Target) -> dict[str, object]:
    """What one target came to."""
    return {
        "target": target.name,
        "cpu_us": round(median(target.cpu), 2),
        "requests_per_second": round(median(target.rate)),
        "p50_us": round(median(target.p50)),
        "p99_us": round(median(target.p99)),
        "rss_mib": round(target.rss, 1),
        "rounds": len(target.cpu),
        "void": target.void,
    }


def show(groups: dict[str, list[Target]]) -> None:
    """One table a group."""
    for name, targets in groups.items():
        base = {re.split("[-,]", target.name)[0]: median(target.cpu) for target in targets}
        table = Table(title=f"{name}: CPU of the proxy for each request, medians of interleaved rounds")
        for column in ("target", "CPU us", "x nginx", "x Envoy", "p50 us", "p99 us", "req/s", "RSS MiB", "void"):
            table.add_column(column, justify="left" if column == "target" else "right")
        for target in targets:
            cpu = median(target.cpu)
            ratios = [f"{cpu / base[peer]:.2f}" if base.get(peer) else "" for peer in ("nginx", "envoy")]
            row = [median(target.p50), median(target.p99), median(target.rate)]
            table.add_row(
                target.name, f"{cpu:.1f}", *ratios, *(f"{v:.0f}" for v in row), f"{target.rss:.0f}", str(target.void)
            )
        Console(width=130).print(table)


if __name__ == "__main__":
    main()
