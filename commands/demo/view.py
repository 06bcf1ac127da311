"""Shows what happened, side by side, at 100 columns and without colour if need be."""

import re
from collections.abc import Iterable
from typing import Final

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from commands.demo.scene import Proof, Scene

_TOKEN: Final = re.compile(r"\[[A-Z_]+-[0-9A-HJKMNP-TV-Z]+\]")


def scene_panel(scene: Scene) -> RenderableType:
    """One exchange in three columns, with its proof below."""
    table = Table.grid(padding=(0, 2), expand=True)
    for _ in range(3):
        table.add_column(ratio=1, overflow="fold")
    came = f"in {scene.pieces} pieces" if scene.pieces > 1 else "in one piece"
    table.add_row(*(Text(head, "bold") for head in ("the application sent", "the model saw", f"came back, {came}")))
    table.add_row(
        _marked(scene.sent, scene.identifiers, "bold red"),
        _tokens(scene.seen),
        _marked(scene.received, scene.identifiers, "bold green"),
    )
    parts: list[RenderableType] = [table, Text()]
    parts.append(_proof(scene.proof) if scene.proof else Text("no proof", "bold red"))
    failures = scene.failures()
    parts += [Text(f"✗ {failure}", "bold red") for failure in failures]
    return Panel(
        Group(*parts), title=Text(scene.title, "bold"), title_align="left", border_style="red" if failures else "green"
    )


def _proof(proof: Proof) -> RenderableType:
    text = Text()
    text.append("✓ audit leaf ", "bold green")
    text.append(f"#{proof.index} of {proof.size}: {proof.result}, policy revision {proof.revision}\n")
    text.append("  stands in the tree of ", "dim").append(f"{proof.origin}, ")
    text.append("root ", "dim").append(f"{proof.root.hex()[:32]}…\n")
    text.append("  inclusion verified over ", "dim").append(f"{proof.hashes} hash{'es' * (proof.hashes != 1)} ")
    text.append("and the log's signature: ", "dim").append(proof.file.name)
    return text


def _marked(text: str, values: Iterable[str], style: str) -> Text:
    marked = Text(text)
    marked.highlight_words(values, style)
    return marked


def _tokens(text: str) -> Text:
    marked = Text(text)
    marked.highlight_regex(_TOKEN, "bold yellow")
    return marked
