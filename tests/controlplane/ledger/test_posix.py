"""A log on a real file system: durable order, exclusive writers, refusal after a lost write."""

import errno
import multiprocessing
import os
import stat
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.ledger.backends import posix
from controlplane.ledger.backends.files import remote_file_system, syncfs
from controlplane.ledger.backends.posix import PosixStorage
from controlplane.ledger.errors import ConflictError, LostWritesError, StorageError
from controlplane.ledger.log import Log
from tests.controlplane.ledger.logs import FAST, NOW, numbered, packed

EMPTY = FAST.sign_empty(NOW).note


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    posix.create(tmp_path / "log", EMPTY)
    return tmp_path / "log"


@pytest.fixture
def storage(directory: Path) -> Iterator[PosixStorage]:
    opened = PosixStorage(directory)
    yield opened
    opened.close()


async def test_log_survives_closing_and_opening(directory: Path) -> None:
    for count in (5, 300, 1):
        storage = PosixStorage(directory)
        log = await Log.load(storage, storage, FAST, lambda: NOW)
        await log.append(*packed(numbered(log.size, count)))
        await log.publish()
        storage.close()

    assert log.size == 306
    assert (directory / "tile/0/000").stat().st_size == 8192
    assert sorted(p.name for p in (directory / "tile/entries/001.p").iterdir()) == ["49", "50"]
    assert list((directory / ".state/tmp").iterdir()) == []


async def test_objects_are_read_only_for_everybody(storage: PosixStorage, directory: Path) -> None:
    await storage.put({"tile/0/000.p/1": b"x" * 32})

    assert stat.S_IMODE((directory / "tile/0/000.p/1").stat().st_mode) == 0o444


async def test_identical_object_is_accepted_and_another_is_a_conflict(storage: PosixStorage) -> None:
    await storage.put({"tile/0/000": b"a"})
    await storage.put({"tile/0/000": b"a", "tile/0/001": b"b"})

    with pytest.raises(ConflictError, match="tile/0/000"):
        await storage.put({"tile/0/000": b"b"})
    assert await storage.get("tile/0/000") == b"a"


async def test_missing_objects_are_none_and_deleting_them_is_no_error(storage: PosixStorage) -> None:
    assert await storage.get("tile/0/000") is None
    await storage.delete(["tile/0/000"])
    assert await storage.keys("tile/0/000.p/") == []


async def test_directory_of_partials_goes_with_the_last_of_them(storage: PosixStorage, directory: Path) -> None:
    await storage.put({"tile/0/000.p/1": b"a", "tile/0/000.p/2": b"b"})
    assert sorted(await storage.keys("tile/0/000.p/")) == ["tile/0/000.p/1", "tile/0/000.p/2"]

    await storage.delete(["tile/0/000.p/1"])
    assert (directory / "tile/0/000.p").is_dir()
    await storage.delete(["tile/0/000.p/2"])

    assert not (directory / "tile/0/000.p").exists()


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "tile/../../x", ".state/lock", "tile//x", ".hidden", "a\0b"]
)
async def test_keys_cannot_leave_the_log(storage: PosixStorage, key: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        await storage.get(key)


async def test_swap_is_refused_unless_the_lock_is_what_was_expected(storage: PosixStorage) -> None:
    with pytest.raises(ConflictError):
        await storage.swap(b"something else", b"new")

    await storage.swap(EMPTY, b"new")

    assert await storage.fetch() == b"new"


# --- creation (I8) ---


def make(directory: Path, meanwhile: Callable[[], object] = lambda: None) -> None:
    with posix.new_directory(directory) as scratch:
        posix.create(scratch / "log", EMPTY)
        meanwhile()


def run_out_of_space() -> None:
    raise OSError(errno.ENOSPC, "no space left")


def test_nothing_is_created_over_anything(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    (tmp_path / "file").touch()

    for place in ("other", "file"):
        with pytest.raises(ConflictError, match="not empty"):
            make(tmp_path / place)

    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "other"]


def test_empty_directory_may_become_a_log(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()

    make(tmp_path / "data")

    PosixStorage(tmp_path / "data/log").close()


def test_creation_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no space left"):
        make(tmp_path / "data", run_out_of_space)

    assert list(tmp_path.iterdir()) == []


def test_of_two_who_create_at_once_one_wins(tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match="not empty"):
        make(tmp_path / "data", lambda: make(tmp_path / "data"))

    assert [p.name for p in tmp_path.iterdir()] == ["data"]


# --- exclusion ---


def _try_to_open(directory: Path, outcome: "multiprocessing.Queue[str]") -> None:
    try:
        PosixStorage(directory).close()
        outcome.put("opened")
    except ConflictError:
        outcome.put("conflict")


def test_second_process_cannot_open_the_log(storage: PosixStorage, directory: Path) -> None:
    context = multiprocessing.get_context("spawn")
    outcome = context.Queue()
    process = context.Process(target=_try_to_open, args=(directory, outcome))

    process.start()
    process.join(20)

    assert outcome.get(timeout=5) == "conflict"


def test_same_process_cannot_open_it_twice_but_may_after_closing(directory: Path) -> None:
    first = PosixStorage(directory)
    with pytest.raises(ConflictError, match="another process"):
        PosixStorage(directory)
    first.close()

    PosixStorage(directory).close()


def test_leftovers_of_a_killed_process_are_removed(directory: Path) -> None:
    (directory / ".state/tmp").mkdir()
    (directory / ".state/tmp/half-written").write_bytes(b"x")

    PosixStorage(directory).close()

    assert list((directory / ".state/tmp").iterdir()) == []


def test_log_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        PosixStorage(tmp_path / "nothing")


# --- durability ---


class Disk:
    """fsync and syncfs that fail when told to, and remember what they were asked to sync."""

    def __init__(self) -> None:
        self.failing = False
        self.synced: list[str] = []

    def fsync(self, descriptor: int) -> None:
        self.synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        if self.failing:
            raise OSError(errno.EIO, "I/O error")


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def watched(directory: Path, disk: Disk) -> Iterator[PosixStorage]:
    opened = PosixStorage(directory, sync=disk.fsync, sync_all=disk.fsync)
    yield opened
    opened.close()


@pytest.mark.parametrize("failing", ["stage", "replace", "swap", "settle"])
async def test_after_a_failed_sync_nothing_is_tried_again(
    watched: PosixStorage, directory: Path, disk: Disk, failing: str
) -> None:
    # tessera#749: after a failed fsync the pages may be clean and lost, and a second fsync succeeds without them.
    operations: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
        "stage": lambda: watched.stage(".state/staging/1-ab", b"x"),
        "replace": lambda: watched.replace("checkpoint", b"x"),
        "swap": lambda: watched.swap(EMPTY, b"x"),
        "settle": watched.settle,
        "put": lambda: watched.put({"tile/0/001": b"x"}),
        "get": lambda: watched.get("checkpoint"),
    }
    disk.failing = True
    with pytest.raises(LostWritesError):
        await operations[failing]()
    disk.failing = False

    for operation in operations.values():
        with pytest.raises(LostWritesError):
            await operation()
    assert not (directory / "tile").exists()


async def test_bundle_is_synced_before_it_has_its_name_and_then_the_name(
    watched: PosixStorage, directory: Path, disk: Disk
) -> None:
    await watched.stage(".state/staging/1-ab", b"a")

    assert [path.removeprefix(str(directory)) for path in disk.synced] == ["/.state/tmp/0", "/.state/staging"]
    assert (directory / ".state/staging/1-ab").read_bytes() == b"a"


async def test_tiles_are_synced_together_when_they_are_settled(
    watched: PosixStorage, directory: Path, disk: Disk
) -> None:
    await watched.put({"tile/0/x001/000": b"a", "tile/entries/000.p/7": b"b"})
    assert disk.synced == []

    await watched.settle()

    assert disk.synced == [str(directory)]


def test_syncfs_is_the_real_one(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    syncfs(descriptor)
    os.close(descriptor)

    with pytest.raises(OSError, match="Bad file descriptor"):
        syncfs(descriptor)


async def test_file_system_without_anonymous_files_is_written_to_by_name(
    storage: PosixStorage, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY)  # what a kernel that knows no O_TMPFILE makes of it

    await storage.put({"tile/0/000": b"a"})
    await storage.put({"tile/0/000": b"a", "tile/0/001": b"b"})

    assert (directory / "tile/0/001").read_bytes() == b"b"
    assert list((directory / ".state/tmp").iterdir()) == []


async def test_file_that_a_power_cut_left_half_is_written_again_only_on_repair(storage: PosixStorage) -> None:
    await storage.put({"tile/0/000": b"half"})

    with pytest.raises(ConflictError):
        await storage.put({"tile/0/000": b"half and half"})
    await storage.repair({"tile/0/000": b"half and half", "tile/0/001": b"whole"})

    assert await storage.get("tile/0/000") == b"half and half"
    assert await storage.get("tile/0/001") == b"whole"


async def test_bundle_that_is_there_with_another_content_is_a_conflict(storage: PosixStorage) -> None:
    await storage.stage(".state/staging/1-ab", b"a")
    await storage.stage(".state/staging/1-ab", b"a")

    with pytest.raises(ConflictError):
        await storage.stage(".state/staging/1-ab", b"b")


async def test_full_disk_is_an_error_that_may_pass(directory: Path) -> None:
    storage = PosixStorage(directory)
    (directory / "tile").write_bytes(b"in the way")

    with pytest.raises(StorageError):
        await storage.put({"tile/0/000": b"x"})
    (directory / "tile").unlink()
    await storage.put({"tile/0/000": b"x"})

    storage.close()


def test_network_file_system_is_told_by_the_innermost_mount() -> None:
    # workerd#6780: locks and fsync on NFS are not what a log needs.
    mounts = "1 0 0:1 / / rw - ext4 /dev/x rw\n2 1 0:2 / /srv/shared\\040logs rw - nfs4 server:/x rw\n"

    assert remote_file_system(Path("/srv/shared logs/log"), mounts) == "nfs4"
    assert (
        remote_file_system(Path("/srv/shared logs/log"), mounts + "3 2 0:3 / /srv/shared\\040logs/log rw - xfs /y rw")
        == ""
    )
    assert remote_file_system(Path("/srv/other"), mounts) == ""
