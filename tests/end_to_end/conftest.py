"""The whole product as a user starts it: `aegis up` before `aegis simulate-model`, as processes of their own."""

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from commands.up.config import UpConfig
from commands.up.readiness import wait_until_ready
from tests.fakes.ports import reserved_ports

AEGIS = (sys.executable, "-P", "-m", "aegis")


@dataclass(frozen=True)
class Product:
    """A running product."""

    config: UpConfig
    data: Path
    process: "subprocess.Popen[bytes]"
    output: Path

    @property
    def openai(self) -> str:
        return f"http://127.0.0.1:{self.config.port}/openai/v1"

    @property
    def anthropic(self) -> str:
        return f"http://127.0.0.1:{self.config.port}/anthropic"

    def seen(self) -> list[dict[str, Any]]:
        """What the model saw, oldest first."""
        return fetch(f"{self.config.upstream}/_seen")

    def told(self) -> str:
        """The last body that reached the model."""
        body: str = self.seen()[-1]["body"]
        return body


def on_reserved_ports(config: UpConfig) -> UpConfig:
    """The config with ports that no other test has."""
    names = config.ports()
    return config.with_ports(dict(zip(names, reserved_ports(len(names)), strict=True)))


def fetch(url: str) -> Any:
    """The JSON at a loopback URL."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        connection.request("GET", parts.path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


@contextmanager
def running_model() -> Iterator[str]:
    """The base URL of a simulated model."""
    with subprocess.Popen([*AEGIS, "simulate-model", "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE) as model:
        assert model.stdout is not None
        try:
            yield model.stdout.readline().decode().split()[-1]
        finally:
            model.terminate()


def up_flags(config: UpConfig, data: Path) -> list[str]:
    """The flags that make `aegis up` run with this config in this directory."""
    ports = [(f"--{name.replace('_', '-')}", str(port)) for name, port in config.ports().items()]
    flags = [("--upstream", config.upstream), ("--data", str(data)), ("--protocol", config.protocol), *ports]
    return [text for flag in flags for text in flag]


@contextmanager
def running_product(data: Path, **settings: Any) -> Iterator[Product]:
    """`aegis up`, ready; stopped by SIGTERM at the end, which must succeed."""
    config = UpConfig(**settings)
    config = on_reserved_ports(config)
    output = data.with_suffix(".out")
    with (
        output.open("wb") as out,
        subprocess.Popen([*AEGIS, "up", *up_flags(config, data)], stdout=out, stderr=out) as process,
    ):
        try:
            import asyncio

            asyncio.run(wait_until_ready(config.ready_port, within=60))
            yield Product(config, data, process, output)
        finally:
            process.terminate()
            status = process.wait(timeout=60)
    assert status == 0, output.read_text()


@pytest.fixture(scope="session")
def model() -> Iterator[str]:
    """A simulated model for all tests."""
    with running_model() as url:
        yield url


@pytest.fixture(scope="session")
def product(model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """One product for all tests that do not disturb it."""
    with running_product(tmp_path_factory.mktemp("up") / "data", upstream=model) as product:
        yield product
