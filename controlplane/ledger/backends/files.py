"""What a log asks of a file system: files that appear whole, fsync, flock. Blocking."""

import ctypes
import errno
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from controlplane.ledger.errors import ConflictError, LostWritesError, NodeError, StorageError

Sync = Callable[[int], None]
"""Makes durable what a descriptor stands for. Raises OSError."""

READ_ONLY: Final = 0o444
_NO_ANONYMOUS_FILES: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT})
_REMOTE: Final = re.compile(r"nfs\d?|cifs|smb\w*|9p|fuse\.(?:s3fs|sshfs|gcsfuse|rclone|goofys|mountpoint-s3)")
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


@contextmanager
def storage_errors() -> Iterator[None]:
    """Errors of the operating system become StorageError."""
    try:
        yield
    except NodeError:
        raise
    except OSError as error:
        raise StorageError(f"{error.strerror or error} ({error.filename or 'log directory'})") from error


def read(path: Path) -> bytes | None:
    """The contents, or None."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


# --- writing ---


def write_new(path: Path, data: bytes, sync: Sync | None) -> None:
    """A new file, read-only for everybody, durable if `sync` is given (its name is not)."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _write_all(descriptor, data)
        if sync is not None:
            fsync(descriptor, sync)
    finally:
        os.close(descriptor)


def appear(place: int, path: Path, data: bytes) -> bool:
    """Let a file appear at `path`, whole or not at all, without ever replacing one; `place` is its open directory.

    The file has no name until it is written, so nothing is left of one that a crash cut short. False: this file system
    cannot do that (O_TMPFILE), and nothing happened. Raises FileExistsError. Not durable.
    """
    try:
        descriptor = os.open(path.parent, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in _NO_ANONYMOUS_FILES:
            return False
        raise
    try:
        _write_all(descriptor, data)
        # With dst_dir_fd this is linkat(AT_SYMLINK_FOLLOW), open(2)'s way to name such a file without privileges.
        os.link(f"/proc/self/fd/{descriptor}", path.name, dst_dir_fd=place)
    finally:
        os.close(descriptor)
    return True


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.fchmod(descriptor, READ_ONLY)


# --- durability ---


def fsync(descriptor: int, sync: Sync) -> None:
    """Raises LostWritesError. The pages may be clean by then and gone: a second attempt would report success."""
    try:
        sync(descriptor)
    except OSError as error:
        raise LostWritesError(f"syncing failed ({error.strerror}): it is not known what is on disk") from error


def fsync_path(place: Path, sync: Sync) -> None:
    """The same for a directory."""
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fsync(descriptor, sync)
    finally:
        os.close(descriptor)


def syncfs(descriptor: int) -> None:
    """syncfs(2): the whole file system. Since Linux 5.8 it reports every failed write since `descriptor` was opened."""
    if _LIBC.syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


# --- exclusion ---


def flock(path: Path, *, wait: bool = False) -> int:
    """A descriptor that holds the lock until it is closed or its process dies. Raises ConflictError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        raise ConflictError(f"another process has the log in {path.parent.parent} open") from None
    return descriptor


def remote_file_system(directory: Path, mountinfo: str) -> str:
    """The type of the network file system that `directory` (absolute) lies on according to proc(5); empty: local.

    flock, link and fsync do not hold there what a log needs.
    """
    mounts = [(line.split(" - ")[0].split()[4], line.split(" - ")[1].split()[0]) for line in mountinfo.splitlines()]
    within = [mount for mount in mounts if directory.is_relative_to(mount[0].replace("\\040", " "))]
    kind = max(within, key=lambda mount: len(mount[0]), default=("/", ""))[1]
    return kind if _REMOTE.fullmatch(kind) else ""
