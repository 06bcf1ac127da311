"""What of an Anthropic messages request is text, whose, and how it is rewritten."""

import json
from typing import Any

import pytest

from policies.model import FORWARD_UNCHANGED, Forward, Nested, Path, Role, UnreadablePart
from sidecar.dialects.anthropic_messages import AnthropicMessages
from sidecar.dialects.dialect import MalformedBodyError
from tests.fakes.tokens import WordTokens

MESSAGES = AnthropicMessages()


def body(*blocks: Any, role: str = "user", **more: Any) -> bytes:
    message = {"role": role, "content": list(blocks)}
    return json.dumps({"model": "claude", "max_tokens": 9, "messages": [message], **more}).encode()


def texts(request: bytes) -> dict[Path, tuple[Role, str]]:
    return {segment.path: (segment.role, segment.text) for segment in MESSAGES.read(request).segments}


def in_block(request: bytes) -> dict[Path, tuple[Role, str]]:
    return {path[4:]: value for path, value in texts(request).items() if path[0] == "messages"}


def test_every_party_is_heard_in_document_order() -> None:
    request = {
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": "u"},
            {"role": "assistant", "content": [{"type": "text", "text": "a"}]},
            {"role": "system", "content": "mid"},
            {"role": "stranger", "content": "x"},
        ],
        "stop_sequences": ["Jo:"],
        "metadata": {"user_id": "jo-1"},
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object", "title": "t"}}],
        "invented_tomorrow": "new",
    }

    found = MESSAGES.read(json.dumps(request).encode()).segments

    assert [(s.role, s.text) for s in found] == [
        (Role.SYSTEM, "s"),
        (Role.USER, "u"),
        (Role.ASSISTANT, "a"),
        (Role.SYSTEM, "mid"),
        (Role.USER, "x"),
        (Role.OTHER, "Jo:"),
        (Role.OTHER, "jo-1"),
        (Role.OTHER, "d"),
        (Role.OTHER, "t"),
        (Role.OTHER, "new"),
    ]


def test_t8_tool_use_input_is_read_to_every_leaf_and_telling_name() -> None:
    given = {"id": "Jo", "type": "x", "Jo Doe": {"mrn": 12345678, "n": 7}, "data": "y", "signature": "z"}
    block = {"type": "tool_use", "id": "toolu_1", "name": "mail", "input": given}

    assert in_block(body(block, role="assistant")) == {
        ("input", "id"): (Role.ASSISTANT, "Jo"),
        ("input", "type"): (Role.ASSISTANT, "x"),
        ("input", "Jo Doe", Nested.KEY): (Role.ASSISTANT, "Jo Doe"),
        ("input", "Jo Doe", "mrn"): (Role.ASSISTANT, "12345678"),
        ("input", "data"): (Role.ASSISTANT, "y"),
        ("input", "signature"): (Role.ASSISTANT, "z"),
    }


def test_t13_what_stands_beside_signed_bytes_is_text() -> None:
    block = {"type": "thinking", "thinking": "sealed", "signature": "x", "note": "Jo"}
    unsigned = {"type": "thinking", "thinking": "Jo too"}

    assert [text for _, text in texts(body(block, unsigned)).values()] == ["Jo", "Jo too"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("r", {("content",): "r"}),
        ([{"type": "text", "text": "r"}], {("content", 0, "text"): "r"}),
        (
            [{"type": "search_result", "title": "t", "source": "u", "content": [{"type": "text", "text": "c"}]}],
            {("content", 0, "title"): "t", ("content", 0, "source"): "u", ("content", 0, "content", 0, "text"): "c"},
        ),
        ({"type": "bash_code_execution_result", "stdout": "o"}, {("content", "stdout"): "o"}),
    ],
)
def test_t8_tool_results_are_said_by_tools(content: Any, expected: dict[Path, str]) -> None:
    block = {"type": "tool_result", "tool_use_id": "toolu_1", "content": content, "is_error": False}

    assert in_block(body(block)) == {path: (Role.TOOL, text) for path, text in expected.items()}


def test_t13_signed_and_encrypted_bytes_are_no_text() -> None:
    request = body(
        {"type": "thinking", "thinking": "of Jo", "signature": "Jo=="},
        {"type": "redacted_thinking", "data": "Jo=="},
        {"type": "text", "text": "Jo", "cache_control": {"type": "ephemeral", "ttl": "5m"}},
        {
            "type": "web_search_tool_result",
            "tool_use_id": "srvtoolu_1",
            "content": [{"type": "web_search_result", "title": "Jo", "encrypted_content": "Jo==", "page_age": None}],
        },
        role="assistant",
    )
    prompt = MESSAGES.read(request)

    rewritten = prompt.rewrite(WordTokens("Jo").redact(prompt.segments))

    assert rewritten == request.replace(b'"text": "Jo"', b'"text": "[T1]"').replace(
        b'"title": "Jo"', b'"title": "[T1]"'
    )


def test_t14_media_are_counted_as_unreadable_and_text_documents_are_read() -> None:
    prompt = MESSAGES.read(
        body(
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
            {"type": "image", "source": {"type": "url", "url": "https://h/jo.png"}},
            {
                "type": "document",
                "title": "t",
                "context": "c",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"},
            },
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "note"}},
            {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "part"}]}},
            {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
            {"type": "hologram", "source": {"type": "base64", "data": "AAAA"}},
            {
                "type": "tool_result",
                "content": [{"type": "image", "source": {"type": "base64", "data": "AAAA"}}],
            },
        )
    )

    assert prompt.unreadable == {UnreadablePart.IMAGE: 3, UnreadablePart.FILE: 3}
    assert [s.text for s in prompt.segments] == ["https://h/jo.png", "t", "c", "note", "part"]


@pytest.mark.parametrize(
    "request_body",
    [
        b'{"messages":"string instead of a list"}',
        b'{"messages":["string instead of a message"]}',
        b'{"messages":[{"role":"user","content":{"type":"text","text":"object instead of a list"}}]}',
        b'{"messages":[{"role":"user","content":["string instead of a block"]}]}',
        b'{"messages":[{"role":"user","content":[{"type":["text"],"text":"list instead of a type"}]}]}',
        b'{"messages":[{"role":"user","content":[{"type":"text","text":["list instead of a string"]}]}]}',
        b'{"messages":[{"role":{"x":"object instead of a role"},"content":[]}]}',
        b'{"messages":[{"role":"user","content":[{"type":"image","source":"string instead of an object"}]}]}',
        b'{"messages":[{"content":[{"type":"image","source":{"type":"base64","data":["list instead"]}}]}]}',
        b'{"messages":[{"role":"user","content":[{"type":"tool_use","input":"string instead of an object"}]}]}',
        b'{"system":{"text":"object instead of a string"}}',
        b'{"model":["list instead of a name"]}',
    ],
)
def test_text_in_unexpected_shapes_is_read_all_the_same(request_body: bytes) -> None:
    assert any("instead" in segment.text for segment in MESSAGES.read(request_body).segments)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"n" : 1.0}', b'{"system":"P\\"","n" : 1.0}'),
        (b"{}", b'{"system":"P\\""}'),
        (b'{"n":1.0, "system" : "for Jo"}', b'{"n":1.0, "system" : "P\\"\\n\\nfor [T1]"}'),
        (b'{"system":null,"n":1}', b'{"system":"P\\"","n":1}'),
        (b'{"system":[ ]}', b'{"system":[{"type":"text","text":"P\\""} ]}'),
        (
            b'{"system":[{"type":"text","text":"Jo","cache_control":{"type":"ephemeral"}}]}',
            (
                b'{"system":[{"type":"text","text":"P\\""},'
                b'{"type":"text","text":"[T1]","cache_control":{"type":"ephemeral"}}]}'
            ),
        ),
    ],
)
def test_system_prompt_stands_before_every_other_instruction(before: bytes, after: bytes) -> None:
    prompt = MESSAGES.read(before)

    assert prompt.rewrite(Forward(WordTokens("Jo").redact(prompt.segments).edits, system_prompt='P"')) == after


def test_t1_unchanged_request_is_the_very_bytes_that_came() -> None:
    request = body({"type": "text", "text": "x"}, temperature=1.0)

    assert MESSAGES.read(request).rewrite(FORWARD_UNCHANGED) is request


def test_repeated_names_are_refused_wherever_they_stand() -> None:
    with pytest.raises(MalformedBodyError, match="same name"):
        MESSAGES.read(b'{"messages":[{"role":"user","content":"a","content":"b"}]}')
