"""What is noted of an Anthropic answer: id, model, stop reason, usage, errors and the end."""

from typing import Any, Final

import msgspec

from sidecar.codecs.json_strict import REFUSED
from sidecar.codecs.sse import event_data, new_event
from sidecar.dialects.dialect import Observed
from sidecar.dialects.provider_errors import anthropic_error


class _Usage(msgspec.Struct, gc=False):
    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None


class _Message(msgspec.Struct, gc=False):
    """What `message_start` carries, or the `delta` of `message_delta`."""

    id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None


class _Event(msgspec.Struct, gc=False):
    """One event, or a whole answer."""

    type: str = ""
    id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None
    message: _Message | None = None
    delta: _Message | None = None
    input_tokens: int | None = None
    """`/count_tokens` answers this and nothing else."""
    error: Any = None


_decode: Final = msgspec.json.Decoder(_Event).decode


class AnthropicNotes:
    """Notes for messages and count_tokens."""

    def event(self, event: bytes, observed: Observed) -> None:
        """One unit of a stream."""
        if event.startswith(b"event: content_block_"):
            return  # nine of ten events: text, nothing to note
        data = event_data(event)
        if data is not None:
            self.body(data.value, observed)

    def body(self, body: bytes, observed: Observed) -> None:
        """A whole answer, or the data of one event."""
        try:
            event = _decode(body)
        except (*REFUSED, RecursionError):
            return
        match event.type:
            case "message_start" if event.message is not None:
                _note(event.message, observed)
            case "message_delta":
                _note(event, observed)
                if event.delta is not None:
                    _note(event.delta, observed)
            case "message_stop":
                observed.finished = True
            case "error":
                observed.upstream_error = True
            case _:
                _note(event, observed)
                if event.input_tokens is not None:
                    observed.input_tokens = event.input_tokens

    def error_event(self, code: str, message: str) -> bytes:
        """`event: error`, which the SDK raises as APIStatusError. No `message_stop`: the answer is not whole."""
        return new_event(anthropic_error(500, code, message, ""), "error")


def _note(message: _Message | _Event, observed: Observed) -> None:
    observed.response_id = observed.response_id or message.id or ""
    observed.response_model = observed.response_model or message.model or ""
    observed.finish_reason = message.stop_reason or observed.finish_reason
    usage = message.usage
    if usage is None:
        return
    if usage.input_tokens is not None:
        # Tokens read from or written to the prompt cache are counted apart from input_tokens.
        cached = (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0)
        observed.input_tokens = usage.input_tokens + cached
    if usage.output_tokens is not None:
        observed.output_tokens = usage.output_tokens
