"""What commands print for people: readable at 100 columns, and without colour where there is no terminal."""

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.text import Text

WIDTH: Final = 100


def console() -> Console:
    """The terminal as wide as it is, or 100 columns where there is none."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(width=WIDTH, highlight=False)


def print_listing(screen: Console, title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Names and what they stand for, each on one line however long it is: it is there to be copied.

    What came from elsewhere is only shown: ESC and its kin would steer the terminal.
    """
    screen.print(Text(title, "bold"))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        shown = "".join(character if character.isprintable() else "\ufffd" for character in value)
        screen.print(Text.assemble((f"  {name:<{width}}  ", "dim"), shown), soft_wrap=True)
