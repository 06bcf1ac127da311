"""Proofs as files (c2sp.org/tlog-proof, suffix `.tlog-proof`): all that an auditor needs beside the entry and a policy.

c2sp.org/tlog-proof@v1
[extra <base64>]
index <n>
<hash>...

<checkpoint, verbatim>
"""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ledger.checkpoint import Checkpoint
from ledger.encoding import base64_hash, canonical_base64, canonical_decimal
from ledger.errors import MalformedError
from ledger.note import MAX_NOTE, parse_note
from ledger.policy import TrustPolicy
from ledger.rfc6962 import leaf_hash, verify_inclusion

_HEADER: Final = "c2sp.org/tlog-proof@v1"
_MAX_EXTRA: Final = 1 << 16
_MAX_HASHES: Final = 63
_MAX_PROOF: Final = MAX_NOTE + 2 * _MAX_EXTRA + 8192


@dataclass(frozen=True, slots=True)
class LogProof:
    """That an entry stands in a log, provable offline."""

    index: int
    hashes: tuple[bytes, ...]
    """Inclusion proof, sibling of the leaf first; 32 bytes each."""
    checkpoint: bytes
    """The signed checkpoint, verbatim."""
    extra: bytes = b""
    """Opaque and not authenticated by anything."""

    def encode(self) -> bytes:
        """The file's contents."""
        lines = [_HEADER]
        if self.extra:
            lines.append(f"extra {b64encode(self.extra).decode()}")
        lines.append(f"index {self.index}")
        lines += [b64encode(value).decode() for value in self.hashes]
        return "\n".join(lines).encode() + b"\n\n" + self.checkpoint


def parse_proof(data: bytes) -> LogProof:
    """The proof that `data` is: `parse_proof(data).encode() == data`. Raises MalformedError. Nothing is verified."""
    if len(data) > _MAX_PROOF:
        raise MalformedError(f"a proof has at most {_MAX_PROOF} bytes, this one has {len(data)}")
    head, blank, checkpoint = data.partition(b"\n\n")
    if not blank:
        raise MalformedError("a proof has an empty line before its checkpoint")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise MalformedError("the lines of a proof before its checkpoint are ASCII") from None
    if lines.pop(0) != _HEADER:
        raise MalformedError(f"a proof begins with the line {_HEADER}")
    extra = b""
    if lines and lines[0].startswith("extra "):
        extra = canonical_base64(lines.pop(0).removeprefix("extra "), "the extra data")
        if not 0 < len(extra) <= _MAX_EXTRA:
            raise MalformedError(f"the extra data of a proof has 1 to {_MAX_EXTRA} bytes")
    if not lines or not lines[0].startswith("index "):
        raise MalformedError("a proof has a line `index <number>` before its hashes")
    index = canonical_decimal(lines.pop(0).removeprefix("index "), "the index")
    if len(lines) > _MAX_HASHES:
        raise MalformedError(f"an inclusion proof has at most {_MAX_HASHES} hashes")
    hashes = tuple(base64_hash(line, "a hash of the proof") for line in lines)
    parse_note(checkpoint)
    return LogProof(index, hashes, checkpoint, extra)


def verify_proof(proof: LogProof, entry: bytes, policy: TrustPolicy) -> Checkpoint:
    """The checkpoint under which `entry` stands in a log that `policy` trusts.

    tlog-proof, "Verifying a tlog proof": origin and log signature, then cosignatures and quorum, then inclusion.
    Raises MalformedError, SignatureError, QuorumError or ProofError.
    """
    checkpoint = policy.verify(proof.checkpoint)
    verify_inclusion(proof.index, checkpoint.size, leaf_hash(entry), proof.hashes, checkpoint.root)
    return checkpoint


def make_proof(index: int, hashes: Sequence[bytes], checkpoint: bytes) -> LogProof:
    """A proof, checked only for its form. Raises MalformedError."""
    return parse_proof(LogProof(index, tuple(hashes), checkpoint).encode())
