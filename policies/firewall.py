"""The context firewall: how much a text tries to instruct whoever reads it, and what to do about that.

Each reading of a text (firewall_views) is scanned for weighted cues (firewall_patterns, firewall_structure,
firewall_languages) in linear time by hyperscan; the score is the sum of the weights of the distinct cues in the worst
reading. Text that nobody disguises for an honest reason counts extra once it shows any cue.

Limits: this is a filter, not a proof. A patient attacker can phrase an order that no cue knows; what makes routes safe
is that answers must be in protocol, that tokens are restored only where policy allows, and that boundaries are random.
"""

import functools
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from policies.firewall_config import FirewallConfig, FirewallMode
from policies.firewall_cue import Cue
from policies.firewall_languages import LANGUAGES
from policies.firewall_patterns import PHRASES
from policies.firewall_structure import STRUCTURE
from policies.firewall_views import Expressions, Reader, View
from policies.model import (
    FORWARD_UNCHANGED,
    Alert,
    Channel,
    Deny,
    DialectName,
    Exchange,
    Forward,
    ResultCode,
    Role,
    Segment,
    Severity,
    UnixNanos,
    Verdict,
)

CUES: Final[tuple[Cue, ...]] = (*PHRASES, *STRUCTURE, *LANGUAGES)
"""Known phrases, what orders consist of, and the same in other languages."""
_DISGUISE: Final = 0.4
"""Added when a cue only shows after a disguise was taken off."""
_HARMLESS_DISGUISES: Final = frozenset({"entities", "percent", "leet", "lookalikes"})
"""Web addresses, pasted HTML, model numbers and Russian text show these forms without anybody hiding anything."""
_ROLES: Final = frozenset({Role.USER, Role.TOOL})


class Score(NamedTuple):
    """How a text was judged."""

    value: float
    cues: tuple[str, ...]
    """Names of the cues of the worst reading, and of its disguise; bounded, no text."""


class InjectionScanner:
    """Scores texts. Immutable; may be used by several threads at once.

    Building one compiles some two hundred expressions and takes three seconds of CPU: keep it off an event loop, and
    keep the result.
    """

    __slots__ = ("_beside", "_cues", "_marks", "_reader", "_words")

    def __init__(self, cues: Sequence[Cue] = CUES) -> None:
        self._cues = tuple(cues)
        numbers = {cue.name: number for number, cue in enumerate(cues)}
        self._beside = {number: numbers[cue.beside] for number, cue in enumerate(cues) if cue.beside}
        self._reader = Reader()
        self._words = Expressions(_numbered(cues, marks=False))
        self._marks = Expressions(_numbered(cues, marks=True))

    def score(self, text: str) -> Score:
        """The worst reading's score. O(len(text))."""
        worst = Score(0.0, ())
        shown: set[int] = set()
        for view in self._reader.views(text):
            found = self._found(view)
            if not view.disguise:
                shown = found
            # Half of a trick in the open and half in base64 is still one trick.
            joint = self._judged(found | shown, view.disguise if found - shown else "")
            worst = max(worst, joint)
        return worst

    def _found(self, view: View) -> set[int]:
        return self._words.found(view.words) | self._marks.found(view.marks)

    def _judged(self, found: set[int], disguise: str) -> Score:
        found = {cue for cue in found if self._beside.get(cue, cue) in found}
        value = sum(self._cues[i].weight for i in found)
        names = tuple(self._cues[i].name for i in sorted(found))
        if disguise:
            names += (f"disguise-{disguise}",)
            value += 0.0 if disguise in _HARMLESS_DISGUISES else _DISGUISE
        return Score(round(value, 3), names)


@functools.cache
def injection_scanner() -> InjectionScanner:
    """The scanner of this process. It depends on nothing but this build, so a second one would only cost a second."""
    return InjectionScanner()


class FirewallPolicy:
    """Refuses prompts whose user or tool text scores as an injection. Immutable."""

    __slots__ = ("config", "name", "scanner")

    def __init__(self, config: FirewallConfig, scanner: InjectionScanner) -> None:
        self.name = "firewall"
        self.config = config
        self.scanner = scanner

    def open(self, exchange: Exchange) -> "FirewallRun":
        """A fresh run for one exchange."""
        # A dialect says who speaks; where none is known, any text may be a user's.
        roles = _ROLES | {Role.OTHER} if exchange.dialect is DialectName.GENERIC else _ROLES
        return FirewallRun(self.config, self.scanner, roles)


class FirewallRun:
    """The firewall during one exchange."""

    __slots__ = ("_config", "_findings", "_roles", "_scanner")

    def __init__(self, config: FirewallConfig, scanner: InjectionScanner, roles: frozenset[Role]) -> None:
        self._roles = roles
        self._config = config
        self._scanner = scanner
        self._findings: dict[str, int] = {}

    rewrites_answer = False

    def request(self, segments: Sequence[Segment], now: UnixNanos) -> Verdict:  # noqa: ARG002 contract
        """Refused at the first text whose score reaches the threshold."""
        for segment in segments:
            if segment.role in self._roles:
                score = self._scanner.score(segment.text)
                if score.value >= self._config.threshold:
                    return self._suspected(score)
        return FORWARD_UNCHANGED

    def response(self, channel: Channel, piece: str, now: UnixNanos, *, last: bool) -> str | Deny:  # noqa: ARG002 contract
        """The piece as it came."""
        return piece

    def restart(self) -> None:
        """Nothing is kept of an answer."""

    def findings(self) -> Mapping[str, int]:
        """`firewall.injection` -> 1 when the threshold was reached."""
        return self._findings

    def _suspected(self, score: Score) -> Verdict:
        self._findings["firewall.injection"] = 1
        effects = (Alert("INJECTION_SUSPECTED", Severity.WARNING, f"score {score.value}: {', '.join(score.cues)}"),)
        if self._config.mode is FirewallMode.MONITOR:
            return Forward(effects=effects)
        return Deny(
            ResultCode.DENIED_FIREWALL,
            403,
            "prompt_injection_suspected",
            "The prompt holds text that tries to override its reader's instructions. If this is a false alarm, ask the"
            " operator to raise the firewall's threshold for this route.",
            effects,
        )


_ACCENTS: Final = re.compile("[\u0300-\u036f]")
_ANY_WORDS: Final = re.compile(r"W\{(\d+)\}")


def _numbered(cues: Sequence[Cue], *, marks: bool) -> Iterator[tuple[int, bytes]]:
    for number, cue in enumerate(cues):
        for expression in cue.expressions if cue.marks is marks else ():
            folded = _ACCENTS.sub("", unicodedata.normalize("NFKD", expression))
            yield number, _ANY_WORDS.sub(r"(?:[^ ]+ ){0,\1}", folded).encode()
