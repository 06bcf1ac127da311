"""What is known of an exchange from its head alone: where it goes, who reads it, or why it is refused.

A plan belongs to one request head and one snapshot and is remembered with the head, so that the way of a repeated head
costs nothing.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

from observability.record import Endpoint
from policies.model import DialectName
from policies.snapshot import AuditMode, PolicySnapshot, Route, UnknownEndpoint, Upstream, path_under
from sidecar.codecs.http1_head import RequestHead
from sidecar.dialects.dialect import Dialect
from sidecar.dialects.registry import Dialects
from sidecar.refusals import (
    NO_POLICY,
    UNSUPPORTED_UPGRADE,
    Refusal,
    blocked_route,
    no_route,
    unknown_endpoint,
)
from sidecar.upstream_pool import UpstreamPool

CONVERSATION: Final = b"x-aegis-conversation"
"""Request field that names the conversation whose tokens are to stay the same; for us, not passed on."""
MAX_CONVERSATION: Final = 128
"""Characters of it that count."""

_MAX_ENDPOINTS: Final = 1024

# What SDKs ask for on their own: carries no text either way.
_LISTING: Final = re.compile(r"/models(?:/[^/]+)?$")


NO_HEAD: Final = RequestHead("", ("/", ""), [(b"connection", b"close")], is_http11=True)
"""Stands in for the head of what is no request at all."""


class Plan:
    """How exchanges with one request head are treated under one snapshot."""

    __slots__ = (
        "audit_required",
        "conversation",
        "dialect",
        "endpoint",
        "head",
        "idle_timeout",
        "inspects",
        "max_body",
        "pool",
        "refusal",
        "revision",
        "route",
        "route_name",
        "snapshot",
        "total_timeout",
        "traced_head",
    )

    def __init__(
        self, snapshot: PolicySnapshot | None, dialect: Dialect, refusal: Refusal | None, endpoint: Endpoint
    ) -> None:
        self.snapshot = snapshot
        self.endpoint = endpoint
        self.revision = snapshot.revision if snapshot is not None else 0
        self.dialect = dialect
        self.refusal = refusal
        self.route: Route | None = None
        """None only beside a refusal."""
        self.pool: UpstreamPool | None = None
        """None only beside a refusal."""
        self.route_name = ""
        self.total_timeout = 60.0
        """Seconds for the whole exchange."""
        self.idle_timeout = 60.0
        """Seconds the upstream may be silent while an answer is due."""
        self.max_body = 0
        """Bytes of a request body."""
        self.audit_required = False
        """Whether an exchange needs room in the audit trail."""
        self.inspects = False
        """Whether a body is read whole and shown to policies before it goes anywhere."""
        self.conversation = ""
        self.head = b""
        """The head for the upstream, but for its framing, its trace context and the empty line."""
        self.traced_head = b""
        """The same with the client's `tracestate`, which is valid only beside a valid `traceparent`."""


class Planner:
    """Draws up plans. Raises nothing: what cannot go anywhere becomes a refusal."""

    def __init__(self, dialects: Dialects, pool: Callable[[Upstream], UpstreamPool], inbound: str = "") -> None:
        """`inbound`: name of the Peer through whose tunnel requests come; empty: from the application beside us."""
        self._dialects = dialects
        self._inbound = inbound
        self._pool = pool
        self._endpoints: dict[tuple[str | int, ...], Endpoint] = {}
        dialect = dialects.choose("", "", {})
        self._nowhere = Plan(None, dialect, None, self._endpoint("", dialect, "", 0))

    def plan(self, head: RequestHead, snapshot: PolicySnapshot | None) -> Plan:
        """The plan for this head under this snapshot; remembered with the head until there is another snapshot."""
        plan = head.plan = self._drawn_up(head, snapshot)
        return plan

    def _drawn_up(self, head: RequestHead, snapshot: PolicySnapshot | None) -> Plan:
        if head is NO_HEAD:
            return self._nowhere
        values = head.values()
        route = snapshot.route(head.path, values, self._inbound) if snapshot is not None else None
        if snapshot is None or route is None:
            dialect = self._dialects.choose(head.method, head.path, values)
            endpoint = self._endpoint("", dialect, "", 0)
            return Plan(snapshot, dialect, self._unrouted(head.path, values, snapshot), endpoint)
        pool = self._pool(route.upstream)
        path = pool.base_path + _path_below(head.path, route)
        dialect = self._dialects.choose(head.method, path, values)
        endpoint = self._endpoint(route.name, dialect, pool.host, pool.port)
        plan = Plan(snapshot, dialect, _refusal(head, route, dialect, path), endpoint)
        plan.route = route
        plan.route_name = route.name
        plan.pool = pool
        plan.total_timeout = route.upstream.total_timeout
        plan.idle_timeout = route.upstream.idle_timeout
        plan.max_body = route.max_body
        plan.audit_required = route.audit is AuditMode.REQUIRED
        plan.inspects = bool(route.pipeline.policies)
        plan.conversation = values.get(CONVERSATION.decode("ascii"), "")[:MAX_CONVERSATION]
        dropped = {CONVERSATION} | ({b"accept-encoding"} if plan.inspects else set())
        plan.traced_head = _head_for_upstream(head, pool, path, dropped)
        plan.head = _head_for_upstream(head, pool, path, dropped | {b"tracestate"})
        return plan

    def for_peer(self, inbound: str) -> "Planner":
        """One for requests that come through the tunnel of this Peer."""
        return Planner(self._dialects, self._pool, inbound)

    def _endpoint(self, route: str, dialect: Dialect, address: str, port: int) -> Endpoint:
        """One object for each: metrics are looked up by it."""
        key = (route, dialect.name, dialect.operation, dialect.provider, address, port)
        if len(self._endpoints) >= _MAX_ENDPOINTS:
            self._endpoints.clear()  # those of routes that are gone
        return self._endpoints.setdefault(
            key, Endpoint(route, dialect.name, dialect.operation, dialect.provider, address, port)
        )

    def _unrouted(self, path: str, values: Mapping[str, str], snapshot: PolicySnapshot | None) -> Refusal:
        if snapshot is None:
            return NO_POLICY
        ours = [route for route in snapshot.blocked if route.inbound == self._inbound]
        for route in ours:
            if path_under(path, route.prefix) and all(values.get(k) == v for k, v in route.headers.items()):
                return blocked_route(route.name)
        return no_route([route.prefix for route in snapshot.routes if route.inbound == self._inbound])


def _refusal(head: RequestHead, route: Route, dialect: Dialect, path: str) -> Refusal | None:
    if head.upgrade == "websocket":
        return UNSUPPORTED_UPGRADE
    if dialect.name is not DialectName.GENERIC or route.unknown_endpoint is UnknownEndpoint.WALK:
        return None
    if not route.pipeline.policies or (head.method in {"GET", "HEAD"} and _LISTING.search(path)):
        return None
    return unknown_endpoint(route.name)


def _path_below(path: str, route: Route) -> str:
    """The path without the route's prefix where the route says so. Begins with `/`."""
    if route.strip_prefix and route.prefix != "/":
        return path[len(route.prefix) :] or "/"
    return path


def _head_for_upstream(head: RequestHead, pool: UpstreamPool, path: str, dropped: set[bytes]) -> bytes:
    lines = [f"{head.method} {path}{head.query} HTTP/1.1\r\nhost: {pool.authority}\r\n".encode("ascii")]
    lines += [b"%b: %b\r\n" % field for field in head.fields if field[0] not in dropped]
    if b"accept-encoding" in dropped:  # an answer that may be rewritten must come as it is
        lines.append(b"accept-encoding: identity\r\n")
    return b"".join(lines)
