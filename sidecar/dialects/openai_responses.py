"""OpenAI's Responses API, `POST /v1/responses`.

Limit: a token of an earlier turn that only the provider remembers (`previous_response_id`) stays a token, since a vault
holds the values of one request.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from policies.model import DialectName
from sidecar.codecs.sse import new_event
from sidecar.dialects.answers import open_answer
from sidecar.dialects.cited import CitedDocuments
from sidecar.dialects.dialect import Answer, Observed, Prompt, Restore
from sidecar.dialects.observing import FailedBody, noted
from sidecar.dialects.plausible import token_count, unix_seconds, words
from sidecar.dialects.prompts import JsonPrompt, read_prompt
from sidecar.dialects.provider_errors import openai_error
from sidecar.dialects.responses_answer import ResponseBody, ResponseStream
from sidecar.dialects.responses_notes import ResponsesNotes
from sidecar.dialects.responses_request import collect_response, place_instructions

_encode: Final = msgspec.json.encode


class OpenAIResponses:
    """The dialect of responses. Holds no state."""

    __slots__ = ("_body", "_notes")

    name: DialectName = DialectName.OPENAI_RESPONSES
    operation: str = "chat"
    provider: str = "openai"

    def __init__(self) -> None:
        self._notes = ResponsesNotes()
        self._body = ResponseBody()

    def read(self, body: bytes) -> JsonPrompt:
        """The parsed request. Raises `MalformedBodyError`."""
        return read_prompt(body, collect_response, place_instructions)

    def answer(self, content_type: str, restore: Restore | None, _cited: CitedDocuments | None = None) -> Answer:
        """A reader of one answer."""
        return open_answer(content_type, restore, self._notes, ResponseStream, self._body)

    def note(self, body: bytes) -> Observed:
        """What is seen in a whole answer that passes."""
        return noted(body, self._notes)

    def failed(self) -> Answer:
        """A reader of an answer with an error status."""
        return FailedBody()

    def decoy(self, prompt: Prompt, text: str, request_id: str) -> tuple[str, bytes]:
        """A false answer that looks like any other: streamed if the prompt asked for a stream."""
        given, taken = token_count(*(segment.text for segment in prompt.segments)), token_count(text)
        part = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
        item = {"id": f"msg_{request_id}", "type": "message", "status": "completed", "role": "assistant"}
        begun = {
            "id": f"resp_{request_id}",
            "object": "response",
            "created_at": unix_seconds(request_id),
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "model": prompt.model,
            "output": [],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
        }
        usage = {
            "input_tokens": given,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": taken,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": given + taken,
        }
        whole = {**begun, "status": "completed", "output": [{**item, "content": [part]}], "usage": usage}
        if not prompt.stream:
            return "application/json", _encode(whole)
        events = enumerate(_decoy_events(begun, item, part, whole))
        told = [new_event(_encode({**event, "sequence_number": number}), event["type"]) for number, event in events]
        return "text/event-stream; charset=utf-8", b"".join(told)

    def error(self, status: int, code: str, message: str, _request_id: str) -> bytes:
        """The JSON body of an error; the request id travels in a header."""
        return openai_error(status, code, message)


def _decoy_events(
    begun: dict[str, Any], item: dict[str, Any], part: dict[str, Any], whole: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    in_item = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    text: str = part["text"]
    for status in ("created", "in_progress"):
        yield {"type": f"response.{status}", "response": begun}
    unsaid = {**item, "status": "in_progress", "content": []}
    yield {"type": "response.output_item.added", "output_index": 0, "item": unsaid}
    yield {"type": "response.content_part.added", **in_item, "part": {**part, "text": ""}}
    for word in words(text):
        yield {"type": "response.output_text.delta", **in_item, "delta": word, "logprobs": []}
    yield {"type": "response.output_text.done", **in_item, "text": text, "logprobs": []}
    yield {"type": "response.content_part.done", **in_item, "part": part}
    yield {"type": "response.output_item.done", "output_index": 0, "item": {**item, "content": [part]}}
    yield {"type": "response.completed", "response": whole}
