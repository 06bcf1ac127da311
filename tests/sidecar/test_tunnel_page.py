"""What the page of tunnels says of counters and keys, and that it says nothing private."""

import json
from collections.abc import Callable

import msgspec

from observability import names
from observability.metrics import Registry
from sidecar.tunnel_keys import TunnelView
from sidecar.tunnel_page import describe
from tests.sidecar.test_tunnel_keys import BOT, LLM, fed, mesh_keys, secrets_of
from transport.tcp.meter import Meter, Role


def counted(count: Callable[[Meter], None]) -> dict[str, object]:
    registry = Registry()
    count(Meter(registry))
    return describe(registry, TunnelView(), 0.0)


def test_before_anything_happened_there_are_no_rates() -> None:
    page = counted(lambda _meter: None)

    assert page["mode_share"] == {"ech": None, "no_ech": None}
    assert page["fallback_rate"] is None
    assert page["success_rate"] == {}
    assert json.loads(msgspec.json.encode(page)) == page


def test_shares_and_rates_are_of_what_was_dialled() -> None:
    def count(meter: Meter) -> None:
        for _ in range(6):
            meter.decided("ech", "required")
            meter.handshake(Role.DIALLER, "ech", 0.004)
        for _ in range(2):
            meter.decided("ech", "rolled_out")
            meter.decided("no_ech", "securely_disabled")
            meter.handshake(Role.DIALLER, "no_ech", 0.02)
        meter.decided("no_ech", "not_rolled_out")
        meter.handshake(Role.DIALLER, "timeout", 5.0)
        meter.handshake(Role.ACCEPTOR, "noise", 0.1)

    page = counted(count)

    assert page["mode_share"] == {"ech": 0.75, "no_ech": 0.25}
    assert page["success_rate"] == {"acceptor": 0.0, "dialler": round(8 / 9, 4)}
    assert page["fallback_rate"] == 0.25
    assert page["handshake_seconds"]["dialler"]["p50"] == 0.005  # type: ignore[index] # it is there
    assert page["handshake_seconds"]["dialler"]["count"] == 9  # type: ignore[index] # it is there


def test_events_of_tunnels_are_told_apart_from_other_alerts() -> None:
    registry = Registry()
    registry.counter(names.ALERTS).add(("tunnel.handshake_flood", "warning"))
    registry.counter(names.ALERTS).add(("honeypot", "critical"))

    assert describe(registry, TunnelView(), 0.0)["events"] == {"tunnel.handshake_flood": 1}


def test_key_ages_and_nothing_private() -> None:
    keys = mesh_keys()
    view = fed(keys, LLM).tunnels()

    page = describe(Registry(), view, 1060.0)

    assert page["keys"]["workload"] == LLM
    assert page["keys"]["ech_age_seconds"] == 60.0
    assert [key["state"] for key in page["keys"]["ech_held"]] == ["ACTIVE"]
    assert page["peers"]["llm"] == {
        "mode": "required",
        "min_pq": True,
        "endpoints": 1,
        "key_known": True,
        "served_here": True,
    }
    assert describe(Registry(), fed(keys, BOT).tunnels(), 1060.0)["keys"]["ech_held"] == []
    text = json.dumps(page)
    for secret in secrets_of(keys):
        assert secret.hex() not in text
