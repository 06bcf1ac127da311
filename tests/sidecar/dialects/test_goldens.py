"""Whole answers in the shapes that the providers send, restored; cut at every byte (T2, T5, T7, T13, T15).

`--regenerate` writes the expected files anew: look at the difference before you commit it.
"""

from pathlib import Path

import pytest

from sidecar.dialects.dialect import Answer, Dialect
from sidecar.dialects.registry import Dialects
from tests.fakes.tokens import WordTokens
from tests.sidecar.dialects.wire import bytewise, chat_texts, message_texts, read

GOLDENS = Path(__file__).parent / "goldens"
CASES = {
    "chat_text.sse": "/v1/chat/completions",
    "chat_tools.sse": "/v1/chat/completions",
    "chat.json": "/v1/chat/completions",
    "messages.sse": "/v1/messages",
    "messages.json": "/v1/messages",
}
CASE = pytest.mark.parametrize("name", CASES)
STREAM = pytest.mark.parametrize("name", [name for name in CASES if name.endswith("sse")])
JO, ZOE = 'Jo "J" Doe', "Zoë\n\U0001f600"


def open_answer(name: str, *, restore: bool = True) -> Answer:
    dialect: Dialect = Dialects().choose("POST", CASES[name], {})
    content_type = "text/event-stream; charset=utf-8" if name.endswith("sse") else "application/json"
    return dialect.answer(content_type, WordTokens(JO, ZOE).restore if restore else None)


@CASE
def test_restored_answer_is_the_golden_one(name: str, regenerate: bool) -> None:
    expected = GOLDENS / name.replace(".", ".restored.")

    restored = read(open_answer(name), [(GOLDENS / name).read_bytes()])

    if regenerate:
        expected.write_bytes(restored)
    assert restored == expected.read_bytes()


@CASE
def test_t2_every_cut_gives_the_same_answer(name: str) -> None:
    answer = (GOLDENS / name).read_bytes()
    whole = read(open_answer(name), [answer])

    assert read(open_answer(name), bytewise(answer)) == whole
    for at in range(0, len(answer), 29):
        assert read(open_answer(name), [answer[:at], answer[at:]]) == whole


@CASE
@pytest.mark.slow
def test_t2_every_single_cut_gives_the_same_answer(name: str) -> None:
    answer = (GOLDENS / name).read_bytes()
    whole = read(open_answer(name), [answer])

    for at in range(len(answer)):
        assert read(open_answer(name), [answer[:at], answer[at:]]) == whole


@CASE
def test_t1_answer_without_tokens_passes_byte_for_byte(name: str) -> None:
    answer = (GOLDENS / name).read_bytes()
    dialect = Dialects().choose("POST", CASES[name], {})
    content_type = "text/event-stream" if name.endswith("sse") else "application/json"

    assert read(dialect.answer(content_type, WordTokens().restore), [answer]) == answer
    assert read(dialect.answer(content_type, WordTokens().restore), bytewise(answer)) == answer


@CASE
def test_unread_answer_passes_byte_for_byte_and_never_half_an_event(name: str) -> None:
    answer = (GOLDENS / name).read_bytes()

    assert read(open_answer(name, restore=False), bytewise(answer)) == answer
    if name.endswith("sse"):
        passing = open_answer(name, restore=False)
        assert all(not piece or piece.endswith(b"\n") for piece in map(passing.feed, bytewise(answer)))


@CASE
@pytest.mark.parametrize("restore", [True, False])
def test_usage_model_and_end_are_noted_either_way(name: str, restore: bool) -> None:
    answer = open_answer(name, restore=restore)

    read(answer, [(GOLDENS / name).read_bytes()])

    seen = answer.observed
    assert seen.finished
    assert not seen.upstream_error
    assert seen.response_id
    assert seen.response_model.startswith(("gpt-4", "claude-sonnet"))
    assert (seen.finish_reason, seen.input_tokens, seen.output_tokens) == {
        "chat_text.sse": ("stop", 24, 15),
        "chat_tools.sse": ("length", None, None),
        "chat.json": ("stop", 19, 10),
        "messages.sse": ("tool_use", 572, 89),
        "messages.json": ("stop_sequence", 2095, 503),
    }[name]


@STREAM
def test_t3_other_line_ends_frame_the_same_answer(name: str) -> None:
    answer = (GOLDENS / name).read_bytes()
    texts = chat_texts if name.startswith("chat") else message_texts
    whole = texts(read(open_answer(name), [answer]))

    for line_end in (b"\r\n", b"\r"):
        framed = answer.replace(b"\n", line_end)
        assert texts(read(open_answer(name), [framed])) == whole
        assert read(open_answer(name), bytewise(framed)) == read(open_answer(name), [framed])


@STREAM
def test_t3_comments_ids_and_stray_lines_keep_their_place(name: str) -> None:
    noise = b": keep-alive\n\n\n\nid: 7\nretry: 10\n\n"
    answer = b"\xef\xbb\xbf" + (GOLDENS / name).read_bytes().replace(b"\n\n", b"\nid: 1\n\n" + noise)

    restored = read(open_answer(name), bytewise(answer))

    assert restored == read(open_answer(name), [answer])
    assert restored.startswith(b"\xef\xbb\xbf")
    assert restored.count(noise) == answer.count(noise)


@STREAM
def test_t3_last_event_without_an_empty_line_is_restored_too(name: str) -> None:
    answer = (GOLDENS / name).read_bytes()

    for cut in range(1, 3):
        assert read(open_answer(name), [answer[:-cut]]) == read(open_answer(name), [answer])[:-cut]
