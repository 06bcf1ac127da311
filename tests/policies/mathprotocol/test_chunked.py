"""Specification section 6, Streaming: from a model's answer to chunks and back."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policies.mathprotocol.chunked import AnswerRefusedError, ChunkedAnswer
from policies.mathprotocol.codes import ERRORS, Kind
from policies.mathprotocol.responses import is_valid_response, parse_response
from policies.mathprotocol.streaming import ChunkReader, StreamError, StreamFault

answers = st.lists(
    st.sampled_from(["17-128 | ", "3-128", "1024", "513-512|", " ", "\n", "|", "a", "\\", "é", "16-128 | x", "\u2003"]),
    max_size=6,
).map("".join)


def chunks(answer: ChunkedAnswer, text: str, cuts: list[int]) -> list[str]:
    lines: list[str] = []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        lines += answer.feed(text[start:end])
    return lines + answer.feed("", last=True)


@given(answers, st.sampled_from(Kind), st.data())
@example("17-128 | a \n b \n", Kind.GENERATIVE, None)
def test_chunks_carry_the_payload_of_valid_answers_and_nothing_of_others(
    text: str, kind: Kind, data: st.DataObject | None
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4))) if data else list(range(len(text)))

    if not is_valid_response(text, kind) or parse_response(text).codes[0] in ERRORS:
        with pytest.raises(AnswerRefusedError):
            chunks(ChunkedAnswer(kind), text, cuts)
        return
    lines = chunks(ChunkedAnswer(kind), text, cuts)

    reader = ChunkReader()
    payload = reader.feed("\n".join(lines)) + reader.close()
    assert payload == parse_response(text).payload
    assert reader.head == parse_response(text).codes


def test_first_words_leave_before_the_last_came() -> None:
    answer = ChunkedAnswer(Kind.GENERATIVE)

    lines = [answer.feed(piece) for piece in ("17-", "128 | ", "Good ", "morning")]

    assert lines == [[], [], ["17-128-0 | Good"], ["17-128-1 |  morning"]]


def test_classification_streams_its_end_mark_alone() -> None:
    assert chunks(ChunkedAnswer(Kind.CLASSIFICATION), "3-128\n", [1, 3]) == ["3-128-END"]


def test_error_of_the_model_is_told_by_its_code() -> None:
    with pytest.raises(AnswerRefusedError) as refused:
        chunks(ChunkedAnswer(Kind.GENERATIVE), "2048", [])

    assert refused.value.code == 2048


def test_payload_beyond_the_bound_ends_the_stream() -> None:
    answer = ChunkedAnswer(Kind.GENERATIVE, 10)
    answer.feed("17-128 | éééé")

    with pytest.raises(StreamError) as error:
        answer.feed("éé")
    assert error.value.fault is StreamFault.TOO_LARGE
