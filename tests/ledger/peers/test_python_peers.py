"""Three independent implementations of the C2SP formats read our log, and we read what they write."""

import json
import shutil
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from ledger.checkpoint import parse_checkpoint
from ledger.cosignature import verifier
from ledger.keys import SignatureType, SigningKey, parse_vkey
from ledger.note import open_note
from ledger.policy import single_log_policy
from ledger.proof import parse_proof, verify_proof
from ledger.rfc6962 import leaf_hash
from tests.fakes.ledger_producers import leaf
from tests.ledger.peers.conftest import ORIGIN, PROGRAMS, WITNESSES, SampleLog, expect, python_of, run

pytestmark = pytest.mark.peers


def text(data: bytes) -> str:
    return b64encode(data).decode()


# --- tlog-scales ---


def test_tlog_scales_finds_every_leaf(sample: SampleLog) -> None:
    tool = python_of("tlog-scales").with_name("tlog-tiles")
    for index in sample.indices:
        assert expect(0, run(tool, "get-leaf", "-c", sample.directory, index)) == leaf(index)


def test_proof_by_tlog_scales_verifies_here(sample: SampleLog) -> None:
    tool = python_of("tlog-scales").with_name("tlog-tiles")
    for vkey in (sample.ed25519, sample.mldsa):
        proof = parse_proof(expect(0, run(tool, "gen-proof", sample.directory, 65_536)))
        policy = single_log_policy(parse_vkey(vkey))
        assert verify_proof(proof, leaf(65_536), policy) == sample.checkpoint


def test_tlog_scales_verifies_every_signature_we_make(sample: SampleLog) -> None:
    keys = [sample.ed25519, sample.mldsa, *(key.verifier_key for key in WITNESSES)]

    output = expect(0, run(python_of("tlog-scales"), PROGRAMS / "scales.py", "verify", *keys, stdin=sample.cosigned))

    assert output.count(b"verified") == 6
    stranger = SigningKey(ORIGIN, SignatureType.MLDSA44_COSIGNATURE, bytes(32)).verifier_key
    expect(1, run(python_of("tlog-scales"), PROGRAMS / "scales.py", "verify", stranger, stdin=sample.cosigned))


def test_we_verify_every_signature_that_tlog_scales_makes() -> None:
    note = expect(0, run(python_of("tlog-scales"), PROGRAMS / "scales.py", "sign", ORIGIN, 7, "ab" * 32))
    keys = [
        SigningKey(ORIGIN, SignatureType.ED25519, b"e" * 32),
        SigningKey(ORIGIN, SignatureType.MLDSA44_COSIGNATURE, b"m" * 32),
    ]

    opened = open_note(note, [verifier(key.verifier_key) for key in keys])

    assert len(opened.verified) == 2
    assert parse_checkpoint(opened.note.text).root == bytes.fromhex("ab" * 32)


# --- aics-tlog ---


@pytest.fixture
def aics(sample: SampleLog, tmp_path: Path) -> Any:
    tool = python_of("aics-tlog").with_name("aics-tlog")
    (tmp_path / "vkey").write_text(sample.ed25519 + "\n")
    (tmp_path / "old").write_bytes(sample.old)
    (tmp_path / "cosigned").write_bytes(sample.cosigned)

    def ask(command: str, *arguments: object, log: Path = sample.directory) -> Any:
        return run(tool, command, "--vkey-file", tmp_path / "vkey", "--tiles", log, *arguments)

    return ask


def test_aics_tlog_verifies_checkpoint_and_quorum(aics: Any, sample: SampleLog, tmp_path: Path) -> None:
    # It reads Ed25519 cosignatures only.
    witnesses = [a for key in WITNESSES[:3] for a in ("--witness-key", key.verifier_key)]
    expect(0, aics("verify-checkpoint", "--origin", ORIGIN))
    expect(0, aics("verify-checkpoint", "--note", tmp_path / "cosigned", *witnesses, "--quorum", 3))
    assert aics("verify-checkpoint", *witnesses, "--quorum", 3).returncode != 0


def test_aics_tlog_verifies_inclusion_and_consistency(aics: Any, sample: SampleLog, tmp_path: Path) -> None:
    for index in (0, 256, 66_122):
        (tmp_path / "leaf").write_bytes(leaf(index))
        expect(0, aics("verify-inclusion", "--leaf", tmp_path / "leaf", "--index", index))
    assert aics("verify-inclusion", "--leaf", tmp_path / "leaf", "--index", 5).returncode != 0
    expect(0, aics("verify-consistency", "--old-checkpoint", tmp_path / "old"))


def test_aics_tlog_notices_an_altered_tile(aics: Any, sample: SampleLog, tmp_path: Path) -> None:
    shutil.copytree(sample.directory, tmp_path / "log")
    file = tmp_path / "log/tile/0/000"
    content = bytearray(file.read_bytes())
    content[40] ^= 1
    file.unlink()
    file.write_bytes(content)
    (tmp_path / "leaf").write_bytes(leaf(3))

    result = aics("verify-inclusion", "--leaf", tmp_path / "leaf", "--index", 3, log=tmp_path / "log")

    assert result.returncode != 0


# --- metamorphic-log ---


def question(sample: SampleLog) -> dict[str, Any]:
    return {
        "note": sample.cosigned.decode(),
        "vkeys": [sample.ed25519],
        "old": sample.old.decode(),
        "consistency": [text(value) for value in sample.reader.consistency_proof(300)],
        "inclusion": [
            [index, text(leaf_hash(leaf(index))), [text(value) for value in sample.reader.inclusion_proof(index)]]
            for index in sample.indices
        ],
    }


def ask_metamorphic(asked: dict[str, Any]) -> Any:
    return run(python_of("metamorphic-log"), PROGRAMS / "metamorphic.py", stdin=json.dumps(asked).encode())


def test_metamorphic_log_verifies_checkpoint_inclusion_and_consistency(sample: SampleLog) -> None:
    assert str(sample.checkpoint.size).encode() in expect(0, ask_metamorphic(question(sample)))


@pytest.mark.parametrize("altered", ["note", "inclusion", "consistency"])
def test_metamorphic_log_refuses_what_was_altered(sample: SampleLog, altered: str) -> None:
    asked = question(sample)
    match altered:
        case "note":
            asked["note"] = asked["note"].replace("66123", "66124")
        case "inclusion":
            asked["inclusion"][3][0] += 1
        case _:
            asked["consistency"][0] = text(bytes(32))

    expect(1, ask_metamorphic(asked))
