"""Secrets in files of their own: read with suspicion, made on first use."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from settings import private_file

KEY_BYTES: Final = 32


class KeyFileError(Exception):
    """A key file cannot be used. Says which file and what to do, never what is in it."""


def read_key(path: Path) -> bytes:
    """The 32 bytes in `path`. Raises KeyFileError, also when others than its owner may have read or written it."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode  # of the file that is read, whatever is renamed meanwhile
            key = file.read(KEY_BYTES + 1)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
    # A group may read: that is how Kubernetes mounts a Secret with fsGroup.
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise KeyFileError(f"{path}: may be read or written by others; run `chmod 600 {path}`")
    if len(key) != KEY_BYTES:
        raise KeyFileError(f"{path}: expected {KEY_BYTES} bytes; `head -c {KEY_BYTES} /dev/urandom` makes some")
    return key


def read_or_make_key(path: Path) -> bytes:
    """The same, made if it is not there. Several processes may ask at once and get the same. Raises KeyFileError."""
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with suppress(FileExistsError):  # another process was first: its key it is
                private_file.create(path, os.urandom(KEY_BYTES))
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
    return read_key(path)
