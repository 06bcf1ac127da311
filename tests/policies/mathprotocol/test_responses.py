"""Specification section 3: `RESPONSE-CONFIDENCE`, `RESPONSE-CONFIDENCE | PAYLOAD`, or an error code alone."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policies.mathprotocol.codes import Kind
from policies.mathprotocol.responses import AnswerGate, InvalidAnswer, is_valid_response, parse_response

CLASSIFICATION, GENERATIVE = Kind.CLASSIFICATION, Kind.GENERATIVE

near_answers = st.lists(
    st.sampled_from(["3", "17", "128", "1024", "513", "-", "|", " ", "\n", "x", "3-128", "17-128 | ", "٣", "0"]),
    max_size=8,
).map("".join)


@pytest.mark.parametrize("text", ["3-128", "5-256", "9-512", "1-128", "65-128", "513-128", "1025-512", "16385-256"])
def test_classification_is_a_code_and_a_confidence(text: str) -> None:
    assert is_valid_response(text, CLASSIFICATION)
    assert not is_valid_response(text, GENERATIVE)


@pytest.mark.parametrize("text", ["17-128 | a", "1-512|a", "17-128 |\na\nb | c"])
def test_generative_answer_carries_a_payload(text: str) -> None:
    assert is_valid_response(text, GENERATIVE)
    assert not is_valid_response(text, CLASSIFICATION)


@pytest.mark.parametrize("text", ["1024", "2048", "4096", " 1024\n", "1024 |"])
@pytest.mark.parametrize("kind", list(Kind))
def test_error_stands_alone(text: str, kind: Kind) -> None:
    assert is_valid_response(text, kind)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2-128",  # even: no Success Bit
        "2-128 | x",
        "7-128 | x",  # two flags at once
        "129-128 | x",  # a confidence is no result
        "3-64 | x",  # and a result no confidence
        "3-128-1 | x",
        "1024 | x",
        "1024-128 | x",  # an error carries no confidence
        "1025 | x",
        "512",
        "03-128 | x",
        "+3-128 | x",
        "3 - 128 | x",
        "３-１２８ | x",
        "Sure! 17-128 | x",
        "17-128 |",
        "17-128 |  \n",
        "| x",
        "17-128 x | y",
    ],
)
def test_anything_else_is_no_answer_to_a_generative_task(text: str) -> None:
    assert not is_valid_response(text, GENERATIVE)


@pytest.mark.parametrize("value", [None, 3, b"3-128", [], ""])
def test_parsing_never_raises(value: object) -> None:
    assert parse_response(value) == ((), "")


def test_only_strings_are_answers_and_reprs_hold_no_payload() -> None:
    assert not is_valid_response(b"3-128", CLASSIFICATION)
    assert "secret" not in repr(parse_response("17-128 | secret"))


def test_parsing_gives_codes_before_the_first_pipe_and_the_stripped_rest() -> None:
    assert parse_response("17-128 |  a | b \n") == ((17, 128), "a | b")
    assert parse_response("9" * 5000) == ((), "")


@given(st.one_of(near_answers, st.text(max_size=12)), st.sampled_from(list(Kind)), st.data())
@example("17-128 | a", GENERATIVE, None)
def test_gate_releases_valid_answers_whole_and_nothing_of_others_wherever_the_text_was_cut(
    text: str, kind: Kind, data: st.DataObject | None
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4))) if data else list(range(len(text) + 1))
    gate = AnswerGate(kind, 1000)
    released, refused = "", False

    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        out = gate.feed(text[start:end], last=False)
        refused = isinstance(out, InvalidAnswer)
        if refused:
            break
        released += str(out)
    out = gate.feed("", last=True) if not refused else InvalidAnswer("")
    refused = isinstance(out, InvalidAnswer)
    released += "" if refused else str(out)

    assert refused != is_valid_response(text, kind)
    assert released == ("" if refused else text)


def test_generative_answer_streams_once_its_first_word_began() -> None:
    gate = AnswerGate(GENERATIVE, 1000)

    pieces = [gate.feed(piece, last=False) for piece in ("17-", "128 |", " ", "Par", "is")]

    assert pieces == ["", "", "", "17-128 | Par", "is"]


def test_free_text_is_refused_at_its_first_letter() -> None:
    assert isinstance(AnswerGate(CLASSIFICATION, 1000).feed("I", last=False), InvalidAnswer)


def test_blanks_that_come_one_by_one_do_not_take_time_without_end() -> None:
    """Joined anew for each, these take a quarter of an hour; the time of a test is bounded anyway."""
    gate = AnswerGate(GENERATIVE, 1 << 20)

    held = [gate.feed(piece, last=False) for piece in ["17-128 |", *" " * 1_000_000]]

    assert set(held) == {""}
    assert gate.feed("x", last=False) == "17-128 |" + " " * 1_000_000 + "x"


def test_blanks_without_end_are_not_held_without_bound() -> None:
    gate = AnswerGate(CLASSIFICATION, 100)

    outs = [gate.feed(piece, last=False) for piece in ["3-128 |", *[" " * 10] * 10]]

    assert outs[-1] == InvalidAnswer("too_long")
