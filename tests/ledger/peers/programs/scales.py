"""Checks signatures with tlog-scales, or makes some: `verify VKEY...` (note on standard input), `sign` (body there)."""

import sys

from tlog_scales.signing import MLDSA44CosignatureSigner, PlainEd25519Signer, Vkey
from tlog_scales.tlog import Checkpoint

if sys.argv[1] == "verify":
    checkpoint = Checkpoint.from_text(sys.stdin.read())
    for text in sys.argv[2:]:
        checkpoint.verify(Vkey.from_string(text))
        sys.stdout.write(f"verified {text[:40]}\n")
else:
    origin, size, root = sys.argv[2:]
    signers = [PlainEd25519Signer(origin, b"e" * 32), MLDSA44CosignatureSigner(origin, b"m" * 32)]
    sys.stdout.write(Checkpoint.make_signed(origin, int(size), bytes.fromhex(root), signers).serialize())
