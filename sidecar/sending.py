"""One request on its way to the upstream: what of it is here, what has left, what may have to leave once more."""

from typing import Final

from sidecar.account import Account
from sidecar.codecs.http1_chunked import LAST_CHUNK, chunk
from sidecar.codecs.http1_head import CHUNKED, RequestHead
from sidecar.gathered import GatheredBody
from sidecar.plan import Plan
from sidecar.upstream import Caller, UpstreamConnection

BODY_METHODS: Final = frozenset({"POST", "PUT", "PATCH"})
"""Their requests say how long their body is even when there is none."""
ONE_WRITE: Final = 64 * 1024
"""Bytes up to which copying a body behind its head is cheaper than a second write."""


class Sending:
    """The body is either whole before anything leaves, or goes onward as it comes."""

    __slots__ = ("_account", "_body", "_head", "_plan", "is_whole", "length", "whole")

    def __init__(self, head: RequestHead, length: int, plan: Plan, account: Account) -> None:
        self._head = head
        self.length = length
        """Of the body as it came, or CHUNKED."""
        self._plan = plan
        self._account = account
        self._body: GatheredBody | None = None
        """What came and did not leave; None as long as it comes in one piece."""
        self.is_whole = False
        """Whether the client has sent all of it."""
        self.whole: bytes | None = None
        """The whole body for the upstream, for as long as it may have to leave once more."""

    def hold(self, data: bytes) -> None:
        """Some of the body came."""
        if self._body is None:
            self._body = GatheredBody()
        self._body.append(data)

    def end(self, data: bytes) -> bytes:
        """The last of the body came. All of it that has not left."""
        self.is_whole = True
        return data if self._body is None else self._body.take(data)

    def begin(self, caller: Caller, connection: UpstreamConnection) -> None:
        """Send the head and what is there of the body."""
        body = self._held() if self.whole is None else self.whole
        self._account.sent_begins(body)
        if self.whole is None and self.length == CHUNKED and body:
            body = chunk(body)
        head = self._head_for_upstream()
        to_head = self._head.method == "HEAD"
        if len(body) <= ONE_WRITE:
            connection.serve(caller, head + body, to_head=to_head)
        else:
            connection.serve(caller, head, to_head=to_head)
            connection.write(body)

    def go_on(self, connection: UpstreamConnection) -> None:
        """Send what came since."""
        body = self._held()
        self._account.sent_more(body)
        if self.length == CHUNKED:
            body = chunk(body) if body else b""
            body += LAST_CHUNK if self.is_whole else b""
        connection.write(body)

    def _held(self) -> bytes:
        return b"" if self._body is None else self._body.take()

    def _head_for_upstream(self) -> bytes:
        plan, account = self._plan, self._account
        head = plan.head
        if account.traceparent:
            # A tracestate is valid only beside the traceparent of its sender.
            head = plan.traced_head if account.parent_span else head
            head += f"traceparent: {account.traceparent}\r\n".encode("ascii")
        size = self.length if self.whole is None else len(self.whole)
        if size == CHUNKED:
            return head + b"transfer-encoding: chunked\r\n\r\n"
        if size or self._head.method in BODY_METHODS:
            return b"%bcontent-length: %d\r\n\r\n" % (head, size)
        return head + b"\r\n"
