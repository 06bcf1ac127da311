"""Bodies and events made of the right words in the wrong places: only the dialects' own errors, and no text unread."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.model import Forward, Nested, Path
from sidecar.dialects.dialect import DialectError, MalformedBodyError
from sidecar.dialects.registry import Dialects
from tests.fakes.tokens import WordTokens
from tests.sidecar.dialects.wire import read

DIALECTS = Dialects()
EXAMPLES = 20
"""For each of the paths; tests/fuzz looks further."""

PATHS = ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/completions", "/v1/embeddings", "/v1/unknown"]
VOCABULARY = (
    "messages role content type text system tools function arguments input name tool_calls choices delta message index "
    "finish_reason content_block partial_json source data image_url url file custom audio transcript annotations title "
    "url_citation start_index end_index error usage id model stream metadata prompt refusal signature thinking custom "
    "function_call citation stop_sequence parameters Jo 12345 output item part response output_index content_index "
    "sequence_number instructions arguments annotation action summary"
)
KINDS = (
    "user assistant system tool text image document image_url input_audio file tool_use tool_result thinking stop "
    "redacted_thinking text_delta input_json_delta citations_delta message content_block_start content_block_delta "
    "content_block_stop message_delta message_stop error base64 url data:x Jo [T1] [T function url_citation "
    "function_call custom_tool_call output_text reasoning input_text input_image"
)
NAMES = st.sampled_from(VOCABULARY.split(" "))
WORDS = st.sampled_from(KINDS.split(" ")) | st.sampled_from(['{"a":"Jo [T1]"}', "{", "é\ud83d", "\ude00"])
SCALARS = st.none() | st.booleans() | st.integers(-2, 3) | st.just(1.5) | st.just(123456)


@st.composite
def values(draw: st.DrawFn, depth: int = 3) -> Any:
    """Any JSON of these words."""
    kind = draw(st.integers(0, 5)) if depth else 0
    if kind <= 1:
        return draw(WORDS)
    if kind == 2:
        return draw(SCALARS)
    if kind == 3:
        return draw(st.lists(values(depth - 1), max_size=2))
    return {name: draw(values(depth - 1)) for name in draw(st.lists(NAMES, max_size=4))}


@st.composite
def objects(draw: st.DrawFn, **likely: st.SearchStrategy[Any]) -> dict[str, Any]:
    """Any object, most often with these members."""
    return {
        **{name: draw(values(2)) for name in draw(st.lists(NAMES, max_size=3))},
        **{name: draw(strategy) for name, strategy in likely.items() if draw(st.integers(0, 3))},
    }


# The same where a dialect looks closely.
ANY = values()
BLOCKS = st.lists(objects(type=WORDS | ANY, input=ANY, source=ANY, content=ANY), max_size=2) | ANY
CALLS = st.lists(objects(function=objects(arguments=WORDS | ANY), custom=ANY), max_size=2)
SAYINGS = objects(content=BLOCKS, role=WORDS | ANY, tool_calls=CALLS, annotations=BLOCKS)
REQUESTS = objects(messages=st.lists(SAYINGS, max_size=2), system=BLOCKS, tools=BLOCKS, stream=st.booleans())
CHOICES = objects(delta=SAYINGS, message=SAYINGS, index=st.integers(0, 1), text=WORDS, finish_reason=WORDS)
EVENT_TYPES = st.sampled_from(["content_block_start", "content_block_delta", "content_block_stop", "message_delta"])
RESPONSE_EVENTS = st.sampled_from(
    [
        f"response.{name}"
        for name in [
            "output_text.delta",
            "output_text.done",
            "function_call_arguments.delta",
            "shell_call_output_content.delta",
            "shell_call_output_content.done",
            "output_item.added",
            "output_item.done",
            "content_part.added",
            "completed",
        ]
    ]
)
EVENTS = (
    objects(choices=st.lists(CHOICES, max_size=2))
    | objects(
        type=EVENT_TYPES,
        index=st.integers(0, 1),
        content_block=objects(type=ANY),
        delta=objects(type=WORDS),
        content=BLOCKS,
    )
    | objects(
        type=RESPONSE_EVENTS,
        delta=WORDS | ANY,
        output_index=st.integers(0, 1),
        sequence_number=st.integers(0, 9),
        item=objects(type=WORDS, content=BLOCKS, arguments=WORDS),
        part=objects(type=WORDS, text=WORDS, annotations=BLOCKS),
        response=objects(output=BLOCKS),
    )
)


def strings(value: Any) -> list[str]:
    match value:
        case str():
            return [value]
        case dict():
            return [text for member in value.values() for text in strings(member)]
        case list():
            return [text for item in value for text in strings(item)]
        case _:
            return []


@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=EXAMPLES)
@given(body=REQUESTS)
def test_request_of_any_shape_is_read_and_rewritten_or_refused(path: str, body: dict[str, Any]) -> None:
    try:
        prompt = DIALECTS.choose("POST", path, {}).read(json.dumps(body).encode())
    except MalformedBodyError:
        assert any("\ud800" <= character <= "\udfff" for text in strings(body) for character in text)
        return
    edits: dict[Path, str] = {segment.path: f"<{number}>" for number, segment in enumerate(prompt.segments)}
    names = {path[:-1] for path in edits if path[-1] is Nested.KEY}
    edits = {path: text for path, text in edits.items() if path[-1] is not Nested.KEY and path not in names}

    rewritten = json.loads(prompt.rewrite(Forward(edits)))

    told = [text for text in strings(rewritten) if text.startswith("<")]
    nested = [text for text in strings(rewritten) if text.startswith('{"a":"<')]
    assert len(told) + len(nested) == len(edits)
    assert isinstance(json.loads(prompt.rewrite(Forward(edits, system_prompt="P"))), dict)


@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=EXAMPLES)
@given(events=st.lists(EVENTS, min_size=1, max_size=4), is_stream=st.booleans())
def test_answer_of_any_shape_is_restored_or_ended_the_same_however_it_is_cut(
    path: str, events: list[dict[str, Any]], is_stream: bool
) -> None:
    content_type = "text/event-stream" if is_stream else "application/json"
    documents = [json.dumps(event).encode() for event in events]
    answer = b"".join(b"data: " + document + b"\n\n" for document in documents) if is_stream else documents[0]

    def told(pieces: list[bytes]) -> bytes:
        opened = DIALECTS.choose("POST", path, {}).answer(content_type, WordTokens('J"o').restore)
        released = b""
        try:
            for piece in pieces:
                released += opened.feed(piece)
            return released + opened.close()
        except DialectError:
            return released + opened.break_off("x", "y")

    assert told([answer[at : at + 7] for at in range(0, len(answer), 7)]) == told([answer])


@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=EXAMPLES)
@given(body=EVENTS)
def test_unread_answer_of_any_shape_passes(path: str, body: dict[str, Any]) -> None:
    document = json.dumps(body).encode()
    dialect = DIALECTS.choose("POST", path, {})

    assert read(dialect.answer("application/json", None), [document]) == document
    if not body.get("error") and body.get("type") != "error":
        stream = b"data: " + document + b"\n\n"
        assert read(dialect.answer("text/event-stream", None), [stream[:50], stream[50:]]) == stream
