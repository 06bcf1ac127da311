"""What is noted of an answer of the Responses API: id, model, status, usage, errors and the end."""

from typing import Any, Final

import msgspec

from sidecar.codecs.json_strict import REFUSED
from sidecar.codecs.sse import event_data, new_event
from sidecar.dialects.dialect import Observed
from sidecar.dialects.openai_notes import DONE


class _Usage(msgspec.Struct, gc=False):
    input_tokens: int | None = None
    output_tokens: int | None = None


class _Incomplete(msgspec.Struct, gc=False):
    reason: str | None = None


class _Response(msgspec.Struct, gc=False):
    """A whole answer, or the `response` of an event; the rest is skipped without being built."""

    id: str | None = None
    model: str | None = None
    status: str | None = None
    usage: _Usage | None = None
    incomplete_details: _Incomplete | None = None
    error: Any = None


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    response: _Response | None = None
    error: Any = None


_decode_event: Final = msgspec.json.Decoder(_Event).decode
_decode_body: Final = msgspec.json.Decoder(_Response).decode
_LAST: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})


class ResponsesNotes:
    """Notes for responses."""

    def event(self, event: bytes, observed: Observed) -> None:
        """One unit of a stream."""
        if b".delta\n" in event[:64]:
            return  # nine of ten events: text, nothing to note
        data = event_data(event)
        if data is None or data.value.strip() == DONE:
            return
        try:
            said = _decode_event(data.value)
        except (*REFUSED, RecursionError):
            return
        if said.response is not None:
            _note(said.response, observed)
        if said.type in _LAST:
            observed.finished = True
        if said.type in ("error", "response.failed") or said.error:
            observed.upstream_error = True

    def body(self, body: bytes, observed: Observed) -> None:
        """A whole answer."""
        try:
            response = _decode_body(body)
        except (*REFUSED, RecursionError):
            return
        _note(response, observed)
        if response.error:
            observed.upstream_error = True

    def error_event(self, code: str, message: str) -> bytes:
        """`event: error`, as the API has it, with the member `error` that makes the SDK raise APIError."""
        told = {"code": code, "message": message, "param": None}
        return new_event(
            msgspec.json.encode(
                {"type": "error", **told, "sequence_number": 0, "error": {"type": "server_error", **told}}
            ),
            "error",
        )


def _note(response: _Response, observed: Observed) -> None:
    observed.response_id = observed.response_id or response.id or ""
    observed.response_model = observed.response_model or response.model or ""
    if response.status and response.status not in ("in_progress", "queued"):
        reason = response.incomplete_details.reason if response.incomplete_details is not None else None
        observed.finish_reason = reason or response.status
    if response.usage is not None:
        observed.input_tokens = response.usage.input_tokens
        observed.output_tokens = response.usage.output_tokens
