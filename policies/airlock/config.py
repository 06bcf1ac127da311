"""What one airlock policy does: which labels, what happens to each, what may be restored where, and its bounds."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from policies.airlock.labels import PROFILES, Label, Profile
from policies.errors import refuse
from policies.model import UnreadablePart


class Action(StrEnum):
    """What happens to an identifier in a prompt."""

    TOKENISE = "tokenise"
    """Replace it by `[LABEL-XXXXXX]` and put it back into the answer."""
    GENERALISE = "generalise"
    """Replace it by something coarser, for good: an age over 89 by `90+`, a ZIP code by its first three digits, a
    date by its year."""
    REMOVE = "remove"
    """Replace it by its name, `[SSN]`, for good: the model knows what stood there, no answer brings it back."""
    BLOCK = "block"
    """Refuse the whole exchange."""
    ALLOW = "allow"


class ToolRestore(StrEnum):
    """Whether values come back in what the model hands to tools."""

    NEVER = "never"
    ALLOW_LIST = "allow-list"
    ALL = "all"


GENERALISABLE: Final = frozenset({Label.AGE_OVER_89, Label.ZIP_CODE, Label.DATE, Label.DATE_OF_BIRTH})
"""Labels that have something coarser to become."""

RESTRICTED_ZIP3: Final = frozenset(
    "036 059 063 102 203 556 692 790 821 823 830 831 878 879 884 890 893".split()  # noqa: SIM905 reads as published
)
"""Three-digit ZIP areas of at most 20,000 people (2000 Census, the list of the HHS de-identification guidance); they
become 000. The rule says "current" Census: the list is configurable."""

MAX_CAP: Final = 1 << 30
MAX_CACHE: Final = 1 << 30
"""Bytes."""


@dataclass(frozen=True, slots=True)
class Caps:
    """Bounds that fail closed: past one of them the exchange is refused, never forwarded half inspected. Construction
    raises ConfigError, which names every field at fault."""

    max_text: int = 16 * 1024 * 1024
    """Characters of all texts of one prompt together."""
    max_spans_per_kib: int = 192
    """Identifiers per 1,024 characters, on top of `min_spans`."""
    min_spans: int = 64
    """Identifiers that any text may hold, however short."""
    max_candidates_per_kib: int = 1024
    """Candidates that the matcher may report per 1,024 characters before they are confirmed."""
    max_spans: int = 65_536
    """Identifiers of all texts of one prompt together; each costs some 10 microseconds, and as much in the answer."""

    def __post_init__(self) -> None:
        least = {"max_text": 1, "max_spans_per_kib": 1, "min_spans": 0, "max_spans": 1, "max_candidates_per_kib": 1}
        refuse(
            (not low <= getattr(self, name) <= MAX_CAP, f"{name}: expected {low} to {MAX_CAP}")
            for name, low in least.items()
        )


@dataclass(frozen=True, slots=True)
class Restoration:
    """Where values may come back."""

    tools: ToolRestore = ToolRestore.ALL
    tool_names: frozenset[str] = frozenset()
    """Tools that may receive values, for `allow-list`."""
    reasoning: bool = False
    """Whether values come back in the model's reasoning. Signed reasoning is never touched by any dialect."""
    links: bool = False
    """Whether values come back inside web addresses. An image link is fetched when it is shown: with this on, an
    injected prompt can make the answer carry values to a foreign host."""
    system_values: bool = True
    """Whether values that stand only in the system prompt come back. Off: a user cannot make the model tell them."""


@dataclass(frozen=True, slots=True)
class AirlockConfig:
    """One airlock policy. Construction raises ConfigError, which names every field at fault."""

    profile: Profile = Profile.HIPAA_SAFE_HARBOR
    actions: Mapping[Label, Action] = field(default_factory=dict)
    """What differs from the profile, whose labels are tokenised and all others allowed."""
    restoration: Restoration = field(default_factory=Restoration)
    caps: Caps = field(default_factory=Caps)
    quote_literals: bool = True
    """Whether token look-alikes in the prompt are tokenised themselves. Off only for tests of models."""
    allow_unreadable: frozenset[UnreadablePart] = frozenset()
    """Parts that may pass although nobody can read them. Any other one refuses the exchange: an image that is not
    inspected must not count as guarded."""
    hint: str = ""
    """Instruction placed before all others when something was tokenised, telling the model to copy tokens verbatim;
    empty: none."""
    restricted_zip3: frozenset[str] = RESTRICTED_ZIP3
    cache_bytes: int = 4 * 1024 * 1024
    """Memory for spans of texts seen before (chat histories are sent again with every turn); 0: none."""

    def __post_init__(self) -> None:
        refuse(self._checks())
        object.__setattr__(self, "actions", MappingProxyType(dict(self.actions)))

    def _checks(self) -> Iterator[tuple[bool, str]]:
        can = ", ".join(sorted(GENERALISABLE))
        for label, action in self.actions.items():
            wrong = action is Action.GENERALISE and label not in GENERALISABLE
            yield wrong, f"actions.{label}: {label} cannot be generalised; only {can} can"
        areas = all(len(area) == 3 and area.isascii() and area.isdigit() for area in self.restricted_zip3)
        yield not areas, "restricted_zip3: expected areas of three digits"
        yield not 0 <= self.cache_bytes <= MAX_CACHE, f"cache_bytes: expected 0 to {MAX_CACHE}"

    def action(self, label: Label) -> Action:
        """What happens to an identifier of this kind."""
        if label is Label.LITERAL:
            return Action.TOKENISE if self.quote_literals else Action.ALLOW
        default = Action.TOKENISE if label in PROFILES[self.profile] else Action.ALLOW
        return self.actions.get(label, default)
