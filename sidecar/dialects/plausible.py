"""Figures that make a false answer look like a true one. Nothing here is exact, everything is repeatable."""

import re
from typing import Final

from sidecar.dialects.dialect import Prompt

_WORD: Final = re.compile(r"\s*\S+|\s+")
_REQUEST_ID: Final = re.compile(r"([0-9a-f]{12})[0-9a-f]{14}")
"""As `sidecar.services.RequestIds` makes them: Unix milliseconds, then what is random."""


def words(text: str) -> list[str]:
    """The text in pieces of about one token, joined again by concatenation."""
    return _WORD.findall(text)


def token_count(*texts: str) -> int:
    """About as many tokens as a tokeniser would count: four characters each."""
    return max(1, sum(map(len, texts)) // 4)


def plausible_usage(prompt: Prompt, answer: str) -> dict[str, int]:
    """The `usage` of a completion, as OpenAI names it."""
    given, taken = token_count(*(segment.text for segment in prompt.segments)), token_count(answer)
    return {"prompt_tokens": given, "completion_tokens": taken, "total_tokens": given + taken}


def unix_seconds(request_id: str) -> int:
    """When the request came, as told by its id; 0 for an id that is not ours."""
    read = _REQUEST_ID.fullmatch(request_id)
    return int(read[1], 16) // 1000 if read else 0
