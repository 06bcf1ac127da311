"""Invariants: a request or an answer of any bytes gives only the dialects' own errors; an answer comes out the same
whole and byte by byte; what a policy leaves alone comes out as it came in.

    python -m tests.fuzz.fuzz_dialects -max_total_time=60
"""

import sys

import atheris

with atheris.instrument_imports(include=["sidecar"]):
    from sidecar.dialects.dialect import DialectError, MalformedBodyError
    from sidecar.dialects.registry import Dialects

from policies.model import Forward
from tests.fakes.tokens import WordTokens

PATHS = ("/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/embeddings", "/v1/unknown")
TYPES = ("text/event-stream", "application/json")
DIALECTS = Dialects()


def told(path: str, content_type: str, stream: bytes, step: int, *values: str) -> tuple[bytes, str]:
    """What the client gets, and how it ended."""
    answer = DIALECTS.choose("POST", path, {}).answer(content_type, WordTokens(*values).restore)
    released = b""
    try:
        for at in range(0, len(stream), step):
            released += answer.feed(stream[at : at + step])
        return released + answer.close(), "closed"
    except DialectError as error:
        return released + answer.break_off("x", "y"), type(error).__name__


def test_one_input(data: bytes) -> None:
    if not data:
        return
    path, content_type, body = PATHS[data[0] & 3], TYPES[data[0] >> 2 & 1], data[1:]
    whole = told(path, content_type, body, len(body) + 1, 'Jo "J"\n')
    assert told(path, content_type, body, 1, 'Jo "J"\n') == whole
    unchanged, end = told(path, content_type, body, 5)
    if end == "closed" and b"\\u" not in body:
        assert unchanged == body
    try:
        prompt = DIALECTS.choose("POST", path, {}).read(body)
        prompt.rewrite(Forward({segment.path: "[T1]" for segment in prompt.segments}, system_prompt="P"))
    except MalformedBodyError:
        return


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
