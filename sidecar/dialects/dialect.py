"""What the exchange needs from a dialect. Sans-I/O: bytes in, values or bytes out.

A dialect knows where a provider keeps its text and how that provider's SDKs expect to be refused. It knows no policy:
it reads a request into segments, splices changed strings back, and runs the pieces of an answer through a function.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from policies.model import Channel, Deny, DialectName, Forward, Segment, UnreadablePart
from sidecar.dialects.cited import CitedDocuments

Restore = Callable[[Channel, str, bool], str | Deny]
"""`restore(channel, piece, last)` -> what may be released, or a Deny that ends the answer."""


@dataclass(slots=True)
class Observed:
    """What a dialect saw in an answer, for metrics and traces. No text."""

    response_id: str = ""
    response_model: str = ""
    finish_reason: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    finished: bool = False
    """Whether the dialect's own end of answer was seen (`[DONE]`, `message_stop`, a whole JSON body)."""
    upstream_error: bool = False
    """Whether the upstream reported an error inside a 200 answer."""


class Prompt(Protocol):
    """One parsed request body."""

    model: str
    """Model name as the client sent it; empty when there is none."""
    stream: bool
    segments: Sequence[Segment]
    """Every string that policies may read, in document order."""
    unreadable: Mapping[UnreadablePart, int]
    """Parts that are no text (images, audio, files, token numbers): `Exchange.unreadable`."""

    def rewrite(self, verdict: Forward) -> bytes:
        """The body with the edited strings spliced in and every other byte as it came."""

    def cited(self, verdict: Forward) -> CitedDocuments | None:
        """What `Dialect.answer` needs to count characters of this prompt as it came; nearly always None."""


class Answer(Protocol):
    """One answer on its way back, fed as the bytes arrive and cut anywhere."""

    observed: Observed

    def feed(self, data: bytes) -> bytes:
        """What the client may have by now. Raises `AnswerRefusedError` or `MalformedAnswerError`."""

    def follow(self, event: bytes) -> bytes | None:
        """The short way for one read of a stream that is one event like those before it: what the client may have of
        it. None: nothing was made of it, `feed` it. Raises like `feed`."""

    def close(self) -> bytes:
        """The rest, after the upstream ended its answer in good order. Raises like `feed`."""

    def break_off(self, code: str, message: str) -> bytes:
        """The bytes that tell a streaming client that its answer ends in an error: what was released so far is closed
        at an event border, what was held back is dropped, and the dialect's error event follows. Never a fake end.

        Includes what a `feed` that raised had released before it raised. Empty for an answer that is not a stream:
        nothing can be said inside one, send `Dialect.error` if its head has not gone out, else drop the connection.
        """


class Dialect(Protocol):
    """One provider's endpoint."""

    name: DialectName
    operation: str
    """`gen_ai.operation.name`: chat, embeddings, ..."""
    provider: str
    """`gen_ai.provider.name`: openai, anthropic, ..."""

    def read(self, body: bytes) -> Prompt:
        """The parsed request. Raises `MalformedBodyError`."""

    def answer(self, content_type: str, restore: Restore | None, cited: CitedDocuments | None = None) -> Answer:
        """A reader of one answer of this content type. `restore` None: pass every byte on and only observe.

        For answers with a status of 2xx; what an upstream says with any other is read by `failed`.
        """

    def note(self, body: bytes) -> Observed:
        """What is seen in a whole answer that is no stream and passes as it came: `answer`, fed and closed at once."""

    def failed(self) -> Answer:
        """A reader of an answer with an error status, of any content type: held until it is whole, passed on without
        the credentials it may quote. A policy has nothing to restore in it, and must not hide a 429 from an SDK."""

    def decoy(self, prompt: Prompt, text: str, request_id: str) -> tuple[str, bytes]:
        """A complete false answer: content type and body, streamed if the prompt asked for a stream."""

    def error(self, status: int, code: str, message: str, request_id: str) -> bytes:
        """The JSON body of an error that this provider's SDKs understand."""


class DialectError(Exception):
    """Root of this package's errors. Messages say what was expected, never what the text was."""


class MalformedBodyError(DialectError):
    """The request cannot be read with certainty (syntax, duplicate keys, depth, lone surrogates): refuse it."""


class MalformedAnswerError(DialectError):
    """The upstream's answer cannot be read although it must be: end it."""


class AnswerRefusedError(DialectError):
    """A policy ended the answer."""

    def __init__(self, deny: Deny) -> None:
        super().__init__(deny.code)
        self.deny = deny
