"""How an OpenAI chat completion is restored on its way back."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.model import Channel, ChannelKind, Deny, ResultCode
from sidecar.dialects.dialect import Answer, AnswerRefusedError, MalformedAnswerError, Restore
from sidecar.dialects.openai_chat import OpenAIChat
from tests.fakes.tokens import WordTokens
from tests.sidecar.dialects.wire import bytewise, chat_texts, events, read

CHAT = OpenAIChat()
DONE = b"data: [DONE]\n\n"
JO = 'Jo "J"\nDoe'


def chunk(delta: Any, finish: str | None = None, index: int = 0, *, ascii_only: bool = True, **more: Any) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    data = json.dumps({"id": "c1", "model": "m", "choices": [choice], **more}, ensure_ascii=ascii_only)
    return f"data: {data}\n\n".encode()


def said(*texts: str, index: int = 0) -> bytes:
    return b"".join(chunk({"content": text}, index=index) for text in texts)


def opened(restore: Restore | None) -> Answer:
    return CHAT.answer("text/event-stream", restore)


def restored(stream: bytes, *values: str) -> bytes:
    return read(opened(WordTokens(*values).restore), [stream])


# --- streams ---

FRAGMENTS = st.lists(st.sampled_from(["[T1]", "[T", "1", "]", "[", "T2]", "text", "é😀", '"\\', "\n", ""]), max_size=6)
LANES = st.sampled_from(["content", "refusal", "reasoning_content", "reasoning", "args0", "args1", "custom2", "legacy"])


def delta(lane: str, text: str) -> dict[str, Any]:
    match lane:
        case "args0" | "args1":
            return {"tool_calls": [{"index": int(lane[-1]), "function": {"arguments": text}}]}
        case "custom2":
            return {"tool_calls": [{"index": 2, "custom": {"input": text}}]}
        case "legacy":
            return {"function_call": {"arguments": text}}
        case _:
            return {lane: text}


@given(
    st.lists(st.tuples(st.integers(0, 1), LANES, FRAGMENTS.map("".join)), max_size=20),
    st.lists(st.integers(0, 3000), max_size=8),
    st.booleans(),
    st.booleans(),
)
def test_t5_every_channel_is_restored_whatever_the_fragments_the_cuts_and_the_order(
    deltas: list[tuple[int, str, str]], cuts: list[int], escape: bool, finish: bool
) -> None:
    stream = b"".join(chunk(delta(lane, text), index=index, ascii_only=escape) for index, lane, text in deltas)
    if finish:
        stream += b"".join(chunk({}, "stop", index=index) for index in (1, 0)) + DONE
    expected: dict[str, str] = {}
    for name, text in chat_texts(stream).items():
        is_json = name.endswith(("tool_calls.0", "tool_calls.1", "function_call"))
        expected[name] = text.replace("[T1]", json.dumps(JO)[1:-1] if is_json else JO)
    borders = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(borders)]

    client = read(opened(WordTokens(JO).restore), pieces)

    assert chat_texts(client) == expected
    assert client == restored(stream, JO)


@given(
    st.lists(st.tuples(st.integers(0, 1), FRAGMENTS.map("".join)), min_size=3, max_size=12),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.lists(st.integers(0, 5000), max_size=6),
)
def test_t2_events_of_one_shape_are_restored_alike_one_by_one_together_and_cut_anywhere(
    deltas: list[tuple[int, str]], line_end: str, padded: bool, cuts: list[int]
) -> None:
    whole = [
        chunk({"content": text}, index=index, **({"obfuscation": "xY7"[: 1 + number % 3]} if padded else {}))
        for number, (index, text) in enumerate(deltas)
    ]
    each = [event.replace(b"\n", line_end.encode()) for event in [*whole, DONE]]
    stream = b"".join(each)
    borders = [0, *sorted(cut % len(stream) for cut in cuts), len(stream)]

    client = restored(stream, JO)

    expected = dict.fromkeys([f"{index}.content" for index, _ in deltas], "")
    for index, text in deltas:
        expected[f"{index}.content"] += text
    assert chat_texts(client) == {name: text.replace("[T1]", JO) for name, text in expected.items()}
    assert read(opened(WordTokens(JO).restore), each) == client
    assert read(opened(WordTokens(JO).restore), bytewise(stream)) == client
    assert read(opened(WordTokens(JO).restore), [stream[a:b] for a, b in pairwise(borders)]) == client


def test_t6_text_that_cannot_become_a_token_goes_out_at_once() -> None:
    answer = opened(WordTokens(JO).restore)

    for text in ("Dear ", "patient,", " see [1] "):
        assert answer.feed(said(text)) == said(text)
    assert chat_texts(answer.feed(said("and [T"))) == {"0.content": "and "}
    assert chat_texts(answer.feed(said("x"))) == {"0.content": "[Tx"}


def test_one_event_in_is_one_event_out_while_text_is_held() -> None:
    client = restored(said(*"[T1] ok") + chunk({}, "stop") + DONE, JO)

    assert len(list(events(client))) == len("[T1] ok") + 2
    assert chat_texts(client) == {"0.content": JO + " ok"}


def test_held_text_goes_out_before_its_choice_finishes_and_no_other_choice_is_disturbed() -> None:
    stream = said("a [T") + said("b [T", index=1) + chunk({}, "stop", index=1) + said("1]") + chunk({}, "stop") + DONE

    told = [json.loads(data)["choices"][0] for _, data in events(restored(stream, JO)) if data != "[DONE]"]

    assert [(choice["index"], choice["delta"].get("content"), choice["finish_reason"]) for choice in told] == [
        (0, "a ", None),
        (1, "b ", None),
        (1, "[T", None),
        (1, None, "stop"),
        (0, JO, None),
        (0, None, "stop"),
    ]


def test_text_in_the_finishing_chunk_stays_in_it() -> None:
    client = restored(said("x [T") + chunk({"content": "1] y [T"}, "stop") + DONE, JO)

    assert chat_texts(client) == {"0.content": f"x {JO} y [T"}
    assert len(list(events(client))) == 3


@pytest.mark.parametrize("end", [DONE, b"", b'data: {"error":{"message":"x","type":"server_error"}}\n\n'])
def test_held_text_goes_out_at_the_end_even_if_no_choice_finished(end: bytes) -> None:
    client = restored(said("x [T") + end, JO)

    assert client.endswith(end)
    assert '"[T"' in client.decode()


def test_extra_chunk_belongs_to_the_answer_and_names_no_tool_twice() -> None:
    first = {"index": 3, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":"[T'}}
    stream = chunk({"role": "assistant", "tool_calls": [first]}) + chunk({}, "tool_calls") + DONE

    flushed = json.loads(list(events(restored(stream, JO)))[1][1])

    assert flushed == {
        "id": "c1",
        "model": "m",
        "choices": [
            {
                "index": 0,
                "delta": {"tool_calls": [{"index": 3, "function": {"arguments": "[T"}}]},
                "finish_reason": None,
            }
        ],
    }


def test_channel_names_its_tool_even_if_the_first_fragment_has_no_arguments() -> None:
    tokens = WordTokens(JO)
    stream = chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "mail"}}]})
    stream += chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]})
    stream += chunk({"tool_calls": [{"index": 1, "custom": {"name": "shell", "input": "ls"}}]})

    read(opened(tokens.restore), [stream])

    assert tokens.seen[:2] == [
        (Channel(ChannelKind.TOOL_ARGUMENTS, 0, 0, "mail"), "{}", False),
        (Channel(ChannelKind.TOOL_INPUT, 0, 1, "shell"), "ls", False),
    ]


def test_t4_halves_of_a_character_in_two_deltas_meet_before_policies_see_them() -> None:
    tokens = WordTokens(JO)
    stream = b"".join(
        b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % text
        for text in (b"a\\ud83d", b"\\ude00 \\u005bT1\\u005d", b"\\ud83d", b"z", b"\\ude00", b"\\ud83d")
    )

    client = read(opened(tokens.restore), [stream + DONE])

    assert [piece for _, piece, _ in tokens.seen] == ["a", "😀 [T1]", "", "\ud83dz", "\ude00", "", "\ud83d"]
    assert chat_texts(client) == {"0.content": f"a😀 {JO}\ud83dz\ude00\ud83d"}


def test_t4_utf8_split_over_reads_is_whole_again() -> None:
    stream = said("日本語😀 [T1] é") + DONE

    assert chat_texts(read(opened(WordTokens("ñ").restore), bytewise(stream))) == {"0.content": "日本語😀 ñ é"}


def test_t17_unreadable_data_ends_an_answer_that_is_being_restored() -> None:
    for line in (b'{"choices":[', b'"text"', b"7", b'{"choices":[],"choices":[{}]}', b"hello", b'{"a":"\xff"}'):
        with pytest.raises(MalformedAnswerError):
            opened(WordTokens(JO).restore).feed(b"data: " + line + b"\n\n")
        assert opened(None).feed(b"data: " + line + b"\n\n") == b"data: " + line + b"\n\n"


def test_json_under_the_name_of_a_stream_does_not_pass_unread() -> None:
    with pytest.raises(MalformedAnswerError):
        read(opened(WordTokens(JO).restore), [b'{"choices":[{"message":{"content":"x"}}]}'])


def test_text_after_the_end_of_its_channel_ends_the_answer() -> None:
    answer = opened(WordTokens(JO).restore)
    answer.feed(said("a") + chunk({"content": ""}, "stop") + said(""))

    with pytest.raises(MalformedAnswerError, match="after the end"):
        answer.feed(said("b"))


def test_event_beyond_the_bound_ends_an_answer_that_is_being_restored_and_passes_otherwise() -> None:
    long = b"data: " + b"x" * (17 * 1024 * 1024)

    restoring, passing = opened(WordTokens(JO).restore), opened(None)

    with pytest.raises(MalformedAnswerError, match="bound"):
        restoring.feed(said("a") + long)
    assert restoring.break_off("aegis_x", "y").startswith(said("a"))
    assert passing.feed(said("a") + long) == said("a") + long
    assert passing.feed(b"tail") == b"tail"
    assert passing.break_off("aegis_x", "y").startswith(b"\n\ndata: ")


def refuse_secret(channel: Channel, piece: str, last: bool) -> str | Deny:
    return Deny(ResultCode.INVALID_ANSWER, 403, "aegis_no", "no") if "secret" in piece else piece


@pytest.mark.parametrize("cut", [1, 50, 10_000])
def test_refusal_in_midstream_keeps_what_was_released_and_ends_in_an_error(cut: int) -> None:
    stream = said("fine", "secret", "later") + DONE
    answer = opened(refuse_secret)
    released = b""

    with pytest.raises(AnswerRefusedError) as caught:  # noqa: PT012  # which of the reads raises differs
        for at in range(0, len(stream), cut):
            released += answer.feed(stream[at : at + cut])
    released += answer.break_off(caught.value.deny.code, caught.value.deny.message)

    assert released == said("fine") + (
        b'data: {"error":{"message":"no","type":"server_error","param":null,"code":"aegis_no"}}\n\n'
    )


def test_t18_death_in_midstream_is_told_at_an_event_border_and_drops_what_was_held() -> None:
    for restore in (WordTokens(JO).restore, None):
        answer = opened(restore)
        released = answer.feed(said("a [T") + said("1")[:30])

        told = [data for _, data in events(released + answer.break_off("upstream_failed", "broke off"))]

        assert json.loads(told[-1])["error"]["code"] == "upstream_failed"
        assert all(json.loads(data) for data in told)
        assert len(told) == 2


def test_t26_usage_chunk_and_unknown_members_pass_untouched() -> None:
    usage = b'data: {"id":"c1","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2},"x":1.0e3}\n\n'
    stream = said("[T1]") + chunk({}, "stop") + usage + DONE

    assert restored(stream, JO).endswith(usage + DONE)


@pytest.mark.parametrize("restore", [WordTokens(JO).restore, None])
def test_t29_upstream_error_in_a_stream_is_noted_and_loses_the_key_it_quotes(restore: Restore | None) -> None:
    answer = opened(restore)
    error = b'data: {"error":{"message":"Incorrect API key: sk-proj-abcdefgh12345678XYZ"}}\n\n'

    client = read(answer, [said("a"), error])

    assert answer.observed.upstream_error
    assert client == said("a") + b'data: {"error":{"message":"Incorrect API key: sk-***"}}\n\n'


def test_t29_error_in_a_body_or_in_a_last_event_without_its_empty_line_loses_its_key_too() -> None:
    error = b'{"error":{"message":"Incorrect API key: sk-proj-abcdefgh12345678XYZ"}}'

    body = read(CHAT.answer("application/json", WordTokens(JO).restore), [error])
    event = read(opened(None), [b"data: " + error])

    assert body == event.removeprefix(b"data: ") == b'{"error":{"message":"Incorrect API key: sk-***"}}'


def test_error_that_is_null_is_no_error() -> None:
    answer = opened(WordTokens(JO).restore)

    read(answer, [b'data: {"error":null,"choices":[]}\n\n'])

    assert not answer.observed.upstream_error


def test_data_on_several_lines_is_edited_on_the_line_where_its_text_stands() -> None:
    stream = b'event: m\ndata: {"choices":[{"index":0,\ndata:"delta":{"content":"[T1]"}\ndata:  }]}\nid: 4\n\n'

    assert restored(stream, "x") == stream.replace(b"[T1]", b"x")


def test_content_in_parts_is_restored() -> None:
    stream = chunk({"content": [{"type": "text", "text": "[T1"}]}) + chunk({"content": [{"type": "text", "text": "]"}]})

    assert b'"text": "", ' not in restored(stream, JO)
    assert json.dumps(JO, ensure_ascii=False).encode() in restored(stream, JO)


def test_padding_that_changes_with_every_chunk_does_not_hide_text() -> None:
    def padded(text: str, padding: str) -> bytes:
        return chunk({"content": text}, obfuscation=padding)

    stream = padded("[T1] a", "xyz") + padded("[T1] b", "q") + padded("[T1] c", '","choices":[]"')
    stream += padded("[T1]", "") + padded("[T1]", 'x","a":"b') + DONE

    assert restored(stream, "Jo") == stream.replace(b"[T1]", b"Jo")


def test_event_that_only_looks_like_the_ones_before_is_read_anew() -> None:
    hidden = said("a")[:-6] + b', "choices": [{"index":0,"delta":{"content":"[T1]"}}]}\n\n'

    with pytest.raises(MalformedAnswerError):
        restored(said("a", "b") + hidden, JO)


def test_t15_citations_count_characters_of_the_restored_text() -> None:
    def citation(start: int, end: int) -> dict[str, Any]:
        return {"type": "url_citation", "url_citation": {"start_index": start, "end_index": end, "title": "On [T1]"}}

    text = "Dear [T1], see here. [T1] (it) and [T1]"
    ranges = [(0, 4), (5, 9), (15, 19), (21, 25), (26, 30), (35, 39)]
    expected = [text[start:end].replace("[T1]", "Jonathan") for start, end in ranges]
    whole = text.replace("[T1]", "Jonathan")
    for size in (1, 3, 7, 100):
        stream = said(*(text[at : at + size] for at in range(0, len(text), size)), " ")
        stream += chunk({"annotations": [citation(*pair) for pair in ranges]}) + DONE

        client = restored(stream, "Jonathan")

        told = json.loads(next(data for _, data in events(client) if "url_citation" in data))
        cited = [item["url_citation"] for item in told["choices"][0]["delta"]["annotations"]]
        if size < 9:
            assert [whole[item["start_index"] : item["end_index"]] for item in cited] == expected
        assert all(item["title"] == "On Jonathan" for item in cited)

    message = {"content": text, "annotations": [citation(*pair) for pair in ranges]}
    body = json.dumps({"choices": [{"index": 0, "message": message}]}).encode()
    answer = json.loads(read(CHAT.answer("application/json", WordTokens("Jonathan").restore), [body]))
    cited = [item["url_citation"] for item in answer["choices"][0]["message"]["annotations"]]
    assert [whole[item["start_index"] : item["end_index"]] for item in cited] == expected


# --- bodies ---


@given(FRAGMENTS.map("".join), FRAGMENTS.map("".join), st.integers(1, 40))
def test_t16_enforcement_is_the_same_for_a_body_as_for_a_stream(text: str, arguments: str, cut: int) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    message = {"role": "assistant", "content": text, "tool_calls": [call]}
    body = json.dumps({"id": "c1", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
    pieces = [body[at : at + cut] for at in range(0, len(body), cut)]
    deltas = [chunk({"content": text[at : at + 2]}) for at in range(0, len(text), 2)]
    deltas += [chunk(delta("args0", arguments[at : at + 2])) for at in range(0, len(arguments), 2)]

    whole = json.loads(read(CHAT.answer("application/json", WordTokens(JO).restore), pieces))
    streamed = chat_texts(restored(b"".join(deltas) + chunk({}, "stop") + DONE, JO))

    told = whole["choices"][0]["message"]
    assert told["content"] == streamed.get("0.content", "")
    assert told["tool_calls"][0]["function"]["arguments"] == streamed.get("0.tool_calls.0", "")


def test_t7_restored_arguments_still_parse() -> None:
    call = {"index": 0, "function": {"name": "f", "arguments": '{"to":"[T1]","n":[1.0,"\\"[T1]\\""]}'}}
    body = json.dumps({"choices": [{"message": {"tool_calls": [call]}}]}).encode()

    answer = json.loads(read(CHAT.answer("application/json", WordTokens(JO).restore), [body]))

    arguments = answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"to": JO, "n": [1.0, f'"{JO}"']}


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b'{"a":1,"a":2}', b"<html>", b"data: {}\n\n"])
@pytest.mark.parametrize("content_type", ["application/json", "text/html", ""])
def test_body_that_must_be_restored_and_cannot_be_read_is_refused(body: bytes, content_type: str) -> None:
    with pytest.raises(MalformedAnswerError):
        read(CHAT.answer(content_type, WordTokens(JO).restore), [body])

    assert read(CHAT.answer(content_type, None), [body]) == body


def test_body_that_a_policy_refuses_releases_nothing() -> None:
    answer = CHAT.answer("application/json", refuse_secret)
    assert answer.feed(b'{"choices":[{"message":{"content":"secret"}}]}') == b""

    with pytest.raises(AnswerRefusedError):
        answer.close()
    assert answer.break_off("aegis_no", "no") == b""


def test_long_body_without_policy_passes_unobserved_and_unkept() -> None:
    answer = CHAT.answer("application/json", None)
    body = json.dumps({"usage": {"prompt_tokens": 3}, "x": "y" * 2_000_000}).encode()

    assert read(answer, [body[:1_500_000], body[1_500_000:]]) == body
    assert answer.observed.input_tokens is None
    assert answer.observed.finished


def test_content_of_a_body_in_parts_is_restored_part_by_part() -> None:
    parts = [{"type": "text", "text": "[T1] ["}, {"type": "text", "text": "T1] [T1]"}]
    body = json.dumps({"choices": [{"message": {"content": parts}}]}).encode()

    answer = json.loads(read(CHAT.answer("application/json", WordTokens("Jo").restore), [body]))

    assert [part["text"] for part in answer["choices"][0]["message"]["content"]] == ["Jo [", "T1] Jo"]


def test_two_choices_of_one_index_end_an_answer_that_is_being_restored() -> None:
    body = json.dumps({"choices": [{"index": 0, "message": {"content": text}} for text in "ab"]}).encode()

    with pytest.raises(MalformedAnswerError, match="same"):
        read(CHAT.answer("application/json", WordTokens("Jo").restore), [body])
