"""A log as a node leaves it on disk, and where the foreign verifiers are (`.ci/install-ledger-peers`)."""

import asyncio
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from controlplane.ledger import keys, node
from controlplane.ledger.backends.posix import PosixStorage
from controlplane.ledger.log import Log
from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.cosignature import signer
from ledger.keys import SignatureType, SigningKey
from ledger.note import Note, parse_note
from ledger.reader import TreeReader
from tests.controlplane.ledger.logs import packed
from tests.fakes.ledger_producers import leaf

PEERS = Path(os.environ.get("AEGIS_PEERS", Path.home() / ".cache/aegis-peers"))
PROGRAMS = Path(__file__).parent / "programs"
ORIGIN = "forest.example/node-a"
WITNESSES = [
    *(SigningKey(f"w{n}.example", SignatureType.ED25519_COSIGNATURE, bytes([n]) * 32) for n in range(1, 4)),
    SigningKey("w4.example/pq", SignatureType.MLDSA44_COSIGNATURE, bytes([4]) * 32),
]
NOW = 1_790_000_000


@dataclass(frozen=True)
class SampleLog:
    """A log of 66,123 leaves: three levels of tiles, partial ones at every level."""

    directory: Path
    old: bytes
    """The checkpoint that it published at 300 leaves."""
    ed25519: str
    """Verifier keys of the log."""
    mldsa: str
    checkpoint: Checkpoint
    note: bytes
    """As the node published it, signed by both keys of the log."""
    cosigned: bytes
    """The same with cosignatures of `WITNESSES`."""

    @property
    def reader(self) -> TreeReader:
        return TreeReader(self.checkpoint.size, self.checkpoint.root, lambda p: (self.directory / p).read_bytes())

    @property
    def indices(self) -> tuple[int, ...]:
        """Leaves at every kind of edge."""
        return (0, 1, 255, 256, 299, 300, 65_535, 65_536, 66_048, 66_122)


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> SampleLog:
    data = tmp_path_factory.mktemp("sample") / "data"
    node.initialise(data, ORIGIN)
    signers = keys.load(data / "keys")
    notes = []

    async def fill() -> None:
        storage = PosixStorage(data / "log")
        log = await Log.load(storage, storage, signers, lambda: 1_900_000_000)
        for count in (5, 295, 65_700, 123):
            await log.append(*packed([leaf(seq) for seq in range(log.size, log.size + count)]))
            await log.publish()
            notes.append(log.published.note)
        storage.close()

    asyncio.run(fill())
    parsed = parse_note(notes[-1])
    cosignatures = tuple(signer(key).sign(parsed.text, NOW) for key in WITNESSES)
    return SampleLog(
        data / "log",
        notes[1],
        str(signers.ed25519.key),
        str(signers.mldsa.key),
        parse_checkpoint(parsed.text),
        notes[-1],
        Note(parsed.text, parsed.signatures + cosignatures).encode(),
    )


def python_of(peer: str) -> Path:
    """The interpreter that has this peer. Skips the test if it is not installed."""
    python = PEERS / peer / "bin/python"
    if not (PEERS / peer / ".complete").exists():
        pytest.skip(f"{peer} is not in {PEERS}: run .ci/install-ledger-peers")
    return python


def run(*arguments: object, stdin: bytes = b"", **options: Any) -> subprocess.CompletedProcess[bytes]:
    """A foreign program, with its output."""
    return subprocess.run([str(a) for a in arguments], input=stdin, capture_output=True, timeout=120, **options)


def expect(status: int, result: subprocess.CompletedProcess[bytes]) -> bytes:
    """Its output, if it ended with this status."""
    output = result.stdout + result.stderr
    assert result.returncode == status, output.decode(errors="replace")
    return result.stdout
