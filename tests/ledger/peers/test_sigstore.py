"""The code that verifies signed Python and npm packages accepts our checkpoints and proofs."""

import json
import shutil
from base64 import b64encode
from typing import Any

import pytest

from ledger.keys import parse_vkey
from tests.fakes.ledger_producers import leaf
from tests.ledger.peers.conftest import ORIGIN, PEERS, PROGRAMS, SampleLog, expect, python_of, run

pytestmark = pytest.mark.peers


def text(data: bytes) -> str:
    return b64encode(data).decode()


def question(sample: SampleLog) -> dict[str, Any]:
    key = parse_vkey(sample.ed25519)
    return {
        "note": sample.cosigned.decode(),
        "origin": ORIGIN,
        "key_id": key.id.hex(),
        "public_key": text(key.public_key),
        "inclusion": [
            [index, text(leaf(index)), [text(value) for value in sample.reader.inclusion_proof(index)]]
            for index in sample.indices
        ],
    }


def ask_python(asked: dict[str, Any]) -> Any:
    return run(python_of("sigstore"), PROGRAMS / "sigstore_python.py", stdin=json.dumps(asked).encode())


def ask_npm(asked: dict[str, Any]) -> Any:
    if not shutil.which("node") or not (PEERS / "npm/.complete").exists():
        pytest.skip(f"node or @sigstore/verify is not in {PEERS}: run .ci/install-ledger-peers")
    return run("node", PROGRAMS / "sigstore_npm.js", PEERS / "npm", stdin=json.dumps(asked).encode())


@pytest.mark.parametrize("ask", [ask_python, ask_npm])
def test_sigstore_verifies_checkpoint_and_inclusion(sample: SampleLog, ask: Any) -> None:
    assert expect(0, ask(question(sample))).split() == [ORIGIN.encode(), b"66123"]


@pytest.mark.parametrize("ask", [ask_python, ask_npm])
@pytest.mark.parametrize("altered", ["note", "leaf", "proof"])
def test_sigstore_refuses_what_was_altered(sample: SampleLog, ask: Any, altered: str) -> None:
    asked = question(sample)
    match altered:
        case "note":
            asked["note"] = asked["note"].replace("66123", "66124")
        case "leaf":
            asked["inclusion"][2][1] = text(leaf(7))
        case _:
            asked["inclusion"][2][2].pop()

    expect(1, ask(asked))
