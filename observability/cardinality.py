"""Bounds on label values that somebody else chooses."""

import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from observability.names import NONE, OTHER

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")


def plain_name(text: str) -> str:
    """`text` when it looks like a name of something (a model, a route), else `other`; `none` when it is empty.

    A model name comes from the client: without this a prompt put in the wrong field would become a label.
    """
    if not text:
        return NONE
    return text if _NAME.fullmatch(text) else OTHER


class RecentNames:
    """At most `limit` names at a time; a name unused for `idle` makes room, everything else is `other`.

    Only names that somebody trustworthy confirmed may enter (`confirmed`): a client that asks for invented models, to
    which the provider says 404, can neither fill the table nor push others out. Not thread-safe.
    """

    def __init__(self, limit: int, *, idle: int, forget: Callable[[str], None]) -> None:
        self._limit = limit
        self._idle = idle
        """Nanoseconds."""
        self._forget = forget
        """Told of a name whose series may be dropped."""
        self._last_used: OrderedDict[str, int] = OrderedDict()

    def label(self, name: str, now: int, *, confirmed: bool) -> str:
        """The label value for `name` at `now` (nanoseconds)."""
        name = plain_name(name)
        if name in {NONE, OTHER}:
            return name
        if name in self._last_used:
            self._last_used[name] = now
            self._last_used.move_to_end(name)
            return name
        if not confirmed or not self._has_room(now):
            return OTHER
        self._last_used[name] = now
        return name

    def _has_room(self, now: int) -> bool:
        if len(self._last_used) < self._limit:
            return True
        oldest, last_used = next(iter(self._last_used.items()))
        if now - last_used < self._idle:
            return False
        del self._last_used[oldest]
        self._forget(oldest)
        return True
