"""Published vectors of XK and XKpsk3: cacophony's, out of the tests of mcginty/snow (Apache-2.0 or MIT)."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from transport.noise import own, package
from transport.noise.suite import Aead, Handshake, Hash, Pattern, StaticKey, Suite

SUITES = [Suite(pattern, aead, hash_) for pattern in Pattern for aead in Aead for hash_ in Hash]


@pytest.fixture(scope="module")
def vectors(shared: Path) -> dict[str, dict[str, Any]]:
    found = json.loads((shared / "vectors/noise/cacophony.txt").read_text())["vectors"]
    return {vector["protocol_name"]: vector for vector in found}


def key(text: str) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(bytes.fromhex(text))


@pytest.mark.parametrize("implementation", [own, package], ids=["own", "package"])
@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_every_message_and_key_is_the_published_one(
    vectors: dict[str, dict[str, Any]], suite: Suite, implementation: Any
) -> None:
    vector = vectors[suite.name]
    sides: list[Handshake] = [
        implementation.initiator(
            suite,
            bytes.fromhex(vector["init_prologue"]),
            StaticKey.of(key(vector["init_static"])),
            bytes.fromhex(vector["init_remote_static"]),
            ephemeral=key(vector["init_ephemeral"]),
        ),
        implementation.responder(
            suite,
            bytes.fromhex(vector["resp_prologue"]),
            StaticKey.of(key(vector["resp_static"])),
            ephemeral=key(vector["resp_ephemeral"]),
        ),
    ]
    messages = [(bytes.fromhex(m["payload"]), bytes.fromhex(m["ciphertext"])) for m in vector["messages"]]

    for turn, (payload, ciphertext) in enumerate(messages[:3]):
        if turn == 2 and suite.pattern is Pattern.XKPSK3:
            sides[0].set_psk(bytes.fromhex(vector["init_psks"][0]))
            sides[1].set_psk(bytes.fromhex(vector["resp_psks"][0]))
        assert sides[turn % 2].write_message(payload) == ciphertext
        assert sides[(turn + 1) % 2].read_message(ciphertext) == payload

    initiator, responder = sides[0].split(), sides[1].split()
    assert initiator.handshake_hash == responder.handshake_hash == bytes.fromhex(vector["handshake_hash"])
    assert (initiator.send, initiator.receive) == (responder.receive, responder.send)
    assert sides[1].remote_static == StaticKey.of(key(vector["init_static"])).public

    cipher = AESGCM if suite.aead is Aead.AESGCM else ChaCha20Poly1305
    for turn, (payload, ciphertext) in enumerate(messages[3:]):
        sender = responder if turn % 2 == 0 else initiator
        order = "big" if suite.aead is Aead.AESGCM else "little"
        nonce = bytes(4) + (turn // 2).to_bytes(8, order)
        assert cipher(sender.send).encrypt(nonce, payload, b"") == ciphertext
