"""Invariants: whatever a tunnel's peer sends, only MuxError and NoiseError come out, the same wherever it is cut, and
nothing is held beyond the windows.

    python -m tests.fuzz.fuzz_mux -max_total_time=60
"""

import sys

import atheris

with atheris.instrument_imports(include=["transport.mux", "transport.tunnel.greeting"]):
    from transport.mux.errors import MuxError
    from transport.mux.limits import Limits
    from transport.mux.mux import Mux
    from transport.noise.errors import NoiseError
    from transport.tunnel.greeting import Greeting, parse_reply, parse_service

from tests.transport.mux.ends import Recorder

TIGHT = Limits(stream_window=300, grown_window=500, grows_after=400, tunnel_window=600, streams=5)


def told(stream: bytes, step: int, *, opens: bool, eager: bool) -> tuple[list[tuple[object, ...]], str]:
    """What a sink hears of a peer's bytes, and the error at their end."""
    sink = Recorder(eager=eager)
    sink.mux = mux = Mux(sink, opens=opens, now=0.0, limits=TIGHT)
    if opens:
        for number in range(3):
            mux.send(mux.open({"n": str(number)}), bytes(400))
        while mux.take():
            pass
    try:
        for at in range(0, len(stream), step):
            mux.receive(stream[at : at + step], 0.0)
    except MuxError as error:
        assert len(mux.take()) == 13, "a GOAWAY and nothing else"
        return sink.log, str(error)
    assert mux.streams <= TIGHT.streams
    if not eager:
        assert sum(map(len, sink.data.values())) <= TIGHT.tunnel_window + 400
    return sink.log, ""


def test_one_input(data: bytes) -> None:
    if not data:
        return
    opens, eager = bool(data[0] & 1), bool(data[0] & 2)
    whole = told(data[1:], max(1, len(data)), opens=opens, eager=eager)
    assert told(data[1:], 1, opens=opens, eager=eager) == whole
    assert told(data[1:], 7, opens=opens, eager=eager) == whole
    for parse in (Greeting.parse, parse_reply, parse_service):
        try:
            parse(data[1:])
        except NoiseError:
            continue


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
