"""Policies from files in place of a control plane: `--policy-file`. Changes are taken up; a broken change is not.

Only the reading is here. What the documents mean is decided by the function that is handed in: it needs libraries that
a sidecar with a control plane does not load.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from policies.errors import PolicyError
from policies.snapshot import PolicySnapshot
from policies.spec import Source

logger = logging.getLogger(__name__)

MAX_FILES: Final = 1000
MAX_FILE: Final = 1 << 20
"""Bytes; policies/spec_yaml.py refuses longer texts anyway."""
_SUFFIXES: Final = frozenset({".yaml", ".yml"})

Compile = Callable[[Sequence[Source], int], PolicySnapshot]
"""(files, revision) -> snapshot. Raises PolicyError. May take a second of CPU."""


class UnreadableSourceError(Exception):
    """A policy file cannot be read. Says which, and why."""


class PolicyFile:
    """Implements `ports.Snapshots` from files and directories. `load` once, then `run` beside everything else."""

    def __init__(self, paths: Sequence[Path], compile_sources: Compile) -> None:
        self.current: PolicySnapshot | None = None
        self.problem = "the policy file was not read yet"
        """Why what the files say now is not in force; empty: it is."""
        self._paths = tuple(paths)
        self._compile = compile_sources
        self._seen: object = None

    @property
    def blocker(self) -> str:
        """Why the sidecar is not ready; empty: it is."""
        return self.problem if self.current is None else ""

    async def load(self) -> None:
        """Take the files up if they changed. On any error the last good ones stay in force and `problem` says why."""
        try:
            seen = await asyncio.to_thread(_stamps, self._paths)
            if seen == self._seen:
                return
            sources = await asyncio.to_thread(read_sources, self._paths)
            self._seen = seen
            newest = max(changed_at for _, changed_at, _ in seen)
            # Grows with every change, over restarts too: the time of the newest file in seconds.
            revision = max(newest // 1_000_000_000, self.current.revision + 1 if self.current else 1)
            snapshot = await asyncio.to_thread(self._compile, sources, revision)
        except (PolicyError, UnreadableSourceError) as error:
            self.problem = str(error)
            logger.error("policy file refused", extra={"reason": str(error)})
            return
        except Exception as fault:
            # The task's root: a policy that cannot be built must not end the sidecar that serves under the former one.
            self.problem = f"the policy files cannot be built: {type(fault).__name__}"
            logger.error("policy file refused", extra={"reason": self.problem}, exc_info=fault)
            return
        if not snapshot.routes:
            self.problem = "there is no document of kind Route: every exchange would be refused"
            logger.error("policy file refused", extra={"reason": self.problem})
            return
        self.current, self.problem = snapshot, ""
        logger.info("policy file in force", extra={"revision": revision, "routes": len(snapshot.routes)})

    async def run(self, every: float) -> None:
        """`load` until cancelled. `every`: seconds."""
        while True:
            await asyncio.sleep(every)
            await self.load()


def read_sources(paths: Sequence[Path]) -> list[Source]:
    """The texts of files, and of all *.yaml and *.yml in directories. Raises UnreadableSourceError."""
    sources = []
    for path in _files(paths):
        try:
            with path.open("rb") as file:
                content = file.read(MAX_FILE + 1)
            sources.append(Source(str(path), content.decode("utf-8-sig")))
        except OSError as error:
            raise UnreadableSourceError(f"{path}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise UnreadableSourceError(f"{path}: byte {error.start} is not UTF-8") from None
    return sources


def _stamps(paths: Sequence[Path]) -> list[tuple[str, int, int]]:
    stamps = []
    for path in _files(paths):
        try:
            status = path.stat()
        except OSError as error:
            raise UnreadableSourceError(f"{path}: {error.strerror}") from None
        stamps.append((str(path), status.st_mtime_ns, status.st_size))
    return stamps


def _files(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        found += _within(path) if path.is_dir() else [path]
        if len(found) > MAX_FILES:
            raise UnreadableSourceError(f"{path}: more than {MAX_FILES} files")
    if not found:
        raise UnreadableSourceError(f"no .yaml or .yml file in {', '.join(map(str, paths))}")
    return found


def _within(directory: Path) -> Iterator[Path]:
    # A mounted ConfigMap holds its files behind a link in a directory `..2026_...`: seen once, not twice.
    for path in sorted(directory.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(directory).parts)
        if path.suffix in _SUFFIXES and not hidden and path.is_file():
            yield path
