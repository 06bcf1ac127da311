"""T30: nothing that a client or a model said, no key and no token is in any log, metric, page, spool or ledger.

Canaries go in wherever a client can put something: text, identifiers, credentials, names, paths, queries, broken bytes.
Then everything that the product wrote or shows is searched for them, and for the tokens that the model saw.
"""

import http.client
import json
import re
import socket
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Product, running_product

pytestmark = pytest.mark.slow

WORD = "quetzalcoatl"
"""Stands in every canary that is free text; no program of ours has a use for it."""
SSN, EMAIL, PHONE, MRN = "536-90-4399", f"{WORD}.patient@example.com", "(212) 555-0187", "48392117"
KEY = f"sk-proj-{WORD}KEY0123456789"
IDENTIFIERS = f"MRN {MRN}, SSN {SSN}, mail {EMAIL}, phone {PHONE}"
CANARIES = (WORD, SSN, PHONE, "212-555-0187", MRN)
TOKEN = re.compile(r"\[[A-Z][A-Z-]{1,40}-[0-9A-HJKMNP-TV-Z]{6}\]")


def chat(text: str, **more: object) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], **more}).encode()


def claude(text: str, **more: object) -> bytes:
    return json.dumps(
        {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": text}], **more}
    ).encode()


OPENAI, ANTHROPIC = "/openai/v1/chat/completions", "/anthropic/v1/messages"
REQUESTS: list[tuple[str, str, bytes]] = [
    ("a prompt", OPENAI, chat(f"{WORD} says: {IDENTIFIERS}")),
    ("a stream", OPENAI, chat(f"{WORD} says: {IDENTIFIERS}", stream=True)),
    ("another provider", ANTHROPIC, claude(f"{WORD} says: {IDENTIFIERS}", stream=True, system=f"{WORD} {EMAIL}")),
    ("embeddings", "/openai/v1/embeddings", json.dumps({"model": "m", "input": [f"{WORD} {EMAIL}"]}).encode()),
    ("a model's name", OPENAI, chat("hello", model=f"{WORD} model {SSN}")),
    ("a model's name that looks like one", OPENAI, chat("hello", model=f"{WORD}?status=404")),
    ("who asks", OPENAI, chat("hello", user=f"{WORD}-{EMAIL}", metadata={f"{WORD}": EMAIL})),
    ("tools", OPENAI, chat("hello", model="m?tool-calls=1", tools=[{"type": "function", "function": {"name": WORD}}])),
    ("a refusal of the provider", OPENAI, chat(f"{WORD} {SSN}", model="m?status=429")),
    ("an error of the provider", ANTHROPIC, claude(f"{WORD} {SSN}", model="m?status=500")),
    ("a stream that breaks off", OPENAI, chat(f"{WORD} {SSN}", model="m?fail-after=2&failure=close", stream=True)),
    ("not JSON", OPENAI, f'{{"messages": [{WORD} {SSN}'.encode()),
    ("a key twice", OPENAI, f'{{"model": "m", "model": "{WORD}", "messages": []}}'.encode()),
    ("not Unicode", OPENAI, f'{{"model": "{WORD}'.encode() + b'\xff"}'),
    ("the wrong types", OPENAI, json.dumps({"model": {WORD: 1}, "messages": WORD}).encode()),
    ("an unknown endpoint", f"/openai/v1/{WORD}", json.dumps({WORD: f"{WORD} {SSN}"}).encode()),
    ("a query", f"{OPENAI}?key={KEY}&q={WORD}", chat("hello")),
    ("no route", f"/{WORD}/v1/chat", chat("hello")),
    ("an empty body", OPENAI, b""),
]
BROKEN = [
    f"GET /{WORD} HTTP/1.1\r\nBad Header {WORD}\r\n\r\n",
    f"{WORD} {WORD} {WORD}\r\n\r\n",
    f"POST {OPENAI} HTTP/1.1\r\nHost: a\r\nContent-Length: {WORD}\r\n\r\n",
    f"POST {OPENAI} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX-A: {KEY}\r\n\r\nzz{WORD}\r\n",
    f"POST {OPENAI} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 90\r\n\r\n{WORD}",
]


@pytest.fixture(scope="module")
def exposed(model: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Everything that the product wrote or showed while canaries went through it: where -> what."""
    directory = tmp_path_factory.mktemp("canary")
    shown: dict[str, bytes] = {}
    with running_product(directory / "data", upstream=model) as product:
        ask(product.config.admin_port, "POST", "/log_level?level=debug")
        for _, path, body in REQUESTS:
            headers = {
                "content-type": "application/json",
                "authorization": f"Bearer {KEY}",
                "x-api-key": KEY,
                "cookie": f"session={KEY}",
                "user-agent": f"{WORD}/1.0",
                "traceparent": f"00-{WORD}",
                "x-custom": f"{WORD} {SSN}",
            }
            ask(product.config.port, "POST", path, body, headers)
        for head in BROKEN:
            send(product.config.port, head.encode())
        shown |= {f"page {name}": page for name, page in pages(product)}
        tokens = {token for seen in product.seen() for token in TOKEN.findall(seen["body"])}
    shown |= {str(file.relative_to(directory)): file.read_bytes() for file in files(directory)}
    assert len(tokens) >= 4, "the model saw tokens in place of identifiers"
    shown["tokens"] = " ".join(tokens).encode()
    return shown


def ask(port: int, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, headers or {})
        return connection.getresponse().read()
    except (http.client.HTTPException, OSError):
        return b""  # broken on purpose
    finally:
        connection.close()


def send(port: int, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        try:
            while client.recv(65536):
                pass
        except OSError:
            pass


def pages(product: Product) -> Iterator[tuple[str, bytes]]:
    config = product.config
    for page in ("/config_dump", "/snapshot", "/clients"):
        yield f"admin {page}", ask(config.admin_port, "GET", page)
    for name, port in {"sidecar": config.metrics_port, "control plane": config.controlplane_metrics_port}.items():
        yield f"metrics of {name}", ask(port, "GET", "/metrics")
    yield "readiness", ask(config.ready_port, "GET", "/healthz/ready")
    yield "ledger metrics", ask(config.ledger_http_port, "GET", "/metrics")


def files(directory: Path) -> Iterator[Path]:
    yield from (file for file in directory.rglob("*") if file.is_file())


def found(needles: Iterator[str], shown: dict[str, bytes]) -> list[str]:
    """Where any of the needles is, plain, in base64 at any offset, or percent-encoded."""
    hits = []
    for needle in needles:
        raw = needle.encode()
        coded = [b64encode(b"x" * n + raw)[4 if n else 0 : -4].strip(b"=") for n in range(3)]
        for where, what in shown.items():
            if any(form and form in what for form in (raw, *coded)) and where != "tokens":
                hits.append(f"{needle} in {where}")
    return hits


def test_the_search_finds_what_is_there() -> None:
    shown = {"plain": f"a {WORD} b".encode(), "base64": b64encode(f"ab{WORD} c".encode()), "clean": b"nothing"}

    assert [f"{WORD} in plain", f"{WORD} in base64"] == found(iter([WORD]), shown)


def test_canaries_went_through_everything_that_is_searched(exposed: dict[str, bytes]) -> None:
    log = b"".join(what for where, what in exposed.items() if where.endswith((".log", ".out")))

    assert exposed["page metrics of sidecar"].count(b"aegis_exchanges_total{") >= 5
    assert b'"level":"debug"' in log or b'"level": "debug"' in log or b'"level":"info"' in log
    assert b"gen_ai_client_operation_duration_seconds_count" in exposed["page metrics of sidecar"]
    assert any(where.endswith(".spool") for where in exposed)
    assert any("ledger" in where for where in exposed)


def test_no_text_and_no_identifier_is_exposed(exposed: dict[str, bytes]) -> None:
    assert found(iter(CANARIES), exposed) == []


def test_no_credential_is_exposed(exposed: dict[str, bytes]) -> None:
    assert found(iter([KEY, KEY[:16]]), exposed) == []


def test_no_token_is_exposed(exposed: dict[str, bytes]) -> None:
    """A token links what the model saw to a person, for whoever holds the tenant's key."""
    assert found(iter(exposed["tokens"].decode().split()), exposed) == []
