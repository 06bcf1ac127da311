"""What `aegis tunnel` prints for people."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from commands.screen import console, print_listing
from commands.tunnel.probe import Probed

_COLOURS: Final = {"ACTIVE": "green", "STEADY": "green", "ANNOUNCED": "yellow", "SWITCHED": "yellow", "RETIRING": "dim"}


def show_keys(answer: Any) -> None:
    """Keys by state and age, and who is waited for."""
    screen, now = console(), answer.at.ToDatetime()
    if not answer.epoch:
        screen.print("no keys yet: push a TunnelPolicy and a Peer document")
        return
    table = _table("ECH KEY", "PUBLIC NAME", "STATE", "FOR")
    for key in answer.ech:
        table.add_row(f"{key.config_id:#04x}", key.public_name, _state(key.state), _age(now, key.since.ToDatetime()))
    screen.print(table)
    screen.print()
    table = _table("WORKLOAD", "NOISE STATIC", "OTHER", "STATE", "FOR")
    for each in answer.statics:
        age = _age(now, each.since.ToDatetime())
        table.add_row(each.spiffe_id, each.current, each.other or "-", _state(each.phase), age)
    screen.print(table)
    screen.print()
    count = len(answer.waiting_for)
    screen.print(
        f"epoch {answer.epoch}: {answer.confirmed} sidecars have acknowledged it, {answer.revoked} revoked statics"
    )
    for node in answer.waiting_for:
        seen = _age(now, node.last_seen.ToDatetime())
        screen.print(Text(f"  waiting for {node.spiffe_id} ({node.node_id}), seen {seen} ago", "yellow"))
    if count:
        screen.print("  a rotation goes on once they have; `aegis policy status` says what they refuse,")
        screen.print("  `aegis tunnel rotate --force` goes on without them")


def show_probe(results: Sequence[Probed]) -> None:
    """Each attempt."""
    screen = console()
    for number, result in enumerate(results):
        title = "with the server's retry_configs" if number else "handshake"
        rows = [
            ("succeeded", "yes" if result.succeeded else "no"),
            ("ECH", result.ech),
            ("tunnel", result.tunnel),
            ("key exchange", result.group),
            ("cipher suite", result.cipher_suite),
            ("ALPN", result.alpn),
            ("certificate", result.certificate),
            ("connect", f"{result.connect * 1000:.1f} ms"),
            ("handshake", f"{result.handshake * 1000:.1f} ms"),
            ("why not", result.detail),
            ("retry_configs", str(result.shown()["retry_configs"] or "")),
        ]
        print_listing(screen, title, [(name, value) for name, value in rows if value])


def show_status(page: dict[str, Any]) -> None:
    """The page of one sidecar, or of each worker of one."""
    screen = console()
    for name, value in page.items():
        if isinstance(value, dict):
            rows = [(str(key), _shown(each)) for key, each in value.items()]
            print_listing(screen, name, rows or [("-", "nothing yet")])
        else:
            screen.print(f"{name}: {_shown(value)}", soft_wrap=True)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(each)}" for key, each in value.items()) or "-"
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "-"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _state(state: str) -> Text:
    return Text(state, _COLOURS.get(state, ""))


def _age(now: datetime, then: datetime) -> str:
    seconds = max(0, round((now - then).total_seconds()))
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
