"""Files that processes of one user keep for each other, and that may be deleted at any time.

Their readers may trust them with their memory. So they are read only from a directory and a file that belong to this
user and that nobody else may write; whoever can write there can do anything as this user without us. A digest in front
stands against damage, not against forgery.
"""

import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

MAX_SIZE: Final = 64 << 20
"""Bytes of one file."""
MAX_FILES: Final = 32
_DIGEST_SIZE: Final = 32
_SUFFIX: Final = ".kept"


class Shelf:
    """One directory of such files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self, key: str) -> bytes | None:
        """What was kept under this key, which must do for a file name; None: nothing, or nothing to rely on."""
        try:
            data = _read_own(self._directory, key + _SUFFIX)
        except OSError:
            return None
        body = data[_DIGEST_SIZE:]
        return body if hashlib.sha256(body).digest() == data[:_DIGEST_SIZE] else None

    def keep(self, key: str, body: bytes) -> None:
        """Keep this, if the disk wants to; the oldest make room."""
        aside = self._directory / f".{os.getpid()}-{key}"
        with suppress(OSError):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_own(self._directory.stat())
            try:
                descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(hashlib.sha256(body).digest() + body)
                aside.replace(self._directory / (key + _SUFFIX))
            finally:
                aside.unlink(missing_ok=True)
            kept = sorted(self._directory.glob(f"*{_SUFFIX}"), key=lambda path: path.stat().st_mtime)
            for path in kept[:-MAX_FILES]:
                path.unlink(missing_ok=True)


def cache_directory() -> Path | None:
    """`$XDG_CACHE_HOME/aegis`, by default `~/.cache/aegis`; None: this user has no home."""
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return base / "aegis" if base.is_absolute() else None


def _read_own(directory: Path, name: str) -> bytes:
    """Raises OSError, also for what others may write."""
    place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _check_own(os.fstat(place))
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=place)
        with os.fdopen(file, "rb") as opened:
            status = os.fstat(opened.fileno())
            _check_own(status)
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_SIZE:
                raise OSError(f"{name} is no file of at most {MAX_SIZE} bytes")
            return opened.read()
    finally:
        os.close(place)


def _check_own(status: os.stat_result) -> None:
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError("it belongs to somebody else, or others may write it")
