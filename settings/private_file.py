"""Files that only their owner may read, from their first moment, whole, and still there after a power cut."""

import os
import tempfile
from pathlib import Path


def replace(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Put a file in place of `path`, or where none was; its rights are never wider than `mode`. Raises OSError."""
    scratch = scratch_beside(path, content)
    try:
        scratch.chmod(mode)
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    _keep_names(path.parent)


def create(path: Path, content: bytes) -> None:
    """Make a file where none is. Raises FileExistsError, which tells others who came first, and OSError."""
    scratch = scratch_beside(path, content)
    try:
        path.hardlink_to(scratch)
    finally:
        scratch.unlink()
    _keep_names(path.parent)


def scratch_beside(path: Path, content: bytes) -> Path:
    """A new file (0600) in the directory of `path` that holds `content` and survives a crash. Raises OSError.

    To be renamed or linked to `path`, which is when it counts; whoever asked for it removes it otherwise.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600
    scratch = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        scratch.unlink()
        raise
    return scratch


def _keep_names(directory: Path) -> None:
    """Make its names durable: a power cut may otherwise take a file whose bytes are on disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
