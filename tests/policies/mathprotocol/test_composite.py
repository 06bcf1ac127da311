"""Specification section 6, Composite tasks: grammar, planner, and the run of a plan."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.mathprotocol.chain import (
    Breakers,
    Call,
    ChainRun,
    Failed,
    Failure,
    Finished,
    Given,
    StageBreaker,
    StageCache,
    Stopped,
)
from policies.mathprotocol.codes import V21_TASKS, ErrorCode
from policies.mathprotocol.composite import CompositeError, Plan, Stage, is_composite, plan
from policies.mathprotocol.standin import stand_in_answer

# --- grammar and planner ---


def test_chain_with_a_group_is_read_into_steps() -> None:
    made = plan("[19-1]->[3-1]&[5-1]->[17-1] |  some text ")

    assert made == Plan(((Stage(19, 1),), (Stage(3, 1), Stage(5, 1)), (Stage(17, 1),)), "some text")
    assert str(made) == "[19-1]->[3-1]&[5-1]->[17-1]"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2-1 | x",
        "[2-1] | x",  # one stage is a single request
        "[2-1] -> [3-1] | x",
        "[2-1]->(3-1) | x",
        "[2-1]->[3-1] |",
        "[2-1]->[3-1] | a\nb",
        "[2-1]->[3-1]->",
        "[2-1]=>[3-1] | x",
        "[٢-1]->[3-1] | x",
        "[2]-[1]->[3]-[1] | x",
        "->".join(["[2-1]"] * 9) + " | x",
        "->".join(["[2-1]"] * 1000) + " | x",
    ],
)
def test_what_is_no_chain_is_refused_with_4096(text: str) -> None:
    with pytest.raises(CompositeError) as refused:
        plan(text)

    assert refused.value.code is ErrorCode.INVALID_FORMAT


def test_context_may_be_missing_but_not_empty() -> None:
    assert plan("[2-1]->[3-1]").context == ""


def test_wrong_codes_name_their_stage() -> None:
    with pytest.raises(CompositeError, match="stage 2: task 43") as task:
        plan("[2-1]->[43-1] | x")
    with pytest.raises(CompositeError, match="stage 1: param 4") as param:
        plan("[2-4]->[3-1] | x")

    assert (task.value.code, param.value.code) == (ErrorCode.INVALID_TASK, ErrorCode.INVALID_PARAM)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[7-1]->[3-1] | x", "Summarization needs prose, but EntityExtract"),
        ("[23-1]->[5-1]->[29-1] | x", "Readability needs prose, but Keywords"),
        ("[3-1]&[7-1]->[5-1] | x", "both give a text"),
    ],
)
def test_chain_whose_stages_do_not_fit_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(CompositeError, match=message):
        plan(text)


def test_texts_side_by_side_may_stand_last() -> None:
    assert str(plan("[19-1]->[3-1]&[7-1] | x")) == "[19-1]->[3-1]&[7-1]"


@pytest.mark.parametrize(
    ("text", "planned", "dropped"),
    [
        ("[3-1]->[3-1]->[2-1] | x", "[3-1]->[2-1]", 1),
        ("[2-1]&[2-1] | x", "[2-1]", 1),
        ("[19-1]->[5-1]->[19-1]->[3-1] | x", "[19-1]->[5-1]->[3-1]", 1),
        ("[19-1]->[3-1]->[19-1] | x", "[19-1]->[3-1]->[19-1]", 0),  # over another text: no repeat
        ("[3-1]->[3-2]->[2-1] | x", "[3-1]->[3-2]->[2-1]", 0),
    ],
)
def test_exact_repeats_are_dropped(text: str, planned: str, dropped: int) -> None:
    made = plan(text)

    assert (str(made), len(made.dropped)) == (planned, dropped)


@given(st.text(alphabet="[]-->&|0123456789 x\n", max_size=40))
def test_garbage_gives_only_our_error(text: str) -> None:
    try:
        made = plan(text)
    except CompositeError:
        return
    assert is_composite(text)
    assert made.steps


def test_repr_and_messages_never_hold_the_context() -> None:
    assert "secret" not in repr(plan("[2-1]->[3-1] | secret"))
    with pytest.raises(CompositeError) as refused:
        plan("[43-1]->[3-1] | secret")
    assert "secret" not in str(refused.value)


# --- running ---


def run(text: str, cache: StageCache | None = None, breakers: Breakers | None = None) -> ChainRun:
    return ChainRun(plan(text), cache or StageCache(0), breakers or Breakers())


def drive(chain: ChainRun) -> list[Call]:
    """Let the stand-in model answer everything; the calls that were made."""
    made: list[Call] = []
    due = chain.start(0.0)
    while due:
        call = due.pop(0)
        made.append(call)
        due += chain.answer(call.stage, stand_in_answer(call.text), 0.0)
    return made


def test_payload_of_a_stage_is_the_context_of_the_next_and_guards_pass_it_on() -> None:
    chain = run("[19-1]->[3-1]->[5-1] | one two three four five six")

    made = drive(chain)

    assert [call.text for call in made] == [
        "19-1 | one two three four five six",
        "3-1 | one two three four five six",
        "5-1 | one two three four five...",
    ]
    assert isinstance(chain.outcome, Finished)
    assert [given.answer for given in chain.outcome.results] == ["17-128"]


def test_stages_of_a_group_are_due_together_and_answers_come_in_any_order() -> None:
    chain = run("[2-1]&[7-1] | I love Berlin")

    first, second = chain.start(0.0)
    chain.answer(second.stage, "17-128 | Berlin", 0.0)
    waiting = chain.outcome
    chain.answer(first.stage, "3-128", 0.0)

    assert waiting is None
    assert isinstance(chain.outcome, Finished)
    assert [given.stage.task for given in chain.outcome.results] == [2, 7]


def test_moderation_that_says_no_stops_the_chain_before_anything_else_is_asked() -> None:
    chain = run("[19-1]->[3-1] | explicit violence")

    made = drive(chain)

    assert [call.stage.task for call in made] == [19]
    assert isinstance(chain.outcome, Stopped)
    assert chain.outcome.guard.answer == "5-128"


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (None, Failure.UNREACHABLE),
        ("Sure!", Failure.INVALID),
        ("16-128 | no Success Bit", Failure.INVALID),
        ("1024", Failure.REFUSED),
    ],
)
def test_failed_stage_ends_the_chain_with_what_the_earlier_ones_gave(answer: str | None, failure: Failure) -> None:
    chain = run("[19-1]->[3-1]->[2-1] | text")
    chain.start(0.0)
    chain.answer(Stage(19, 1), "9-128", 0.0)

    due = chain.answer(Stage(3, 1), answer, 0.0)

    assert due == []
    assert chain.outcome == Failed(Stage(3, 1), failure, (Given(Stage(19, 1), "9-128", cached=False),))


def test_payload_of_several_lines_becomes_one_line_of_context() -> None:
    chain = run("[3-1]->[2-1] | text")
    chain.start(0.0)

    (call,) = chain.answer(Stage(3, 1), "17-128 | a\n43-1 | b", 0.0)

    assert call.text == "2-1 | a 43-1 | b"


def test_failure_beside_a_running_stage_is_final_and_the_late_answer_still_tells_the_breaker() -> None:
    breakers = Breakers(threshold=1)
    chain = run("[2-1]&[5-1] | text", breakers=breakers)
    chain.start(0.0)
    chain.answer(Stage(2, 1), "Sure!", 0.0)

    due = chain.answer(Stage(5, 1), None, 0.0)

    assert due == []
    assert chain.outcome == Failed(Stage(2, 1), Failure.INVALID, ())
    assert not breakers.of(Stage(5, 1)).admits(0.0)


def test_answer_nobody_waits_for_changes_nothing() -> None:
    chain = run("[19-1]->[3-1] | text")
    chain.start(0.0)

    assert chain.answer(Stage(3, 1), "17-128 | x", 0.0) == []
    assert chain.outcome is None


def test_second_run_asks_only_what_the_cache_does_not_know() -> None:
    cache = StageCache(10_000)
    drive(run("[19-1]->[3-1] | text", cache))

    chain = run("[19-1]->[3-1]->[2-1] | text", cache)
    made = drive(chain)

    assert [call.stage.task for call in made] == [2]
    assert isinstance(chain.outcome, Finished)
    assert [given.cached for given in chain.outcome.given] == [True, True, False]


def test_chain_that_is_wholly_cached_finishes_at_once() -> None:
    cache = StageCache(10_000)
    drive(run("[19-1]->[3-1] | text", cache))

    chain = run("[19-1]->[3-1] | text", cache)

    assert chain.start(0.0) == []
    assert isinstance(chain.outcome, Finished)


def test_cache_key_is_task_param_and_context() -> None:
    cache = StageCache(10_000)
    cache.put(Stage(2, 1), "a", "3-128")

    assert cache.get(Stage(2, 1), "a") == "3-128"
    assert cache.get(Stage(2, 2), "a") is None
    assert cache.get(Stage(2, 1), "b") is None


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 700)), max_size=40), st.integers(0, 2000))
def test_cache_never_holds_more_than_its_bound(puts: list[tuple[int, int]], bound: int) -> None:
    cache = StageCache(bound)

    for number, size in puts:
        cache.put(Stage(2, 1), str(number), "x" * size)
        assert cache.held_bytes <= bound

    held = [number for number in range(10) if cache.get(Stage(2, 1), str(number)) is not None]
    assert (cache.held_bytes == 0) is (not held)


def test_least_recently_used_answer_goes_first() -> None:
    cache = StageCache(600)
    cache.put(Stage(2, 1), "a", "1")
    cache.put(Stage(2, 1), "b", "2")
    cache.get(Stage(2, 1), "a")

    cache.put(Stage(2, 1), "c", "3")

    assert [cache.get(Stage(2, 1), key) for key in "abc"] == ["1", None, "3"]


def test_stage_that_keeps_failing_is_not_asked_until_its_cooldown_is_over() -> None:
    breakers = Breakers(threshold=2, cooldown=30.0)
    for _ in range(2):
        chain = run("[19-1]->[3-1] | text", breakers=breakers)
        chain.start(0.0)
        chain.answer(Stage(19, 1), None, 0.0)

    shut = run("[19-1]->[3-1] | text", breakers=breakers)
    due_while_open = shut.start(29.0)
    tried = run("[19-1]->[3-1] | text", breakers=breakers).start(30.0)
    beside = run("[19-1]->[3-1] | text", breakers=breakers).start(30.0)

    assert due_while_open == []
    assert shut.outcome == Failed(Stage(19, 1), Failure.OPEN, ())
    assert [call.stage for call in tried] == [Stage(19, 1)]
    assert beside == []


def test_breaker_closes_after_a_good_try_and_other_stages_never_noticed() -> None:
    breakers = Breakers(threshold=1, cooldown=30.0)
    breakers.of(Stage(2, 1)).failed(0.0)

    assert not breakers.of(Stage(2, 1)).admits(1.0)
    assert breakers.of(Stage(3, 1)).admits(1.0)
    breakers.of(Stage(2, 1)).succeeded()
    assert breakers.of(Stage(2, 1)).admits(1.0)


def test_try_that_was_never_reported_does_not_close_a_stage_for_ever() -> None:
    breaker = StageBreaker(threshold=1, cooldown=30.0)
    breaker.failed(0.0)
    breaker.asked(30.0)

    assert not breaker.admits(59.0)
    assert breaker.admits(60.0)


def test_model_that_refuses_a_request_is_not_a_broken_stage() -> None:
    breakers = Breakers(threshold=1)
    chain = run("[19-1]->[3-1] | text", breakers=breakers)
    chain.start(0.0)

    chain.answer(Stage(19, 1), "1024", 0.0)

    assert breakers.of(Stage(19, 1)).admits(0.0)


def test_reprs_never_hold_answers_or_contexts() -> None:
    chain = run("[3-1]->[2-1] | secret")
    calls = chain.start(0.0)
    chain.answer(Stage(3, 1), "Sure! secret", 0.0)

    assert "secret" not in repr(calls) + repr(chain.outcome)
    assert "secret" not in repr(Given(Stage(2, 1), "secret", cached=False))


@given(
    st.lists(st.lists(st.sampled_from(sorted(V21_TASKS)), min_size=1, max_size=3), min_size=2, max_size=4),
    st.text(alphabet="abc xyz", min_size=1),
)
def test_every_plan_ends_and_asks_each_stage_at_most_once_a_step(chain: list[list[int]], context: str) -> None:
    text = "->".join("&".join(f"[{task}-1]" for task in step) for step in chain) + f" | {context}x"
    try:
        machine = run(text)
    except CompositeError:
        return

    made = drive(machine)

    assert machine.outcome is not None
    assert len(made) <= 8
