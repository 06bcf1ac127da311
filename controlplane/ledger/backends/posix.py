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
import itertools
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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


@contextmanager
def new_directory(directory: Path) -> Iterator[Path]:
    """An empty directory aside, which becomes `directory` when the block ends well: whole or not at all.

    Raises ConflictError when anything is there (I8: a log is made over nothing, ever), StorageError.
    """
    scratch = directory.with_name(f".{directory.name}.new-{secrets.token_hex(8)}")
    with _storage_errors():
        _check_vacant(directory)
        directory.parent.mkdir(parents=True, exist_ok=True)
        scratch.mkdir()
        try:
            yield scratch
            for place in (scratch, *(path for path in scratch.rglob("*") if path.is_dir())):
                _sync_path(place, os.fsync)
            try:
                # The commit point. Rename refuses to replace a directory that has anything in it.
                scratch.rename(directory)
            except OSError:
                _check_vacant(directory)
                raise
            _sync_path(directory.parent, os.fsync)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def create(directory: Path, checkpoint: bytes) -> None:
    """Make the directory of a log with this checkpoint of the empty tree. Not atomic: see `new_directory`.

    Raises StorageError.
    """
    with _storage_errors():
        (directory / _STATE / "staging").mkdir(parents=True)
        for path in (directory / CHECKPOINT, directory / _STATE / "lock"):
            _write_new(path, checkpoint, os.fsync)


def _check_vacant(directory: Path) -> None:
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        raise ConflictError(f"{directory} is not empty: a log is never made over anything")


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
        self._names = itertools.count()
        """Of files on their way. `next` is one step under the interpreter lock."""
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
            places = self._open_directories({path.parent for path in objects}, stack)
            items = list(objects.items())
            self._each(self._write_all, [items[start::_WRITERS] for start in range(min(_WRITERS, len(items)))])
            # Only now are the names durable; the first of these writes the journal for all of them.
            self._each(self._sync_directory, places)

    def _each(self, function: Callable[[T], None], arguments: Sequence[T]) -> None:
        """Call several times at once; wait for all of them, then raise the worst of what they raised."""
        if len(arguments) == 1:
            function(arguments[0])
            return
        futures = [self._writers.submit(function, argument) for argument in arguments]
        errors = [error for future in futures if (error := future.exception()) is not None]
        for error in sorted(errors, key=lambda error: not isinstance(error, LostWritesError)):
            raise error

    def _open_directories(self, places: Iterable[Path], stack: ExitStack) -> Sequence[int]:
        """Descriptors of these directories and of all that got a new one, made where they are missing."""
        opened: dict[Path, int] = {}

        def open_one(place: Path) -> None:
            if place not in opened:
                opened[place] = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
                stack.callback(os.close, opened[place])

        def make(place: Path) -> None:
            try:
                open_one(place)
            except FileNotFoundError:
                make(place.parent)
                place.mkdir(exist_ok=True)
                open_one(place)

        for place in places:
            make(place)
        return list(opened.values())

    def _write_all(self, items: Iterable[tuple[Path, bytes]]) -> None:
        for path, data in items:
            self._write_once(path, data)

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
        with ExitStack() as stack:
            places = self._open_directories([path.parent], stack)
            self._aside(data).rename(path)
            self._each(self._sync_directory, places)

    def _aside(self, data: bytes) -> Path:
        path = self._tmp / str(next(self._names))
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
