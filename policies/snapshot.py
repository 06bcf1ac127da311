"""What a sidecar enforces at one moment: routes, each with its upstream and its pipeline. Immutable.

An exchange takes one snapshot at its start and keeps it: a push never splits an exchange in two.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from policies.errors import refuse
from policies.hosts import is_host
from policies.pipeline import Pipeline

MAX_TIMEOUT: Final = 86_400.0
"""Seconds that any timeout of an upstream may be set to."""


class UnknownEndpoint(StrEnum):
    """What to do with a JSON endpoint that no dialect knows."""

    WALK = "walk"
    """Treat every string leaf that is not opaque as text."""
    REFUSE = "refuse"


class AuditMode(StrEnum):
    """Whether an exchange may proceed when its leaf cannot be spooled."""

    BEST_EFFORT = "best-effort"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Upstream:
    """A model server. Construction raises ConfigError, which names every field at fault."""

    name: str
    url: str
    """`http(s)://host[:port][/base/path]`, without a trailing slash."""
    ca_file: str = ""
    """PEM bundle that verifies the server; empty: the system's CAs."""
    connect_timeout: float = 5.0
    """Seconds until TCP and TLS stand."""
    idle_timeout: float = 300.0
    """Seconds without a byte from the upstream while an answer is due."""
    total_timeout: float = 600.0
    """Seconds for the whole exchange. The SDKs' default is 600."""
    peer: str = ""
    """Name of the Peer through whose tunnel it is reached, never in another way; empty: directly."""

    def __post_init__(self) -> None:
        refuse(self._checks())

    def _checks(self) -> Iterator[tuple[bool, str]]:
        yield not _is_base_url(self.url), "url: expected http(s)://host[:port][/path] without a slash at its end"
        wrong_ca = self.ca_file != "" and not self.ca_file.startswith("/")
        yield wrong_ca, "ca_file: expected an absolute path, in the file system of the sidecar"
        nested = bool(self.peer) and not self.url.startswith("http://")
        yield nested, "url: expected http:// beside `peer`: the tunnel encrypts"
        for name in ("connect_timeout", "idle_timeout", "total_timeout"):
            yield not 0 < getattr(self, name) <= MAX_TIMEOUT, f"{name}: expected more than 0, at most 86400 seconds"


@dataclass(frozen=True, slots=True)
class Route:
    """Which requests go where, and under which policies. Immutable."""

    name: str
    prefix: str
    """Path prefix that a request must start with, at a segment border: `/openai`. `/` matches everything."""
    upstream: Upstream
    pipeline: Pipeline
    headers: Mapping[str, str] = field(default_factory=dict)
    """Lower-case header name -> exact value that must be present too."""
    strip_prefix: bool = True
    """Whether `prefix` is cut off before the path is appended to the upstream's base path."""
    unknown_endpoint: UnknownEndpoint = UnknownEndpoint.WALK
    audit: AuditMode = AuditMode.BEST_EFFORT
    max_body: int = 32 * 1024 * 1024
    """Bytes of a request body."""
    inbound: str = ""
    """Name of the Peer whose tunnel its requests come through; empty: they come from the application beside us."""


@dataclass(frozen=True, slots=True)
class BlockedRoute:
    """A route that is known but cannot be enforced: its policies or its upstream are not there.

    What it matches is refused. Were it left out, its requests would fall through to a less specific route, whose
    policies may be weaker.
    """

    name: str
    prefix: str
    headers: Mapping[str, str]
    inbound: str = ""


class PolicySnapshot:
    """All routes, most specific first."""

    __slots__ = ("_matches", "blocked", "revision", "routes", "source")

    def __init__(
        self, routes: Sequence[Route], *, revision: int, source: str, blocked: Sequence[BlockedRoute] = ()
    ) -> None:
        self.routes = tuple(sorted(routes, key=_specificity))
        self.blocked = tuple(blocked)
        everything: list[Route | BlockedRoute] = [*routes, *blocked]
        self._matches = tuple(sorted(everything, key=_specificity))
        self.revision = revision
        """Grows with every change; stands in the audit leaf."""
        self.source = source
        """`live`, `lkg` (last known good, from disk) or `file`."""

    def route(self, path: str, headers: Mapping[str, str], inbound: str = "") -> Route | None:
        """The most specific route for a request path (without its query) and lower-case headers.

        `inbound`: name of the Peer whose tunnel the request came through; empty: the application beside us sent it.
        None if there is none, or if it is blocked.
        """
        for route in self._matches:
            if route.inbound != inbound:
                continue
            if path_under(path, route.prefix) and all(headers.get(k) == v for k, v in route.headers.items()):
                return route if isinstance(route, Route) else None
        return None


def _specificity(route: Route | BlockedRoute) -> tuple[int, int, str]:
    return -len(route.prefix), -len(route.headers), route.name


def path_under(path: str, prefix: str) -> bool:
    """Whether `path` is `prefix` or below it at a segment border: `/openai` holds `/openai/v1`, not `/openaiX`."""
    return prefix == "/" or path == prefix or path.startswith(prefix + "/")


def _is_base_url(url: str) -> bool:
    if not re.fullmatch(r"https?://[!-~]+", url) or url.endswith("/"):
        return False
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    # Credentials in a URL end up in logs and config dumps; a query or fragment cannot be joined with a path.
    unsafe = "@" in parts.netloc or bool(set("?#\\") & set(url))
    return is_host(parts.hostname or "") and not unsafe and port != 0
