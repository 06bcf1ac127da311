"""A log in a directory of a local file system.

    <dir>/checkpoint, <dir>/tile/...     the published log, readable by all, named as c2sp.org/tlog-tiles says
    <dir>/.state/lock                    the value of the lock
    <dir>/.state/owner, swapping         flocked: for the life of the process, during a swap
    <dir>/.state/staging/, .state/tmp/   bundles of growths, files on their way

Files appear whole and read-only, by link, which never replaces anything, or by rename. Bundles, checkpoint and lock are
fsynced one by one, and then their directories, through descriptors that were opened before the name appeared, because
an error is lost if the inode was evicted in between. Tiles are too many for that: one syncfs makes all of them durable
some seconds later.

When any of this fails, nothing is known of what is on disk: every later operation is refused, and only a new process
may look again. All methods with a leading underscore block; they run in threads.
"""

import asyncio
import itertools
import logging
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from controlplane.ledger.backends.files import (
    Sync,
    appear,
    flock,
    fsync,
    fsync_path,
    read,
    remote_file_system,
    storage_errors,
    syncfs,
    write_new,
)
from controlplane.ledger.errors import ConflictError, LostWritesError, StorageError
from controlplane.ledger.ports import CHECKPOINT

logger = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

_THREADS: Final = 8
_KEY: Final = re.compile(r"(?:checkpoint|tile|\.state/staging)(?:/\w[\w.-]*)*", re.ASCII)
_STATE: Final = ".state"


@contextmanager
def new_directory(directory: Path) -> Iterator[Path]:
    """An empty directory aside, which becomes `directory` when the block ends well: whole or not at all.

    Raises ConflictError when anything is there (I8: a log is made over nothing, ever), StorageError.
    """
    scratch = directory.with_name(f".{directory.name}.new-{secrets.token_hex(8)}")
    with storage_errors():
        _check_vacant(directory)
        directory.parent.mkdir(parents=True, exist_ok=True)
        scratch.mkdir()
        try:
            yield scratch
            for place in (scratch, *(path for path in scratch.rglob("*") if path.is_dir())):
                fsync_path(place, os.fsync)
            try:
                # The commit point. Rename refuses to replace a directory that has anything in it.
                scratch.rename(directory)
            except OSError:
                _check_vacant(directory)
                raise
            fsync_path(directory.parent, os.fsync)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def create(directory: Path, checkpoint: bytes) -> None:
    """Make the directory of a log with this checkpoint of the empty tree. Not atomic: see `new_directory`.

    Raises StorageError.
    """
    with storage_errors():
        (directory / _STATE / "staging").mkdir(parents=True)
        for path in (directory / CHECKPOINT, directory / _STATE / "lock"):
            write_new(path, checkpoint, os.fsync)


def _check_vacant(directory: Path) -> None:
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        raise ConflictError(f"{directory} is not empty: a log is never made over anything")


class PosixStorage:
    """Backend and lock of one log; while it is open, no other process of this machine can open it."""

    def __init__(self, directory: Path, *, sync: Sync = os.fsync, sync_all: Sync = syncfs) -> None:
        """Blocking. Raises ConflictError when another process has the log open, StorageError otherwise."""
        self._directory = directory
        self._sync = sync
        self._sync_all = sync_all
        self._lost: LostWritesError | None = None
        self._has_anonymous_files = True
        self._names = itertools.count()
        """Of files on their way. `next` is one step under the interpreter lock."""
        _refuse_remote(directory)
        with storage_errors(), ExitStack() as undo:
            state = directory / _STATE
            state.mkdir(exist_ok=True)
            self._owner = flock(state / "owner")
            undo.callback(os.close, self._owner)
            self._root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            undo.callback(os.close, self._root)
            self._tmp = state / "tmp"
            shutil.rmtree(self._tmp, ignore_errors=True)
            self._tmp.mkdir()
            undo.pop_all()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="ledger-storage")

    def close(self) -> None:
        """Wait for what is under way, then let other processes have the log. Blocking."""
        self._threads.shutdown()
        os.close(self._root)
        os.close(self._owner)

    # --- backend ---

    async def get(self, key: str) -> bytes | None:
        return await self._in_thread(read, self._path(key))

    async def stage(self, key: str, data: bytes) -> None:
        await self._in_thread(self._stage, self._path(key), data)

    async def put(self, objects: Mapping[str, bytes]) -> None:
        await self._in_thread(self._put, {self._path(key): data for key, data in objects.items()}, self._refuse)

    async def repair(self, objects: Mapping[str, bytes]) -> None:
        await self._in_thread(self._put, {self._path(key): data for key, data in objects.items()}, self._repair)

    async def settle(self) -> None:
        await self._in_thread(fsync, self._root, self._sync_all)

    async def replace(self, key: str, data: bytes) -> None:
        await self._in_thread(self._write_over, self._path(key), data)

    async def delete(self, keys: Iterable[str]) -> None:
        await self._in_thread(_delete, [self._path(key) for key in keys])

    async def keys(self, prefix: str) -> list[str]:
        return await self._in_thread(self._list, prefix)

    # --- lock ---

    async def fetch(self) -> bytes | None:
        return await self._in_thread(read, self._directory / _STATE / "lock")

    async def swap(self, old: bytes, new: bytes) -> None:
        await self._in_thread(self._swap, old, new)

    # --- in threads ---

    async def _in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._lost is not None:
            raise self._lost

        def run() -> T:
            with storage_errors():
                try:
                    return function(*args, **kwargs)
                except LostWritesError as error:
                    self._lost = error
                    raise

        return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is not a key of this storage")
        return self._directory / key

    def _stage(self, path: Path, data: bytes) -> None:
        with _opened([path.parent]) as places:
            aside = self._aside(data)
            try:
                path.hardlink_to(aside)
            except FileExistsError:
                if read(path) != data:
                    self._refuse(path, data)
            finally:
                aside.unlink()
            for descriptor in places.values():
                fsync(descriptor, self._sync)

    def _put(self, objects: Mapping[Path, bytes], differs: Callable[[Path, bytes], None]) -> None:
        with _opened({path.parent for path in objects}) as places:
            for path, data in objects.items():
                try:
                    self._appear(places[path.parent], path, data)
                except FileExistsError:
                    if read(path) != data:
                        differs(path, data)

    def _appear(self, place: int, path: Path, data: bytes) -> None:
        if self._has_anonymous_files:
            self._has_anonymous_files = appear(place, path, data)
        if not self._has_anonymous_files:
            aside = self._tmp / str(next(self._names))
            write_new(aside, data, None)
            try:
                path.hardlink_to(aside)
            finally:
                aside.unlink()

    def _refuse(self, path: Path, _data: bytes) -> None:
        raise ConflictError(f"{path} holds something else than what was to be written once")

    def _repair(self, path: Path, data: bytes) -> None:
        logger.warning("a file did not survive and is written again", extra={"path": str(path)})
        self._write_over(path, data)

    def _write_over(self, path: Path, data: bytes) -> None:
        with _opened([path.parent]) as places:
            self._aside(data).rename(path)
            for descriptor in places.values():
                fsync(descriptor, self._sync)

    def _aside(self, data: bytes) -> Path:
        path = self._tmp / str(next(self._names))
        write_new(path, data, self._sync)
        return path

    def _list(self, prefix: str) -> list[str]:
        place = self._path(prefix.removesuffix("/"))
        try:
            return [prefix + name for name in os.listdir(place)]  # noqa: PTH208 names are wanted, not paths
        except FileNotFoundError:
            return []

    def _swap(self, old: bytes, new: bytes) -> None:
        # A process that got past the other flock (a directory mounted twice, say) is stopped here at the latest:
        # compare and swap are one step for everybody who asks this kernel.
        swapping = flock(self._directory / _STATE / "swapping", wait=True)
        try:
            path = self._directory / _STATE / "lock"
            if read(path) != old:
                raise ConflictError("the lock was moved by somebody else: another process writes to this log")
            self._write_over(path, new)
        finally:
            os.close(swapping)


@contextmanager
def _opened(wanted: Iterable[Path]) -> Iterator[dict[Path, int]]:
    """Descriptors of these directories, made where they are missing, and of every directory that got a new one."""
    opened: dict[Path, int] = {}

    def make(place: Path) -> None:
        if place in opened:
            return
        try:
            opened[place] = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            make(place.parent)
            place.mkdir(exist_ok=True)
            opened[place] = os.open(place, os.O_RDONLY | os.O_DIRECTORY)

    try:
        for place in wanted:
            make(place)
        yield opened
    finally:
        for descriptor in opened.values():
            os.close(descriptor)


def _delete(paths: Iterable[Path]) -> None:
    places = set()
    for path in paths:
        path.unlink(missing_ok=True)
        places.add(path.parent)
    for place in places:
        if place.suffix == ".p":
            with suppress(OSError):  # it is not empty, or gone
                place.rmdir()


def _refuse_remote(directory: Path) -> None:
    with storage_errors():
        at, mountinfo = directory.resolve(strict=True), Path("/proc/self/mountinfo").read_text(errors="replace")
    if kind := remote_file_system(at, mountinfo):
        raise StorageError(f"{directory} lies on {kind}; a log needs a local file system, whose locks and fsync hold")
