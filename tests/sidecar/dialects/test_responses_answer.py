"""How an answer of the Responses API is restored on its way back."""

import json
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.model import ChannelKind
from sidecar.dialects.dialect import Answer, MalformedAnswerError
from sidecar.dialects.openai_responses import OpenAIResponses
from tests.fakes.cuts import cuts
from tests.fakes.responses import (
    Item,
    called,
    custom,
    refused,
    response,
    response_events,
    response_stream,
    said,
    thought,
    whole_item,
)
from tests.fakes.tokens import WordTokens
from tests.sidecar.dialects.wire import bytewise, events, read

RESPONSES = OpenAIResponses()
JO = 'Jo "J"\nDoe'
IN_JSON = json.dumps(JO)[1:-1]


def opened(*values: str) -> Answer:
    return RESPONSES.answer("text/event-stream", WordTokens(*values).restore)


def restored(stream: bytes, *values: str) -> bytes:
    return read(opened(*values), [stream])


def parsed(stream: bytes) -> list[dict[str, Any]]:
    """Every event. Checks names and numbers: the SDK resumes by them."""
    told = [(name, json.loads(data)) for name, data in events(stream)]
    assert [name for name, _ in told] == [event["type"] for _, event in told]
    assert [event["sequence_number"] for _, event in told] == list(range(len(told)))
    return [event for _, event in told]


def joined(told: list[dict[str, Any]]) -> dict[tuple[int, str], str]:
    """The deltas of each channel, joined as a client joins them."""
    texts: dict[tuple[int, str], str] = defaultdict(str)
    for event in told:
        stem, _, phase = event["type"].rpartition(".")
        if phase == "delta":
            texts[event.get("output_index", 0), stem.removeprefix("response.")] += event["delta"]
    return texts


def with_values(item: Item) -> Item:
    form, pieces = item
    value = IN_JSON if form["type"] == "function_call" else JO
    return form, ["".join(pieces).replace("[T1]", value)]


FRAGMENTS = st.lists(st.sampled_from(["[T1]", "[T", "1", "]", "[", "T2]", "text", "é😀", '"', "\n", ""]), max_size=6)
ITEMS = st.lists(
    st.builds(
        lambda make, pieces: make(*pieces),
        st.sampled_from(
            [said, refused, thought, lambda *pieces: called("f", *pieces), lambda *pieces: custom("g", *pieces)]
        ),
        FRAGMENTS,
    ),
    max_size=4,
)


@given(
    ITEMS,
    st.sampled_from(["completed", "incomplete", "failed"]),
    st.lists(st.integers(0, 9000), max_size=6),
    st.booleans(),
)
def test_t5_t7_deltas_their_end_and_every_whole_agree_wherever_the_stream_is_cut(
    items: list[Item], last: str, at: list[int], escape: bool
) -> None:
    stream = response_stream(items, last, ascii_only=escape)
    expected = [with_values(item) for item in items]

    client = restored(stream, JO)

    told = parsed(client)
    assert joined(told) == {
        key: text for key, text in joined([*response_events(expected, last)]).items() if text or key in joined(told)
    }
    for event, want in zip(
        [event for event in told if not event["type"].endswith(".delta")],
        [event for event in response_events(expected, last) if not event["type"].endswith(".delta")],
        strict=True,
    ):
        assert {name: value for name, value in event.items() if name != "sequence_number"} == want
    assert read(opened(JO), cuts(stream, at)) == client
    assert read(opened(JO), bytewise(stream)) == client


def test_t6_text_that_cannot_become_a_token_goes_out_at_once() -> None:
    answer = opened(JO)
    told = [
        f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
        for event in response_events([said("Dear ", "me")])
    ]

    for event in told:
        assert answer.feed(event) == event


def test_held_text_goes_out_before_its_end_and_the_numbers_move_up() -> None:
    client = restored(response_stream([said("see [T"), called("f", '{"a":"[T')]), JO)

    told = parsed(client)

    kinds = [event["type"].removeprefix("response.") for event in told]
    assert kinds.count("output_text.delta") == kinds.count("function_call_arguments.delta") == 2
    assert joined(told) == {(0, "output_text"): "see [T", (1, "function_call_arguments"): '{"a":"[T'}
    extra = told[kinds.index("output_text.done") - 1]
    assert extra == {
        "type": "response.output_text.delta",
        "item_id": "msg_1",
        "output_index": 0,
        "content_index": 0,
        "delta": "[T",
        "sequence_number": extra["sequence_number"],
    }


@pytest.mark.parametrize("cut_short", [False, True])
def test_numbers_go_on_behind_extra_events_wherever_the_stream_ends(cut_short: bool) -> None:
    stream = response_stream([said(*("word " * 30), "[T"), called("f", *'{"a": "[T'), said(*"so [T1] it is")])
    if cut_short:
        stream = stream[: stream.index(b'"delta":"1"')].rpartition(b"\n\n")[0] + b"\n\n"

    told = parsed(restored(stream, JO))

    assert [len(text) for text in joined(told).values()][:2] == [152, 9]
    assert joined(told)[2, "output_text"] == ("so [T" if cut_short else f"so {JO} it is")
    if not cut_short:
        assert told[-1]["response"]["output"][2]["content"][0]["text"] == f"so {JO} it is"


@pytest.mark.parametrize("number", ["01", "1.0", "-1", "true", "1e3"])
def test_number_in_another_spelling_is_no_shape_to_be_trusted(number: str) -> None:
    head = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta",'
    event = head + b'"sequence_number":%d,"delta":"%b"}\n\n'
    odd = event.replace(b"%d", number.encode()) % b"[T1]"
    answer = opened(JO)
    for count in range(4):
        answer.feed(event % (count, b"a"))

    if number == "01":
        with pytest.raises(MalformedAnswerError):
            answer.feed(odd)
    else:
        assert json.loads(next(events(answer.feed(odd)))[1])["delta"] == JO


def test_t13_reasoning_keeps_its_channel_and_its_sealed_form() -> None:
    kinds = set()

    def note(channel: Any, piece: str, _last: bool) -> str:
        if "[T1]" in piece:
            kinds.add(channel.kind)
        return piece

    client = read(RESPONSES.answer("text/event-stream", note), [response_stream([thought("of [T1]")])])

    assert kinds == {ChannelKind.REASONING}
    assert parsed(client)[-1]["response"]["output"][0]["encrypted_content"] == "gAAA[T1]"


def test_tools_are_known_by_name_in_deltas_and_in_every_whole() -> None:
    tools = set()

    def note(channel: Any, piece: str, _last: bool) -> str:
        if "[T1]" in piece:
            tools.add((channel.kind, channel.tool))
        return piece

    stream = response_stream([called("mail", '{"to":"[T1]"}'), custom("shell", "echo [T1]")])
    read(RESPONSES.answer("text/event-stream", note), [stream])
    read(RESPONSES.answer("application/json", note), [json.dumps(response([called("mail", '["[T1]"]')])).encode()])

    assert tools == {(ChannelKind.TOOL_ARGUMENTS, "mail"), (ChannelKind.TOOL_INPUT, "shell")}


def test_t15_citations_follow_the_text_they_count() -> None:
    text = "[T1] is here"
    cited = {"type": "url_citation", "start_index": 8, "end_index": 12, "title": "of [T1]", "url": "http://x/[T1]"}
    item = said(*text, annotations=[cited])
    added = {
        "type": "response.output_text.annotation.added",
        "output_index": 0,
        "content_index": 0,
        "annotation": cited,
    }
    told = list(response_events([item]))
    told.insert(-4, added)
    stream = b"".join(
        f"event: {event['type']}\ndata: {json.dumps({**event, 'sequence_number': number})}\n\n".encode()
        for number, event in enumerate(told)
    )
    expected = {**cited, "start_index": 8 + len(JO) - 4, "end_index": 12 + len(JO) - 4, "title": f"of {JO}"}

    streamed = parsed(restored(stream, JO))
    whole = json.loads(
        read(RESPONSES.answer("application/json", WordTokens(JO).restore), [json.dumps(response([item])).encode()])
    )

    (annotated,) = [event for event in streamed if event["type"].endswith("annotation.added")]
    assert annotated["annotation"] == expected
    for answer in (streamed[-1]["response"], whole):
        (part,) = answer["output"][0]["content"]
        assert part["annotations"] == [expected]
        assert part["text"] == f"{JO} is here"


def test_whole_answer_is_restored_with_what_it_repeats_of_the_request() -> None:
    items = [thought("hm"), said("To [T1]"), called("f", '{"a":"[T1]"}'), refused("not [T1]")]
    body = {**response(items), "instructions": "Help [T1].", "metadata": {"for": "[T1]"}}

    answer = RESPONSES.answer("application/json", WordTokens(JO).restore)
    client = json.loads(read(answer, [json.dumps(body).encode()]))

    assert client == {
        **response([with_values(item) for item in items]),
        "instructions": f"Help {JO}.",
        "metadata": {"for": JO},
    }
    assert (answer.observed.response_id, answer.observed.finish_reason) == ("resp_1", "completed")
    assert (answer.observed.input_tokens, answer.observed.output_tokens) == (5, 7)


def test_stdout_and_stderr_of_a_shell_are_channels_of_their_own() -> None:
    where = {"output_index": 0, "command_index": 0, "item_id": "s"}
    told: list[dict[str, Any]] = [
        {"type": "response.shell_call_output_content.delta", **where, "delta": {"stdout": "a [T", "stderr": "b [T"}},
        {"type": "response.shell_call_output_content.delta", **where, "delta": {"stdout": "1]", "stderr": "1] [T"}},
        {
            "type": "response.shell_call_output_content.done",
            **where,
            "output": [{"stdout": "a [T1]", "stderr": "b [T1] [T"}],
        },
    ]
    stream = b"".join(
        f"event: {event['type']}\ndata: {json.dumps({**event, 'sequence_number': number})}\n\n".encode()
        for number, event in enumerate(told)
    )

    answer = parsed(restored(stream, JO))

    assert "".join(event["delta"].get("stdout", "") for event in answer[:-1]) == f"a {JO}"
    assert "".join(event["delta"].get("stderr", "") for event in answer[:-1]) == f"b {JO} [T"
    assert answer[-1]["output"] == [{"stdout": f"a {JO}", "stderr": f"b {JO} [T"}]


def test_base64_of_audio_and_images_is_not_touched() -> None:
    event = {"type": "response.image_generation_call.partial_image", "partial_image_b64": "[T1]", "sequence_number": 0}
    stream = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()

    assert restored(stream, JO) == stream


def test_text_after_the_end_of_its_channel_ends_the_answer() -> None:
    answer = opened(JO)
    told = response_stream([said("a [T1]")]).split(b"\n\n")
    again = told[3].replace(b'"sequence_number":3', b'"sequence_number":9')

    with pytest.raises(MalformedAnswerError):
        answer.feed(b"\n\n".join([*told[:5], again, b""]))
    assert b"event: error\ndata: " in answer.break_off("aegis_x", "no")


def test_upstream_failure_is_noticed_and_its_keys_are_cut() -> None:
    failed = {**response([], "failed"), "error": {"code": "server_error", "message": "bad key sk-abcdefgh12345678"}}
    event = {"type": "response.failed", "response": failed, "sequence_number": 0}
    answer = opened(JO)

    client = answer.feed(f"event: response.failed\ndata: {json.dumps(event)}\n\n".encode())

    assert answer.observed.upstream_error
    assert b"sk-abcdefgh12345678" not in client


def test_observed_stream_passes_byte_for_byte() -> None:
    stream = response_stream([said("a", "b"), called("f", "{}")])
    answer = RESPONSES.answer("text/event-stream", None)

    assert read(answer, bytewise(stream)) == stream
    assert answer.observed.finished
    assert (answer.observed.response_id, answer.observed.finish_reason) == ("resp_1", "completed")
    assert whole_item(said("ab"))["content"][0]["text"] == "ab"
