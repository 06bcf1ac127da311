"""The vocabulary of a decision: what an exchange is, what its text is, what may be done with it.

Everything here is a value. Policies are pure functions of these values (and of `now`, an argument); the sidecar
carries out what they ask for. Dialects turn bytes into `Segment`s and `Piece`s and back and know no policy;
policies know no bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Final, NamedTuple, NewType, Protocol

import msgspec

ExchangeId = NewType("ExchangeId", str)
"""26 characters, unique per exchange; shown to users as the request id. A NewType, so that no text passes for one."""

UnixNanos = NewType("UnixNanos", int)


class DialectName(StrEnum):
    """Whose wire format an exchange speaks; also the bounded metric label."""

    OPENAI_CHAT = "openai.chat"
    OPENAI_EMBEDDINGS = "openai.embeddings"
    OPENAI_COMPLETIONS = "openai.completions"
    OPENAI_RESPONSES = "openai.responses"
    ANTHROPIC_MESSAGES = "anthropic.messages"
    GENERIC = "generic"


class Nested(Enum):
    """Path steps that are neither a key nor an index."""

    DOCUMENT = "document"
    """Into the JSON document that a string holds, as in tool-call `arguments`."""
    KEY = "key"
    """The name of the member itself, not its value: keys chosen by a user are text that leaves, too."""


Step = str | int | Nested
Path = tuple[Step, ...]
"""Where a string stands in a body: keys, indices, `Nested.DOCUMENT` for each document within a string.

The last key is context for whoever reads the text: `(..., Nested.DOCUMENT, "mrn")` says what `12345678` is.
"""


class Role(StrEnum):
    """Who said a piece of text, as far as a policy cares."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"
    OTHER = "other"
    """Text that no party said: tool descriptions, metadata, identifiers, unknown fields."""

    __hash__ = str.__hash__  # Enum's is written in Python, and roles are looked up for every segment


class UnreadablePart(StrEnum):
    """What a prompt may hold that no text policy can read. Never reported as guarded: allowed or blocked, by policy."""

    IMAGE = "image"
    AUDIO = "audio"
    FILE = "file"
    """PDF or other document, inline or by reference."""
    TOKENS = "tokens"
    """Text as token numbers of some vocabulary (embeddings, legacy completions)."""


class Segment(msgspec.Struct, frozen=True, gc=False):
    """One decoded string of a request that a policy may read and replace. Long integers in tool arguments appear as
    their digits; an edit makes them a string."""

    path: Path
    role: Role
    text: str

    def __repr__(self) -> str:
        """Never the text: a repr ends up in logs and exceptions."""
        return f"Segment(path={self.path!r}, role={self.role.value}, characters={len(self.text)})"


class ChannelKind(StrEnum):
    """What sort of text a channel of the answer carries; decides how restored values are escaped."""

    TEXT = "text"
    REFUSAL = "refusal"
    REASONING = "reasoning"
    TRANSCRIPT = "transcript"
    TOOL_ARGUMENTS = "tool_arguments"
    """Fragments of a JSON document: a value must be JSON-escaped once before it is inserted."""
    TOOL_VALUE = "tool_value"
    """One whole decoded string (or key) within a tool call's input object: tool policy, but no JSON escaping."""
    TOOL_INPUT = "tool_input"
    """Raw text handed to a tool (code, shell)."""
    REPETITION = "repetition"
    """A text of the answer once more, in one piece, as the Responses API says all of it again. It has the position and
    `sub` of the TEXT that it repeats, and may come without that; each time is a channel of its own."""
    ECHO = "echo"
    """What a server repeats of the request or says about the answer (instructions, metadata, errors): no word of the
    model's."""

    __hash__ = str.__hash__  # Enum's is written in Python, and channels are looked up for every piece


class Channel(NamedTuple):
    """One independent stream of text within an answer. Pieces of one channel join without a gap."""

    kind: ChannelKind
    position: int
    """Choice index (OpenAI) or content block index (Anthropic)."""
    sub: int = 0
    """Tool call index within the choice, or a running number where one block holds several strings."""
    tool: str = ""
    """Name of the called tool, as far as it was known when the channel began; the same for all of its pieces."""


class Exchange(msgspec.Struct, frozen=True, gc=False):
    """One request and its answer, as policies see it. Immutable."""

    id: ExchangeId
    peer: str
    """Stable name of the caller: a SPIFFE id or a loopback label. Never an API key."""
    dialect: DialectName
    model: str
    route: str
    """Name of the matched route."""
    stream: bool
    started_at: UnixNanos
    unreadable: Mapping[UnreadablePart, int] = msgspec.field(default_factory=dict)
    """Parts of the prompt that are no text, with their count. A policy that guards text must refuse what it does not
    explicitly allow."""
    conversation: str = ""
    """Key under which tokens stay stable over several requests; empty: derived from the prompt by the airlock."""


# --- effects: what policies ask the sidecar to do ---


class Severity(StrEnum):
    """How urgently someone should look."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Alert:
    """Tell the security interface. `code` is a bounded name, `detail` never holds prompt text."""

    code: str
    severity: Severity
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Ban:
    """Refuse this peer for a while."""

    peer: str
    seconds: float
    code: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Keep an exchange that failed for a human to replay."""

    code: str


Effect = Alert | Ban | DeadLetter

# --- verdicts ---


class ResultCode(int, Enum):
    """How an exchange ended. The number stands in the audit leaf: never renumber, only append."""

    FORWARDED = 0
    DENIED_AIRLOCK = 1
    DENIED_PROTOCOL = 2
    DENIED_FIREWALL = 3
    DENIED_BAN = 4
    DENIED_CONSENT = 5
    DENIED_ANOMALY = 6
    DECOY = 7
    MALFORMED_REQUEST = 8
    NO_POLICY = 9
    NO_ROUTE = 10
    TOO_LARGE = 11
    UPSTREAM_REFUSED = 12
    """The upstream answered with a 4xx or 5xx status; passed on as it came."""
    UPSTREAM_FAILED = 13
    """No answer, or an answer that broke off."""
    CLIENT_GONE = 14
    DEADLINE = 15
    MALFORMED_RESPONSE = 16
    INVALID_ANSWER = 17
    """The answer broke the protocol that its route enforces."""
    AUDIT_UNAVAILABLE = 18
    """Policy says `audit: required` and the leaf could not be spooled."""
    INTERNAL = 19
    DELEGATED = 20
    """A task plugin answered in place of the model."""


@dataclass(frozen=True, slots=True)
class Forward:
    """Let it pass, with these strings replaced and everything else byte for byte."""

    edits: Mapping[Path, str] = field(default_factory=dict, repr=False)
    system_prompt: str | None = field(default=None, repr=False)
    """Text to place before every other instruction of the request, or None."""
    effects: tuple[Effect, ...] = ()
    task: int = 0
    """MathProtocol task code that was asked for, for the audit leaf; 0: none."""
    guards_answer: bool = False
    """Whether the answer must prove itself before anything of it is shown.

    Nothing of a stream leaves before some of its text was released, so that it can still be voided or become an error
    with a status; an answer without any text is judged as one whose text is empty."""


@dataclass(frozen=True, slots=True)
class Deny:
    """Answer with the dialect's error; nothing leaves the pod."""

    result: ResultCode
    status: int
    """400 or 403: SDKs retry anything else."""
    code: str
    """Bounded machine-readable name, e.g. `aegis_identifier_blocked` or `4096`."""
    message: str
    """For the application's developer: what was refused and what to do. Never prompt text."""
    effects: tuple[Effect, ...] = ()
    retry: bool = False
    """Only on an answer: the model may be asked once more with the same request, provided that nothing was released to
    the client yet. Whoever asks again calls `restart` first and drops `effects`; otherwise it carries them out."""


@dataclass(frozen=True, slots=True)
class Decoy:
    """Answer falsely without calling the model; the leaf says so."""

    text: str = field(repr=False)
    effects: tuple[Effect, ...] = ()


@dataclass(frozen=True, slots=True)
class Delegate:
    """Let a task plugin on this machine answer; the model is never called and nothing leaves."""

    task: int
    param: int
    context: str = field(repr=False)
    """As the application sent it: the plugin can compute and do nothing else."""
    effects: tuple[Effect, ...] = ()


Verdict = Forward | Deny | Decoy | Delegate


def identifiers(findings: Mapping[str, int]) -> int:
    """How many identifiers were taken out, among everything that policies found (see `PolicyRun.findings`)."""
    total = 0
    for label, count in findings.items():
        if "." not in label:
            total += count
    return total


FORWARD_UNCHANGED: Final = Forward()


# --- policies ---


class PolicyRun(Protocol):
    """The state of one policy during one exchange. Not shared, not thread-safe."""

    @property
    def rewrites_answer(self) -> bool:
        """Whether `response` can do anything. Asked once, after `request`; False lets the answer pass unread."""

    def request(self, segments: Sequence[Segment], now: UnixNanos) -> Verdict:
        """The verdict over the whole prompt. Called once. Edits name paths of `segments`."""

    def response(self, channel: Channel, piece: str, now: UnixNanos, *, last: bool) -> str | Deny:
        """What may be released of this channel after `piece` arrived.

        The concatenation of all that is released must not depend on where the answer was cut into pieces. `last`
        means that no more text of this channel comes: everything held back is released, its state can be forgotten.
        A `Deny` ends the answer.
        """

    def restart(self) -> None:
        """The answer so far is void and begins anew (see `Deny.retry`): forget it, keep what `request` learnt."""

    def findings(self) -> Mapping[str, int]:
        """Label -> count of what was found. Bounded names, for metrics and the leaf; no text.

        The label of an identifier that was taken out has no dot; whatever else a policy noticed is named after it, as
        in `protocol.honeypot`.
        """


class Policy(Protocol):
    """One compiled, immutable policy, shared by every exchange of a snapshot."""

    name: str

    def open(self, exchange: Exchange) -> PolicyRun:
        """A fresh run for one exchange."""
