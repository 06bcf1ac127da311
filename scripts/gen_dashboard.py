"""Writes observability/grafana/sidecar.json from the table below: a dashboard is data, its layout is arithmetic.

python scripts/gen_dashboard.py [--check]
"""

import json
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parents[1] / "observability" / "grafana" / "sidecar.json"
WIDTH, HEIGHT = 8, 7
CHOSEN = 'instance=~"$instance"'

Series = tuple[str, str]
"""Legend and expression."""
Panel = tuple[str, str, list[Series]]
"""Title, unit, series."""


def gauge(how: str, metric: str, by: str = "") -> str:
    """`how` (sum, min, max) over the chosen instances."""
    return f"{how}{_by(by)}({metric}{{{CHOSEN}}})"


def rate(metric: str, by: str = "", where: str = "", over: str = "rate") -> str:
    """What a counter grows by: a second, or with `increase` in all."""
    return f"sum{_by(by)}({over}({metric}{{{CHOSEN}{where and ',' + where}}}[$__rate_interval]))"


def quantile(percent: int, histogram: str, by: str = "") -> str:
    """The `percent` percentile of a histogram."""
    return f"histogram_quantile(0.{percent:02}, {rate(histogram + '_bucket', by=', '.join(filter(None, ('le', by))))})"


def _by(labels: str) -> str:
    return f" by ({labels}) " if labels else " "


EXCHANGES = "aegis_exchanges_total"
UPSTREAM = "aegis_upstream_requests_total"
REUSED = 'reused="true"'
REFUSED = 'result=~"denied.*|decoy|no_policy|audit_unavailable"'

ROWS: list[tuple[str, list[Panel]]] = [
    (
        "Exchanges",
        [
            ("By result", "reqps", [("{{result}}", rate(EXCHANGES, "result"))]),
            ("By status", "reqps", [("{{status_class}}", rate(EXCHANGES, "status_class"))]),
            ("Duration", "s", [(f"p{p}", quantile(p, "aegis_exchange_duration_seconds")) for p in (50, 99)]),
            (
                "Until the request is with the model",
                "s",
                [(f"p{p}", quantile(p, "aegis_exchange_time_to_upstream_seconds")) for p in (50, 99)],
            ),
            (
                "Client connections",
                "short",
                [("open", gauge("sum", "aegis_connections_open")), ("new a second", rate("aegis_connections_total"))],
            ),
            (
                "Requests on a connection that stood already",
                "percentunit",
                [
                    ("{{upstream}}", f"{rate(UPSTREAM, 'upstream', REUSED)} / {rate(UPSTREAM, 'upstream')}"),
                ],
            ),
        ],
    ),
    (
        "What policies did",
        [
            ("Identifiers taken out a second", "short", [("{{label}}", rate("aegis_identifiers_total", "label"))]),
            ("Refused", "reqps", [("{{result}}", rate(EXCHANGES, "result", REFUSED))]),
            (
                "Alerts and bans",
                "short",
                [
                    ("alert {{code}}", rate("aegis_alerts_total", "code", over="increase")),
                    ("ban {{code}}", rate("aegis_bans_total", "code", over="increase")),
                    ("banned peers", gauge("sum", "aegis_banned_peers")),
                ],
            ),
        ],
    ),
    (
        "Models",
        [
            (
                "Tokens a second",
                "short",
                [
                    (
                        "{{gen_ai_token_type}} {{gen_ai_request_model}}",
                        rate("gen_ai_client_token_usage_sum", "gen_ai_token_type, gen_ai_request_model"),
                    )
                ],
            ),
            *(
                (
                    f"{title}, p95",
                    "s",
                    [("{{gen_ai_request_model}}", quantile(95, histogram, "gen_ai_request_model"))],
                )
                for title, histogram in {
                    "Time to first token": "gen_ai_server_time_to_first_token_seconds",
                    "Time of each further token": "gen_ai_server_time_per_output_token_seconds",
                    "Time of an answer": "gen_ai_client_operation_duration_seconds",
                }.items()
            ),
            (
                "Errors by type",
                "reqps",
                [
                    (
                        "{{error_type}}",
                        rate("gen_ai_client_operation_duration_seconds_count", "error_type", 'error_type!="none"'),
                    )
                ],
            ),
        ],
    ),
    (
        "Audit trail",
        [
            (
                "Leaves a second",
                "short",
                [
                    ("told", rate("aegis_audit_entries_total")),
                    ("spooled", rate("aegis_audit_spooled_leaves_total")),
                    ("durable", rate("aegis_audit_durable_leaves_total")),
                    ("lost: {{reason}}", rate("aegis_audit_lost_total", "reason")),
                ],
            ),
            (
                "Waiting for a ledger",
                "short",
                [
                    ("on disk", gauge("sum", "aegis_audit_pending_leaves")),
                    ("in memory", gauge("sum", "aegis_audit_queue_entries")),
                ],
            ),
            (
                "Age of the oldest that waits",
                "s",
                [("{{instance}}", gauge("max", "aegis_audit_oldest_pending_seconds", "instance"))],
            ),
            (
                "Ledger",
                "short",
                [
                    ("connected", gauge("min", "aegis_audit_ledger_connected")),
                    ("accepting", gauge("min", "aegis_audit_accepting")),
                    ("stream ended: {{reason}}", rate("aegis_audit_reconnects_total", "reason", over="increase")),
                ],
            ),
        ],
    ),
    (
        "Control plane",
        [
            (
                "Policy stream",
                "short",
                [
                    ("connected", gauge("min", "sidecar_control_connected")),
                    ("behind: {{type}}", gauge("max", "sidecar_config_revision_lag", "type")),
                    ("refused: {{type}}", rate("sidecar_config_nack_total", "type", over="increase")),
                ],
            ),
            ("Where policy comes from", "short", [("{{source}}", gauge("sum", "sidecar_config_source", "source"))]),
        ],
    ),
    (
        "Tunnels",
        [
            (
                "Decisions: mode and reason",
                "ops",
                [("{{mode}} {{reason}}", rate("aegis_tunnel_decisions_total", "mode, reason"))],
            ),
            (
                "Handshakes: end and outcome",
                "ops",
                [("{{role}} {{outcome}}", rate("aegis_tunnel_handshakes_total", "role, outcome"))],
            ),
            ("Handshake, p95", "s", [("{{role}}", quantile(95, "aegis_tunnel_handshake_seconds", "role"))]),
            ("Tunnels that stand", "short", [("{{role}}", gauge("sum", "aegis_tunnels_open", "role"))]),
            ("ECH key in use: age", "s", [("{{instance}}", gauge("max", "aegis_tunnel_key_age_seconds", "instance"))]),
            (
                "Security events",
                "short",
                [("{{code}}", rate("aegis_alerts_total", "code", where='code=~"tunnel[.].*"', over="increase"))],
            ),
        ],
    ),
    (
        "Processes",
        [
            ("Memory", "bytes", [("{{instance}}", gauge("sum", "process_resident_memory_bytes", "instance"))]),
            ("CPU", "percentunit", [("{{instance}}", rate("process_cpu_seconds_total", "instance"))]),
            ("File descriptors", "short", [("{{instance}}", gauge("sum", "process_open_fds", "instance"))]),
        ],
    ),
]


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS:
        panels.append({"type": "row", "title": title, "collapsed": False, "gridPos": _place(0, y, 24, 1), "panels": []})
        panels += [_panel(panel, n % 3 * WIDTH, y + 1 + n // 3 * HEIGHT) for n, panel in enumerate(row)]
        y += 1 + (len(row) + 2) // 3 * HEIGHT
    for number, made in enumerate(panels, 1):
        made["id"] = number
    source = {"type": "datasource", "name": "source", "label": "Data source", "query": "prometheus"}
    instance = {
        "type": "query",
        "name": "instance",
        "label": "Sidecar",
        "datasource": {"type": "prometheus", "uid": "${source}"},
        "query": f"label_values({EXCHANGES}, instance)",
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }
    return {
        "uid": "aegis-sidecar",
        "title": "Aegis sidecars",
        "tags": ["aegis"],
        "schemaVersion": 39,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [source, instance]},
        "panels": panels,
    }


def _panel(panel: Panel, x: int, y: int) -> dict[str, Any]:
    title, unit, series = panel
    return {
        "type": "timeseries",
        "title": title,
        "datasource": {"type": "prometheus", "uid": "${source}"},
        "gridPos": _place(x, y, WIDTH, HEIGHT),
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(65 + n), "legendFormat": legend, "expr": expression}
            for n, (legend, expression) in enumerate(series)
        ],
    }


def _place(x: int, y: int, w: int, h: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": w, "h": h}


def main() -> None:
    """Write the file, or say whether it is what it should be."""
    text = json.dumps(dashboard(), indent=2) + "\n"
    if "--check" in sys.argv:
        sys.exit(0 if TARGET.read_text() == text else f"{TARGET} is not what {__file__} writes")
    TARGET.write_text(text)


if __name__ == "__main__":
    main()
