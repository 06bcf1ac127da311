"""A policy that swaps words for tokens and back: what the dialects need of an airlock, small enough to be seen through.

Values become `[T1]`, `[T2]`, ... in the order they were given. Restoration holds back the longest suffix that can still
become a token, escapes values within tool arguments, and reports any use that the contract of `Restore` forbids.
"""

import json
from collections.abc import Mapping, Sequence

from policies.model import (
    Channel,
    ChannelKind,
    Deny,
    Exchange,
    Forward,
    Path,
    ResultCode,
    Segment,
    UnixNanos,
    Verdict,
)


class WordTokens:
    """The tokens of one exchange."""

    def __init__(self, *values: str) -> None:
        self.tokens = {f"[T{number}]": value for number, value in enumerate(values, 1)}
        self.seen: list[tuple[Channel, str, bool]] = []
        self._held: dict[Channel, str] = {}
        self._ended: set[Channel] = set()

    def redact(self, segments: Sequence[Segment]) -> Forward:
        edits: dict[Path, str] = {}
        for segment in segments:
            text = segment.text
            for token, value in self.tokens.items():
                text = text.replace(value, token)
            if text != segment.text:
                edits[segment.path] = text
        return Forward(edits)

    def restore(self, channel: Channel, piece: str, last: bool) -> str:
        is_again = channel.kind is ChannelKind.REPETITION and last
        assert is_again or channel not in self._ended, "a channel went on after its end"
        self.seen.append((channel, piece, last))
        text = self._held.pop(channel, "") + piece
        keep = 0 if last else self._beginning(text)
        if keep:
            self._held[channel] = text[-keep:]
            text = text[:-keep]
        if last:
            self._ended.add(channel)
        for token, value in self.tokens.items():
            escaped = json.dumps(value)[1:-1] if channel.kind is ChannelKind.TOOL_ARGUMENTS else value
            text = text.replace(token, escaped)
        return text

    def _beginning(self, text: str) -> int:
        """Length of the longest suffix that is a proper prefix of a token."""
        for length in range(min(len(text), max(map(len, self.tokens), default=1) - 1), 0, -1):
            if any(token.startswith(text[-length:]) for token in self.tokens):
                return length
        return 0


class TokenPolicy:
    """WordTokens as a policy: every exchange swaps the same values, and unreadable parts are refused."""

    name = "tokens"

    def __init__(self, *values: str, forbidden: str = "") -> None:
        self.values = values
        self.forbidden = forbidden
        """A prompt that holds this word is refused."""

    def open(self, exchange: Exchange) -> "TokenRun":
        return TokenRun(self, exchange)


class TokenRun:
    """One exchange under a TokenPolicy."""

    def __init__(self, policy: TokenPolicy, exchange: Exchange) -> None:
        self._policy = policy
        self._exchange = exchange
        self._tokens = WordTokens(*policy.values)
        self._edits = 0

    @property
    def rewrites_answer(self) -> bool:
        return bool(self._edits)

    def request(self, segments: Sequence[Segment], now: UnixNanos) -> Verdict:
        forbidden = self._policy.forbidden
        if self._exchange.unreadable or (forbidden and any(forbidden in segment.text for segment in segments)):
            return Deny(ResultCode.DENIED_AIRLOCK, 403, "aegis_blocked", "this prompt may not leave")
        verdict = self._tokens.redact(segments)
        self._edits = len(verdict.edits)
        return verdict

    def response(self, channel: Channel, piece: str, now: UnixNanos, *, last: bool) -> str | Deny:
        return self._tokens.restore(channel, piece, last)

    def restart(self) -> None:
        self._tokens = WordTokens(*self._policy.values)

    def findings(self) -> Mapping[str, int]:
        return {"WORD": self._edits}
