"""OpenAI embeddings, `POST /v1/embeddings`: text in, vectors out."""

from collections.abc import Mapping
from typing import Final

import msgspec

from policies.model import DialectName, Role, UnreadablePart
from sidecar.codecs.json_strict import Json
from sidecar.dialects.cited import CitedDocuments
from sidecar.dialects.dialect import Answer, Observed, Prompt, Restore
from sidecar.dialects.leaves import Leaves
from sidecar.dialects.observing import FailedBody, PassingBody, PassingStream, noted
from sidecar.dialects.openai_notes import OpenAINotes
from sidecar.dialects.plausible import token_count
from sidecar.dialects.prompts import JsonPrompt, no_system_prompt, read_prompt
from sidecar.dialects.provider_errors import openai_error

_OPAQUE: Final = frozenset({"model", "encoding_format"})
_DECOY_DIMENSIONS: Final = 1536


class OpenAIEmbeddings:
    """The dialect of embeddings. Holds no state. Takes no system prompt: its models follow no instructions."""

    __slots__ = ("_notes",)

    name: DialectName = DialectName.OPENAI_EMBEDDINGS
    operation: str = "embeddings"
    provider: str = "openai"

    def __init__(self) -> None:
        self._notes = OpenAINotes()

    def read(self, body: bytes) -> JsonPrompt:
        """The parsed request. Raises `MalformedBodyError`."""
        return read_prompt(body, _collect, no_system_prompt)

    def answer(self, content_type: str, _restore: Restore | None, _cited: CitedDocuments | None = None) -> Answer:
        """A reader of one answer, which holds vectors only: nothing to restore."""
        return PassingStream(self._notes) if "event-stream" in content_type else PassingBody(self._notes)

    def note(self, body: bytes) -> Observed:
        """What is seen in a whole answer that passes."""
        return noted(body, self._notes)

    def failed(self) -> Answer:
        """A reader of an answer with an error status."""
        return FailedBody()

    def decoy(self, prompt: Prompt, _text: str, _request_id: str) -> tuple[str, bytes]:
        """A vector of length one that says nothing."""
        vector = [1.0] + [0.0] * (_DECOY_DIMENSIONS - 1)
        given = token_count(*(segment.text for segment in prompt.segments))
        answer = {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": vector}],
            "model": prompt.model,
            "usage": {"prompt_tokens": given, "total_tokens": given},
        }
        return "application/json", msgspec.json.encode(answer)

    def error(self, status: int, code: str, message: str, _request_id: str) -> bytes:
        """The JSON body of an error."""
        return openai_error(status, code, message)


def _collect(body: Mapping[str, Json], leaves: Leaves) -> None:
    for name, value in body.items():
        if name == "input":
            count_token_arrays(value, leaves)
            leaves.walk(value, (name,), Role.USER)
        elif name not in _OPAQUE:
            leaves.walk(value, (name,), Role.OTHER)


def count_token_arrays(value: Json, leaves: Leaves) -> None:
    """Note texts that are given as token numbers: `[1, 2]` is one, `[[1], [2]]` are two."""
    if not isinstance(value, list):
        return
    if any(isinstance(item, int) for item in value):
        leaves.cannot_read(UnreadablePart.TOKENS)
    for item in value:
        count_token_arrays(item, leaves)
