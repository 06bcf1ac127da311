"""Checks with the code that verifies signed Python packages: reads a JSON question, fails on a lie."""

import base64
import json
import sys
from types import SimpleNamespace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sigstore._internal.merkle import verify_merkle_inclusion
from sigstore._internal.rekor.checkpoint import SignedCheckpoint

question = json.load(sys.stdin)
signed = SignedCheckpoint.from_text(question["note"])
key_id = bytes.fromhex(question["key_id"])


class Keyring:
    """What sigstore gets from its root of trust."""

    def verify(self, *, key_id, signature, data):
        Ed25519PublicKey.from_public_bytes(base64.b64decode(question["public_key"])).verify(signature, data)


signed.signed_note.verify(Keyring(), key_id)
for index, entry, proof in question["inclusion"]:
    inclusion = SimpleNamespace(
        log_index=index,
        tree_size=signed.checkpoint.log_size,
        hashes=[base64.b64decode(value) for value in proof],
        root_hash=bytes.fromhex(signed.checkpoint.log_hash),
    )
    inner = SimpleNamespace(inclusion_proof=inclusion, canonicalized_body=base64.b64decode(entry))
    verify_merkle_inclusion(SimpleNamespace(_inner=inner))
sys.stdout.write(f"{signed.checkpoint.origin} {signed.checkpoint.log_size}\n")
