"""Everything the airlock knows how to find."""

from typing import Final

from policies.airlock.recognizers import contact, dates, keyed, media, network, numbers, people, places, quotes, secrets

RECOGNIZERS: Final = (
    *contact.RECOGNIZERS,
    *network.RECOGNIZERS,
    *numbers.RECOGNIZERS,
    *dates.RECOGNIZERS,
    *keyed.RECOGNIZERS,
    *places.RECOGNIZERS,
    *people.RECOGNIZERS,
    *media.RECOGNIZERS,
    *secrets.RECOGNIZERS,
    *quotes.RECOGNIZERS,
)
"""Their order decides nothing."""
