"""Our opener on hellos that Go, NSS, BoringSSL, rustls and Chromium sealed (captured/README.md)."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from transport.ech.config import EchKey
from transport.ech.extension import is_inner
from transport.ech.pem import parse_pem
from transport.ech.server import open_first
from transport.tls13.alerts import TlsError
from transport.tls13.constants import ExtensionType
from transport.tls13.messages import ClientHello

FOLDER = Path(__file__).parent / "captured"
CAPTURED = json.loads((FOLDER / "hellos.json").read_text())
NAME = CAPTURED["inner_name"].encode()
IDS = [f"{each['client']}, {each['scenario']}" for each in CAPTURED["connections"]]
OPENING = [each for each in CAPTURED["connections"] if each["opens"]]


def keys() -> tuple[EchKey, ...]:
    return parse_pem((FOLDER / "key.pem").read_bytes()).keys


def bodies(connection: dict[str, Any]) -> list[bytes]:
    return [bytes.fromhex(body) for body in connection["hellos"]]


@pytest.mark.parametrize("connection", CAPTURED["connections"], ids=IDS)
def test_hello_of_another_client_opens_with_its_key_and_only_then(connection: dict[str, Any]) -> None:
    first, *second = bodies(connection)

    opened = open_first(ClientHello.parse(first), first, keys())

    assert NAME not in b"".join([first, *second]) or connection["scenario"].startswith("grease")
    assert (opened is not None) == connection["opens"]
    if opened is None:
        return
    inners = [opened.inner, *(opened.open_second(ClientHello.parse(body), body) for body in second)]
    assert len(inners) == (2 if "hrr" in connection["scenario"] else 1)
    for inner in inners:
        name = inner.extension(ExtensionType.SERVER_NAME)
        assert name is not None
        assert name.data.endswith(NAME)
        assert is_inner(inner)
        assert ClientHello.parse(inner.encode()) == inner
        assert inner.random != ClientHello.parse(first).random


@pytest.mark.parametrize("connection", OPENING, ids=[f"{each['client']}, {each['scenario']}" for each in OPENING])
def test_hello_of_another_client_is_parsed_and_written_byte_for_byte(connection: dict[str, Any]) -> None:
    for body in bodies(connection):
        assert ClientHello.parse(body).encode() == body


@pytest.mark.parametrize("connection", OPENING, ids=[f"{each['client']}, {each['scenario']}" for each in OPENING])
def test_no_bit_of_a_foreign_hello_can_be_flipped(connection: dict[str, Any]) -> None:
    """RFC 9849 section 10.12.3: whatever is changed, the server falls back to the outer hello or aborts."""
    first = bodies(connection)[0]
    for at in range(0, len(first), 7):
        changed = bytearray(first)
        changed[at] ^= 1 << at % 8
        with suppress(TlsError):
            assert open_first(ClientHello.parse(bytes(changed)), bytes(changed), keys()) is None
