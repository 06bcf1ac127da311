"""Framing of event streams: T2, T3 and the rules of llm-wire 4.8."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.codecs.sse import EventTooLargeError, Splitter, event_data, new_event, with_data

ASCII_LINES = "data: a|data:b|data:  c|data|data:|: comment|:|event: x|id: 1|retry: 5|unknown: y|no colon|datax: q"
ODD_LINES = [b"\xef\xbb\xbfdata: z", "data: é\u2028\x85".encode(), b"data: \xf0\x9f"]
LINES = st.sampled_from([*ASCII_LINES.encode().split(b"|"), *ODD_LINES])
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
STREAMS = st.lists(st.one_of(st.tuples(LINES, ENDS).map(b"".join), ENDS), max_size=14).map(b"".join)
CUTS = st.lists(st.integers(0, 400), max_size=6)


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    borders = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    return [stream[start:end] for start, end in pairwise(borders)]


def dispatched(stream: bytes, cuts: list[int]) -> list[bytes]:
    """The data of every event, as the codec cuts it."""
    splitter = Splitter()
    units = [unit for piece in pieces(stream, cuts) for unit in splitter.feed(piece)]
    rest = splitter.close()
    assert b"".join(units) + rest == stream
    return [data.value for data in map(event_data, units) if data is not None]


def specified(stream: bytes) -> list[bytes]:
    """The data of every event by the letter of the standard: decode lines, dispatch at each empty one."""
    stream = stream.removeprefix(b"\xef\xbb\xbf")
    text = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events: list[bytes] = []
    lines: list[bytes] = []
    for line in text.split(b"\n")[:-1]:
        name, _, value = line.partition(b":")
        if not line:
            if lines:
                events.append(b"\n".join(lines))
            lines = []
        elif name == b"data":
            lines.append(value.removeprefix(b" "))
    return events


@given(STREAMS, CUTS)
@example(b"data: a\r\n\r\ndata: b\r\n\r\n", [9, 10])
@example(b"data: a\r\rdata: b\r\r", [9])
@example(b"\xef\xbb\xbfdata: a\n\n", [1, 2])
@example(b"\n\n\n:x\n:y\rdata: a\n\n\n", [1, 2, 3])
def test_events_are_those_of_the_standard_wherever_the_stream_is_cut(stream: bytes, cuts: list[int]) -> None:
    assert dispatched(stream, cuts) == specified(stream)


@given(STREAMS)
def test_every_single_cut_gives_the_same_events(stream: bytes) -> None:
    whole = dispatched(stream, [])

    assert all(dispatched(stream, [at]) == whole for at in range(len(stream)))
    assert dispatched(stream, list(range(len(stream)))) == whole


def test_event_is_complete_at_its_last_byte_even_if_a_line_feed_may_follow() -> None:
    splitter = Splitter()

    assert splitter.feed(b"data: a\r\r") == [b"data: a\r\r"]
    assert splitter.feed(b"\n") == [b"\n"]
    assert splitter.feed(b"data: b\r\n\r") == [b"data: b\r\n\r"]
    assert splitter.feed(b"\ndata: c\n\n") == [b"\n", b"data: c\n\n"]


def test_heartbeat_comment_is_passed_on_without_waiting_for_an_event() -> None:
    splitter = Splitter()

    assert splitter.feed(b": OPENROUTER PROCESSING\n") == [b": OPENROUTER PROCESSING\n"]


@given(STREAMS, st.binary(max_size=8).map(lambda b: b.replace(b"\n", b"").replace(b"\r", b"")))
def test_rewritten_data_is_read_back_and_nothing_else_changes(stream: bytes, value: bytes) -> None:
    splitter = Splitter()
    for unit in splitter.feed(stream):
        data = event_data(unit)
        if data is None or b"data" in unit.replace(b"data:", b""):
            continue
        new = b"\n".join([value] * len(data.spans))

        changed = with_data(unit, data, new)

        assert with_data(unit, data, data.value) == unit
        read = event_data(changed)
        assert read is not None
        assert read.value.replace(b" ", b"") == new.replace(b" ", b"")


def test_events_of_ours_have_one_space_and_line_feeds() -> None:
    assert new_event(b"{}") == b"data: {}\n\n"
    assert new_event(b"{}", "error") == b"event: error\ndata: {}\n\n"


@pytest.mark.parametrize("cut", [1, 7, 64, 1000])
def test_event_beyond_the_bound_ends_the_stream_and_keeps_what_came_before(cut: int) -> None:
    stream = b"data: a\n\ndata: " + b"x" * 100 + b"\n\n"
    splitter = Splitter(max_event=64)
    units: list[bytes] = []

    with pytest.raises(EventTooLargeError) as caught:  # noqa: PT012  # which of the reads raises differs
        for at in range(0, len(stream), cut):
            units += splitter.feed(stream[at : at + cut])

    assert units + caught.value.before == [b"data: a\n\n"]
    assert caught.value.rest.startswith(b"data: xx")


def test_long_event_in_small_reads_costs_linear_time() -> None:
    splitter = Splitter()
    half = b"x" * 4096

    for _ in range(1024):
        assert splitter.feed(half) == []

    assert len(splitter.feed(b"\n\n")[0]) == 4096 * 1024 + 2
