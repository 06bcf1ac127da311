"""Where a log is read from: a directory or a URL, both named as c2sp.org/tlog-tiles says."""

import http.client
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click

from ledger.errors import MalformedError, MissingError
from ledger.tiles import Resource, parse_path

_MAX_RESOURCE: Final = 20 << 20
"""Bytes. The largest entry bundle has 16.8 MB."""
_TIMEOUT: Final = 20.0
_PLACES: Final = ("", "log", "ledger/log")
"""Where the log is within a directory: a copy of it, the data of a node, the data of `aegis up`."""


Function = Callable[..., Any]


class DirectorySource:
    """A log on disk."""

    def __init__(self, root: Path) -> None:
        """Raises click.UsageError when there is no log."""
        places = [root / place for place in _PLACES]
        found = next((place for place in places if (place / "checkpoint").is_file()), None)
        if found is None:
            raise click.UsageError(f"there is no log in {root}: no file `checkpoint` in it, nor in its log/")
        self.root = found
        self.name = str(found)

    @property
    def policy(self) -> Path:
        """Where a node puts the trust policy that names its log."""
        return self.root.parent / "policy"

    def fetch(self, path: str) -> bytes:
        try:
            return (self.root / path).read_bytes()
        except FileNotFoundError:
            raise MissingError(f"{path} is missing") from None
        except OSError as error:
            raise MissingError(f"{path} cannot be read: {error.strerror}") from None

    def stored(self) -> Iterator[tuple[str, Resource | None]]:
        """Every file below tile/, and what it is; None: nothing that belongs to a log."""
        for file in sorted((self.root / "tile").rglob("*")):
            if not file.is_dir():
                path = file.relative_to(self.root).as_posix()
                try:
                    yield path, parse_path(path)
                except MalformedError:
                    yield path, None


class HttpSource:
    """A log behind HTTP, over one connection."""

    def __init__(self, url: str) -> None:
        """Raises click.UsageError for a URL that cannot be one."""
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            raise click.UsageError(f"{url}: the port is no number") from None
        if not parts.hostname:
            raise click.UsageError(f"{url}: no host")
        connection = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = connection(parts.hostname, port, timeout=_TIMEOUT)
        self._prefix = parts.path.rstrip("/").removesuffix("/checkpoint")
        self.name = url

    def fetch(self, path: str) -> bytes:
        try:
            self._connection.request("GET", f"{self._prefix}/{path}", headers={"accept-encoding": "identity"})
            response = self._connection.getresponse()
            body = response.read(_MAX_RESOURCE + 1)
        except (OSError, http.client.HTTPException) as error:
            raise click.UsageError(f"{self.name} cannot be read: {type(error).__name__} {error}") from None
        if response.status in {404, 410}:
            raise MissingError(f"{path} is missing")
        if response.status != 200 or len(body) > _MAX_RESOURCE:
            raise click.UsageError(f"{self.name}/{path} answered {response.status} with {len(body)} bytes")
        return body


def log_option(*, required: bool) -> Callable[[Function], Function]:
    """Adds `--log`."""
    return click.option("--log", "where", metavar="DIR|URL", required=required, help="The log: a directory or a URL.")


log_argument: Final = click.argument("where", metavar="WHERE")


def policy_beside(source: "DirectorySource | HttpSource") -> Path | None:
    """Where a trust policy lies if the log is that of a node on this machine."""
    return source.policy if isinstance(source, DirectorySource) else None


def read_file(path: Path) -> bytes:
    """A file's bytes. Raises click.UsageError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise click.UsageError(f"{path} cannot be read: {error.strerror}") from None


def open_source(where: str) -> DirectorySource | HttpSource:
    """The log at a directory or an http(s) URL. Raises click.UsageError."""
    return HttpSource(where) if where.startswith(("http://", "https://")) else DirectorySource(Path(where))
