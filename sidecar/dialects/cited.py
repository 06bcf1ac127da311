"""Where a citation stands in the document that the application sent, when the model read it with tokens in it.

Anthropic's citations count characters of a document of the request. What is cited is known with its text, so it is
looked for: the third place where the model's quote stands in the document that left is the third place where the
restored quote stands in the one that came. What cannot be found so keeps its numbers.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from policies.model import Path

_MOST_BEFORE: Final = 1000
"""Places of the same quote before the cited one that are counted; a quote of a single letter has many."""


class Quote(NamedTuple):
    """A citation by characters, within an answer."""

    document: int
    start: int
    end: int
    start_path: Path
    end_path: Path
    text_path: Path
    text: str


class CitedDocuments:
    """The text documents of a prompt that changed on their way out."""

    __slots__ = ("_documents",)

    def __init__(self, documents: Mapping[int, tuple[str, str]]) -> None:
        """Index of the document -> its text as it came and as it left."""
        self._documents = documents

    def place(self, quote: Quote, restored: str) -> tuple[int, int] | None:
        """Start and end of the quote in the document as it came, or None if that cannot be told."""
        came, left = self._documents.get(quote.document, ("", ""))
        if not restored or not 0 <= quote.start < quote.end or left[quote.start : quote.end] != quote.text:
            return None
        before = left.count(quote.text, 0, quote.start)
        if before > _MOST_BEFORE or left.count(quote.text) != came.count(restored):
            return None
        at = came.find(restored)
        for _ in range(before):
            at = came.find(restored, at + len(restored))
        return (at, at + len(restored)) if at >= 0 else None
