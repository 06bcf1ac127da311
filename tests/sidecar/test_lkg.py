"""The last known good policies on disk (control-api.md rule 10)."""

import os
import stat
from pathlib import Path

import pytest
from aegispb.v1 import discovery_pb2 as pb
from aegispb.v1 import lkg_pb2
from hypothesis import given
from hypothesis import strategies as st

from sidecar.backoff import Backoff
from sidecar.lkg import LastKnownGoodError, LastKnownGoodFile

KEY, NONCE = bytes(range(32)), bytes(12)
KEPT = lkg_pb2.LastKnownGood(
    entries=[lkg_pb2.LastKnownGood.Entry(type_url="x", resource=pb.Resource(name="secret-name"), received_at=1)],
    revisions={"x": 7},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state/lkg"


@pytest.fixture
def file(path: Path) -> LastKnownGoodFile:
    return LastKnownGoodFile(path, KEY, "spiffe://td/sidecar/one")


def test_what_was_written_is_read_back(file: LastKnownGoodFile) -> None:
    assert file.read() is None

    file.write(KEPT, NONCE)

    assert file.read() == KEPT


def test_file_is_sealed_and_private(file: LastKnownGoodFile, path: Path) -> None:
    file.write(KEPT, NONCE)

    assert b"secret-name" not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["lkg"]


def test_every_changed_byte_is_noticed(file: LastKnownGoodFile, path: Path) -> None:
    file.write(KEPT, NONCE)
    sealed = path.read_bytes()

    for position in range(len(sealed)):
        path.write_bytes(sealed[:position] + bytes([sealed[position] ^ 1]) + sealed[position + 1 :])
        with pytest.raises(LastKnownGoodError):
            file.read()


def test_every_truncation_is_noticed(file: LastKnownGoodFile, path: Path) -> None:
    file.write(KEPT, NONCE)
    sealed = path.read_bytes()

    for length in range(len(sealed)):
        path.write_bytes(sealed[:length])
        with pytest.raises(LastKnownGoodError):
            file.read()


@pytest.mark.parametrize(("key", "owner"), [(bytes(32), "spiffe://td/sidecar/one"), (KEY, "spiffe://td/sidecar/two")])
def test_file_of_another_sidecar_is_refused(file: LastKnownGoodFile, path: Path, key: bytes, owner: str) -> None:
    file.write(KEPT, NONCE)

    with pytest.raises(LastKnownGoodError, match="another sidecar"):
        LastKnownGoodFile(path, key, owner).read()


@given(content=st.binary(max_size=100))
def test_garbage_gives_only_our_error(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "garbage"
    path.write_bytes(b"aegis-lkg/1\n" + content)

    with pytest.raises(LastKnownGoodError):
        LastKnownGoodFile(path, KEY, "x").read()


def test_unreadable_path_is_our_error(tmp_path: Path) -> None:
    with pytest.raises(LastKnownGoodError, match="cannot be read"):
        LastKnownGoodFile(tmp_path, KEY, "x").read()


def test_crash_before_the_rename_leaves_the_old_file(file: LastKnownGoodFile, path: Path) -> None:
    file.write(KEPT, NONCE)
    (path.parent / f".lkg.{os.getpid()}").write_bytes(b"half")

    assert file.read() == KEPT
    file.write(KEPT, bytes(11) + b"1")
    assert file.read() == KEPT


def test_more_than_a_start_would_read_is_not_written_over_what_it_can(
    file: LastKnownGoodFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write(KEPT, NONCE)
    monkeypatch.setattr("sidecar.lkg.MAX_FILE", 40)

    with pytest.raises(OSError, match="too large"):
        file.write(KEPT, bytes(11) + b"1")

    monkeypatch.undo()
    assert file.read() == KEPT


def test_what_has_just_started_asks_often_until_it_was_answered_once() -> None:
    """`aegis up` starts a control plane beside the sidecar; a fleet that lost its own must not ask like that."""
    backoff = Backoff(eager=5)

    ceilings = [backoff.delay(1.0) for _ in range(8)]
    backoff.reset()

    assert ceilings == [0.5, 0.8, 1.0, 1.0, 1.0, 0.5, 0.8, 0.5 * 1.6**2]
    assert [backoff.delay(1.0) for _ in range(3)] == [0.5, 0.8, 0.5 * 1.6**2]


def test_backoff_grows_to_its_cap_and_starts_over() -> None:
    backoff = Backoff()

    ceilings = [backoff.delay(1.0) for _ in range(12)]
    backoff.reset()

    assert ceilings[:3] == [0.5, 0.8, 0.5 * 1.6**2]
    assert ceilings[-1] == 30.0
    assert ceilings == sorted(ceilings)
    assert backoff.delay(1.0) == 0.5
    assert backoff.delay(0.0) == 0.0
