"""What `aegis policy` shows: findings with the line they are about, differences in colour, status at a glance."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from aegispb.v1 import admin_pb2 as pb
from rich.console import Console
from rich.table import Table
from rich.text import Text

from policies.errors import Finding

_ACTIONS: Final = {
    pb.Change.CREATED: ("+", "created", "green"),
    pb.Change.CHANGED: ("~", "changed", "yellow"),
    pb.Change.REMOVED: ("-", "removed", "red"),
}


def show_findings(console: Console, findings: Sequence[Finding], sources: Mapping[str, str]) -> None:
    """Each finding with its place, its line and what to do."""
    for finding in findings:
        console.print(_headline(finding))
        line = _line(finding, sources)
        if line is not None:
            gutter = f"{finding.line:>6} │ "
            console.print(Text(gutter, "dim") + Text(line))
            console.print(Text(" " * 6 + " │ ", "dim") + Text(" " * (finding.column - 1) + "^", "bold red"))
        if finding.hint:
            console.print(Text("       ") + Text(finding.hint, "cyan"))
    count = len(findings)
    console.print(Text(f"{count} finding{'s' if count != 1 else ''}", "bold red"))


def show_changes(console: Console, changes: Iterable[pb.Change]) -> None:
    """One line per document."""
    for change in changes:
        sign, word, colour = _ACTIONS[change.action]
        console.print(Text(f"{sign} {change.kind}/{change.name} ", f"bold {colour}") + Text(word, colour))


def show_differences(console: Console, changes: Iterable[pb.Change]) -> None:
    """A unified diff per document."""
    for change in changes:
        show_changes(console, [change])
        before, after = change.before.splitlines(), change.after.splitlines()
        for line in list(difflib.unified_diff(before, after, n=3, lineterm=""))[2:]:
            style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
            console.print(Text(f"    {line}", style))


def show_status(console: Console, status: pb.StatusResponse, *, every_resource: bool) -> None:
    """Who runs what; who refused what and why."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("SIDECAR", "NODE", "STATE", "POLICIES", "BEHIND", "LAST SEEN"):
        table.add_column(column)
    now = status.at.ToDatetime()
    nodes = sorted(status.nodes, key=lambda node: (node.spiffe_id, node.node_id))
    for node in nodes:
        table.add_row(
            node.spiffe_id,
            node.node_id,
            Text("● connected", "green") if node.connected else Text("○ away", "red"),
            _policies(node),
            Text(f"{node.revision_lag} revisions", "yellow") if node.revision_lag else Text("up to date", "green"),
            _ago(now, node.last_seen.ToDatetime()),
        )
    console.print(_summary(status))
    if nodes:
        console.print(table)
    _show_refusals(console, nodes)
    if every_resource:
        _show_resources(console, nodes)


def show_history(console: Console, history: pb.HistoryResponse) -> None:
    """One line a revision, newest first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("REVISION", "WHEN (UTC)", "WHO", "WHAT", "WHY"):
        table.add_column(column)
    for revision in history.revisions:
        what = [Text(f"+{name}", "green") for name in revision.created]
        what += [Text(f"~{name}", "yellow") for name in revision.changed]
        what += [Text(f"-{name}", "red") for name in revision.removed]
        when = f"{revision.at.ToDatetime():%Y-%m-%d %H:%M:%S}"
        table.add_row(str(revision.number), when, revision.author, Text("\n").join(what), revision.reason)
    console.print(table if history.revisions else Text("nothing was pushed yet"))


def show_documents(console: Console, listed: pb.ListResponse) -> None:
    """One line a document."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("KIND", "NAME", "VERSION"):
        table.add_column(column)
    for document in listed.documents:
        table.add_row(document.kind, document.name, document.version)
    console.print(Text(f"revision {listed.revision}", "bold"))
    console.print(table if listed.documents else Text("no documents"))


def _headline(finding: Finding) -> Text:
    place = f"{finding.file}:{finding.line}:{finding.column}" if finding.line else finding.file
    parts = [Text(part, style) for part, style in ((place, "bold"), (finding.field, "bold cyan")) if part]
    return Text(": ").join([*parts, Text(finding.message)])


def _line(finding: Finding, sources: Mapping[str, str]) -> str | None:
    lines = sources.get(finding.file, "").splitlines()
    return lines[finding.line - 1] if 0 < finding.line <= len(lines) else None


def _summary(status: pb.StatusResponse) -> Text:
    connected = sum(node.connected for node in status.nodes)
    refusing = sum(any(each.rejected_version for each in node.resources) for node in status.nodes)
    behind = sum(bool(node.revision_lag) for node in status.nodes)
    text = Text(f"revision {status.revision}", "bold") + Text(
        f" · {connected} of {len(status.nodes)} sidecars connected"
    )
    if refusing:
        text += Text(f" · {refusing} refuse something", "bold red")
    if behind:
        text += Text(f" · {behind} behind", "yellow")
    return text if refusing or behind or not status.nodes else text + Text(" · all up to date", "green")


def _policies(node: pb.NodeStatus) -> Text:
    refused = sum(bool(each.rejected_version) for each in node.resources)
    text = Text(f"{node.in_force}/{node.wanted} in force")
    return text + Text(f", {refused} refused", "bold red") if refused else text


def _show_refusals(console: Console, nodes: Iterable[pb.NodeStatus]) -> None:
    for node in nodes:
        for each in node.resources:
            if not each.rejected_version:
                continue
            running = f"still runs {each.applied_version}" if each.applied_version else "runs none"
            console.print()
            console.print(
                Text(f"✗ {each.kind}/{each.name} ", "bold red")
                + Text(f"{each.rejected_version} refused by {node.spiffe_id} ({node.node_id}), which {running}")
            )
            console.print(Text(f"  {each.reason_code}: {each.reason}"))


def _show_resources(console: Console, nodes: Iterable[pb.NodeStatus]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("NODE", "POLICY", "WANTED", "IN FORCE"):
        table.add_column(column)
    for node in nodes:
        for each in node.resources:
            agree = each.desired_version == each.applied_version
            in_force = Text(each.applied_version or "none", "green" if agree else "red")
            table.add_row(node.node_id, f"{each.kind}/{each.name}", each.desired_version or "to be removed", in_force)
    console.print()
    console.print(table)


def _ago(now: datetime, then: datetime) -> str:
    seconds = max(0, round((now - then).total_seconds()))
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def finding_of(message: pb.Finding) -> Finding:
    """A finding of the control plane's."""
    return Finding(message.file, message.line, message.column, message.field, message.message, message.hint)


def as_json(message: Any) -> dict[str, Any]:
    """A message with every field, named as in the .proto."""
    from google.protobuf.json_format import MessageToDict

    found: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return found
