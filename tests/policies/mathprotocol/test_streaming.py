"""Specification section 6, Streaming: chunks, order, bounds and the end mark."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.mathprotocol.streaming import ChunkReader, ChunkWriter, Head, StreamError, StreamFault

HEAD = Head(17, 128)
partials = st.lists(st.text(alphabet=st.characters() | st.sampled_from("\n\r\\| "), max_size=8), max_size=6)


def stream(texts: list[str]) -> str:
    writer = ChunkWriter(HEAD)
    return "".join(line + "\n" for line in [*map(writer.chunk, texts), writer.end()])


def read(text: str, cuts: list[int], limit: int = 1000) -> tuple[str, StreamFault | None]:
    """What was read of `text` cut at `cuts`, and how the stream ended."""
    reader, released = ChunkReader(limit), ""
    try:
        for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
            released += reader.feed(text[start:end])
        released += reader.close()
    except StreamError as error:
        return released, error.fault
    return released, None


@given(partials, st.data())
def test_reading_what_was_written_gives_it_back_wherever_it_was_cut(texts: list[str], data: st.DataObject) -> None:
    written = stream(texts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(written)), max_size=5)))

    assert read(written, cuts) == ("".join(texts), None)


def test_every_cut_of_a_stream_gives_the_same() -> None:
    written = stream(["Hé\n", "", "a | b\\", "\U0001f600"])

    for first in range(len(written) + 1):
        for second in range(first, len(written) + 1):
            assert read(written, [first, second]) == ("Hé\na | b\\\U0001f600", None)


LINES = st.sampled_from(
    ["17-128-0 | a", "17-128-1 | b", "17-128-2 |", "16-128-0 | x", "3-128-0 | x", "17-64-0 | x", "17-128-END", "x", ""]
)


@given(st.lists(LINES | st.text(max_size=10), max_size=5).map("\n".join), st.data())
def test_verdict_on_any_text_does_not_depend_on_its_cuts(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))

    (_, whole), (_, cut) = read(text, []), read(text, cuts)

    assert whole == cut


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (["17-128-0 | a", "17-128-2 | b"], StreamFault.ORDER),
        (["17-128-0 | a", "17-128-0 | a"], StreamFault.ORDER),
        (["17-128-1 | a"], StreamFault.ORDER),
        (["16-128-0 | a"], StreamFault.NO_SUCCESS_BIT),
        (["17-128-0 | a", "33-128-1 | b"], StreamFault.CHANGED),
        (["17-128-0 | a", "33-128-END"], StreamFault.CHANGED),
        (["129-128-0 | a"], StreamFault.RESPONSE),
        (["17-127-0 | a"], StreamFault.CONFIDENCE),
        (["17-128-0 | a", "17-128-END", "17-128-1 | b"], StreamFault.AFTER_END),
        (["17-128-0 | a", "17-128-END", "17-128-END"], StreamFault.AFTER_END),
        (["17-128 | a"], StreamFault.MALFORMED),
        (["17-128-00 | a"], StreamFault.MALFORMED),
        (["١٧-128-0 | a"], StreamFault.MALFORMED),
        (["17-128-0 | a\\x"], StreamFault.MALFORMED),
        (["17-128-0 | a\\"], StreamFault.MALFORMED),
        (["17-128-0 | " + "a" * 11], StreamFault.TOO_LARGE),
        (["17-128-0 | aaaaaa", "17-128-1 | éééé"], StreamFault.TOO_LARGE),
        (["17-128-0 | a"], StreamFault.BROKEN_OFF),
        ([], StreamFault.BROKEN_OFF),
    ],
)
def test_stream_that_is_no_answer_ends_in_an_error(lines: list[str], fault: StreamFault) -> None:
    assert read("\n".join(lines), [], limit=10)[1] is fault


def test_line_without_end_is_not_held_without_bound() -> None:
    reader = ChunkReader(100)
    for _ in range(23):
        reader.feed("x" * 10)

    with pytest.raises(StreamError, match="too_large"):
        reader.feed("x" * 10)


def test_language_code_streams_and_confidence_may_change() -> None:
    reader = ChunkReader()

    text = [reader.message(line) for line in ("513-512-0 | 你", "513-128-1 | 好", "513-128-END")]

    assert text == ["你", "好", ""]
    assert reader.finished
    assert reader.head == Head(513, 128)


def test_error_names_the_chunk_and_holds_no_text() -> None:
    with pytest.raises(StreamError) as error:
        ChunkReader().feed("17-128-0 | secret\n17-128-5 | secret\n")

    assert str(error.value) == "stream ended at chunk 1: out_of_order"


@pytest.mark.parametrize("head", [Head(16, 128), Head(17, 64), Head(1024, 128)])
def test_writer_refuses_codes_that_no_reader_accepts(head: Head) -> None:
    with pytest.raises(ValueError, match="no answer"):
        ChunkWriter(head)


def test_writer_keeps_the_bound() -> None:
    writer = ChunkWriter(HEAD, 3)
    writer.chunk("é")

    with pytest.raises(StreamError, match="too_large"):
        writer.chunk("é")
