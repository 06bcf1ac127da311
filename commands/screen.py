"""What commands print for people: readable at 100 columns, and without colour where there is no terminal."""

from collections.abc import Iterable
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

WIDTH: Final = 100


def console() -> Console:
    """The terminal as wide as it is, or 100 columns where there is none."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(width=WIDTH, highlight=False)


def listing(title: str, rows: Iterable[tuple[str, str]]) -> RenderableType:
    """Names and what they stand for; never wrapped, so that a line can be copied."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ignore")
    for name, value in rows:
        table.add_row(Text(f"  {name}"), Text(value))
    return Group(Text(title, "bold"), table)
