"""Proxies beside each other on one machine: how each is started, and what the operating system says it cost.

Method (the same for every target): the proxy has the first core to itself, load and upstream have the last; CPU is
user and system time of the proxy's whole process tree, from /proc, before and after a run, divided by what was
completed. Targets are interleaved round by round and medians are shown. A run in which anything but a good answer came
counts for nothing.
"""

import contextlib
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PEERS = Path(os.environ.get("AEGIS_PEERS", Path.home() / ".cache/aegis-peers"))
TICKS = os.sysconf("SC_CLK_TCK")
CORES = sorted(os.sched_getaffinity(0))
PROXY_CORE, LOAD_CORE = CORES[0], CORES[-1]


@dataclass
class Target:
    """One running proxy."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    path: str = "/v1/chat/completions"
    cpu: list[float] = field(default_factory=list)
    """Microseconds for each thing completed, one value a round."""
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    void: int = 0
    """Rounds that did not count."""
    rss: float = 0.0
    """MiB of the process tree after the last round."""
    problem: str = ""

    def cpu_seconds(self) -> float:
        """CPU time of the tree so far."""
        return sum(_cpu_seconds(pid) for pid in tree(self.process.pid))

    def weigh(self) -> None:
        """Remember what it holds in memory."""
        self.rss = sum(_rss_kib(pid) for pid in tree(self.process.pid)) / 1024


def tree(pid: int) -> list[int]:
    """A process and everything it started."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return list(dict.fromkeys(found))


def _cpu_seconds(pid: int) -> float:
    """To the nanosecond where the kernel keeps scheduler statistics, else to the tick, which is some 10 ms."""
    with contextlib.suppress(OSError):
        tasks = [task / "schedstat" for task in Path(f"/proc/{pid}/task").iterdir()]
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS
    return 0.0


def _rss_kib(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    return 0


def free_port() -> int:
    """A port that nobody had a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Stage:
    """Starts processes, waits until they listen, and ends them all."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        port: int,
        *,
        core: int,
        env: Mapping[str, str] | None = None,
        wait: float = 20,
    ) -> subprocess.Popen[bytes]:
        """A process pinned to `core` that listens on `port`. Raises RuntimeError with the end of its output."""
        log = self.directory / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["taskset", "-c", str(core), *map(str, argv)],
                stdout=output,
                stderr=output,
                env={**os.environ, **(env or {})},
                cwd=self.directory,
                start_new_session=True,
            )
        self._processes.append(process)
        ends = time.monotonic() + wait
        while time.monotonic() < ends and process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
                return process
            time.sleep(0.05)
        raise RuntimeError(f"{name} does not listen: {log.read_text(errors='replace')[-800:]}")

    def end(self) -> None:
        """Stop everything that was started."""
        for process in reversed(self._processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextlib.contextmanager
def stage(directory: Path) -> Iterator[Stage]:
    """A stage that is cleared in any case."""
    it = Stage(directory)
    try:
        yield it
    finally:
        it.end()


# --- proxies ---

_NGINX = """
worker_processes 1; daemon off; pid {directory}/{name}.pid; error_log {directory}/{name}.err;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s;
  client_max_body_size 64m; client_body_buffer_size 2m;
  client_body_temp_path {directory}/{name}-body; proxy_temp_path {directory}/{name}-proxy;
  fastcgi_temp_path {directory}/{name}-f; uwsgi_temp_path {directory}/{name}-u; scgi_temp_path {directory}/{name}-s;
  {http}
}}
"""


def nginx(it: Stage, name: str, port: int, http: str, *, core: int) -> subprocess.Popen[bytes]:
    """nginx with one worker."""
    config = it.directory / f"{name}.conf"
    config.write_text(_NGINX.format(directory=it.directory, name=name, http=http))
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    return it.start(name, [binary, "-c", config, "-p", it.directory], port, core=core)


def nginx_proxy(it: Stage, upstream: int, name: str = "nginx") -> Target:
    """nginx as a plain reverse proxy that keeps connections."""
    port = free_port()
    http = f"""
      upstream model {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; }}
      server {{ listen 127.0.0.1:{port} backlog=4096;
        location / {{ proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection "";
                      proxy_buffering off; proxy_request_buffering off; proxy_read_timeout 600s; }} }}
    """
    return Target(name, port, nginx(it, name, port, http, core=PROXY_CORE))


_ENVOY = """
admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {admin} }} }} }}
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          route_config:
            virtual_hosts:
            - name: model
              domains: ["*"]
              routes: [{{ match: {{ prefix: "/" }}, route: {{ cluster: model, timeout: 600s }} }}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
  clusters:
  - name: model
    connect_timeout: 5s
    load_assignment:
      cluster_name: model
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {upstream} }} }} }}
"""


def envoy_proxy(it: Stage, upstream: int) -> Target:
    """Envoy as a plain reverse proxy: it forwards blindly. Raises RuntimeError where it is not installed."""
    port = free_port()
    config = it.directory / "envoy.yaml"
    config.write_text(_ENVOY.format(port=port, admin=free_port(), upstream=upstream))
    binary = PEERS / "envoy/bin/envoy"
    if not binary.exists():
        raise RuntimeError("not installed; run .ci/install-bench-peers envoy")
    argv = [binary, "-c", config, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    return Target("envoy, blind", port, it.start("envoy", argv, port, core=PROXY_CORE))


def litellm_proxy(it: Stage, upstream: int) -> Target:
    """LiteLLM's proxy without any guard. Raises RuntimeError where it is not installed."""
    binary = PEERS / "litellm/bin/litellm"
    if not binary.exists():
        raise RuntimeError("not installed; run .ci/install-bench-peers litellm")
    port = free_port()
    config = it.directory / "litellm.yaml"
    config.write_text(
        f"""model_list:
- model_name: gpt-4o-mini
  litellm_params: {{ model: openai/gpt-4o-mini, api_base: "http://127.0.0.1:{upstream}/v1", api_key: sk-x }}
general_settings: {{ master_key: sk-0123456789abcdef0123456789abcdef }}
"""
    )
    env = {
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
        "LITELLM_LOG": "ERROR",
    }
    argv = [binary, "--config", config, "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    return Target("litellm, no guard", port, it.start("litellm", argv, port, core=PROXY_CORE, env=env, wait=120))


def portkey_proxy(it: Stage, upstream: int) -> Target:
    """Portkey's gateway without any guard. Raises RuntimeError where it is not installed."""
    directory = PEERS / "portkey/node_modules/@portkey-ai/gateway"
    node = shutil.which("node")
    if node is None or not directory.exists():
        raise RuntimeError("not installed; run .ci/install-bench-peers portkey")
    port = free_port()
    argv = [node, directory / "build/start-server.js", f"--port={port}", "--headless"]
    target = Target("portkey, no guard", port, it.start("portkey", argv, port, core=PROXY_CORE, wait=60))
    target.problem = f"http://127.0.0.1:{upstream}/v1"
    return target


def aegis_proxy(it: Stage, name: str, policy: str, key: bytes, tree: Path = ROOT) -> Target:
    """Our sidecar under these policy documents, with its audit spool on disk and all of its metrics. `tree`: its
    sources."""
    slug = name.replace(" ", "-").replace(",", "")
    data = it.directory / slug
    data.mkdir()
    (data / "policy.yaml").write_text(policy)
    (data / "key").write_bytes(key)
    (data / "key").chmod(0o600)
    port = free_port()
    argv: list[str | Path] = [sys.executable, "-P", "-m", "aegis", "sidecar", "--listen", f"127.0.0.1:{port}"]
    for page in ("ready", "metrics", "admin"):
        argv += [f"--{page}", f"127.0.0.1:{free_port()}"]
    argv += ["--policy-file", data / "policy.yaml", "--data", data, "--tenant-key-file", data / "key"]
    env = {"PYTHONPATH": os.pathsep.join([str(tree), str(tree / "proto")])}
    return Target(name, port, it.start(slug, argv, port, core=PROXY_CORE, env=env))


def policy(upstream: int, *, airlock: bool) -> str:
    """One route for everything to `upstream`; with `airlock` every label of hipaa_safe_harbor is tokenised."""
    name, audit = ("hipaa", "required") if airlock else ("none", "best-effort")
    return f"""
apiVersion: aegis.mesh/v1
kind: Upstream
metadata: {{name: model}}
spec: {{url: "http://127.0.0.1:{upstream}"}}
---
apiVersion: aegis.mesh/v1
kind: AirlockPolicy
metadata: {{name: hipaa}}
spec: {{profile: hipaa_safe_harbor}}
---
apiVersion: aegis.mesh/v1
kind: Route
metadata: {{name: everything}}
spec: {{prefix: /, upstream: model, airlock: {name}, audit: {audit}}}
"""


def median(values: Sequence[float]) -> float:
    """0 where nothing counted."""
    return statistics.median(values) if values else 0.0
