"""JSON endpoints that no dialect knows: every string leaf is text unless its name says otherwise.

Limits: a stream's events are restored one by one, so a token that is split over two events stays a token (it is not
lost: nothing leaves that the model did not write). Bodies that are not JSON are refused, not passed.
"""

from collections.abc import Mapping
from typing import Final

from policies.model import Channel, ChannelKind, DialectName, Path, Role, UnreadablePart
from sidecar.codecs.json_strict import Json
from sidecar.dialects.answers import open_answer
from sidecar.dialects.cited import CitedDocuments
from sidecar.dialects.dialect import Answer, Dialect, Observed, Prompt, Restore
from sidecar.dialects.lanes import Lane, Lanes
from sidecar.dialects.leaves import Leaves
from sidecar.dialects.observing import FailedBody, Notes, noted
from sidecar.dialects.openai_embeddings import count_token_arrays
from sidecar.dialects.openai_notes import DONE
from sidecar.dialects.prompts import JsonPrompt, no_system_prompt, read_prompt
from sidecar.dialects.restoring import Texts

_OPAQUE: Final = frozenset(
    {"model", "object", "type", "role", "id", "item_id", "call_id", "tool_call_id", "tool_use_id", "file_id"}
    | {"response_id", "previous_response_id"}
)
_ARGUMENTS: Final = frozenset({"arguments", "partial_json"})
"""Names under which providers keep a JSON document in a string."""

_TOKEN_ARRAYS: Final = frozenset({"input", "prompt", "context", "tokens"})


class Generic:
    """The dialect of unknown endpoints. Holds no state. Takes no system prompt: nobody knows where it would stand."""

    __slots__ = ("_family", "_notes", "provider")

    name: DialectName = DialectName.GENERIC
    operation: str = "unknown"
    provider: str

    def __init__(self, family: Dialect, notes: Notes) -> None:
        """`family`: the dialect whose errors the client understands; `notes`: what is noted of its answers."""
        self._family = family
        self._notes = notes
        self.provider = family.provider

    def read(self, body: bytes) -> JsonPrompt:
        """The parsed request; a request without a body has no text. Raises `MalformedBodyError`."""
        if not body:
            return JsonPrompt(body, {}, Leaves(), no_system_prompt)
        return read_prompt(body, _collect, no_system_prompt)

    def answer(self, content_type: str, restore: Restore | None, _cited: CitedDocuments | None = None) -> Answer:
        """A reader of one answer."""
        return open_answer(content_type, restore, self._notes, GenericStream, GenericBody())

    def note(self, body: bytes) -> Observed:
        """What is seen in a whole answer that passes."""
        return noted(body, self._notes)

    def failed(self) -> Answer:
        """A reader of an answer with an error status."""
        return FailedBody()

    def decoy(self, prompt: Prompt, text: str, request_id: str) -> tuple[str, bytes]:
        """What the family's main endpoint would answer."""
        return self._family.decoy(prompt, text, request_id)

    def error(self, status: int, code: str, message: str, request_id: str) -> bytes:
        """The JSON body of an error, as the family writes it."""
        return self._family.error(status, code, message, request_id)


class GenericStream:
    """Events of any JSON. Every string is whole."""

    __slots__ = ("_strings",)

    def __init__(self) -> None:
        self._strings = 0

    def is_end(self, data: bytes) -> bool:
        """`[DONE]`, which many servers copied from OpenAI."""
        return data.strip() == DONE

    def read(self, event: Mapping[str, Json], _lanes: Lanes) -> Texts:
        """Every string of one event."""
        texts = Texts()
        texts.wholes = _texts(event, self._strings)
        self._strings += len(texts.wholes)
        return texts

    def extra_event(self, _lane: Lane, _text: str, _number: int) -> bytes:
        """Nothing: whole strings leave nothing behind."""
        return b""


class GenericBody:
    """A JSON answer of any shape."""

    def read(self, body: Mapping[str, Json]) -> Texts:
        """Every string."""
        texts = Texts()
        texts.wholes = _texts(body, 0)
        return texts


def _collect(body: Mapping[str, Json], leaves: Leaves) -> None:
    for name in _TOKEN_ARRAYS:
        count_token_arrays(body.get(name), leaves)
    leaves.walk(dict(body), (), Role.OTHER, _OPAQUE)
    for segment in leaves.segments:
        # Scanned as the characters it is made of, but what those stand for was not.
        if segment.text.startswith("data:") and ";base64," in segment.text[:128]:
            leaves.cannot_read(UnreadablePart.FILE)


def _texts(value: Mapping[str, Json], first: int) -> list[tuple[Path, Channel, str]]:
    leaves = Leaves()
    leaves.walk(dict(value), (), Role.ASSISTANT, _OPAQUE)
    return [
        (segment.path, Channel(_kind(segment.path), number), segment.text)
        for number, segment in enumerate(leaves.segments, first)
    ]


def _kind(path: Path) -> ChannelKind:
    return ChannelKind.TOOL_ARGUMENTS if path and path[-1] in _ARGUMENTS else ChannelKind.TEXT
