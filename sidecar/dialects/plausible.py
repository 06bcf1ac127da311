"""Figures that make a false answer look like a true one. Nothing here is exact, everything is repeatable."""

import re
from typing import Final

from sidecar.dialects.dialect import Prompt

_WORD: Final = re.compile(r"\s*\S+|\s+")
_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_ULID_TIME: Final = 10
"""Characters of a ULID that hold its time in milliseconds."""


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
    """When the request came, as told by a request id that is a ULID; 0 for any other."""
    digits = [_CROCKFORD.find(character) for character in request_id[:_ULID_TIME].upper()]
    if len(request_id) != 26 or min(digits) < 0:
        return 0
    milliseconds = 0
    for digit in digits:
        milliseconds = milliseconds * 32 + digit
    return milliseconds // 1000
