"""The packages that check Go's checksum database audit our log: golang.org/x/mod/sumdb note and tlog."""

import os
import shutil
from base64 import b64encode
from pathlib import Path

import pytest

from ledger.keys import SignatureType, SigningKey
from tests.ledger.peers.conftest import ORIGIN, PROGRAMS, SampleLog, expect, run

pytestmark = pytest.mark.peers

GO = Path("/usr/lib/go-1.19/bin/go")
SOURCES = Path("/usr/share/gocode")


@pytest.fixture(scope="module")
def sumdb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not GO.exists() or not (SOURCES / "src/golang.org/x/mod/sumdb").exists():
        pytest.skip("Go 1.19 or golang.org/x/mod is not installed: run .ci/install-ledger-peers as root")
    scratch = tmp_path_factory.mktemp("sumdb")
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": str(SOURCES), "GOCACHE": str(scratch / "cache")}
    expect(0, run(GO, "build", "-o", scratch / "sumdb", PROGRAMS / "sumdb.go", env=environment))
    return scratch / "sumdb"


@pytest.fixture
def old(sample: SampleLog, tmp_path: Path) -> Path:
    (tmp_path / "old").write_bytes(sample.old)
    return tmp_path / "old"


def test_log_passes_and_the_proofs_are_the_same(sumdb: Path, sample: SampleLog, old: Path) -> None:
    output = expect(0, run(sumdb, sample.directory, sample.ed25519, old, *sample.indices))

    for line, index in zip(output.decode().splitlines(), sample.indices, strict=True):
        hashes = [b64encode(value).decode() for value in sample.reader.inclusion_proof(index)]
        assert line.split() == [str(index), *hashes]


def test_cosigned_checkpoint_passes_too(sumdb: Path, sample: SampleLog, old: Path, tmp_path: Path) -> None:
    shutil.copytree(sample.directory, tmp_path / "log")
    (tmp_path / "log/checkpoint").unlink()
    (tmp_path / "log/checkpoint").write_bytes(sample.cosigned)

    expect(0, run(sumdb, tmp_path / "log", sample.ed25519, old, 5))


@pytest.mark.parametrize("spoilt", ["tile/0/000", "tile/1/000", "tile/entries/000", "checkpoint", "key"])
def test_altered_log_fails(sumdb: Path, sample: SampleLog, old: Path, tmp_path: Path, spoilt: str) -> None:
    shutil.copytree(sample.directory, tmp_path / "log")
    vkey = sample.ed25519
    if spoilt == "key":
        vkey = str(SigningKey(ORIGIN, SignatureType.ED25519, bytes(32)).verifier_key)
    else:
        file = tmp_path / "log" / spoilt
        content = bytearray(file.read_bytes())
        content[40] ^= 1
        file.unlink()
        file.write_bytes(content)

    expect(1, run(sumdb, tmp_path / "log", vkey, old, 0))
