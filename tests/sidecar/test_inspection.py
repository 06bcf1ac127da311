"""What is made of one request body."""

from policies.model import FORWARD_UNCHANGED, DialectName, ExchangeId, UnixNanos
from sidecar.codecs.http1_head import RequestHead
from sidecar.dialects.registry import Dialects
from sidecar.inspection import Inspected, inspect
from sidecar.plan import Plan, Planner
from tests.fakes.chat import prompt
from tests.fakes.datapath import snapshot_of
from tests.fakes.policies import Watching


class NoPool:
    """Where an upstream stands, and nothing more."""

    host, port, authority, base_path = "model", 80, "model", ""


def plan_for(policy: Watching) -> Plan:
    planner = Planner(Dialects(), lambda _: NoPool())  # type: ignore[arg-type,return-value]  # nothing is sent
    head = RequestHead("POST", ("/v1/chat/completions", ""), [(b"host", b"a")], is_http11=True)
    return planner.plan(head, snapshot_of("http://model", policy))


def test_prompt_that_nobody_changes_is_told_field_by_field() -> None:
    plan, body = plan_for(Watching()), prompt("hi")

    inspected = inspect(body, plan, ExchangeId("1" * 26), "peer", UnixNanos(1))

    assert plan.dialect.name is DialectName.OPENAI_CHAT
    assert inspected.policies is not None
    assert inspected == Inspected(FORWARD_UNCHANGED, body, model="m", policies=inspected.policies, findings={})
    assert len(inspected) == len(Inspected._fields)
