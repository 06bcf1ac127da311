"""Everything the airlock knows how to find."""

from typing import Final

from policies.airlock.recognizers import (
    addresses,
    codes,
    contact,
    dates,
    keyed,
    media,
    network,
    numbers,
    people,
    quotes,
    secrets,
)
from policies.airlock.recognizers.recognizer import Recognizer

RECOGNIZERS: Final[tuple[Recognizer, ...]] = (
    *contact.RECOGNIZERS,
    *network.RECOGNIZERS,
    *numbers.RECOGNIZERS,
    *dates.RECOGNIZERS,
    *keyed.RECOGNIZERS,
    *codes.RECOGNIZERS,
    *addresses.RECOGNIZERS,
    *people.RECOGNIZERS,
    *media.RECOGNIZERS,
    *secrets.RECOGNIZERS,
    *quotes.RECOGNIZERS,
)
"""Their order decides nothing."""
