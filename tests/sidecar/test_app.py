"""One sidecar process, put together for real: policies from a file, a spool on disk, pages on ports."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from observability.metrics import Registry
from observability.telemetry import Telemetry
from policies.compile import compile_documents
from policies.mathprotocol.manifest import PluginTask
from policies.snapshot import PolicySnapshot
from policies.spec import Source
from policies.spec_load import load
from settings import Address, SettingsError
from settings import load as load_settings
from sidecar.app import CannotListenError, Place, Sidecar
from sidecar.config import SidecarConfig
from tests.fakes.chat import completion, content_of, prompt
from tests.fakes.datapath import Message, RawClient, Visit, answering_upstream, scripted_upstream

ANY = Address("127.0.0.1", 0)
CHAT = "/openai/v1/chat/completions"


def policy(url: str, airlock: str = "hipaa", audit: str = "required") -> str:
    return f"""
apiVersion: aegis.mesh/v1
kind: Upstream
metadata: {{name: model}}
spec: {{url: {url}}}
---
apiVersion: aegis.mesh/v1
kind: AirlockPolicy
metadata: {{name: hipaa}}
spec: {{profile: hipaa_safe_harbor}}
---
apiVersion: aegis.mesh/v1
kind: Route
metadata: {{name: openai}}
spec: {{prefix: /openai, upstream: model, airlock: {airlock}, audit: {audit}}}
"""


def config_for(tmp_path: Path, text: str) -> SidecarConfig:
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    return SidecarConfig(
        listen=ANY, ready=ANY, metrics=ANY, admin=ANY, policy_file=(file,), data=tmp_path / "data", drain_timeout=2
    )


def compile_files(hosted: Mapping[int, PluginTask], sources: Sequence[Source], revision: int) -> PolicySnapshot:
    return compile_documents(load(sources), bytes(32), revision=revision, source="file", hosted=hosted)


def sidecar_of(config: SidecarConfig) -> Sidecar:
    registry = Registry()
    return Sidecar(config, registry, Telemetry(registry), compile_files, Place(), "test")


@asynccontextmanager
async def running(config: SidecarConfig) -> AsyncIterator[Sidecar]:
    sidecar = sidecar_of(config)
    started = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(sidecar.run(lambda _: started.set()))
        await started.wait()
        try:
            yield sidecar
        finally:
            sidecar.drain()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[RawClient]:
    client = await RawClient.connect(port)
    try:
        yield client
    finally:
        client.reset()


async def ask(port: int, method: str, path: str, fields: dict[str, str] | None = None) -> Message:
    lines = "".join(f"{name}: {value}\r\n" for name, value in ({"Host": "localhost"} | (fields or {})).items())
    async with connected(port) as client:
        await client.send(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode())
        return await client.answer()


async def test_identifier_is_taken_out_and_put_back_and_the_exchange_is_on_record(tmp_path: Path) -> None:
    async def script(visit: Visit) -> None:
        message = await visit.request()
        upstream.requests.append(message)
        said = json.loads(message.body)["messages"][0]["content"]
        await visit.answer(completion(f"You said: {said}"))

    async with (
        scripted_upstream(script) as upstream,
        running(config_for(tmp_path, policy(upstream.url))) as sidecar,
        connected(sidecar.ports["listen"]) as client,
    ):
        answer = await client.post(CHAT, prompt("My SSN is 536-22-8726."))

        assert b"536-22-8726" not in upstream.requests[0].body
        assert content_of(answer.body) == "You said: My SSN is 536-22-8726."
        assert answer.field("x-aegis-redacted") == "1"
        await _eventually(lambda: sidecar._auditing.waiting >= 2)  # the start of the epoch, and the exchange


@pytest.mark.slow
async def test_policy_files_alone_import_neither_grpc_nor_tunnels(tmp_path: Path) -> None:
    code = """
import sys
from aegis import main
main(standalone_mode=False)
packages = {"grpc", "google.protobuf", "opentelemetry", "redis", "multiprocessing"}
print(sorted(packages & sys.modules.keys()))
print([name for name in sys.modules if name.startswith(("transport.ech", "transport.noise", "transport.tls13"))])
"""
    pages = [word for page in ("listen", "ready", "metrics", "admin") for word in (f"--{page}", "127.0.0.1:0")]
    async with answering_upstream() as upstream:
        config_for(tmp_path, policy(upstream.url))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", code, "sidecar", *pages),
            *("--policy-file", str(tmp_path / "policy.yaml"), "--data", str(tmp_path / "data")),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        async with asyncio.timeout(60):
            port = int((await process.stdout.readline()).rpartition(b":")[2])
            async with connected(port) as client:
                assert (await client.post(CHAT, prompt("My SSN is 536-22-8726."))).status == 200
            process.send_signal(signal.SIGTERM)
            imported = await process.stdout.read()
            await process.wait()

    assert imported == b"[]\n[]\n"


async def test_policy_file_whose_plugin_is_missing_is_refused_and_named(tmp_path: Path) -> None:
    codes = (
        "---\napiVersion: aegis.mesh/v1\nkind: ProtocolPolicy\nmetadata: {name: codes}\nspec: {mode: enforce, "
        "registered: [{prime: 31, name: ProductSentiment, kind: classification, params: [1, 13], code: true}]}\n"
    )
    async with answering_upstream() as upstream:
        config = config_for(tmp_path, policy(upstream.url) + codes)
        example = Path(__file__).parents[2] / "plugins/example_sentiment"

        async with (
            running(config) as without,
            running(replace(config, data=tmp_path / "b", plugins=(example,))) as having,
        ):
            refused, accepted = await without.blockers(), await having.blockers()

    assert "plugin code for task 31 (ProductSentiment)" in refused["policy"]
    assert accepted == {}


async def test_pages_say_what_runs(tmp_path: Path) -> None:
    async with (
        answering_upstream() as upstream,
        running(config_for(tmp_path, policy(upstream.url))) as sidecar,
        connected(sidecar.ports["listen"]) as client,
    ):
        await client.post(CHAT, prompt("hello"))
        ports = sidecar.ports

        ready = await ask(ports["ready"], "GET", "/healthz/ready", {"Host": "10.1.2.3:15021"})
        metrics = await ask(ports["metrics"], "GET", "/metrics")
        snapshot = json.loads((await ask(ports["admin"], "GET", "/snapshot")).body)
        dump = json.loads((await ask(ports["admin"], "GET", "/config_dump")).body)
        clients = json.loads((await ask(ports["admin"], "GET", "/clients")).body)
        tunnels = json.loads((await ask(ports["admin"], "GET", "/tunnels")).body)

        assert (ready.status, json.loads(ready.body)) == (200, {"ready": True, "blockers": {}})
        assert b"aegis_exchanges_total{" in metrics.body
        assert [route["name"] for route in snapshot["routes"]] == ["openai"]
        assert dump["policy_file"]
        assert clients["clients"] == 1
        assert (tunnels["peers"], tunnels["keys"]["workload"]) == ({}, None)


@pytest.mark.parametrize(
    "fields",
    [{"Host": "evil.example"}, {"Host": "localhost.evil.example"}, {"Origin": "http://x"}, {"Sec-Fetch-Site": "none"}],
)
async def test_web_pages_cannot_reach_the_admin_pages(tmp_path: Path, fields: dict[str, str]) -> None:
    """DNS rebinding and requests across origins, from a browser on this machine."""
    async with answering_upstream() as upstream, running(config_for(tmp_path, policy(upstream.url))) as sidecar:
        refused = await ask(sidecar.ports["admin"], "POST", "/drain", fields)

        assert refused.status == 403
        assert not sidecar._draining.is_set()


async def test_admin_sets_the_log_level_and_refuses_others(tmp_path: Path) -> None:
    async with answering_upstream() as upstream, running(config_for(tmp_path, policy(upstream.url))) as sidecar:
        admin = sidecar.ports["admin"]

        assert (await ask(admin, "POST", "/log_level?level=loud")).status == 400
        assert (await ask(admin, "POST", "/log_level?level=warning")).status == 200
        assert (await ask(admin, "GET", "/nothing")).status == 404


async def test_sidecar_without_a_usable_policy_says_so_and_refuses(tmp_path: Path) -> None:
    async with (
        running(config_for(tmp_path, "apiVersion: nonsense\n")) as sidecar,
        connected(sidecar.ports["listen"]) as client,
    ):
        ready = await ask(sidecar.ports["ready"], "GET", "/healthz/ready")
        answer = await client.post(CHAT, prompt("x"))

        assert ready.status == 503
        assert json.loads(ready.body)["blockers"]["policy"]
        assert answer.status == 503


async def test_drain_fails_readiness_first_and_lets_what_is_under_way_end(tmp_path: Path) -> None:
    answer_now = asyncio.Event()

    async def script(visit: Visit) -> None:
        upstream.requests.append(await visit.request())
        await answer_now.wait()
        await visit.answer(completion("late but whole"))

    async with (
        scripted_upstream(script) as upstream,
        running(config_for(tmp_path, policy(upstream.url))) as sidecar,
        connected(sidecar.ports["listen"]) as busy,
        connected(sidecar.ports["listen"]) as idle,
    ):
        await busy.send(_request(prompt("x")))
        await _eventually(lambda: upstream.requests)

        drained = await ask(sidecar.ports["admin"], "POST", "/drain")
        ready = await ask(sidecar.ports["ready"], "GET", "/healthz/ready")
        assert (drained.status, ready.status) == (200, 503)
        assert await idle.is_closed()
        with pytest.raises(ConnectionRefusedError):
            await RawClient.connect(sidecar.ports["listen"])
        answer_now.set()
        answer = await busy.answer()

        assert content_of(answer.body) == "late but whole"
        assert answer.field("connection") == "close"
        assert await busy.is_closed()


async def test_drain_cuts_off_what_does_not_end_and_its_leaf_is_written(tmp_path: Path) -> None:
    async def script(visit: Visit) -> None:
        upstream.requests.append(await visit.request())
        await visit.reader.read()

    async with scripted_upstream(script) as upstream:
        config = replace(config_for(tmp_path, policy(upstream.url)), drain_timeout=0.1)
        async with running(config) as sidecar, connected(sidecar.ports["listen"]) as client:
            await client.send(_request(prompt("x")))
            await _eventually(lambda: upstream.requests)

            sidecar.drain()

            assert await client.is_closed()
    assert sidecar._auditing.waiting == 3  # start, exchange, end


@pytest.mark.parametrize("setting", ["listen", "ready", "metrics", "admin"])
async def test_taken_port_is_named_with_its_setting(tmp_path: Path, setting: str) -> None:
    async with answering_upstream() as upstream:
        taken = Address("127.0.0.1", upstream.port)
        config = replace(config_for(tmp_path, policy(upstream.url)), **{setting: taken})

        with pytest.raises(BaseExceptionGroup) as caught:
            await sidecar_of(config).run(lambda _: None)

        assert caught.value.subgroup(
            lambda error: isinstance(error, CannotListenError) and f"--{setting} " in str(error)
        )


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "exactly one of policy_file and controlplane"),
        ({"AEGIS_SIDECAR_CONTROLPLANE": "cp:8443"}, "identity"),
        ({"AEGIS_SIDECAR_POLICY_FILE": "p.yaml", "AEGIS_SIDECAR_ADMIN": "0.0.0.0:15000"}, "loopback"),
    ],
)
def test_settings_that_do_not_fit_together_are_named(environ: dict[str, str], expected: str) -> None:
    with pytest.raises(SettingsError, match=expected):
        load_settings(SidecarConfig, prefix="AEGIS_SIDECAR_", environ=environ)


def _request(body: bytes) -> bytes:
    return f"POST {CHAT} HTTP/1.1\r\nHost: s\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def _eventually(condition: object) -> None:
    async with asyncio.timeout(5):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.005)
