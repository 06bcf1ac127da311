"""Audit entries as the data path would make them."""

import hashlib

from policies.model import DialectName, ExchangeId, ResultCode, UnixNanos
from sidecar.ports import AuditEntry

BEGAN = 1_795_132_800_000_000_000
"""Nanoseconds since 1970: 2026-11-20 00:00 UTC."""


def audit_entry(n: int = 0) -> AuditEntry:
    """Exchange number `n`, one millisecond after the one before."""
    started = BEGAN + n * 1_000_000
    return AuditEntry(
        exchange=ExchangeId(f"01JD{n:022d}"),
        dialect=DialectName.OPENAI_CHAT,
        route="openai",
        result=ResultCode.FORWARDED,
        status=200,
        policy_revision=7,
        task=0,
        started_at=UnixNanos(started),
        ended_at=UnixNanos(started + 250_000_000),
        request_digest=hashlib.sha256(f"request {n}".encode()).digest(),
        response_digest=hashlib.sha256(f"response {n}".encode()).digest(),
        findings={"us_ssn": 1},
    )
