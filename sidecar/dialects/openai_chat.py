"""OpenAI chat completions, `POST /v1/chat/completions`, and every server that speaks them."""

from typing import Any, Final

import msgspec

from policies.model import DialectName
from sidecar.codecs.sse import new_event
from sidecar.dialects.answers import open_answer
from sidecar.dialects.chat_answer import ChatBody, ChatStream
from sidecar.dialects.chat_request import collect_chat, place_system_prompt
from sidecar.dialects.cited import CitedDocuments
from sidecar.dialects.dialect import Answer, Observed, Prompt, Restore
from sidecar.dialects.observing import FailedBody, noted
from sidecar.dialects.openai_notes import OpenAINotes
from sidecar.dialects.plausible import plausible_usage, unix_seconds, words
from sidecar.dialects.prompts import JsonPrompt, read_prompt
from sidecar.dialects.provider_errors import openai_error

_encode: Final = msgspec.json.encode


class OpenAIChat:
    """The dialect of chat completions. Holds no state."""

    __slots__ = ("_body", "_notes")

    name: DialectName = DialectName.OPENAI_CHAT
    operation: str = "chat"
    provider: str = "openai"

    def __init__(self) -> None:
        self._notes = OpenAINotes()
        self._body = ChatBody()

    def read(self, body: bytes) -> JsonPrompt:
        """The parsed request. Raises `MalformedBodyError`."""
        return read_prompt(body, collect_chat, place_system_prompt)

    def answer(self, content_type: str, restore: Restore | None, _cited: CitedDocuments | None = None) -> Answer:
        """A reader of one answer."""
        return open_answer(content_type, restore, self._notes, ChatStream, self._body)

    def note(self, body: bytes) -> Observed:
        """What is seen in a whole answer that passes."""
        return noted(body, self._notes)

    def failed(self) -> Answer:
        """A reader of an answer with an error status."""
        return FailedBody()

    def decoy(self, prompt: Prompt, text: str, request_id: str) -> tuple[str, bytes]:
        """A false answer that looks like any other: streamed if the prompt asked for a stream."""
        common = {
            "id": f"chatcmpl-{request_id}",
            "object": "chat.completion.chunk" if prompt.stream else "chat.completion",
            "created": unix_seconds(request_id),
            "model": prompt.model,
        }
        usage = plausible_usage(prompt, text)
        if prompt.stream:
            return "text/event-stream; charset=utf-8", _decoy_stream(common, text, usage, asks_usage(prompt))
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return "application/json", _encode({**common, "choices": [choice], "usage": usage})

    def error(self, status: int, code: str, message: str, _request_id: str) -> bytes:
        """The JSON body of an error; the request id travels in a header."""
        return openai_error(status, code, message)


def asks_usage(prompt: Prompt) -> bool:
    """Whether a stream is to end in a chunk with its usage."""
    options = prompt.tree.get("stream_options") if isinstance(prompt, JsonPrompt) else None
    return isinstance(options, dict) and options.get("include_usage") is True


def _decoy_stream(common: dict[str, Any], text: str, usage: dict[str, int], with_usage: bool) -> bytes:
    # As the API does it: `usage` is in every chunk, null but for the last, if it was asked for.
    none = {"usage": None} if with_usage else {}

    def chunk(delta: dict[str, Any], finish_reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return new_event(_encode({**common, "choices": [choice], **none}))

    events = [chunk({"role": "assistant", "content": "", "refusal": None}, None)]
    events += [chunk({"content": word}, None) for word in words(text)]
    events.append(chunk({}, "stop"))
    if with_usage:
        events.append(new_event(_encode({**common, "choices": [], "usage": usage})))
    events.append(new_event(b"[DONE]"))
    return b"".join(events)
