"""Finds requests that were meant to be ones: the bracketed, spaced or foreign-digit spellings an attacker tries first.

Only asked about texts that are not of the grammar, so it never decides about valid traffic.
"""

import re
from typing import Final

# At the start of a line or after a composite's arrow, a pair of numbers that ends the line or is followed by a pipe or
# an arrow. `\d` is meant: a trap spelt in Arabic digits is a probe too. "43-50 years old" is not.
_OPEN: Final = r"[\[({<]{0,2}\s{0,3}"
_CLOSE: Final = r"\s{0,3}[\])}>]{0,2}"
_DASH: Final = r"\s{0,3}[-\u2010-\u2015\u2212:]\s{0,3}"
_PAIR: Final = re.compile(
    rf"(?:^|->|&|\|)\s{{0,10}}{_OPEN}(\d{{1,6}}){_CLOSE}{_DASH}{_OPEN}\d{{1,6}}{_CLOSE}\s{{0,10}}(?=$|[|\u00a6]|->|&)",
    re.MULTILINE,
)
_SCANNED: Final = 1024
"""Characters looked at: a probe stands at the front, and the rest is refused anyway."""


def probed_tasks(text: str) -> frozenset[int]:
    """Task numbers that `text` tries to reach in any near-grammatical spelling."""
    return frozenset(int(found) for found in _PAIR.findall(text[:_SCANNED]))
