"""Invariants: a request is read as the published expression reads it; what a gate or a chunk reader makes of a text
does not depend on its cuts; every composite, manifest and suspected text ends in a value or in that parser's own error.

    python -m tests.fuzz.fuzz_mathprotocol -max_total_time=60
"""

import contextlib
import re
import sys

import atheris

with atheris.instrument_imports(include=["policies"]):
    from policies.firewall_views import Reader
    from policies.mathprotocol.codes import Kind
    from policies.mathprotocol.composite import CompositeError, plan
    from policies.mathprotocol.context import ContextRules, decode_context
    from policies.mathprotocol.grammar import parse_request
    from policies.mathprotocol.lesson import request_lesson, response_lesson
    from policies.mathprotocol.manifest import ManifestError, read_manifest
    from policies.mathprotocol.responses import AnswerGate, InvalidAnswer, is_valid_response
    from policies.mathprotocol.streaming import ChunkReader, StreamError

PUBLISHED = re.compile(r"^([0-9]+)-([0-9]+)(?:\s{0,10}\|\s{0,10}(.+))?$")
READER = Reader()


def gated(text: str, kind: Kind, step: int) -> str | None:
    """What a gate lets through, or None."""
    gate, released = AnswerGate(kind, 1 << 20), ""
    for at in range(0, len(text), step):
        out = gate.feed(text[at : at + step], last=False)
        if isinstance(out, InvalidAnswer):
            return None
        released += out
    out = gate.feed("", last=True)
    return None if isinstance(out, InvalidAnswer) else released + out


def chunked(text: str, step: int) -> tuple[str, str]:
    """The payload, and how the stream ended."""
    reader, payload = ChunkReader(4096), ""
    try:
        for at in range(0, len(text), step):
            payload += reader.feed(text[at : at + step])
        return payload + reader.close(), "finished"
    except StreamError as error:
        return "", error.fault


def test_one_input(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    request = parse_request(text)
    matched = PUBLISHED.match(text) if len(text) < 4000 else None
    if len(text) < 4000:
        assert (request is None) == (matched is None)
    if request is not None and matched is not None:
        assert request.context == (matched[3] or "").strip()
    for kind in Kind:
        valid = is_valid_response(text, kind)
        assert response_lesson(text, kind).valid == valid
        for step in (1, 3, len(text) + 1):
            assert gated(text, kind, step) == (text if valid else None)
    request_lesson(text)
    assert chunked(text, 1) == chunked(text, 5) == chunked(text, len(text) + 1)
    for read, expected in ((plan, CompositeError), (lambda _: read_manifest(data), ManifestError)):
        with contextlib.suppress(expected):
            read(text)
    context = decode_context(data, ContextRules())
    assert decode_context(context.encode(), ContextRules()) == context
    views = list(READER.views(text))
    assert len(views) <= 16


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
