"""Messages that teach: each suggestion must be right, and each mistake must be named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.mathprotocol.codes import FIBONACCI, V21_TASKS, Kind
from policies.mathprotocol.grammar import parse_request, request_fault
from policies.mathprotocol.lesson import request_lesson, response_lesson
from policies.mathprotocol.responses import is_valid_response


@pytest.mark.parametrize(
    ("text", "code", "says", "suggestion"),
    [
        ("", 4096, "empty", "2-1 | text"),
        ("[2]-[1] | x", 4096, "no brackets", "2-1 | x"),
        ("[2-1] | x", 4096, "no brackets", "2-1 | x"),
        ("(2)-(1)", 4096, "no brackets", "2-1"),
        ("٢-١ | x", 4096, "digits 0 to 9", "2-1 | x"),
        ("２-１", 4096, "digits 0 to 9", "2-1"),
        ("2²-1", 4096, "digits 0 to 9", ""),
        ("2–1 | x", 4096, "ASCII hyphen", "2-1 | x"),
        ("2-1 ¦ x", 4096, "one ASCII pipe", "2-1 | x"),
        ("2 - 1 | x", 4096, "no blanks", "2-1 | x"),
        (" 2-1", 4096, "no blanks", "2-1"),
        ("2-1 |", 4096, "followed by CONTEXT", "2-1"),
        ("2-1 | a\nb", 4096, "one line", "2-1 | a b"),
        ("2-1" + " " * 11 + "| x", 4096, "ten blanks", "2-1 | x"),
        ("2 | x", 4096, "PARAM is missing", "2-1 | x"),
        ("-2-1", 4096, "no sign", ""),
        ("2.0-1", 4096, "no point", ""),
        ("summarise this", 4096, "TASK-PARAM", ""),
        ("31-1 | x", 1024, "prime but no task", ""),
        ("4-1 | x", 1024, "not a prime", ""),
        ("43-1 | x", 1024, "trap", ""),
        ("9" * 50 + "-1", 1024, "more than 18 digits", ""),
        ("2-4 | x", 2048, "Fibonacci", "2-3 | x"),
        ("2-50 | x", 2048, "Fibonacci", "2-21 | x"),
    ],
)
def test_mistake_in_a_request_is_named_and_mended(text: str, code: int, says: str, suggestion: str) -> None:
    lesson = request_lesson(text)

    assert not lesson.valid
    assert lesson.code == code
    assert any(says in fault for fault in lesson.faults)
    assert lesson.suggestion == suggestion


@pytest.mark.parametrize(
    ("text", "kind", "says", "suggestion"),
    [
        ("2-128", Kind.CLASSIFICATION, "Success Bit", "3-128"),
        ("3-128 | x", Kind.CLASSIFICATION, "drop the payload", "3-128"),
        ("3-100", Kind.CLASSIFICATION, "CONFIDENCE 100", "3-128"),
        ("7-128", Kind.CLASSIFICATION, "RESPONSE 7", ""),
        ("17-128", Kind.GENERATIVE, "needs a payload", ""),
        ("1024 | why", Kind.GENERATIVE, "sent alone", "1024"),
        ("17 | x", Kind.GENERATIVE, "-CONFIDENCE", "17-128 | x"),
        ("Sure! 17-128 | x", Kind.GENERATIVE, "nothing may stand before", "17-128 | x"),
        ("017-128 | x", Kind.GENERATIVE, "leading zeros", "17-128 | x"),
        ("", Kind.GENERATIVE, "RESPONSE-CONFIDENCE", ""),
    ],
)
def test_mistake_in_an_answer_is_named_and_mended(text: str, kind: Kind, says: str, suggestion: str) -> None:
    lesson = response_lesson(text, kind)

    assert not lesson.valid
    assert any(says in fault for fault in lesson.faults)
    assert lesson.suggestion == suggestion


requests = st.text(alphabet="0123456789-|[]()  \n٢２–¦x", max_size=20) | st.text(max_size=20)


@given(requests)
def test_lesson_agrees_with_the_grammar_and_suggests_only_what_is_valid(text: str) -> None:
    lesson = request_lesson(text)

    assert lesson.valid is (request_fault(parse_request(text), V21_TASKS, FIBONACCI) is None)
    assert lesson.valid or lesson.faults
    if lesson.suggestion:
        assert request_fault(parse_request(lesson.suggestion), V21_TASKS, FIBONACCI) is None


@given(requests, st.sampled_from(Kind))
def test_lesson_agrees_with_the_rules_of_answers(text: str, kind: Kind) -> None:
    lesson = response_lesson(text, kind)

    assert lesson.valid is is_valid_response(text, kind)
    assert lesson.valid or lesson.faults
    assert not lesson.suggestion or is_valid_response(lesson.suggestion, kind)


@pytest.mark.parametrize(
    "text",
    ["2-1 |" + "\n" * 300_000, "2-1" + " " * 300_000 + "x", "x" + "\n\r" * 300_000, "x" + " " * 300_000],
    ids=range(4),
)
def test_blanks_without_end_do_not_take_time_without_end(text: str) -> None:
    """A quadratic expression takes an hour for these; the time of a test is bounded anyway."""
    assert not request_lesson(text).valid
    assert not response_lesson(text, Kind.GENERATIVE).valid
