"""Invariants: bytes are read to the value that the standard library reads, or refused with `JsonError`; every string
that was read can be replaced in place, and nothing else changes.

    python -m tests.fuzz.fuzz_json -max_total_time=60
"""

import json
import sys

import atheris

with atheris.instrument_imports(include=["sidecar"]):
    from sidecar.codecs.json_splice import replacements, splice
    from sidecar.codecs.json_strict import JsonError, read_json
    from sidecar.dialects.leaves import Leaves

from policies.model import Role


def distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    assert len(dict(pairs)) == len(pairs), "a repeated name was accepted"
    return dict(pairs)


def test_one_input(data: bytes) -> None:
    try:
        value = read_json(data)
    except JsonError:
        return
    assert value == json.loads(data.decode(), object_pairs_hook=distinct)
    leaves = Leaves()
    try:
        leaves.tool_input(value, (), Role.USER)
    except JsonError:
        return
    edits = {segment.path: segment.text + 'é"' for segment in leaves.segments}
    changed = splice(data, replacements(data, edits))
    again = Leaves()
    again.tool_input(json.loads(changed), (), Role.USER)
    told = sorted(s.text for s in again.segments if s.text.endswith('é"'))
    assert told == sorted(s.text + 'é"' for s in leaves.segments)


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
