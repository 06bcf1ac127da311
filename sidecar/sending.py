"""One request on its way to the upstream: whether there is room for it, what of it is here, what has left, and what may
have to leave once more.
"""

from typing import Final

from sidecar import refusals
from sidecar.account import Account
from sidecar.codecs.http1_chunked import LAST_CHUNK, chunk
from sidecar.codecs.http1_head import CHUNKED, RequestHead
from sidecar.gathered import GatheredBody
from sidecar.plan import Plan
from sidecar.refusals import Refusal
from sidecar.services import Services
from sidecar.upstream import Caller, UpstreamConnection

SHORT_BODY: Final = 64 * 1024
"""Bytes of a refused request that are read out so that its connection can live on."""
ONE_WRITE: Final = 64 * 1024
"""Bytes up to which copying a body behind its head is cheaper than a second write."""
_BODY_METHODS: Final = frozenset({"POST", "PUT", "PATCH"})
"""Their requests say how long their body is even when there is none."""


class Sending:
    """The body is either whole before anything leaves, or goes onward as it comes. Counts against the bound of its
    route, and against that on all bodies which are held."""

    __slots__ = (
        "_account",
        "_body",
        "_has_ended",
        "_head",
        "_plan",
        "_services",
        "holds",
        "is_whole",
        "length",
        "refusal",
        "reserved",
        "whole",
    )

    def __init__(self, services: Services, head: RequestHead, length: int, plan: Plan, account: Account) -> None:
        self._services = services
        self._head = head
        self.length = length
        """Of the body as it came, or CHUNKED."""
        self._plan = plan
        self._account = account
        self.refusal: Refusal | None = plan.refusal
        """Why it will be refused once its short body was read."""
        self.holds = plan.inspects and (length != 0 or head.method in _BODY_METHODS)
        """Whether the body is read whole before anything leaves."""
        self.reserved = 0
        """Bytes of the bound on all held bodies that are ours."""
        self._body: GatheredBody | None = None
        """What came and did not leave; None as long as it comes in one piece."""
        self._has_ended = False
        """Whether the last chunk has left, if it leaves in chunks."""
        self.is_whole = False
        """Whether the client has sent all of it."""
        self.whole: bytes | None = None
        """The whole body for the upstream, for as long as it may have to leave once more."""

    def refusal_at_head(self) -> Refusal | None:
        """Why it is refused, as far as the head tells."""
        services, plan = self._services, self._plan
        if self.refusal is not None:
            pass
        elif services.effects.banned(services.peer, self._account.started_at):
            self.refusal = refusals.BANNED
        elif plan.audit_required and not services.audit.accepting:
            self.refusal = refusals.NO_AUDIT
        elif self.length > plan.max_body:
            self.refusal = refusals.too_large(plan.max_body)
        return self.refusal

    def hold(self, data: bytes) -> Refusal | None:
        """Some of the body came. Why the exchange must end now."""
        refusal = self._no_room(len(data))
        if refusal is None:
            self.keep(data)
        return refusal

    def end(self, data: bytes) -> Refusal | None:
        """The last of the body came. Why the exchange must end now."""
        if len(data) != self.length or self.holds or self.refusal is not None:  # else the head said that there is room
            refusal = self._no_room(len(data))
            if refusal is not None:
                return refusal
        else:
            self._account.request_bytes = self.length
        self.is_whole = True
        return self.refusal

    def taken(self, last: bytes) -> bytes:
        """All of the body that has not left, `last` at its end."""
        return last if self._body is None else self._body.take(last)

    def keep(self, data: bytes) -> None:
        """This has not left yet."""
        if self._body is None:
            self._body = GatheredBody()
        self._body.append(data)

    def begin(self, caller: Caller, connection: UpstreamConnection) -> None:
        """Send the head and what is there of the body."""
        plan, account, body = self._plan, self._account, self.whole
        head = plan.head
        if account.traceparent:
            # A tracestate is valid only beside the traceparent of its sender.
            head = plan.traced_head if account.parent_span else head
            head += f"traceparent: {account.traceparent}\r\n".encode("ascii")
        size = self.length if body is None else len(body)
        if body is None:
            body = self.taken(b"")
        account.sent_begins(body)
        if size == CHUNKED:
            head += b"transfer-encoding: chunked\r\n\r\n"
            body = self._chunked(body)
        elif size or self._head.method in _BODY_METHODS:
            head += b"content-length: %d\r\n\r\n" % size
        else:
            head += b"\r\n"
        to_head = self._head.method == "HEAD"
        if len(body) <= ONE_WRITE:
            connection.serve(caller, head + body, to_head=to_head)
        else:
            connection.serve(caller, head, to_head=to_head)
            connection.write(body)

    def go_on(self, connection: UpstreamConnection) -> None:
        """Send what came since."""
        body = self.taken(b"")
        self._account.sent_more(body)
        connection.write(self._chunked(body) if self.length == CHUNKED else body)

    def _chunked(self, body: bytes) -> bytes:
        """The end is written once: a second one would begin the upstream's next request."""
        framed = chunk(body) if body else b""
        if self.is_whole and not self._has_ended:
            self._has_ended = True
            framed += LAST_CHUNK
        return framed

    def _no_room(self, size: int) -> Refusal | None:
        """More of the body came."""
        self._account.request_bytes += size
        received = self._account.request_bytes
        if self.refusal is not None:
            return self.refusal if received > SHORT_BODY else None
        if received > self._plan.max_body:
            return refusals.too_large(self._plan.max_body)
        if self.holds:
            if not self._services.bodies.take(size):
                return refusals.OVERLOADED
            self.reserved += size
        return None
