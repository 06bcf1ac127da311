"""How an Anthropic message is restored on its way back."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.model import Channel, ChannelKind
from sidecar.dialects.anthropic_messages import AnthropicMessages
from sidecar.dialects.dialect import Answer, MalformedAnswerError, Restore
from tests.fakes.tokens import WordTokens
from tests.sidecar.dialects.wire import events, message_texts, read

MESSAGES = AnthropicMessages()
JO = 'Jo "J"\nDoe'


def event(kind: str, *, spaces: int = 0, ascii_only: bool = True, **members: Any) -> bytes:
    data = json.dumps({"type": kind, **members}, ensure_ascii=ascii_only)
    return f"event: {kind}\ndata: {data[:-1]}{' ' * spaces}}}\n\n".encode()


def start(index: int, **block: Any) -> bytes:
    return event("content_block_start", index=index, content_block=block)


def text_delta(index: int, text: str, **more: Any) -> bytes:
    return event("content_block_delta", index=index, delta={"type": "text_delta", "text": text}, **more)


def input_delta(index: int, text: str, **more: Any) -> bytes:
    return event("content_block_delta", index=index, delta={"type": "input_json_delta", "partial_json": text}, **more)


def stop(index: int) -> bytes:
    return event("content_block_stop", index=index)


STOP = event("message_stop")


def opened(restore: Restore | None) -> Answer:
    return MESSAGES.answer("text/event-stream", restore)


def restored(stream: bytes, *values: str) -> bytes:
    return read(opened(WordTokens(*values).restore), [stream])


FRAGMENTS = st.lists(st.sampled_from(["[T1]", "[T", "1", "]", "[", "T2]", "text", "é😀", '"\\', "\n", ""]), max_size=4)


@given(
    st.lists(st.tuples(st.integers(0, 3), FRAGMENTS.map("".join), st.integers(0, 3)), max_size=16),
    st.lists(st.integers(0, 3000), max_size=8),
    st.booleans(),
    st.booleans(),
)
def test_t5_every_block_is_restored_whatever_the_fragments_the_cuts_and_the_order(
    deltas: list[tuple[int, str, int]], cuts: list[int], ascii_only: bool, finish: bool
) -> None:
    """Blocks 0 and 1 are text, 2 and 3 are tool calls."""
    stream = start(0, type="text", text="") + start(1, type="text", text="[T")
    stream += b"".join(start(index, type="tool_use", id="t", name="f", input={}) for index in (2, 3))
    for index, text, spaces in deltas:
        write = text_delta if index < 2 else input_delta
        stream += write(index, text, spaces=spaces, ascii_only=ascii_only)
    if finish:
        stream += b"".join(map(stop, (3, 1, 0, 2))) + STOP
    expected = {
        index: text.replace("[T1]", JO if index < 2 else json.dumps(JO)[1:-1])
        for index, text in message_texts(stream).items()
    }
    borders = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]

    client = read(opened(WordTokens(JO).restore), [stream[a:b] for a, b in pairwise(borders)])

    assert message_texts(client) == expected
    assert client == restored(stream, JO)


def test_held_text_goes_out_in_one_more_delta_before_its_block_stops() -> None:
    stream = start(0, type="text", text="") + text_delta(0, "a [T") + stop(0)

    assert restored(stream, JO) == start(0, type="text", text="") + text_delta(0, "a ") + (
        b"event: content_block_delta\n"
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"[T"}}\n\n'
    ) + stop(0)


@pytest.mark.parametrize("end", [STOP, b"", event("error", error={"type": "overloaded_error", "message": "x"})])
def test_held_text_goes_out_at_the_end_even_if_its_block_never_stopped(end: bytes) -> None:
    stream = start(0, type="tool_use", id="t", name="f", input={}) + input_delta(0, '{"a":"[T')

    client = restored(stream + end, JO)

    assert client.endswith(end)
    assert '"partial_json":"[T"' in client.decode()


def test_t13_thinking_and_signatures_pass_byte_for_byte() -> None:
    stream = start(0, type="thinking", thinking="[T1]", signature="")
    stream += event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "[T1]"})
    stream += event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "[T1]"})
    stream += stop(0) + start(1, type="redacted_thinking", data="[T1]") + stop(1)

    assert restored(stream, JO) == stream


def test_channels_are_blocks_and_know_their_tool() -> None:
    tokens = WordTokens(JO)
    stream = start(0, type="text", text="x") + start(1, type="server_tool_use", id="t", name="bash", input={"c": "ls"})
    stream += start(2, type="tool_use", id="t", name="mail", input={}) + input_delta(2, "{}") + stop(2) + stop(0)

    read(opened(tokens.restore), [stream])

    assert tokens.seen == [
        (Channel(ChannelKind.TEXT, 0), "x", False),
        (Channel(ChannelKind.TOOL_VALUE, 1, 1, "bash"), "ls", True),
        (Channel(ChannelKind.TOOL_ARGUMENTS, 2, 0, "mail"), "{}", False),
        (Channel(ChannelKind.TOOL_ARGUMENTS, 2, 0, "mail"), "", True),
        (Channel(ChannelKind.TEXT, 0), "", True),
    ]


def test_citations_and_results_of_server_tools_are_restored_but_no_url() -> None:
    citation = {"type": "web_search_result_location", "cited_text": "[T1]", "url": "https://[T1]", "title": "[T1]"}
    result = {"type": "web_search_result", "title": "[T1]", "url": "https://[T1]", "encrypted_content": "[T1]"}
    stream = event("content_block_delta", index=0, delta={"type": "citations_delta", "citation": citation})
    stream += start(1, type="web_search_tool_result", tool_use_id="[T1]", content=[result])
    stream += event("message_delta", delta={"stop_reason": "refusal", "stop_details": {"explanation": "[T1]"}})

    client = restored(stream, "Jo").decode()

    assert client.count("Jo") == 4
    assert client.count("[T1]") == 4


def test_padding_spaces_do_not_hide_text() -> None:
    stream = b"".join(text_delta(0, "[T1]", spaces=spaces) for spaces in (0, 5, 0, 11)) + stop(0)

    assert restored(stream, "Jo") == stream.replace(b"[T1]", b"Jo")


def test_t17_unreadable_data_ends_an_answer_that_is_being_restored() -> None:
    for line in (b"{", b'"text"', b'{"type":"ping","type":"content_block_delta"}', b"[DONE]"):
        with pytest.raises(MalformedAnswerError):
            opened(WordTokens(JO).restore).feed(b"event: x\ndata: " + line + b"\n\n")


def test_t18_death_in_midstream_ends_in_an_error_event_and_no_message_stop() -> None:
    answer = opened(WordTokens(JO).restore)
    released = answer.feed(start(0, type="text", text="") + text_delta(0, "a [T"))

    told = list(events(released + answer.break_off("upstream_failed", "broke off")))

    assert told[-1] == (
        "error",
        '{"type":"error","error":{"type":"api_error","message":"broke off (upstream_failed)"},"request_id":""}',
    )
    assert [name for name, _ in told] == ["content_block_start", "content_block_delta", "error"]


@pytest.mark.parametrize("restore", [WordTokens(JO).restore, None])
def test_t29_upstream_error_in_a_stream_is_noted_and_loses_the_key_it_quotes(restore: Restore | None) -> None:
    answer = opened(restore)

    client = read(answer, [event("error", error={"type": "x", "message": "bad x-api-key sk-ant-api03-AbCdEf012345"})])

    assert answer.observed.upstream_error
    assert b"bad x-api-key sk-***" in client
    assert b"AbCdEf" not in client


def test_t7_whole_input_object_is_restored_to_every_leaf_and_name() -> None:
    block = {"type": "tool_use", "id": "[T1]", "name": "f", "input": {"[T1]": ["x[T1]", 1.0, None]}}
    body = json.dumps({"content": [block], "stop_reason": "tool_use"}).encode()

    answer = json.loads(read(MESSAGES.answer("application/json", WordTokens(JO).restore), [body]))

    assert answer["content"][0] == {**block, "input": {JO: ["x" + JO, 1.0, None]}}


def test_token_counts_pass_unread_and_are_noted() -> None:
    answer = AnthropicMessages(counts_only=True).answer("application/json", WordTokens(JO).restore)

    assert read(answer, [b'{"input_tokens":', b"42}"]) == b'{"input_tokens":42}'
    assert answer.observed.input_tokens == 42


@pytest.mark.parametrize("kind", [[], {}, None, 7])
def test_block_whose_type_is_no_name_is_restored_like_an_unknown_one(kind: Any) -> None:
    stream = start(0, type=kind, text="[T1]") + stop(0)
    body = json.dumps({"content": [{"type": kind, "text": "[T1]"}]}).encode()

    assert restored(stream, "Jo") == stream.replace(b"[T1]", b"Jo")
    assert read(MESSAGES.answer("application/json", WordTokens("Jo").restore), [body]) == body.replace(b"[T1]", b"Jo")


NOTE = "Jonathan fell. Zoë saw Jonathan fall. Jonathan is well, Zoë too."
LEFT = NOTE.replace("Jonathan", "[T1]").replace("Zoë", "[T2]")


@pytest.mark.parametrize("is_stream", [False, True])
def test_t15_citations_count_characters_of_the_document_that_the_application_sent(is_stream: bool) -> None:
    def document(text: str) -> dict[str, Any]:
        return {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": text}}

    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}}
    messages = [{"role": "user", "content": [document("unchanged"), pdf, document(NOTE)]}]
    prompt = MESSAGES.read(json.dumps({"messages": messages}).encode())
    tokens = WordTokens("Jonathan", "Zoë")
    verdict = tokens.redact(prompt.segments)
    quotes = [(0, 10), (16, 35), (16, 20), (37, 41), (42, 49), (51, 55)]
    citations = [
        {
            "type": "char_location",
            "cited_text": LEFT[start:end],
            "document_index": 2,
            "start_char_index": start,
            "end_char_index": end,
        }
        for start, end in [(at, min(to, len(LEFT))) for at, to in quotes]
    ]
    citations.append({**citations[0], "document_index": 0, "cited_text": "unchanged"})
    citations.append({**citations[0], "cited_text": "not what stands there"})
    block = {"type": "text", "text": "x", "citations": citations}
    body = json.dumps({"content": [block]}).encode()
    stream = b"".join(
        event("content_block_delta", index=0, delta={"type": "citations_delta", "citation": citation})
        for citation in citations
    )

    answer = MESSAGES.answer(
        "text/event-stream" if is_stream else "application/json", tokens.restore, prompt.cited(verdict)
    )
    client = read(answer, [stream if is_stream else body])

    if is_stream:
        told = [json.loads(data)["delta"]["citation"] for _, data in events(client)]
    else:
        told = json.loads(client)["content"][0]["citations"]
    for citation in told[: len(quotes)]:
        assert NOTE[citation["start_char_index"] : citation["end_char_index"]] == citation["cited_text"]
    starts = [citation["start_char_index"] for citation in told]
    assert starts == [*sorted(starts[: len(quotes)]), 0, 0]
    assert [citation["end_char_index"] for citation in told[-2:]] == [10, 10]


def test_prompt_without_changed_documents_needs_no_places() -> None:
    prompt = MESSAGES.read(b'{"messages":[{"role":"user","content":"Jo"}]}')

    assert prompt.cited(WordTokens("Jo").redact(prompt.segments)) is None
    assert prompt.cited(WordTokens().redact(prompt.segments)) is None
