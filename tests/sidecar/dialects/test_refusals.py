"""Errors and decoys in the shape that each provider's SDK expects."""

import json

import pytest

from policies.model import Forward, UnixNanos
from sidecar.dialects.dialect import Dialect, MalformedAnswerError
from sidecar.dialects.provider_errors import without_credentials
from sidecar.dialects.registry import Dialects
from sidecar.services import RequestIds
from tests.sidecar.dialects.wire import bytewise, chat_texts, events, message_texts, read

ASKED_AT = 1_795_186_978
REQUEST_ID = RequestIds()(UnixNanos(ASKED_AT * 1_000_000_000))
DIALECTS = Dialects()
CHAT = DIALECTS.choose("POST", "/v1/chat/completions", {})
MESSAGES = DIALECTS.choose("POST", "/v1/messages", {})
COUNT = DIALECTS.choose("POST", "/v1/messages/count_tokens", {})
EMBEDDINGS = DIALECTS.choose("POST", "/v1/embeddings", {})


@pytest.mark.parametrize(
    ("status", "openai", "anthropic"),
    [
        (400, "invalid_request_error", "invalid_request_error"),
        (401, "authentication_error", "authentication_error"),
        (403, "permission_error", "permission_error"),
        (404, "not_found_error", "not_found_error"),
        (408, "invalid_request_error", "timeout_error"),
        (413, "invalid_request_error", "request_too_large"),
        (429, "rate_limit_error", "rate_limit_error"),
        (500, "server_error", "api_error"),
        (503, "server_error", "api_error"),
        (504, "server_error", "timeout_error"),
        (529, "server_error", "overloaded_error"),
    ],
)
def test_status_decides_the_type_of_error(status: int, openai: str, anthropic: str) -> None:
    chat = json.loads(CHAT.error(status, "aegis_x", 'say "no"', REQUEST_ID))
    messages = json.loads(MESSAGES.error(status, "aegis_x", 'say "no"', REQUEST_ID))

    assert chat == {"error": {"message": 'say "no"', "type": openai, "param": None, "code": "aegis_x"}}
    assert messages == {
        "type": "error",
        "error": {"type": anthropic, "message": 'say "no" (aegis_x)'},
        "request_id": REQUEST_ID,
    }


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        (b"Incorrect API key provided: sk-proj-Ab12_Cd34-Ef56.", b"Incorrect API key provided: sk-***"),
        (b'{"message":"key sk-ant-api03-abcdefgh-XYZ is bad"}', b'{"message":"key sk-*** is bad"}'),
        (b"header Authorization: Bearer abcdefghijkl", b"header Authorization: Bearer ***"),
        (b"AIzaSyD-abcdefgh12345", b"AIza***"),
        (b"jwt eyJhbGciOiJIUzI1NiJ9.e30.abc", b"jwt eyJ***"),
        (b"gsk_abcdefgh1234 hf_abcdefgh1234", b"gsk_*** hf_***"),
        (b"the task-force risk-assessment sk-short", b"the task-force risk-assessment sk-short"),
    ],
)
def test_t29_credentials_in_error_texts_are_cut_short(told: bytes, kept: bytes) -> None:
    assert without_credentials(told) == kept


@pytest.mark.parametrize("body", [b"<html>429</html>", b'{"error":{"message":"[T1]"}}', b"", b"\xff"])
def test_error_of_an_upstream_passes_whatever_it_is_made_of(body: bytes) -> None:
    answer = CHAT.failed()

    assert read(answer, bytewise(body)) == body
    assert answer.observed.upstream_error
    assert answer.observed.finished


def test_t29_credential_that_is_cut_in_two_reads_is_cut_short_all_the_same() -> None:
    told = b"Incorrect API key provided: sk-proj-abcdefgh12345678. Find yours at https://example.org"

    assert read(MESSAGES.failed(), bytewise(told)) == (
        b"Incorrect API key provided: sk-*** Find yours at https://example.org"
    )


def test_error_longer_than_any_error_is_ended() -> None:
    answer = MESSAGES.failed()

    with pytest.raises(MalformedAnswerError):
        answer.feed(b"x" * 1024 * 1024 + b"x")
    assert answer.break_off("x", "y") == b""


def decoy(dialect: Dialect, **body: object) -> tuple[str, bytes]:
    return dialect.decoy(dialect.read(json.dumps(body).encode()), "All  is well.\n", REQUEST_ID)


def test_false_chat_completion_looks_like_a_true_one() -> None:
    content_type, body = decoy(CHAT, model="gpt-4o", messages=[{"role": "user", "content": "hello there"}])

    answer = json.loads(body)
    assert content_type == "application/json"
    assert answer["choices"][0]["message"]["content"] == "All  is well.\n"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["model"] == "gpt-4o"
    assert answer["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    assert answer["created"] == ASKED_AT  # a time of years ago would tell an attacker that it is a decoy


def test_false_chat_stream_looks_like_a_true_one() -> None:
    options = {"include_usage": True}
    content_type, stream = decoy(CHAT, model="gpt-4o", messages=[], stream=True, stream_options=options)

    assert content_type.startswith("text/event-stream")
    assert chat_texts(stream)["0.content"] == "All  is well.\n"
    told = [data for _, data in events(stream)]
    assert told[-1] == "[DONE]"
    assert json.loads(told[-2])["choices"] == []
    assert json.loads(told[-2])["usage"]["total_tokens"] > 0
    assert json.loads(told[-3])["choices"][0]["finish_reason"] == "stop"
    assert "usage" not in decoy(CHAT, model="m", messages=[], stream=True)[1].decode()


def test_false_message_looks_like_a_true_one() -> None:
    content_type, body = decoy(MESSAGES, model="claude", max_tokens=1, messages=[])

    answer = json.loads(body)
    assert content_type == "application/json"
    assert answer["content"] == [{"type": "text", "text": "All  is well.\n"}]
    assert (answer["type"], answer["role"], answer["stop_reason"]) == ("message", "assistant", "end_turn")


def test_false_message_stream_looks_like_a_true_one() -> None:
    _, stream = decoy(MESSAGES, model="claude", max_tokens=1, messages=[], stream=True)

    assert message_texts(stream) == {0: "All  is well.\n"}
    names = [name for name, _ in events(stream)]
    assert names[:3] == ["message_start", "content_block_start", "ping"]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]


def test_false_counts_and_vectors_fit_their_endpoints() -> None:
    vector = json.loads(decoy(EMBEDDINGS, model="m", input="x")[1])["data"][0]["embedding"]

    assert json.loads(decoy(COUNT, model="m", messages=[])[1]) == {"input_tokens": 1}
    assert sum(x * x for x in vector) == 1.0


def test_request_id_of_another_kind_gives_no_time() -> None:
    prompt = CHAT.read(b'{"messages":[]}')

    assert json.loads(CHAT.decoy(prompt, "x", "01ARYZ6S41TSV4RRFFQ69G5FAV")[1])["created"] == 0
    assert prompt.rewrite(Forward()) == b'{"messages":[]}'
