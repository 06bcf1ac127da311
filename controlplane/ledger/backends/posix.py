"""A log in a directory of a local file system.

    <dir>/checkpoint, <dir>/tile/...     the published log, readable by all, named as c2sp.org/tlog-tiles says
    <dir>/.state/lock                    the value of the lock
    <dir>/.state/owner, swapping         flocked: for the life of the process, during a swap
    <dir>/.state/staging/, .state/tmp/   bundles of growths, files on their way

A file is written aside, fsynced, made read-only and put in place by link (which never replaces) or rename; then its
directory is fsynced through a descriptor that was opened before, because an error is lost if the inode was evicted in
between. When any fsync fails, nothing is known of what is on disk: every later operation is refused, and only a new
process may look again. All methods with a leading underscore block; they run in threads.
"""

import asyncio
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from controlplane.ledger.errors import ConflictError, LostWritesError, NodeError, StorageError
from controlplane.ledger.ports import CHECKPOINT

P = ParamSpec("P")
T = TypeVar("T")
Sync = Callable[[int], None]

_WRITERS: Final = 8
"""Files fsynced at once. Eight at once take 1.4 ms where one after the other takes 36 ms."""
_CALLERS: Final = 8
_KEY: Final = re.compile(r"(?:checkpoint|tile|\.state/staging)(?:/\w[\w.-]*)*", re.ASCII)
_STATE: Final = ".state"
_REMOTE: Final = re.compile(r"nfs\d?|cifs|smb\w*|9p|fuse\.(?:s3fs|sshfs|gcsfuse|rclone|goofys|mountpoint-s3)")


def create(directory: Path, checkpoint: bytes) -> None:
    """Make the directory of a new log with this checkpoint of the empty tree, whole or not at all.

    Raises ConflictError when something is there, StorageError.
    """
    scratch = directory.with_name(f".{directory.name}.new-{secrets.token_hex(8)}")
    with _storage_errors():
        try:
            (scratch / _STATE / "staging").mkdir(parents=True)
            for path in (scratch / CHECKPOINT, scratch / _STATE / "lock"):
                _write_new(path, checkpoint, os.fsync)
            for place in (scratch / _STATE, scratch):
                _sync_path(place, os.fsync)
            # The commit point: rename refuses a directory that has anything in it, so no log is ever replaced.
            scratch.rename(directory)
            _sync_path(directory.parent, os.fsync)
        except (FileExistsError, NotADirectoryError) as error:
            raise _occupied(directory) from error
        except OSError as error:
            raise (_occupied(directory) if directory.exists() and any(directory.iterdir()) else error) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def exists(directory: Path) -> bool:
    """Whether there is a lock or a checkpoint: then no log may be created here (I8)."""
    return (directory / CHECKPOINT).exists() or (directory / _STATE / "lock").exists()


class PosixStorage:
    """Backend and lock of one log; while it is open, no other process of this machine can open it."""

    def __init__(self, directory: Path, *, sync: Sync = os.fsync) -> None:
        """Blocking. Raises ConflictError when another process has the log open, StorageError otherwise."""
        self._directory = directory
        self._sync = sync
        self._lost: LostWritesError | None = None
        _refuse_remote(directory)
        with _storage_errors(), ExitStack() as undo:
            state = directory / _STATE
            state.mkdir(exist_ok=True)
            self._owner = _flock(state / "owner")
            undo.callback(os.close, self._owner)
            self._tmp = state / "tmp"
            shutil.rmtree(self._tmp, ignore_errors=True)
            self._tmp.mkdir()
            undo.pop_all()
        self._callers = ThreadPoolExecutor(_CALLERS, thread_name_prefix="ledger-storage")
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="ledger-fsync")

    def close(self) -> None:
        """Wait for what is under way, then let other processes have the log. Blocking."""
        self._callers.shutdown()
        self._writers.shutdown()
        os.close(self._owner)

    # --- backend ---

    async def get(self, key: str) -> bytes | None:
        return await self._in_thread(_read, self._path(key))

    async def put(self, objects: Mapping[str, bytes]) -> None:
        await self._in_thread(self._put, {self._path(key): data for key, data in objects.items()})

    async def replace(self, key: str, data: bytes) -> None:
        await self._in_thread(self._write_over, self._path(key), data)

    async def delete(self, keys: Iterable[str]) -> None:
        await self._in_thread(_delete, [self._path(key) for key in keys])

    async def keys(self, prefix: str) -> list[str]:
        return await self._in_thread(self._list, prefix)

    # --- lock ---

    async def fetch(self) -> bytes | None:
        return await self._in_thread(_read, self._directory / _STATE / "lock")

    async def swap(self, old: bytes, new: bytes) -> None:
        await self._in_thread(self._swap, old, new)

    # --- in threads ---

    async def _in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._lost is not None:
            raise self._lost

        def run() -> T:
            with _storage_errors():
                try:
                    return function(*args, **kwargs)
                except LostWritesError as error:
                    self._lost = error
                    raise

        return await asyncio.get_running_loop().run_in_executor(self._callers, run)

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is not a key of this storage")
        return self._directory / key

    def _put(self, objects: Mapping[Path, bytes]) -> None:
        with ExitStack() as stack:
            opened = {}
            for place in {path.parent for path in objects}:
                opened[place] = self._open_directory(place)
                stack.callback(os.close, opened[place])
            self._each(self._write_once, objects.items())
            self._each(self._sync_directory, [(descriptor,) for descriptor in opened.values()])

    def _each(self, function: Callable[..., None], calls: Iterable[tuple[object, ...]]) -> None:
        """Call several times at once; wait for all of them, then raise what one raised."""
        futures = [self._writers.submit(function, *arguments) for arguments in calls]
        errors = [error for future in futures if (error := future.exception()) is not None]
        for error in sorted(errors, key=lambda error: not isinstance(error, LostWritesError)):
            raise error

    def _open_directory(self, place: Path) -> int:
        try:
            return os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            parent = self._open_directory(place.parent)
        try:
            place.mkdir(exist_ok=True)
            self._sync_directory(parent)
        finally:
            os.close(parent)
        return os.open(place, os.O_RDONLY | os.O_DIRECTORY)

    def _write_once(self, path: Path, data: bytes) -> None:
        aside = self._aside(data)
        try:
            path.hardlink_to(aside)
        except FileExistsError:
            if _read(path) != data:
                raise ConflictError(f"{path} holds something else than what was to be written once") from None
        finally:
            aside.unlink()

    def _write_over(self, path: Path, data: bytes) -> None:
        place = self._open_directory(path.parent)
        try:
            self._aside(data).rename(path)
            self._sync_directory(place)
        finally:
            os.close(place)

    def _aside(self, data: bytes) -> Path:
        path = self._tmp / secrets.token_hex(8)
        _write_new(path, data, self._sync)
        return path

    def _sync_directory(self, descriptor: int) -> None:
        _fsync(descriptor, self._sync)

    def _list(self, prefix: str) -> list[str]:
        place = self._path(prefix.removesuffix("/"))
        try:
            return [prefix + name for name in os.listdir(place)]  # noqa: PTH208 names are wanted, not paths
        except FileNotFoundError:
            return []

    def _swap(self, old: bytes, new: bytes) -> None:
        # A process that got past the other flock (a directory mounted twice, say) is stopped here at the latest:
        # compare and swap are one step for everybody who asks this kernel.
        swapping = _flock(self._directory / _STATE / "swapping", wait=True)
        try:
            path = self._directory / _STATE / "lock"
            if _read(path) != old:
                raise ConflictError("the lock was moved by somebody else: another process writes to this log")
            self._write_over(path, new)
        finally:
            os.close(swapping)


@contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except NodeError:
        raise
    except OSError as error:
        raise StorageError(f"{error.strerror or error} ({error.filename or 'log directory'})") from error


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _delete(paths: Iterable[Path]) -> None:
    places = set()
    for path in paths:
        path.unlink(missing_ok=True)
        places.add(path.parent)
    for place in places:
        if place.suffix == ".p":
            with suppress(OSError):  # it is not empty, or gone
                place.rmdir()


def _write_new(path: Path, data: bytes, sync: Sync) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        _fsync(descriptor, sync)
        os.fchmod(descriptor, 0o444)
    finally:
        os.close(descriptor)


def _sync_path(place: Path, sync: Sync) -> None:
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _fsync(descriptor, sync)
    finally:
        os.close(descriptor)


def _fsync(descriptor: int, sync: Sync) -> None:
    try:
        sync(descriptor)
    except OSError as error:
        raise LostWritesError(f"fsync failed ({error.strerror}): it is not known what is on disk; stopping") from error


def _flock(path: Path, *, wait: bool = False) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        raise ConflictError(f"another process has the log in {path.parent.parent} open") from None
    return descriptor


def _occupied(directory: Path) -> ConflictError:
    return ConflictError(f"{directory} is not empty: a log is never made over anything")


def remote_file_system(directory: Path, mountinfo: str) -> str:
    """The type of the network file system that `directory` (absolute) lies on according to proc(5); empty: local."""
    mounts = [(line.split(" - ")[0].split()[4], line.split(" - ")[1].split()[0]) for line in mountinfo.splitlines()]
    within = [mount for mount in mounts if directory.is_relative_to(mount[0].replace("\\040", " "))]
    kind = max(within, key=lambda mount: len(mount[0]), default=("/", ""))[1]
    return kind if _REMOTE.fullmatch(kind) else ""


def _refuse_remote(directory: Path) -> None:
    with _storage_errors():
        at, mountinfo = directory.resolve(strict=True), Path("/proc/self/mountinfo").read_text(errors="replace")
    if kind := remote_file_system(at, mountinfo):
        raise StorageError(f"{directory} lies on {kind}; a log needs a local file system, whose locks and fsync hold")
