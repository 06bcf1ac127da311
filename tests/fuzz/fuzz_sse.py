"""Invariants: the units of a stream joined are the stream; its events are the same however it was cut; rewritten data
is read back.

    python -m tests.fuzz.fuzz_sse -max_total_time=60
"""

import sys

import atheris

with atheris.instrument_imports(include=["sidecar"]):
    from sidecar.codecs.sse import Splitter, event_data, with_data


def events(stream: bytes, step: int) -> list[bytes]:
    splitter = Splitter()
    units = [unit for at in range(0, len(stream), step) for unit in splitter.feed(stream[at : at + step])]
    assert b"".join(units) + splitter.close() == stream
    read = []
    for unit in units:
        data = event_data(unit)
        if data is not None:
            assert with_data(unit, data, data.value) == unit
            read.append(data.value)
    return read


def test_one_input(data: bytes) -> None:
    whole = events(data, max(1, len(data)))
    assert events(data, 1) == whole
    assert events(data, 3) == whole


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
