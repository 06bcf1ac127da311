"""Records of exchanges as a sidecar would make them."""

from observability.record import Endpoint, ExchangeRecord
from policies.model import DialectName, ExchangeId, ResultCode, UnixNanos

STARTED = UnixNanos(1_795_132_800_000_000_000)
MS = 1_000_000

STREAMED = ExchangeRecord(
    exchange=ExchangeId("01JD0000000000000000000000"),
    endpoint=Endpoint("openai", DialectName.OPENAI_CHAT, "chat", "openai", "api.openai.com", 443),
    request_model="gpt-4o",
    response_model="gpt-4o-2024-08-06",
    response_id="chatcmpl-123",
    finish_reason="stop",
    result=ResultCode.FORWARDED,
    status=200,
    stream=True,
    started_at=STARTED,
    sent_at=UnixNanos(STARTED + 2 * MS),
    first_chunk_at=UnixNanos(STARTED + 102 * MS),
    ended_at=UnixNanos(STARTED + 1102 * MS),
    input_tokens=30,
    output_tokens=11,
    request_bytes=500,
    response_bytes=2000,
    findings={"us_ssn": 2},
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    parent_span="00f067aa0ba902b7",
)
"""A streamed answer of eleven tokens: first piece after 100 ms, then 100 ms a token."""

DENIED = STREAMED._replace(
    response_model="",
    response_id="",
    finish_reason="",
    result=ResultCode.DENIED_AIRLOCK,
    status=400,
    stream=False,
    sent_at=UnixNanos(0),
    first_chunk_at=UnixNanos(0),
    ended_at=UnixNanos(STARTED + MS),
    input_tokens=None,
    output_tokens=None,
    response_bytes=0,
)
"""Refused: nothing left the pod."""
