"""The two exchanges of the demo, from the application to the auditor."""

import asyncio
import http.client
import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from commands.demo.clients import Received, ask_anthropic, ask_openai
from commands.demo.proving import prove
from commands.demo.scene import Scene
from commands.up.config import LOOPBACK
from commands.up.directory import Directory


@dataclass(frozen=True, slots=True)
class Script:
    """One prompt. Every identifier in it is invented."""

    title: str
    path: str
    """Where the prompt arrives at the model."""
    prompt: str
    identifiers: tuple[str, ...]
    ask: Callable[[str, str], Received]
    """Blocks; (base URL of the sidecar, prompt) -> answer."""


SCRIPTS: Final = (
    Script(
        "OpenAI SDK, chat completions, streamed",
        "/v1/chat/completions",
        "Write a referral: MRN 48392117, born 03/14/1961, SSN 536-90-4399, maria.gonzalez@example.com, "
        "phone (212) 736-5000. Hypertension, seen 3 times.",
        ("48392117", "03/14/1961", "536-90-4399", "maria.gonzalez@example.com", "(212) 736-5000"),
        ask_openai,
    ),
    Script(
        "Anthropic SDK, messages",
        "/v1/messages",
        "Draft a reply to j.okafor@example.org: his card 4111 1111 1111 1111 was charged twice; he wrote "
        "from 203.0.113.77.",
        ("j.okafor@example.org", "4111 1111 1111 1111", "203.0.113.77"),
        ask_anthropic,
    ),
)


async def play(number: int, script: Script, sidecar: str, model_port: int, directory: Directory) -> Scene:
    """One exchange, its traces and its proof. Raises DemoError."""
    received = await asyncio.to_thread(script.ask, sidecar, script.prompt)
    body = await asyncio.to_thread(_last_body, model_port, script.path)
    proof = await prove(directory, received.exchange, directory.root / f"{number}.tlog-proof")
    seen = _last_text(json.loads(body))
    return Scene(script.title, script.identifiers, script.prompt, seen, body, received.text, received.pieces, proof)


def canaries(directory: Directory) -> list[str]:
    """Where an identifier of the demo stands that must not: any file but none but its own programs write here."""
    places = (Path(place, name) for place, _, names in os.walk(directory.root) for name in sorted(names))
    return leaks(path for path in places if path.is_file())


def leaks(files: Iterable[Path]) -> list[str]:
    """Identifiers of the demo in these files. The programs run on, so that a file may be gone when its turn comes."""
    found: list[str] = []
    for path in files:
        with suppress(FileNotFoundError):
            content = path.read_bytes()
            identifiers = (value for script in SCRIPTS for value in script.identifiers)
            found += [f"{value} stands in {path}" for value in identifiers if value.encode() in content]
    return found


def _last_body(port: int, path: str) -> str:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=10)
    try:
        connection.request("GET", "/_seen")
        sightings = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    bodies: list[str] = [sighting["body"] for sighting in sightings if sighting["path"] == path]
    return bodies[-1]


def _last_text(body: Any) -> str:
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
