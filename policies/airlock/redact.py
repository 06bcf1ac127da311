"""Takes identifiers out of a prompt and opens the way back for them."""

import hmac
import re
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Final

from policies.airlock.config import Action, AirlockConfig
from policies.airlock.labels import Label
from policies.airlock.lookalikes import holding
from policies.airlock.memory import Span, SpanMemory
from policies.airlock.notes import is_clinical_note
from policies.airlock.recognizers.recognizer import phrases
from policies.airlock.rehydrate import Restorer, restores
from policies.airlock.scan import Scanner
from policies.airlock.surface import surfaces
from policies.airlock.tokens import Conversation, Tenant, Vault
from policies.airlock.whole import restored
from policies.errors import CapExceededError
from policies.model import (
    FORWARD_UNCHANGED,
    Channel,
    Deny,
    DialectName,
    Exchange,
    Forward,
    Nested,
    Path,
    PolicyRun,
    ResultCode,
    Role,
    Segment,
    UnixNanos,
    Verdict,
)

_PREAMBLE: Final = frozenset({Role.SYSTEM, Role.OTHER})

_STRUCTURAL: Final = frozenset(
    phrases("""
        content | text | input | output | arguments | prompt | system | messages | message | parts | part | body |
        data | value | values | query | question | answer | description | title | instructions | role | type |
        model | refusal | result | response | suffix | parameters
    """)
)
"""Keys that say where text stands in a request, not what it is."""
_LONGEST_FIELD: Final = 256
"""Characters of a string that its key may explain."""
# Looked up once: reaching a member costs more than the comparison.
_TOKENISE: Final = Action.TOKENISE
_USER: Final = Role.USER
_label: Final = itemgetter(2)
_UNISSUED: Final = "airlock.unissued_token"
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class AirlockPolicy:
    """The airlock as a policy of a pipeline. Shared by every exchange of a snapshot; usable from several threads."""

    def __init__(self, config: AirlockConfig, tenant_key: bytes, *, name: str = "airlock") -> None:
        """`tenant_key`: at least 32 secret bytes, the same on every sidecar of a tenant, else tokens change between
        turns."""
        if len(tenant_key) < 32:
            raise ValueError("tenant_key must be at least 32 bytes")
        self.name = name
        self.config = config
        self.tenant = Tenant(tenant_key)
        self.actions = {label: config.action(label) for label in Label}
        self.allowed = frozenset(label for label, action in self.actions.items() if action is Action.ALLOW)
        self.blocked = frozenset(label for label, action in self.actions.items() if action is Action.BLOCK)
        memory = SpanMemory(hmac.digest(tenant_key, b"aegis airlock span memory", "sha256"), config.cache_bytes)
        self.scanner = Scanner(config.caps, memory if config.cache_bytes else None)
        holding((), ())  # compiles what it looks for, before the first prompt

    def __repr__(self) -> str:
        """Never the key."""
        return f"AirlockPolicy({self.name!r}, {self.config.profile})"

    def open(self, exchange: Exchange) -> PolicyRun:
        """A fresh run for one exchange."""
        return AirlockRun(self, exchange)


class AirlockRun:
    """One exchange: its vault, its findings, the restorers of its answer."""

    __slots__ = ("_channel", "_channels", "_exchange", "_findings", "_policy", "_restorer", "_vault")

    def __init__(self, policy: AirlockPolicy, exchange: Exchange) -> None:
        self._policy = policy
        self._exchange = exchange
        self._vault: Vault | None = None
        self._findings: dict[str, int] = {}
        self._channels: dict[Channel, Restorer | None] = {}
        self._channel: Channel | None = None
        """The one that was fed last, as the object it came as."""
        self._restorer: Restorer | None = None
        """Its restorer."""

    def findings(self) -> Mapping[str, int]:
        """Label -> count of what was taken out of the prompt, generalised or refused; and how many tokens came back
        that were not of this exchange."""
        return self._findings

    # --- the prompt ---

    def request(self, segments: Sequence[Segment], now: UnixNanos) -> Verdict:  # noqa: ARG002 decides by text alone
        """Forward with tokens in place of identifiers, or Deny."""
        policy = self._policy
        unread = self._exchange.unreadable.keys() - policy.config.allow_unreadable if self._exchange.unreadable else ()
        if unread:
            return _deny(
                "aegis_unreadable_part",
                "the prompt holds parts that nobody can inspect and the policy does not allow: "
                f"{', '.join(sorted(unread))}",
            )
        texts: list[str] = []
        shifts: dict[int, int] = {}
        for place, segment in enumerate(segments):
            text = segment.text
            # Longer ones are prose and explain themselves.
            prefix = _explanation(segment.path) if len(text) <= _LONGEST_FIELD else ""
            if prefix:
                shifts[place] = len(prefix)
                text = prefix + text
            texts.append(text)
        try:
            scanned = policy.scanner.scan_all(texts)
        except CapExceededError as error:
            return _deny("aegis_inspection_limit", f"the prompt was not fully inspected: {error}")
        if Label.MEDICAL_RECORD_TEXT not in policy.allowed:
            scanned = [
                [Span(0, len(text), Label.MEDICAL_RECORD_TEXT)] if is_clinical_note(text) else spans
                for text, spans in zip(texts, scanned, strict=True)
            ]
        found: dict[int, list[Span]] = {}
        for place, spans in enumerate(scanned):
            if spans and (acted := self._acted_upon(spans, shifts.get(place, 0), len(segments[place].text))):
                found[place] = acted
        if not found:
            return FORWARD_UNCHANGED
        blocked = policy.blocked.intersection(self._findings) if policy.blocked else ()
        if blocked:
            return _deny(
                "aegis_identifier_blocked",
                f"the prompt holds identifiers that the policy refuses: {', '.join(sorted(blocked))}",
            )
        edits = self._edits(segments, found)
        return Forward(edits, policy.config.hint or None if self._vault is not None else None)

    def _acted_upon(self, spans: list[Span], shift: int, length: int) -> list[Span]:
        """Spans of the segment's own text that something happens to, counted. Not to be changed: it may be `spans`."""
        allowed, findings = self._policy.allowed, self._findings
        if shift or not allowed.isdisjoint(map(_label, spans)):
            spans = [
                Span(max(0, start - shift), min(length, end - shift), label)
                for start, end, label in spans
                if label not in allowed and end > shift
            ]
        for label in map(_label, spans):
            findings[label] = findings.get(label, 0) + 1
        return spans

    def _edits(self, segments: Sequence[Segment], found: dict[int, list[Span]]) -> dict[Path, str]:
        """The new texts. `found`: spans by the place of their segment."""
        exchange = self._exchange
        opening: str | None = None
        # Equal inputs must give equal vectors: queries and documents come in requests of their own.
        if exchange.dialect is not DialectName.OPENAI_EMBEDDINGS:
            for segment in segments:
                if segment.role is _USER:
                    opening = segment.text
                    break
        vault = Vault(Conversation(self._policy.tenant, exchange.peer, exchange.conversation, opening))
        edits = self._rewritten(vault, segments, found)
        if self._policy.config.quote_literals:
            while self._quote(vault, segments, found):
                edits = self._rewritten(vault, segments, found)
        self._vault = vault if vault.cores else None
        return edits

    def _rewritten(
        self, vault: Vault, segments: Sequence[Segment], found: Mapping[int, Sequence[Span]]
    ) -> dict[Path, str]:
        """The texts with what comes in place of every span."""
        edits: dict[Path, str] = {}
        # The preamble first: a value that stands there and in the conversation has one token, and it is the preamble's.
        later = []
        for place in sorted(found):
            segment = segments[place]
            if segment.role in _PREAMBLE:
                edits[segment.path] = self._replaced(vault, segment.text, found[place], preamble=True)
            else:
                later.append(place)
        for place in later:
            segment = segments[place]
            edits[segment.path] = self._replaced(vault, segment.text, found[place], preamble=False)
        return edits

    def _replaced(self, vault: Vault, text: str, spans: Sequence[Span], *, preamble: bool) -> str:
        """`text` with other words in place of its spans."""
        actions = self._policy.actions
        parts: list[str] = []
        done = 0
        for start, end, label in spans:
            value = text[start:end]
            action = actions[label]
            if action is _TOKENISE:
                word = vault.token(label, value, preamble=preamble)
            elif action is Action.REMOVE:
                word = removed(label)
            else:
                word = generalised(label, value, self._policy.config.restricted_zip3)
            parts += (text[done:start], word)
            done = end
        parts.append(text[done:])
        return "".join(parts)

    def _quote(self, vault: Vault, segments: Sequence[Segment], found: dict[int, list[Span]]) -> bool:
        """Adds LITERAL spans where a text already holds, in any spelling, a token that now stands for a value: what
        its writer put there must come back as text. Whether there were any."""
        quoted = 0
        for place in holding([segment.text for segment in segments], vault.cores) if vault.cores else ():
            spans = found.get(place, [])
            surfaced, _ = surfaces(segments[place].text, 0, vault.cores, whole=True)
            literals = _apart([Span(start, end, Label.LITERAL) for start, end, _ in surfaced], spans)
            if literals:
                found[place] = sorted([*spans, *literals])
                quoted += len(literals)
        if quoted:
            self._findings[Label.LITERAL] = self._findings.get(Label.LITERAL, 0) + quoted
        return quoted > 0

    # --- the answer ---

    @property
    def rewrites_answer(self) -> bool:
        """Whether any token is out that an answer could bring back."""
        return self._vault is not None

    def response(self, channel: Channel, piece: str, now: UnixNanos, *, last: bool) -> str | Deny:  # noqa: ARG002 no clock
        """What may be released of `channel`, with values in place of tokens."""
        if channel is self._channel and not last:  # nearly always
            return piece if self._restorer is None else self._restorer.feed(piece, last=False)
        vault = self._vault
        if vault is None:
            return piece
        if last and not self._channels:
            whole = self._whole(channel, piece, vault)
            if whole is not None:
                return whole
        if channel is not self._channel:
            self._open(channel, vault)
        restorer = self._restorer
        if last:
            del self._channels[channel]  # an answer may hold a million strings, each a channel of its own
            self._channel = None
        if restorer is None:
            return piece
        released = restorer.feed(piece, last=last)
        if last and restorer.unissued:
            self._count_unissued(restorer.unissued)
        return released

    def _whole(self, channel: Channel, text: str, vault: Vault) -> str | None:
        """What becomes of a text that came whole; None: a restorer must look at it."""
        rules = self._policy.config.restoration
        if not restores(channel, rules):
            return text
        whole = restored(text, channel.kind, vault, rules)
        if whole is None:
            return None
        text, unissued = whole
        if unissued:
            self._count_unissued(unissued)
        return text

    def _count_unissued(self, count: int) -> None:
        self._findings[_UNISSUED] = self._findings.get(_UNISSUED, 0) + count

    def _open(self, channel: Channel, vault: Vault) -> None:
        """Make `channel` the current one: to look it up by its value costs as much as to restore most pieces."""
        if channel not in self._channels:
            rules = self._policy.config.restoration
            self._channels[channel] = Restorer(channel, vault, rules) if restores(channel, rules) else None
        self._channel, self._restorer = channel, self._channels[channel]

    def restart(self) -> None:
        """Forget the answer so far."""
        self._channels.clear()
        self._channel = None


def _apart(spans: Sequence[Span], others: Sequence[Span]) -> list[Span]:
    """Those of `spans` that touch none of `others`. Both in order, and each without overlaps. Linear."""
    apart = []
    following = 0
    for span in spans:
        while following < len(others) and others[following].end <= span.start:
            following += 1
        if following == len(others) or span.end <= others[following].start:
            apart.append(span)
    return apart


def _deny(code: str, message: str) -> Deny:
    return Deny(ResultCode.DENIED_AIRLOCK, 400, code, message)


def _explanation(path: Path) -> str:
    """The key under which a short string stands, as a person would write it before the value: `mrn: `."""
    for step in reversed(path):
        if isinstance(step, Nested):
            return ""
        if isinstance(step, str):
            if step in _STRUCTURAL or len(step) > 64:
                return ""
            return _CAMEL.sub(" ", step).replace("_", " ") + ": "
    return ""


_YEAR: Final = re.compile(r"(?<!\d)(?:18|19|20|21)\d\d(?!\d)")


def generalised(label: Label, value: str, restricted_zip3: frozenset[str]) -> str:
    """Something coarser in place of `value`, for good: 45 CFR 164.514(b)(2)(i)(B) and (C)."""
    match label:
        case Label.AGE_OVER_89:
            return "90+"
        case Label.ZIP_CODE:
            area = value[:3]
            return "000" if area in restricted_zip3 or not area.isdecimal() else area
        case _:
            year = _YEAR.search(value)
            return year.group() if year else removed(label)


def removed(label: Label) -> str:
    """What stands in for a value that must not come back."""
    return f"[{label.replace('_', '-')}]"
