"""Text of the prompt that looks like a token: it is quoted, so that it comes back as the text it was."""

from typing import Final

from policies.airlock.labels import Label
from policies.airlock.recognizers.recognizer import Candidate, Rank, Recognizer
from policies.airlock.surface import LONGEST, lookalike


def _quoted(text: str, end: int, found: list[Candidate]) -> None:
    match = lookalike(text, max(0, end - LONGEST), end)
    if match:
        found.append((*match, Rank.QUOTED, Label.LITERAL))


RECOGNIZERS: Final[tuple[Recognizer, ...]] = (
    Recognizer(
        "token-lookalike",
        _quoted,
        tuple(r"[\[<{;cC]" + label.replace("_", r"\\?[-_ ]") + r"\\?[-_ ][0-9A-Z]{6}" for label in Label),
        caseless=True,
    ),
)
