"""What telemetry is told of one finished exchange."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from policies.model import DialectName, ExchangeId, ResultCode, UnixNanos


@dataclass(frozen=True, slots=True, eq=False)
class Endpoint:
    """What many exchanges have in common: one object for all of them, which is told from others by its identity."""

    route: str
    dialect: DialectName
    operation: str
    provider: str
    server_address: str
    server_port: int


class ExchangeRecord(NamedTuple):
    """One exchange, built once at its end. No text, no keys, no full paths or queries."""

    exchange: ExchangeId
    endpoint: Endpoint
    request_model: str
    response_model: str
    response_id: str
    finish_reason: str
    result: ResultCode
    status: int
    stream: bool
    started_at: UnixNanos
    sent_at: UnixNanos
    """When the request had been handed to the upstream; 0: never."""
    first_chunk_at: UnixNanos
    """When the first body byte of the answer was released to the client; 0: never."""
    ended_at: UnixNanos
    input_tokens: int | None
    output_tokens: int | None
    request_bytes: int
    response_bytes: int
    findings: Mapping[str, int]
    traceparent: str
    """The W3C traceparent that was passed to the upstream, this exchange's own span id in it; its sampled flag says
    whether a span is built. Empty: no span."""
    parent_span: str
    """16 hex digits of the caller's span; empty: this exchange is a root."""
