"""A request on its way out, from whatever of it was there when a connection was."""

import asyncio
from typing import cast

import pytest

from observability.record import Endpoint
from policies.model import DialectName, UnixNanos
from sidecar.account import Account
from sidecar.codecs.http1_chunked import LAST_CHUNK, chunk
from sidecar.codecs.http1_head import CHUNKED, AnswerHeads, RequestHeads
from sidecar.dialects.registry import Dialects
from sidecar.plan import Plan
from sidecar.sending import Sending
from sidecar.services import Services
from sidecar.upstream import Caller, UpstreamConnection


class Wire(asyncio.Transport):
    """Remembers what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is always room."""


def connected(wire: Wire) -> UpstreamConnection:
    connection = UpstreamConnection(AnswerHeads(), lambda: 0.0, released=lambda _: None, closed=lambda _: None)
    connection.connection_made(wire)
    return connection


def open_plan() -> Plan:
    plan = Plan(
        None, Dialects().choose("POST", "/", {}), None, Endpoint("", DialectName.GENERIC, "unknown", "openai", "", 0)
    )
    plan.max_body = 100
    return plan


@pytest.mark.parametrize(
    ("framing", "expected"),
    [
        (b"Transfer-Encoding: chunked", b"transfer-encoding: chunked\r\n\r\n" + chunk(b"whole") + LAST_CHUNK),
        (b"Content-Length: 5", b"content-length: 5\r\n\r\nwhole"),
    ],
)
def test_request_that_ends_while_it_waits_for_a_connection_ends_at_the_upstream(
    framing: bytes, expected: bytes
) -> None:
    head, length, _ = RequestHeads().read(b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % framing)
    plan = open_plan()
    sending = Sending(cast(Services, None), head, length, plan, Account(UnixNanos(1)))
    wire = Wire()

    assert sending.hold(b"who") is None
    assert sending.end(b"le") is None
    sending.keep(b"le")
    sending.begin(cast(Caller, None), connected(wire))

    assert wire.written == expected


def test_request_that_goes_on_after_it_began_is_chunked_to_its_end() -> None:
    head, length, _ = RequestHeads().read(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    plan = open_plan()
    sending = Sending(cast(Services, None), head, length, plan, Account(UnixNanos(1)))
    wire = Wire()
    connection = connected(wire)

    assert length == CHUNKED
    assert sending.hold(b"who") is None
    sending.begin(cast(Caller, None), connection)
    assert sending.end(b"le") is None
    sending.keep(b"le")
    sending.go_on(connection)

    assert wire.written == b"transfer-encoding: chunked\r\n\r\n" + chunk(b"who") + chunk(b"le") + LAST_CHUNK
