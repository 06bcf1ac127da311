"""False answers for caught probers: in protocol, plausible, and worth nothing.

One prober that sends one request gets one answer however often it asks, as from a model at temperature 0; another
prober gets another, so that answers cannot be compared to find the traps.
"""

import hashlib
import hmac
from typing import Final

_CODES: Final = ("3-128", "5-128", "9-128", "3-256", "9-256", "17-128", "33-256")
_SUBJECTS: Final = ("The request", "The text", "The record", "The given data", "The passage", "The entry")
_STATES: Final = ("was processed", "has been reviewed", "was matched", "was indexed", "is complete", "was summarised")
_ENDS: Final = (
    "without remarks.",
    "with one remark; see section 2.",
    "on the second attempt.",
    "under reference {number}.",
    "and needs no further step.",
)


def decoy_answer(key: bytes, peer: str, request: str) -> str:
    """A valid protocol answer that says nothing true."""
    drawn = hmac.digest(
        key, b"aegis decoy 1" + peer.encode() + b"\0" + request.encode("utf-8", "replace"), hashlib.sha256
    )
    if drawn[0] % 2:
        return _CODES[drawn[1] % len(_CODES)]
    end = _ENDS[drawn[4] % len(_ENDS)].format(number=int.from_bytes(drawn[5:8], "big"))
    return f"17-128 | {_SUBJECTS[drawn[2] % len(_SUBJECTS)]} {_STATES[drawn[3] % len(_STATES)]} {end}"
