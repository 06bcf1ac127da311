"""OpenAI's legacy completions, `POST /v1/completions`, which many local model servers still speak."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from policies.model import Channel, ChannelKind, DialectName, Role
from sidecar.codecs.json_strict import Json
from sidecar.codecs.sse import new_event
from sidecar.dialects.answers import open_answer
from sidecar.dialects.chat_answer import choices_of, chunk_like
from sidecar.dialects.cited import CitedDocuments
from sidecar.dialects.dialect import Answer, Observed, Prompt, Restore
from sidecar.dialects.lanes import Lane, Lanes
from sidecar.dialects.leaves import Leaves
from sidecar.dialects.observing import FailedBody, noted
from sidecar.dialects.openai_embeddings import count_token_arrays
from sidecar.dialects.openai_notes import DONE, OpenAINotes
from sidecar.dialects.plausible import plausible_usage, unix_seconds, words
from sidecar.dialects.prompts import JsonPrompt, no_system_prompt, read_prompt
from sidecar.dialects.provider_errors import openai_error
from sidecar.dialects.restoring import Texts

_OPAQUE: Final = frozenset({"model"})
_encode: Final = msgspec.json.encode


class OpenAICompletions:
    """The dialect of legacy completions. Holds no state. Takes no system prompt: it knows no parties."""

    __slots__ = ("_body", "_notes")

    name: DialectName = DialectName.OPENAI_COMPLETIONS
    operation: str = "text_completion"
    provider: str = "openai"

    def __init__(self) -> None:
        self._notes = OpenAINotes()
        self._body = CompletionBody()

    def read(self, body: bytes) -> JsonPrompt:
        """The parsed request. Raises `MalformedBodyError`."""
        return read_prompt(body, _collect, no_system_prompt)

    def answer(self, content_type: str, restore: Restore | None, _cited: CitedDocuments | None = None) -> Answer:
        """A reader of one answer."""
        return open_answer(content_type, restore, self._notes, CompletionStream, self._body)

    def note(self, body: bytes) -> Observed:
        """What is seen in a whole answer that passes."""
        return noted(body, self._notes)

    def failed(self) -> Answer:
        """A reader of an answer with an error status."""
        return FailedBody()

    def decoy(self, prompt: Prompt, text: str, request_id: str) -> tuple[str, bytes]:
        """A false answer that looks like any other: streamed if the prompt asked for a stream."""
        created = unix_seconds(request_id)
        common = {"id": f"cmpl-{request_id}", "object": "text_completion", "created": created, "model": prompt.model}

        def answer(text: str, finish_reason: str | None, **more: Any) -> bytes:
            choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish_reason}
            return _encode({**common, "choices": [choice], **more})

        if prompt.stream:
            events = [new_event(answer(word, None)) for word in words(text)]
            body = b"".join([*events, new_event(answer("", "stop")), new_event(DONE)])
            return "text/event-stream; charset=utf-8", body
        usage = plausible_usage(prompt, text)
        return "application/json", answer(text, "stop", usage=usage)

    def error(self, status: int, code: str, message: str, _request_id: str) -> bytes:
        """The JSON body of an error."""
        return openai_error(status, code, message)


class CompletionStream:
    """The chunks of one streamed completion. A channel is a choice."""

    __slots__ = ("_latest",)

    def __init__(self) -> None:
        self._latest: Mapping[str, Json] = {}

    def is_end(self, data: bytes) -> bool:
        """`[DONE]`."""
        return data.strip() == DONE

    def read(self, event: Mapping[str, Json], lanes: Lanes) -> Texts:
        """The text of one chunk."""
        texts = Texts(ends_all=bool(event.get("error")))
        if isinstance(event.get("choices"), list):
            self._latest = event
        for at, index, choice in choices_of(event):
            text = choice.get("text")
            if isinstance(text, str):
                lane = lanes.lane(Channel(ChannelKind.TEXT, index))
                texts.pieces.append((("choices", at, "text"), lane, text))
            if choice.get("finish_reason"):
                texts.ends.append(index)
        return texts

    def extra_event(self, lane: Lane, text: str, _number: int) -> bytes:
        """A chunk with this text, in the name of the answer it belongs to."""
        choice = {"text": text, "index": lane.channel.position, "logprobs": None, "finish_reason": None}
        return chunk_like(self._latest, choice)


class CompletionBody:
    """One whole completion."""

    def read(self, body: Mapping[str, Json]) -> Texts:
        """The text of every choice."""
        texts = Texts()
        for at, index, choice in choices_of(body):
            text = choice.get("text")
            if isinstance(text, str):
                texts.wholes.append((("choices", at, "text"), Channel(ChannelKind.TEXT, index), text))
        return texts


def _collect(body: Mapping[str, Json], leaves: Leaves) -> None:
    for name, value in body.items():
        if name == "prompt":
            count_token_arrays(value, leaves)
        if name != "logit_bias":
            leaves.member(name, value, (), Role.USER if name in ("prompt", "suffix") else Role.OTHER, _OPAQUE)
