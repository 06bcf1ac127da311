"""Holds the exchanges of a route to the protocol: the last user message is the request, the answer must fit its task.

In `enforce`, what does not parse never reaches the model, and what is not a valid answer never reaches the application:
not as text, not as a refusal, not as a tool call. In `monitor` nothing is changed and everything is recorded.

Not done here: scoring CONTEXT for injected instructions (policies.firewall runs after this policy).
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Final

from policies.honeypot.config import TrapPlacement
from policies.honeypot.decoy import decoy_answer
from policies.honeypot.traps import period_of, traps_of_period
from policies.mathprotocol.codes import FREE_PRIMES, ErrorCode, Kind
from policies.mathprotocol.config import ProtocolConfig, ProtocolMode
from policies.mathprotocol.context import ContextFault, clean_context
from policies.mathprotocol.grammar import Request, parse_request, request_fault
from policies.mathprotocol.probes import probed_tasks
from policies.mathprotocol.prompt import system_prompt
from policies.mathprotocol.responses import AnswerGate, InvalidAnswer
from policies.model import (
    FORWARD_UNCHANGED,
    Alert,
    Ban,
    Channel,
    ChannelKind,
    DeadLetter,
    Decoy,
    Delegate,
    Deny,
    DialectName,
    Effect,
    Exchange,
    Forward,
    ResultCode,
    Role,
    Segment,
    Severity,
    UnixNanos,
    Verdict,
)

PROBED_LABEL: Final = "protocol.probed."
"""Of findings; the prime follows."""
_FAULTS: Final = {
    ErrorCode.INVALID_FORMAT: "INVALID_FORMAT",
    ErrorCode.INVALID_TASK: "INVALID_TASK",
    ErrorCode.INVALID_PARAM: "INVALID_PARAM",
}

_JOINED: Final = frozenset({DialectName.ANTHROPIC_MESSAGES, DialectName.OPENAI_RESPONSES})
"""Where an answer may have several texts."""


class ProtocolPolicy:
    """The protocol as one route wants it. Immutable but for a memo."""

    __slots__ = ("_boundary", "_drawn", "_key", "config", "free", "name", "prompt", "served")

    def __init__(
        self,
        config: ProtocolConfig,
        key: bytes = b"",
        boundary: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        """`key`: secret bytes, the same on every sidecar of a tenant, from which moving traps and decoys are drawn."""
        if not key and (config.honeypot.rotating_traps or config.honeypot.decoy):
            raise ValueError("rotating traps and decoys need a key: without one everybody could compute them")
        self.name = "mathprotocol"
        self.config = config
        self.prompt = system_prompt(config)
        self.served = config.served
        self.free = FREE_PRIMES - config.served
        """Where traps may lie, and what is a probe if it is tried."""
        self._key = hmac.digest(key, b"aegis mathprotocol 1", hashlib.sha256)
        self._boundary = boundary
        self._drawn: tuple[int, frozenset[int]] = -1, frozenset()
        """Period and its traps, as last drawn: a draw costs as much as a whole validation."""

    def with_traps(self, placements: Iterable[TrapPlacement]) -> "ProtocolPolicy":
        """This policy with its traps where the control plane wants them."""
        honeypot = self.config.honeypot
        for placement in placements:
            honeypot = replace(
                honeypot,
                generation=(honeypot.generation + placement.generation) % (1 << 32),
                probed_primes=honeypot.probed_primes | placement.probed_primes,
            )
        moved = copy(self)
        moved.config = replace(self.config, honeypot=honeypot)
        moved._drawn = -1, frozenset()
        return moved

    def open(self, exchange: Exchange) -> "ProtocolRun":
        """A fresh run for one exchange."""
        return ProtocolRun(self, self._key, self._boundary, exchange)

    def fault(self, request: Request | None) -> ErrorCode | None:
        """What is wrong with a request on this route; None: it may be served."""
        params = self.config.params if request is None else self.config.params_of(request.task)
        return request_fault(request, self.served, params)

    def traps(self, now: UnixNanos) -> frozenset[int]:
        """Every prime that is a trap at `now`."""
        honeypot = self.config.honeypot
        if not honeypot.rotating_traps:
            return self.config.trap_primes
        period = period_of(now, honeypot)
        if self._drawn[0] != period:
            moving = traps_of_period(period, self._key, honeypot, self.free)
            self._drawn = period, self.config.trap_primes | moving
        return self._drawn[1]


class ProtocolRun:
    """The protocol during one exchange."""

    __slots__ = (
        "_answered",
        "_asked",
        "_boundary",
        "_config",
        "_exchange",
        "_findings",
        "_gates",
        "_key",
        "_kind",
        "_policy",
        "_restarts",
    )

    def __init__(self, policy: ProtocolPolicy, key: bytes, boundary: Callable[[], str], exchange: Exchange) -> None:
        self._policy = policy
        self._config = policy.config
        self._key = key
        self._boundary = boundary
        self._exchange = exchange
        self._asked = False
        self._kind = Kind.CLASSIFICATION
        self._gates: dict[Channel, AnswerGate | None] = {}
        self._answered: Channel | None = None
        self._restarts = 0
        self._findings: dict[str, int] = {}

    @property
    def rewrites_answer(self) -> bool:
        """Whether there is a valid request whose answer must be checked."""
        return self._asked

    def request(self, segments: Sequence[Segment], now: UnixNanos) -> Verdict:
        """Refused, or forwarded with the system prompt added and CONTEXT between boundaries nobody can guess."""
        if self._config.mode is ProtocolMode.OFF:
            return FORWARD_UNCHANGED
        segment = last_user_text(segments)
        text = segment.text if segment else ""
        request = parse_request(text)
        self._note_probes(request, text)
        if self._is_trap(request, text, self._policy.traps(now)):
            return self._trapped(text)
        fault = self._policy.fault(request)
        if self._exchange.unreadable:
            fault = ErrorCode.INVALID_FORMAT  # an image or a file is no CONTEXT that anyone could check
        if fault is not None or request is None or segment is None:
            return self._refused(fault or ErrorCode.INVALID_FORMAT)
        context = clean_context(request.context, self._config.context)
        if isinstance(context, ContextFault):
            return self._refused(ErrorCode.INVALID_FORMAT)
        self._asked = True
        self._kind = self._config.kind(request.task)
        if self._config.mode is ProtocolMode.MONITOR:
            return Forward(task=request.task)
        if self._config.is_code(request.task):
            return Delegate(request.task, request.param, context)
        edits = {segment.path: self._bounded(request, context)} if request.context else {}
        return Forward(edits, self._policy.prompt, task=request.task, guards_answer=True)

    def response(self, channel: Channel, piece: str, now: UnixNanos, *, last: bool) -> str | Deny:  # noqa: ARG002 contract
        """What of a valid answer may be seen by now. Bounded hold: see `AnswerGate`."""
        if self._config.mode is ProtocolMode.MONITOR:
            self._watch(channel, piece, last=last)
            return piece
        match channel.kind:
            case ChannelKind.REASONING:
                return ""  # thinking aloud is no answer; the application asked for codes
            case ChannelKind.ECHO:
                return piece
            case ChannelKind.TEXT:
                gate = self._gate(channel)
            case ChannelKind.REPETITION:
                if not piece.strip() and self._answered is None:
                    return piece  # of an item that has only begun
                gate = self._gate_of_repetition(channel)
            case _:
                return self._invalid("channel") if piece.strip() else piece
        if gate is None:
            return self._invalid("second_text") if piece.strip() else ""
        released = gate.feed(piece, last=last)
        return self._invalid(released.reason) if isinstance(released, InvalidAnswer) else released

    def restart(self) -> None:
        """Forget the void answer; one try fewer remains."""
        self._gates.clear()
        self._answered = None
        self._restarts += 1

    def findings(self) -> Mapping[str, int]:
        """`protocol.*` -> count."""
        return self._findings

    def _gate(self, channel: Channel) -> AnswerGate | None:
        if channel in self._gates:
            return self._gates[channel]
        # The texts of one answer are joined by the application: two valid answers would make an invalid one. Choices
        # (OpenAI's n > 1) are answers of their own.
        joined = self._exchange.dialect in _JOINED and self._answered is not None
        gate = None if joined else AnswerGate(self._kind, self._config.max_answer)
        self._answered = channel
        self._gates[channel] = gate
        return gate

    def _gate_of_repetition(self, channel: Channel) -> AnswerGate | None:
        """A new gate: what is said again must be a whole answer by itself, and the same text of the answer."""
        text = channel._replace(kind=ChannelKind.TEXT)
        if self._answered is None:
            self._answered = text
        return AnswerGate(self._kind, self._config.max_answer) if self._answered[:3] == text[:3] else None

    def _watch(self, channel: Channel, piece: str, *, last: bool) -> None:
        gate = self._gate(channel) if channel.kind is ChannelKind.TEXT else None
        if gate is not None and isinstance(gate.feed(piece, last=last), InvalidAnswer):
            self._count("protocol.invalid_answer")
            self._gates[channel] = None  # counted once; what follows is not looked at

    def _note_probes(self, request: Request | None, text: str) -> None:
        """Which primes without a task are tried: where traps belong (`HoneypotConfig.probed_primes`)."""
        for prime in self._policy.free & (probed_tasks(text) if request is None else {request.task}):
            self._count(f"{PROBED_LABEL}{prime}")

    def _is_trap(self, request: Request | None, text: str, traps: frozenset[int]) -> bool:
        if request is None:
            return bool(traps & probed_tasks(text))
        canaries = self._config.canary_params - self._config.params_of(request.task)
        return request.task in traps or request.param in canaries

    def _trapped(self, text: str) -> Verdict:
        self._count("protocol.honeypot")
        alert = Alert("HONEYPOT_TRIGGERED", Severity.CRITICAL)
        if self._config.mode is ProtocolMode.MONITOR:
            return Forward(effects=(alert,))
        effects: tuple[Effect, ...] = (alert,)
        if self._config.ban_seconds > 0:
            effects += (Ban(self._exchange.peer, self._config.ban_seconds, "HONEYPOT_TRIGGERED"),)
        if self._config.honeypot.decoy:
            return Decoy(decoy_answer(self._key, self._exchange.peer, text), effects)
        # The message must not tell a prober which code was the trap.
        return Deny(ResultCode.DENIED_PROTOCOL, 403, "forbidden", "Forbidden.", effects)

    def _refused(self, fault: ErrorCode) -> Verdict:
        self._count("protocol." + _FAULTS[fault].lower())
        if self._config.mode is ProtocolMode.MONITOR:
            return Forward(effects=(Alert("PROTOCOL_" + _FAULTS[fault], Severity.INFO),))
        return Deny(ResultCode.DENIED_PROTOCOL, 400, str(int(fault)), refusal(fault, self._config))

    def _invalid(self, reason: str) -> Deny:
        self._count("protocol.invalid_answer")
        self._count("protocol.invalid_answer." + reason)
        return Deny(
            ResultCode.INVALID_ANSWER,
            502,
            "invalid_protocol_answer",
            "The model's answer was not a valid MathProtocol response to this task, so it was withheld.",
            (Alert("INVALID_ANSWER", Severity.WARNING, reason), DeadLetter("INVALID_ANSWER")),
            retry=self._restarts < self._config.max_protocol_retries,
        )

    def _bounded(self, request: Request, context: str) -> str:
        tag = f"USER_DATA_SEGMENT_ID_{self._boundary()}"
        return f"{request.task}-{request.param} | <{tag}>{context}</{tag}>"

    def _count(self, label: str) -> None:
        self._findings[label] = self._findings.get(label, 0) + 1


def last_user_text(segments: Sequence[Segment]) -> Segment | None:
    """The one text of the last user message, or None when there is no user or that message has several texts.

    A request spread over parts could read differently to the model than to us.
    """
    users = [s for s in segments if s.role is Role.USER]
    texts = [s for s in users if s.text and _message(s) == _message(users[-1])]
    return texts[0] if len(texts) == 1 else None


def refusal(fault: ErrorCode, config: ProtocolConfig) -> str:
    """What the application's developer is told. Never prompt text."""
    match fault:
        case ErrorCode.INVALID_FORMAT:
            return (
                "The last user message must be one text of the form TASK-PARAM or TASK-PARAM | CONTEXT, with CONTEXT on"
                " one line and not too long, for example `2-1 | I like it`. Error 4096 (invalid format)."
            )
        case ErrorCode.INVALID_TASK:
            return f"TASK must be one of {_listed(config.served)} on this route. Error 1024 (invalid task)."
        case ErrorCode.INVALID_PARAM:
            return f"PARAM must be one of {_listed(config.params)} on this route. Error 2048 (invalid param)."


def _listed(codes: frozenset[int]) -> str:
    return ", ".join(map(str, sorted(codes)))


def _message(segment: Segment) -> tuple[object, ...]:
    """The path down to the first list index: `messages[3]`."""
    for depth, step in enumerate(segment.path):
        if isinstance(step, int):
            return segment.path[: depth + 1]
    return segment.path
