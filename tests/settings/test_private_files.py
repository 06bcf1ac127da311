"""Files with secrets: theirs alone who own them, whole or not there, and there after a power cut."""

import os
import stat
from pathlib import Path

import pytest

from settings import private_file
from settings.key_files import KEY_BYTES, KeyFileError, read_key, read_or_make_key


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What was made durable, in order."""
    found: list[Path] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        found.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    return found


def test_a_file_is_replaced_whole_with_its_rights_and_for_good(tmp_path: Path, synced: list[Path]) -> None:
    path = tmp_path / "tls.key"
    path.write_text("old")
    path.chmod(0o666)

    private_file.replace(path, b"new")

    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["tls.key"]
    assert synced[-1] == tmp_path, "a name that is not on disk is lost, however durable the bytes are"


def test_a_file_is_made_once_and_never_written_over(tmp_path: Path, synced: list[Path]) -> None:
    path = tmp_path / "noise.key"

    private_file.create(path, b"first")
    with pytest.raises(FileExistsError):
        private_file.create(path, b"second")

    assert path.read_bytes() == b"first"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["noise.key"]
    assert tmp_path in synced


def test_what_cannot_be_replaced_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "tls.key").mkdir()

    with pytest.raises(OSError, match="directory"):
        private_file.replace(tmp_path / "tls.key", b"new")

    assert [path.name for path in tmp_path.iterdir()] == ["tls.key"]


def test_a_key_is_made_once_and_is_the_same_ever_after(tmp_path: Path) -> None:
    path = tmp_path / "data/tenant.key"

    key = read_or_make_key(path)

    assert len(key) == KEY_BYTES
    assert read_or_make_key(path) == read_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(("mode", "is_private"), [(0o600, True), (0o440, True), (0o604, False), (0o620, False)])
def test_a_key_that_others_may_have_touched_is_refused(tmp_path: Path, mode: int, is_private: bool) -> None:
    path = tmp_path / "k"
    path.write_bytes(bytes(KEY_BYTES))
    path.chmod(mode)

    if is_private:
        assert read_key(path) == bytes(KEY_BYTES)
    else:
        with pytest.raises(KeyFileError, match="chmod 600"):
            read_key(path)


@pytest.mark.parametrize("size", [0, KEY_BYTES - 1, KEY_BYTES + 1, 1 << 40])
def test_what_has_not_the_length_of_a_key_is_refused_unread(tmp_path: Path, size: int) -> None:
    path = tmp_path / "k"
    path.touch(0o600)
    os.truncate(path, size)

    with pytest.raises(KeyFileError, match="expected 32 bytes"):
        read_key(path)


def test_a_key_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="No such file"):
        read_key(tmp_path / "k")
    (tmp_path / "file").touch()
    with pytest.raises(KeyFileError, match="File exists"):
        read_or_make_key(tmp_path / "file/k")
