"""Shows what happened, side by side, at 100 columns and without colour if need be."""

import re
from collections.abc import Iterable
from typing import Final

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from commands.demo.scene import Proof, Scene

_TOKEN: Final = re.compile(r"\[[A-Z]+(?:-[0-9A-Z]+)+\]")


def scene_panel(number: int, scene: Scene) -> RenderableType:
    """One exchange in three columns, with its proof below."""
    failures = scene.failures()
    came = f"in {scene.pieces} pieces" if scene.pieces > 1 else "in one piece"
    table = Table.grid(padding=(0, 2), expand=True)
    for _ in range(3):
        table.add_column(ratio=1, overflow="fold")
    table.add_row(*(Text(head, "bold") for head in ("the application sent", "the model saw", f"came back, {came}")))
    table.add_row(
        _marked(scene.sent, scene.identifiers, "bold red"),
        _tokens(scene.seen),
        _marked(scene.received, scene.identifiers, "bold green"),
    )
    parts = [table, Rule(style="dim"), _proof(scene.proof), *(Text(f"✗ {failure}", "bold red") for failure in failures)]
    return Panel(
        Group(*parts),
        title=Text(f"{number} · {scene.title}", "bold"),
        title_align="left",
        border_style="red" if failures else "green",
    )


def _proof(proof: Proof) -> RenderableType:
    taken = ", ".join(f"{label} {count}" for label, count in sorted(proof.findings.items()))
    rows = (
        (f"leaf #{proof.index} of {proof.size}", f"{proof.result}, policy revision {proof.revision}"),
        ("its opening says", f"taken out: {taken}"),
        ("bytes the model saw", f"SHA-256 {proof.request_sha256[:32]}…"),
        ("included in the tree", f"root {proof.root[:32]}…"),
        ("signed by", f"{proof.origin}; proof: {proof.file.name}"),
    )
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(Text.assemble(("✓ ", "bold green"), (name, "dim")), Text(value))
    return table


def _marked(text: str, values: Iterable[str], style: str) -> Text:
    marked = Text(text)
    marked.highlight_words(values, style)
    return marked


def _tokens(text: str) -> Text:
    marked = Text(text)
    marked.highlight_regex(_TOKEN, "bold yellow")
    return marked
