"""Specification section 2: `TASK-PARAM` or `TASK-PARAM | CONTEXT`."""

import re
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policies.mathprotocol.codes import FIBONACCI, V21_TASKS, ErrorCode
from policies.mathprotocol.grammar import Request, parse_request, request_fault

# The published expression, its digits narrowed to ASCII (issue: "Fullwidth or Arabic digits are not digits").
PUBLISHED = re.compile(r"^([0-9]+)-([0-9]+)(?:\s{0,10}\|\s{0,10}(.+))?$")


def by_expression(text: str) -> Request | None:
    matched = PUBLISHED.match(text)
    if matched is None:
        return None
    sys.set_int_max_str_digits(0)
    task, param, context = matched.groups()
    return Request(min(int(task), 1 << 63), min(int(param), 1 << 63), (context or "").strip())


near_grammar = st.lists(
    st.sampled_from(
        ["2", "13", "0", "-", "|", " ", "\n", "\r", "\t", "\u2028", "\u00a0", "x", "٢", " " * 10, "\n" * 5]
    ),
    max_size=12,
).map("".join)


@given(st.one_of(near_grammar, near_grammar.map("2-1 |".__add__), st.text(max_size=30)))
@example("2-1\n")
@example("2-1 |")
@example("2-1 | ")
@example("2-1 | \n")
@example("2-1 |\n\nx\n")
@example("2-1 | ok\n43-1 | second")
@example("2-1 |" + " " * 11 + "x")
@example("2-1" + " " * 11 + "| x")
@example("0002-1")
def test_reads_exactly_the_published_language(text: str) -> None:
    assert parse_request(text) == by_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 2-1",
        "2-1 ",
        "2 - 1",
        "+2-1",
        "-2-1",
        "2--1",
        "2.0-1",
        "2e0-1",
        "0x2-1",
        "２-１",
        "٢-١",
        "२-१",
        "²-1",
        "2–1",
        "2-1 ¦ x",
        "[2]-[1]",
        "(2)-(1)",
        "2-1 | first\r\n43-1 | second",
        "2-1 | first\n43-1 | second",
        "2-1\x00",
        "2-1 x",
        "\ufeff2-1",
    ],
)
def test_near_miss_is_not_of_the_grammar(text: str) -> None:
    assert parse_request(text) is None


@pytest.mark.parametrize("value", [None, 2, 2.1, b"2-1", ["2-1"], True])
def test_only_strings_are_requests(value: object) -> None:
    assert parse_request(value) is None


def test_context_begins_after_the_first_pipe_and_is_stripped() -> None:
    assert parse_request("11-1 |  a | b \t") == Request(11, 1, "a | b")


def test_numbers_too_large_for_int_are_no_task_and_cost_nothing() -> None:
    request = parse_request("9" * 1_000_000 + "-1")

    assert request is not None
    assert request_fault(request, V21_TASKS, FIBONACCI) is ErrorCode.INVALID_TASK


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("2-1", None),
        ("29-89 | x", None),
        ("31-1", ErrorCode.INVALID_TASK),  # a bare prime is not enough
        ("4-1", ErrorCode.INVALID_TASK),
        ("2-4", ErrorCode.INVALID_PARAM),
        ("0-0", ErrorCode.INVALID_TASK),
        ("hello", ErrorCode.INVALID_FORMAT),
    ],
)
def test_fault_names_the_task_before_the_param(text: str, fault: ErrorCode | None) -> None:
    assert request_fault(parse_request(text), V21_TASKS, FIBONACCI) is fault


def test_repr_never_holds_the_context() -> None:
    assert "secret" not in repr(parse_request("2-1 | secret"))
