"""What of an OpenAI chat completion request is text, whose, and how it is rewritten."""

import json
from typing import Any

import pytest

from policies.model import FORWARD_UNCHANGED, Forward, Nested, Path, Role, UnreadablePart
from sidecar.dialects.dialect import MalformedBodyError
from sidecar.dialects.openai_chat import OpenAIChat
from tests.fakes.tokens import WordTokens

CHAT = OpenAIChat()


def body(*messages: Any, **more: Any) -> bytes:
    return json.dumps({"model": "gpt-4o", "messages": list(messages), **more}).encode()


def texts(request: bytes) -> dict[Path, tuple[Role, str]]:
    return {segment.path: (segment.role, segment.text) for segment in CHAT.read(request).segments}


def test_every_party_is_heard_in_document_order() -> None:
    found = CHAT.read(
        body(
            {"role": "system", "content": "s"},
            {"role": "developer", "content": "d"},
            {"role": "user", "content": [{"type": "text", "text": "u"}], "name": "Jo"},
            {"role": "assistant", "content": "a", "refusal": "r"},
            {"role": "tool", "tool_call_id": "call_1", "content": "t"},
            {"role": "stranger", "content": "x"},
        )
    ).segments

    assert [(s.path[1:], s.role, s.text) for s in found] == [
        ((0, "content"), Role.SYSTEM, "s"),
        ((1, "content"), Role.SYSTEM, "d"),
        ((2, "content", 0, "text"), Role.USER, "u"),
        ((2, "name"), Role.USER, "Jo"),
        ((3, "content"), Role.ASSISTANT, "a"),
        ((3, "refusal"), Role.ASSISTANT, "r"),
        ((4, "content"), Role.TOOL, "t"),
        ((5, "content"), Role.USER, "x"),
    ]


def test_t8_history_tool_arguments_are_read_as_the_document_they_are() -> None:
    arguments = json.dumps({"patient": {"name": "Zoë", "mrn": 12345678, "n": 3}, "Jo Doe": ["x"], "ok": True})
    call = {"id": "call_1", "type": "function", "function": {"name": "lookup", "arguments": arguments}}
    base = ("messages", 0, "tool_calls", 0, "function", "arguments", Nested.DOCUMENT)

    assert texts(body({"role": "assistant", "content": None, "tool_calls": [call]})) == {
        (*base, "patient", "name"): (Role.ASSISTANT, "Zoë"),
        (*base, "patient", "mrn"): (Role.ASSISTANT, "12345678"),
        (*base, "Jo Doe", Nested.KEY): (Role.ASSISTANT, "Jo Doe"),
        (*base, "Jo Doe", 0): (Role.ASSISTANT, "x"),
    }


def test_answer_of_the_sdk_sent_back_with_all_its_nulls_is_plain_text() -> None:
    message = {"role": "assistant", "content": "a", "audio": None, "function_call": None, "tool_calls": None}

    prompt = CHAT.read(body({**message, "refusal": None, "annotations": []}))

    assert [segment.text for segment in prompt.segments] == ["a"]
    assert not prompt.unreadable


@pytest.mark.parametrize("arguments", ['{"cut": "off', "", "plain", "7", '"text"', "{'a':1}"])
def test_arguments_that_are_no_document_are_one_plain_text(arguments: str) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}

    assert [text for _, text in texts(body({"role": "assistant", "tool_calls": [call]})).values()] == [arguments]


def test_arguments_that_two_parsers_read_differently_are_refused() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":"x","a":"y"}'}}

    with pytest.raises(MalformedBodyError, match="same name"):
        CHAT.read(body({"role": "assistant", "tool_calls": [call]}))


def test_custom_tools_and_the_legacy_function_call_are_read() -> None:
    custom = {"id": "c", "type": "custom", "custom": {"name": "shell", "input": "cat jo.txt"}}
    legacy = {"name": "f", "arguments": '{"who":"Jo"}'}

    found = texts(body({"role": "assistant", "tool_calls": [custom], "function_call": legacy}))

    assert [text for _, text in found.values()] == ["cat jo.txt", "Jo"]


def test_everything_around_the_messages_is_other_text() -> None:
    request = body(
        tools=[
            {
                "type": "function",
                "function": {
                    "name": "lookup",
                    "description": "of Dr Jo",
                    "parameters": {"type": "object", "properties": {"x": {"type": "string", "enum": ["Jo"]}}},
                },
            }
        ],
        response_format={"type": "json_schema", "json_schema": {"schema": {"description": "for Jo"}}},
        prediction={"type": "content", "content": "predicted"},
        stop=["Jo:"],
        metadata={"case": "Jo", "jo@example.org": "1"},
        user="jo-1",
        safety_identifier="jo-2",
        prompt_cache_key="jo-3",
        web_search_options={"user_location": {"type": "approximate", "approximate": {"city": "Joville"}}},
        invented_tomorrow={"deep": ["new text"]},
        Messages=[{"role": "user", "content": "for a parser that ignores case"}],
        tool_choice={"type": "function", "function": {"name": "lookup"}},
        logit_bias={"50256": -100},
    )

    assert [text for _, text in texts(request).values()] == [
        "of Dr Jo",
        "Jo",
        "for Jo",
        "predicted",
        "Jo:",
        "Jo",
        "jo@example.org",
        "1",
        "jo-1",
        "jo-2",
        "jo-3",
        "Joville",
        "new text",
        "for a parser that ignores case",
    ]


def test_t14_media_are_counted_as_unreadable_and_their_bytes_are_no_text() -> None:
    prompt = CHAT.read(
        body(
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
                    {"type": "image_url", "image_url": {"url": "https://h/patients/jo.png"}},
                    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                    {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "jo.pdf"}},
                    {"type": "file", "file": {"file_id": "file-1"}},
                ],
            },
            {"role": "assistant", "audio": {"id": "audio_1"}},
        )
    )

    assert prompt.unreadable == {UnreadablePart.IMAGE: 2, UnreadablePart.AUDIO: 2, UnreadablePart.FILE: 2}
    assert [segment.text for segment in prompt.segments] == ["https://h/patients/jo.png", "jo.pdf"]


@pytest.mark.parametrize(
    "request_body",
    [
        b'{"messages":"text instead of a list"}',
        b'{"messages":["text instead of a message"]}',
        b'{"messages":[{"role":"user","content":{"text":"object instead of a list"}}]}',
        b'{"messages":[{"role":["user"],"content":["string instead of a part"]}]}',
        b'{"messages":[{"role":"user","content":[{"type":["text"],"text":"list as type"}]}]}',
        b'{"messages":[{"role":"user","content":[{"type":"image_url","image_url":"string instead of object"}]}]}',
        b'{"messages":[{"role":"assistant","tool_calls":{"function":{"arguments":"object instead of list"}}}]}',
        b'{"messages":[{"role":"assistant","tool_calls":[{"function":"string instead of object"}]}]}',
        b'{"messages":[{"role":"assistant","tool_calls":["string instead of a call"]}]}',
        b'{"messages":[{"role":"assistant","audio":"string instead of object"}]}',
        b'{"messages":[{"role":"user","content":[{"type":"file","file":{"file_data":{"x":"object"}}}]}]}',
    ],
)
def test_text_in_unexpected_shapes_is_read_all_the_same(request_body: bytes) -> None:
    assert any("instead" in s.text or "object" in s.text or "list" in s.text for s in CHAT.read(request_body).segments)


@pytest.mark.parametrize("request_body", [b"", b"[]", b'"x"', b'{"a":1,"a":2}', b"\xff", b"model=gpt", b"\x1f\x8b"])
def test_what_is_no_unambiguous_object_is_refused(request_body: bytes) -> None:
    with pytest.raises(MalformedBodyError):
        CHAT.read(request_body)


def test_t1_unchanged_request_is_the_very_bytes_that_came() -> None:
    request = b'{ "messages":[{"role":"user","content":"na\\u00efve"}],"temperature":1.0,"seed":1e3,"new":{"x":[]} }'

    assert CHAT.read(request).rewrite(FORWARD_UNCHANGED) is request
    assert CHAT.read(request).rewrite(Forward()) is request


def test_t1_redacted_request_differs_in_the_redacted_strings_only() -> None:
    request = (
        b'{ "temperature" : 1.0, "messages":[\n {"role":"user","content":"I am Jo"},'
        b'{"role":"assistant","tool_calls":[{"function":{'
        b'"arguments":"{\\"who\\": \\"Jo\\", \\"n\\":1.50}"}}]}],"k":1e3}'
    )
    prompt = CHAT.read(request)

    assert prompt.rewrite(WordTokens("Jo").redact(prompt.segments)) == (
        b'{ "temperature" : 1.0, "messages":[\n {"role":"user","content":"I am [T1]"},'
        b'{"role":"assistant","tool_calls":[{"function":{'
        b'"arguments":"{\\"who\\": \\"[T1]\\", \\"n\\":1.50}"}}]}],"k":1e3}'
    )


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (b"[]", b'[{"role":"system","content":"P\\""}]'),
        (
            b'[ {"role":"user","content":"Jo"}]',
            b'[{"role":"system","content":"P\\""}, {"role":"user","content":"[T1]"}]',
        ),
        (b'[{"role":"system","content":"for Jo"}]', b'[{"role":"system","content":"P\\"\\n\\nfor [T1]"}]'),
        (
            b'[{"role":"developer","content":[ {"type":"text","text":"Jo"}]}]',
            b'[{"role":"developer","content":[{"type":"text","text":"P\\""}, {"type":"text","text":"[T1]"}]}]',
        ),
        (b'[{"role":"system","content":[]}]', b'[{"role":"system","content":[{"type":"text","text":"P\\""}]}]'),
        (
            b'[{"role":"system","content":null}]',
            b'[{"role":"system","content":"P\\""},{"role":"system","content":null}]',
        ),
        (b'"Jo"', b'"[T1]"'),
    ],
)
def test_system_prompt_stands_before_every_other_instruction(messages: bytes, expected: bytes) -> None:
    prompt = CHAT.read(b'{"n" : 1.0,"messages":' + messages + b',"z":1e3}')
    edits = WordTokens("Jo").redact(prompt.segments).edits

    assert prompt.rewrite(Forward(edits, system_prompt='P"')) == b'{"n" : 1.0,"messages":' + expected + b',"z":1e3}'


def test_model_and_stream_are_told() -> None:
    prompt = CHAT.read(b'{"model":"gpt-4o","stream":true,"messages":[]}')

    assert (prompt.model, prompt.stream) == ("gpt-4o", True)
    assert (CHAT.read(b"{}").model, CHAT.read(b'{"stream":"true","model":7}').stream) == ("", False)
