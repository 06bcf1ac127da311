"""One reason to suspect a text."""

from typing import NamedTuple


class Cue(NamedTuple):
    """One reason to suspect a text."""

    name: str
    weight: float
    expressions: tuple[str, ...]
    marks: bool = False
    """Whether the expressions need punctuation."""
    beside: str = ""
    """Name of the cue without which this one says nothing."""
