"""Anthropic messages, `POST /v1/messages` and `/v1/messages/count_tokens`."""

from typing import Any, Final

import msgspec

from policies.model import DialectName
from sidecar.codecs.sse import new_event
from sidecar.dialects.answers import open_answer
from sidecar.dialects.anthropic_notes import AnthropicNotes
from sidecar.dialects.cited import CitedDocuments
from sidecar.dialects.dialect import Answer, Observed, Prompt, Restore
from sidecar.dialects.messages_answer import MessageBody, MessageStream
from sidecar.dialects.messages_request import collect_messages, place_system_prompt, text_documents
from sidecar.dialects.observing import FailedBody, noted
from sidecar.dialects.plausible import token_count, words
from sidecar.dialects.prompts import JsonPrompt, read_prompt
from sidecar.dialects.provider_errors import anthropic_error

_encode: Final = msgspec.json.encode


class AnthropicMessages:
    """The dialect of messages. Holds no state."""

    __slots__ = ("_body", "_counts_only", "_notes")

    name: DialectName = DialectName.ANTHROPIC_MESSAGES
    operation: str = "chat"
    provider: str = "anthropic"

    def __init__(self, *, counts_only: bool = False) -> None:
        """`counts_only`: the endpoint that takes the same request and answers how many tokens it has."""
        self._counts_only = counts_only
        self._notes = AnthropicNotes()
        self._body = MessageBody()

    def read(self, body: bytes) -> JsonPrompt:
        """The parsed request. Raises `MalformedBodyError`."""
        return read_prompt(body, collect_messages, place_system_prompt, text_documents)

    def answer(self, content_type: str, restore: Restore | None, cited: CitedDocuments | None = None) -> Answer:
        """A reader of one answer."""
        if self._counts_only:
            restore = None
        return open_answer(content_type, restore, self._notes, MessageStream, self._body, cited)

    def note(self, body: bytes) -> Observed:
        """What is seen in a whole answer that passes."""
        return noted(body, self._notes)

    def failed(self) -> Answer:
        """A reader of an answer with an error status."""
        return FailedBody()

    def decoy(self, prompt: Prompt, text: str, request_id: str) -> tuple[str, bytes]:
        """A false answer that looks like any other: streamed if the prompt asked for a stream."""
        given, taken = token_count(*(segment.text for segment in prompt.segments)), token_count(text)
        if self._counts_only:
            return "application/json", _encode({"input_tokens": given})
        message = {
            "id": f"msg_{request_id}",
            "type": "message",
            "role": "assistant",
            "model": prompt.model,
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": given, "output_tokens": taken},
        }
        if prompt.stream:
            return "text/event-stream; charset=utf-8", _decoy_stream(message, text, given, taken)
        return "application/json", _encode(message)

    def error(self, status: int, code: str, message: str, request_id: str) -> bytes:
        """The JSON body of an error."""
        return anthropic_error(status, code, message, request_id)


def _decoy_stream(message: dict[str, Any], text: str, given: int, taken: int) -> bytes:
    begun = {**message, "content": [], "stop_reason": None, "usage": {"input_tokens": given, "output_tokens": 1}}
    stopped = {"stop_reason": "end_turn", "stop_sequence": None}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
            for word in words(text)
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": stopped, "usage": {"output_tokens": taken}},
        {"type": "message_stop"},
    ]
    return b"".join(new_event(_encode(event), event["type"]) for event in events)
