"""What of a Responses request policies read, and what they may not touch."""

import json
from typing import Any

import pytest

from policies.model import Forward, Nested, Role, UnreadablePart
from sidecar.dialects.dialect import MalformedBodyError
from sidecar.dialects.openai_responses import OpenAIResponses
from tests.fakes.tokens import WordTokens

RESPONSES = OpenAIResponses()
JO = "Jo Doe"


def read(**body: Any) -> list[tuple[Any, Role, str]]:
    prompt = RESPONSES.read(json.dumps({"model": "gpt-4o", **body}).encode())
    return [(segment.path, segment.role, segment.text) for segment in prompt.segments]


def unreadable(*parts: Any) -> dict[UnreadablePart, int]:
    body = {"model": "m", "input": [{"role": "user", "content": list(parts)}]}
    return dict(RESPONSES.read(json.dumps(body).encode()).unreadable)


def test_input_and_instructions_are_text() -> None:
    """The fields that a hook for messages alone does not see."""
    assert read(input="I am Jo", instructions="Help") == [
        (("input",), Role.USER, "I am Jo"),
        (("instructions",), Role.SYSTEM, "Help"),
    ]


def test_t8_every_item_of_a_history_is_read_in_its_role() -> None:
    items = [
        {"role": "developer", "content": "be kind"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "I am Jo"}]},
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "hm"}],
            "encrypted_content": "x",
        },
        {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "find", "arguments": '{"who":"Jo","n":12345}'},
        {"type": "function_call_output", "call_id": "c", "output": "found Jo"},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "Jo"}]},
        {"type": "custom_tool_call", "call_id": "d", "name": "sh", "input": "echo Jo"},
        {"type": "shell_call", "call_id": "e", "action": {"commands": ["echo Jo"]}},
        {"type": "tool_search_call", "arguments": {"id": "Jo"}},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Hi Jo", "annotations": []}],
        },
        {"type": "unheard_of", "words": "Jo"},
        "Jo",
    ]

    found = read(input=items)

    assert [(role, text) for _, role, text in found] == [
        (Role.SYSTEM, "be kind"),
        (Role.USER, "I am Jo"),
        (Role.ASSISTANT, "hm"),
        (Role.ASSISTANT, "Jo"),
        (Role.ASSISTANT, "12345"),
        (Role.TOOL, "found Jo"),
        (Role.TOOL, "Jo"),
        (Role.ASSISTANT, "echo Jo"),
        (Role.ASSISTANT, "echo Jo"),
        (Role.ASSISTANT, "Jo"),
        (Role.ASSISTANT, "Hi Jo"),
        (Role.USER, "Jo"),
        (Role.USER, "Jo"),
    ]
    assert found[3][0] == ("input", 3, "arguments", Nested.DOCUMENT, "who")


def test_what_stands_beside_the_input_is_read_and_ids_are_not() -> None:
    found = read(
        input="x",
        user="jo@x",
        metadata={"id": "7"},
        tools=[{"type": "function", "name": "f", "description": "for Jo"}],
        prompt={"id": "pmpt_1", "variables": {"who": "Jo", "doc": {"type": "input_text", "text": "of Jo"}}},
        previous_response_id="resp_1",
        conversation="conv_1",
        reasoning={"effort": "low"},
        text={"format": {"type": "json_schema", "schema": {"description": "Jo's"}}},
    )

    assert {text for _, _, text in found} >= {"jo@x", "7", "for Jo", "Jo", "of Jo", "Jo's"}
    assert not {"resp_1", "conv_1", "low", "pmpt_1", "f", "gpt-4o"} & {text for _, _, text in found}


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ({"type": "input_image", "image_url": "data:image/png;base64,AAAA"}, UnreadablePart.IMAGE),
        ({"type": "input_image", "file_id": "file_1"}, UnreadablePart.IMAGE),
        (
            {"type": "input_file", "file_data": "data:application/pdf;base64,AA", "filename": "jo.pdf"},
            UnreadablePart.FILE,
        ),
        ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}, UnreadablePart.AUDIO),
    ],
)
def test_t14_media_are_counted(part: Any, kind: UnreadablePart) -> None:
    assert unreadable(part, {"type": "input_text", "text": "x"}) == {kind: 1}


def test_address_and_name_of_a_file_are_text() -> None:
    content = [
        {"type": "input_image", "image_url": "https://x/jo.png"},
        {"type": "input_file", "file_data": "AAAA", "filename": "jo.pdf"},
    ]

    assert [text for _, _, text in read(input=[{"role": "user", "content": content}])] == ["https://x/jo.png", "jo.pdf"]


def test_only_changed_strings_are_spliced() -> None:
    body = b'{ "model":"m", "input" : [{"role":"user","content":"I am Jo Doe"}], "x":1.0 }'
    prompt = RESPONSES.read(body)

    assert prompt.rewrite(WordTokens(JO).redact(prompt.segments)) == body.replace(b"Jo Doe", b"[T1]")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"input":"x"}', b'{"instructions":"P","input":"x"}'),
        (b"{}", b'{"instructions":"P"}'),
        (b'{"instructions":null,"input":"x"}', b'{"instructions":"P","input":"x"}'),
        (b'{"instructions":"Q","input":"x"}', b'{"instructions":"P\\n\\nQ","input":"x"}'),
        (b'{"instructions":[1],"input":"x"}', b'{"instructions":[1],"input":"x"}'),
    ],
)
def test_system_prompt_comes_before_every_instruction(body: bytes, expected: bytes) -> None:
    assert RESPONSES.read(body).rewrite(Forward({}, "P")) == expected


@pytest.mark.parametrize("body", [b"[]", b'{"input":"a","input":"b"}', b'{"input":"\\ud800"}'])
def test_what_cannot_be_read_with_certainty_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedBodyError):
        RESPONSES.read(body)
