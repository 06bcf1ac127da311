"""The directory of one `aegis up`: who may use it, and where things are in it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from commands.up.errors import DirectoryInUseError


@dataclass(frozen=True, slots=True)
class Directory:
    """Where things are. All but `root` are made by whoever needs them."""

    root: Path

    @property
    def authority(self) -> Path:
        """The local certificate authority."""
        return self.root / "ca"

    @property
    def policies(self) -> Path:
        """The default policy documents, as pushed."""
        return self.root / "policies.yaml"

    @property
    def controlplane(self) -> Path:
        """The control plane's store."""
        return self.root / "controlplane"

    @property
    def ledger(self) -> Path:
        """The log: key, checkpoint, tiles, entries."""
        return self.root / "ledger"

    @property
    def sidecar(self) -> Path:
        """The sidecar's state: last known good policies, audit spools (leaves until durable, and their openings)."""
        return self.root / "sidecar"

    @property
    def logs(self) -> Path:
        """What the programs print."""
        return self.root / "logs"

    def identity(self, name: str) -> Path:
        """Certificate and key of a program."""
        return self.root / "identity" / name


@contextmanager
def locked(path: Path) -> Iterator[Directory]:
    """The directory, made if need be, for this process alone. Raises DirectoryInUseError, or OSError.

    The kernel drops the lock with this process, however it ends.
    """
    root = path.expanduser().absolute()
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "?"
            raise DirectoryInUseError(
                f"{root} is in use by another `aegis up` (process {holder}); stop it, or give another --data"
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield Directory(root)
    finally:
        os.close(lock)
