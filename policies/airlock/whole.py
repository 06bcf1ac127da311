"""Puts values back into a text that came whole, at a quarter of what the machinery for streams costs.

A model copies tokens as they were sent, nine times in ten. One expression splits such a text at everything that is
written like a token; what is left must not hold the tag of any. In doubt the text is left to `rehydrate.Restorer`.
"""

from typing import Final

from policies.airlock.config import Restoration
from policies.airlock.rehydrate import PLAIN_TEXT, LinkContext, needs_escape
from policies.airlock.surface import NAMES, WRITTEN, holds_a_tag
from policies.airlock.tokens import Vault
from policies.model import ChannelKind

_STEP: Final = 4
"""`WRITTEN.split` gives text, core, name, tag, text, and so on."""
_DOUBLED: Final = ("[", "\\")
"""What belongs to a token if it stands before its bracket."""


Restored = tuple[str, int]
"""A whole text with its values, and how many of its tokens nobody issued in this exchange."""


def restored(text: str, kind: ChannelKind, vault: Vault, rules: Restoration) -> Restored | None:
    """What becomes of the `text` of a channel in which values come back; None: look closer."""
    parts = WRITTEN.split(text)
    if len(parts) == 1:
        return None if holds_a_tag(text, vault.cores) else (text, 0)
    unissued = changed = 0
    value_of = vault.value
    for at in range(1, len(parts), _STEP):
        core = parts[at]
        value = value_of(core)
        if value is None:
            unissued += parts[at + 1] in NAMES
        elif parts[at - 1].endswith(_DOUBLED):
            return None
        elif rules.system_values or not vault.is_preamble_only(core):
            parts[at] = value
            changed += 1
            continue
        parts[at] = f"[{core}]"
    if holds_a_tag("\0".join(parts[::_STEP]), vault.cores):
        return None
    if not changed:
        return text, unissued
    if not _is_open(text, kind, vault, rules):
        return None
    del parts[2::_STEP], parts[2::3]  # names and tags
    return "".join(parts), unissued


def _is_open(text: str, kind: ChannelKind, vault: Vault, rules: Restoration) -> bool:
    """Whether values may stand anywhere in `text`, as they are."""
    if kind is ChannelKind.TOOL_ARGUMENTS:
        return not any(map(needs_escape, vault.values()))
    return rules.links or kind not in PLAIN_TEXT or not LinkContext.may_start(text)
