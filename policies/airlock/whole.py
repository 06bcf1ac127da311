"""Puts values back into a text that came whole, at a fifth of what the machinery for streams costs.

A model copies tokens as they were sent, nine times in ten. One expression splits such a text at everything that is
written like a token; what is left must not hold the tag of any. In doubt the text is left to `rehydrate.Restorer`.
"""

import re
from typing import Final

from policies.airlock.config import Restoration
from policies.airlock.rehydrate import PLAIN_TEXT, LinkContext, needs_escape
from policies.airlock.surface import LONGEST, NAMES, holds_a_tag
from policies.airlock.tokens import LONGEST_TAG, SHORTEST_TAG, Vault
from policies.model import ChannelKind

_WRITTEN: Final = re.compile(rf"\[([A-Z0-9-]{{3,{LONGEST}}}-[0-9A-Z]{{{SHORTEST_TAG},{LONGEST_TAG}}})\]")
"""As `surface.WRITTEN`, with one group: splits into text, core, text, core, text."""

Restored = tuple[str, int]
"""A whole text with its values, and how many of its tokens nobody issued in this exchange."""


def restored(text: str, kind: ChannelKind, vault: Vault, rules: Restoration) -> Restored | None:
    """What becomes of the `text` of a channel in which values come back; None: look closer."""
    parts = _WRITTEN.split(text)
    between = "\0".join(parts[::2]) if len(parts) > 1 else text
    if holds_a_tag(between, vault.cores):
        return None
    if len(parts) == 1:
        return text, 0
    if "[\0" in between or "\\\0" in between:
        return None  # a second bracket, or a backslash, may belong to a token
    cores = parts[1::2]
    values = list(map(vault.value, cores))
    unissued = 0
    if None in values or not rules.system_values:
        for at, core in enumerate(cores):
            if values[at] is None:
                unissued += core.rpartition("-")[0] in NAMES
            if values[at] is None or (not rules.system_values and vault.is_preamble_only(core)):
                values[at] = f"[{core}]"
    if not _is_open(text, kind, vault, rules):
        return None
    parts[1::2] = values
    return "".join(parts), unissued


def _is_open(text: str, kind: ChannelKind, vault: Vault, rules: Restoration) -> bool:
    """Whether values may stand anywhere in `text`, as they are."""
    if kind is ChannelKind.TOOL_ARGUMENTS:
        return not any(map(needs_escape, vault.values()))
    return rules.links or kind not in PLAIN_TEXT or not LinkContext.may_start(text)
