"""The secret from which a tenant's tokens are derived: the same in every process that sees its conversations."""

import os
import stat
from pathlib import Path
from typing import Final

KEY_BYTES: Final = 32


class TenantKeyError(Exception):
    """The key file cannot be used. Says which file and what to do, never what is in it."""


def tenant_key(file: Path | None, data: Path) -> bytes:
    """The key in `file`; without one the key under `data`, made on first use. Raises TenantKeyError."""
    path = file or data / "tenant.key"
    try:
        if file is None and not path.exists():
            _make(path)
        mode = path.stat().st_mode
        key = path.read_bytes()
    except OSError as error:
        raise TenantKeyError(f"{path}: {error.strerror}") from None
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise TenantKeyError(f"{path}: may be read or written by others; run `chmod 600 {path}`")
    if len(key) != KEY_BYTES:
        raise TenantKeyError(f"{path}: expected {KEY_BYTES} bytes; `head -c 32 /dev/urandom` makes some")
    return key


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, os.urandom(KEY_BYTES))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        path.hardlink_to(scratch)  # fails if another process of this sidecar was first: its key it is
    except FileExistsError:
        pass
    finally:
        scratch.unlink()
