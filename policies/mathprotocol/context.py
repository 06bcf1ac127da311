"""CONTEXT as Unicode: normalised to NFC, bounded in bytes and code points, and cleaned as policy says.

Two spellings of one text must not be two texts to a cache, a detector and a model, so NFC comes first. Lone surrogates
are no UTF-8 and never leave the pod.
"""

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from policies.errors import refuse

_REPLACEMENT: Final = "\ufffd"
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
# UAX 9: embeddings, overrides, isolates and marks. They show a text in another order than it is read.
_BIDI: Final = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# Pictographs with what joins and modifies them. Letters, digits and CJK are none of them.
_EMOJI: Final = re.compile(
    "[\u203c\u2049\u2139\u2194-\u21aa\u231a-\u23ff\u25aa-\u25fe\u2600-\u27bf\u2934\u2935\u2b05-\u2b55\u3030\u303d"
    "\u3297\u3299\U0001f000-\U0001faff](?:[\ufe0e\ufe0f\u20e3\u200d]|[\U0001f3fb-\U0001f3ff]|[\U000e0020-\U000e007f])*"
)


class Damaged(StrEnum):
    """What to do with U+FFFD and lone surrogates: bytes that were lost on the way."""

    KEEP = "keep"
    """As U+FFFD, so that the model sees that something is missing."""
    STRIP = "strip"
    REFUSE = "refuse"


class Presence(StrEnum):
    """Whether a sort of characters stays."""

    KEEP = "keep"
    STRIP = "strip"


@dataclass(frozen=True, slots=True)
class ContextRules:
    """One route's settings. Construction raises ConfigError."""

    max_bytes: int = 1 << 20
    """UTF-8 bytes after normalisation."""
    max_code_points: int = 1 << 20
    damaged: Damaged = Damaged.KEEP
    bidi: Presence = Presence.STRIP
    emoji: Presence = Presence.KEEP

    def __post_init__(self) -> None:
        refuse(
            (not 1 <= getattr(self, name) <= 1 << 26, f"{name}: expected 1 to 67108864")
            for name in ("max_bytes", "max_code_points")
        )


class ContextFault(StrEnum):
    """Why a CONTEXT cannot be sent."""

    TOO_LONG = "too_long"
    DAMAGED = "damaged"


def clean_context(text: str, rules: ContextRules) -> str | ContextFault:
    """The text as it may be sent: NFC, encodable, within bounds. Cleaning it again changes nothing."""
    # Normalising can triple a text; what is far beyond the bound is not worth the work.
    if len(text) > 4 * rules.max_code_points:
        return ContextFault.TOO_LONG
    if text.isascii():
        return text if len(text) <= min(rules.max_bytes, rules.max_code_points) else ContextFault.TOO_LONG
    text = _SURROGATES.sub(_REPLACEMENT, text)
    if _REPLACEMENT in text and rules.damaged is Damaged.REFUSE:
        return ContextFault.DAMAGED
    if rules.damaged is Damaged.STRIP:
        text = text.replace(_REPLACEMENT, "")
    if rules.bidi is Presence.STRIP:
        text = _BIDI.sub("", text)
    if rules.emoji is Presence.STRIP:
        text = _EMOJI.sub("", text)
    text = unicodedata.normalize("NFC", text)  # last: stripping can bring a letter and its accent together
    if len(text) > rules.max_code_points or len(text.encode()) > rules.max_bytes:
        return ContextFault.TOO_LONG
    return text.strip()


def decode_context(raw: bytes, rules: ContextRules) -> str | ContextFault:
    """The text that `raw` spells in UTF-8, cleaned; what is not UTF-8 becomes U+FFFD before the rules apply."""
    return clean_context(raw.decode("utf-8", "replace"), rules)
