"""Legacy completions, embeddings, and JSON endpoints that no dialect knows."""

import json
from typing import Any

import pytest

from policies.model import Forward, Nested, Role, UnreadablePart
from sidecar.dialects.dialect import Dialect, MalformedAnswerError, MalformedBodyError
from sidecar.dialects.openai_completions import OpenAICompletions
from sidecar.dialects.openai_embeddings import OpenAIEmbeddings
from sidecar.dialects.registry import Dialects
from tests.fakes.tokens import WordTokens
from tests.sidecar.dialects.wire import bytewise, events, read

COMPLETIONS = OpenAICompletions()
EMBEDDINGS = OpenAIEmbeddings()
GENERIC: Dialect = Dialects().choose("POST", "/v1/invented", {})


def encoded(**body: Any) -> bytes:
    return json.dumps(body).encode()


@pytest.mark.parametrize("given", ["Jo", ["Jo", "x"], [["Jo"]]])
def test_legacy_prompt_and_suffix_are_said_by_the_user(given: Any) -> None:
    prompt = COMPLETIONS.read(encoded(model="m", prompt=given, suffix="end", user="u", logit_bias={"50256": 1}))

    assert prompt.segments[0].text == "Jo"
    assert [(s.role, s.text) for s in prompt.segments][-2:] == [(Role.USER, "end"), (Role.OTHER, "u")]
    assert COMPLETIONS.read(encoded(prompt=[1, 2])).unreadable == {UnreadablePart.TOKENS: 1}


def test_legacy_completions_are_restored_by_choice() -> None:
    def chunk(text: str, index: int = 0, finish: str | None = None) -> bytes:
        choice = {"text": text, "index": index, "logprobs": None, "finish_reason": finish}
        return b"data: " + encoded(id="cmpl-1", object="text_completion", choices=[choice]) + b"\n\n"

    end = chunk("", 1, "stop") + chunk("[T", 0, "length") + b"data: [DONE]\n\n"
    stream = chunk("a [T") + chunk("[T", 1) + chunk("1] b") + chunk("1") + end
    answer = COMPLETIONS.answer("text/event-stream", WordTokens("Jo").restore)
    body = encoded(choices=[{"text": "[T1]!", "index": 0}, {"text": None}, 7])

    told = [json.loads(data) for _, data in events(read(answer, bytewise(stream))) if data != "[DONE]"]
    texts = ["".join(c["choices"][0]["text"] for c in told if c["choices"][0]["index"] == index) for index in (0, 1)]

    assert texts == ["a Jo b1[T", "[T"]
    assert answer.observed.finished
    assert answer.observed.finish_reason == "length"
    assert read(COMPLETIONS.answer("application/json", WordTokens("Jo").restore), [body]) == body.replace(
        b"[T1]", b"Jo"
    )


def test_false_completion_looks_like_a_true_one() -> None:
    prompt = COMPLETIONS.read(encoded(model="m", prompt="x"))
    streaming = COMPLETIONS.read(encoded(model="m", prompt="x", stream=True))

    whole = json.loads(COMPLETIONS.decoy(prompt, "All is well", "R")[1])
    told = [data for _, data in events(COMPLETIONS.decoy(streaming, "All is well", "R")[1])]

    assert (whole["object"], whole["choices"][0]["text"]) == ("text_completion", "All is well")
    assert "".join(json.loads(data)["choices"][0]["text"] for data in told[:-1]) == "All is well"
    assert told[-1] == "[DONE]"


@pytest.mark.parametrize(("given", "expected"), [("a", ["a"]), (["a", "b"], ["a", "b"]), ([], []), (7, [])])
def test_texts_to_embed_are_said_by_the_user(given: Any, expected: list[str]) -> None:
    prompt = EMBEDDINGS.read(encoded(model="m", input=given, encoding_format="base64", user="jo"))

    assert [(s.role, s.text) for s in prompt.segments] == [
        *((Role.USER, text) for text in expected),
        (Role.OTHER, "jo"),
    ]
    assert not prompt.unreadable


@pytest.mark.parametrize(("given", "count"), [([1, 2], 1), ([[1], [2, 3]], 2), (["text", [1]], 1), ([[[5]]], 1)])
def test_token_numbers_are_text_that_nobody_can_read(given: Any, count: int) -> None:
    assert EMBEDDINGS.read(encoded(input=given)).unreadable == {UnreadablePart.TOKENS: count}


def test_t9_equal_inputs_stay_equal_and_other_bytes_stay() -> None:
    prompt = EMBEDDINGS.read(b'{"input":["Jo","x Jo"],"dimensions":2.0}')

    assert prompt.rewrite(WordTokens("Jo").redact(prompt.segments)) == b'{"input":["[T1]","x [T1]"],"dimensions":2.0}'
    assert prompt.rewrite(Forward(system_prompt="ignored")) == b'{"input":["Jo","x Jo"],"dimensions":2.0}'


def test_vectors_pass_unread_and_usage_is_noted() -> None:
    body = b'{"data":[{"embedding":[1e3,0.10]}],"model":"m","usage":{"prompt_tokens":5,"total_tokens":5}}'
    answer = EMBEDDINGS.answer("application/json", WordTokens("Jo").restore)

    assert read(answer, [body]) == body
    assert (answer.observed.input_tokens, answer.observed.response_model) == (5, "m")


def test_every_leaf_of_an_unknown_body_is_text_unless_its_name_says_otherwise() -> None:
    request = encoded(
        model="m",
        input=[{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Jo"}]}],
        instructions="i",
        previous_response_id="resp_1",
        nested={"encrypted_content": "x", "signature": "x", "thoughtSignature": "x", "patient_id": "p", "Jo D": 1},
        thinking={"type": "thinking", "thinking": "sealed", "signature": "x"},
        redacted={"type": "redacted_thinking", "data": "sealed"},
        open={"type": "thinking", "thinking": "unsigned"},
    )

    found = GENERIC.read(request).segments

    assert [s.text for s in found] == ["Jo", "i", "p", "Jo D", "unsigned"]
    assert found[3].path == ("nested", "Jo D", Nested.KEY)
    assert {s.role for s in found} == {Role.OTHER}


def test_unknown_endpoints_count_what_cannot_be_read() -> None:
    prompt = GENERIC.read(encoded(prompt=[1, 2, 3], image="data:image/png;base64,AAAA"))

    assert prompt.unreadable == {UnreadablePart.TOKENS: 1, UnreadablePart.FILE: 1}


def test_request_without_a_body_has_no_text() -> None:
    prompt = GENERIC.read(b"")

    assert (list(prompt.segments), prompt.rewrite(Forward()), prompt.model) == ([], b"", "")


@pytest.mark.parametrize("body", [b"--boundary\r\n", b"a=b", b"[1]", b"\x89PNG"])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedBodyError):
        GENERIC.read(body)


def test_unknown_answers_are_restored_string_by_string() -> None:
    body = encoded(id="[T1]", output=[{"text": "[T1]", "arguments": '{"a":"[T1]"}'}], encrypted_content="[T1]")
    stream = b'event: x\ndata: {"delta":"[T1]"}\n\ndata: {"delta":"[T"}\n\ndata: [DONE]\n\n'
    tokens = WordTokens('J"o')

    whole = json.loads(read(GENERIC.answer("application/json", tokens.restore), [body]))

    assert whole == {
        "id": "[T1]",
        "output": [{"text": 'J"o', "arguments": '{"a":"J\\"o"}'}],
        "encrypted_content": "[T1]",
    }
    assert read(GENERIC.answer("text/event-stream", WordTokens("Jo").restore), [stream]) == stream.replace(
        b"[T1]", b"Jo"
    )
    with pytest.raises(MalformedAnswerError):
        read(GENERIC.answer("image/png", WordTokens("Jo").restore), [b"\x89PNG"])
