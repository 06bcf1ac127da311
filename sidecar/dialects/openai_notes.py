"""What is noted of an OpenAI answer: id, model, finish reason, usage, errors and the end."""

from typing import Any, Final

import msgspec

from sidecar.codecs.json_strict import REFUSED
from sidecar.codecs.sse import event_data, new_event
from sidecar.dialects.dialect import Observed
from sidecar.dialects.provider_errors import openai_error

DONE: Final = b"[DONE]"


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Choice(msgspec.Struct, gc=False):
    finish_reason: str | None = None


class _Chunk(msgspec.Struct, gc=False):
    """The members that are noted, of a chunk or of a whole answer; the rest is skipped without being built."""

    id: str | None = None
    model: str | None = None
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_decode: Final = msgspec.json.Decoder(_Chunk).decode


class OpenAINotes:
    """Notes for chat completions, legacy completions and embeddings."""

    def event(self, event: bytes, observed: Observed) -> None:
        """One unit of a stream."""
        if event.startswith(b"data: {") and event.find(b"\n") == len(event) - 2:
            self.body(event[6:], observed)  # nearly always
            return
        data = event_data(event)
        if data is None:
            return
        if data.value.strip() == DONE:
            observed.finished = True
        else:
            self.body(data.value, observed)

    def body(self, body: bytes, observed: Observed) -> None:
        """A whole answer, or the data of one event."""
        try:
            chunk = _decode(body)
        except (*REFUSED, RecursionError):
            return
        if chunk.id and not observed.response_id:
            observed.response_id = chunk.id
        if chunk.model and not observed.response_model:
            observed.response_model = chunk.model
        for choice in chunk.choices:
            if choice.finish_reason:
                observed.finish_reason = choice.finish_reason
        if chunk.usage is not None:
            observed.input_tokens = chunk.usage.prompt_tokens
            observed.output_tokens = chunk.usage.completion_tokens
        if chunk.error:
            observed.upstream_error = True

    def error_event(self, code: str, message: str) -> bytes:
        """`data: {"error": …}`, which the SDK raises as APIError. No `[DONE]`: the answer is not whole."""
        return new_event(openai_error(500, code, message))
