"""What is made of one request body."""

import asyncio
import time

from observability.metrics import Registry
from observability.telemetry import Telemetry
from policies.model import FORWARD_UNCHANGED, DialectName, ExchangeId, UnixNanos
from policies.snapshot import Upstream
from sidecar.codecs.http1_head import RequestHead
from sidecar.deadlines import Deadlines
from sidecar.dialects.registry import Dialects
from sidecar.inspection import Inspected, inspect
from sidecar.plan import Plan, Planner
from sidecar.upstream_pool import UpstreamPool
from tests.fakes.chat import prompt
from tests.fakes.datapath import snapshot_of
from tests.fakes.policies import Watching


def idle_pool(upstream: Upstream) -> UpstreamPool:
    """Of connections that nobody asks for."""
    deadlines, telemetry = Deadlines(time.monotonic), Telemetry(Registry())
    return UpstreamPool(upstream, asyncio.TaskGroup(), deadlines, telemetry, max_connections=1)


def plan_for(policy: Watching) -> Plan:
    planner = Planner(Dialects(), idle_pool)
    head = RequestHead("POST", ("/v1/chat/completions", ""), [(b"host", b"a")], is_http11=True)
    return planner.plan(head, snapshot_of("http://model", policy))


def test_prompt_that_nobody_changes_is_told_field_by_field() -> None:
    plan, body = plan_for(Watching()), prompt("hi")

    inspected = inspect(body, plan, ExchangeId("1" * 26), "peer", UnixNanos(1))

    assert plan.dialect.name is DialectName.OPENAI_CHAT
    assert inspected.policies is not None
    assert inspected == Inspected(FORWARD_UNCHANGED, body, model="m", policies=inspected.policies, findings={})
    assert len(inspected) == len(Inspected._fields)
