"""A spool whose writes fail on demand, before or after they took effect (STYLE 40)."""

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

from sidecar.audit.errors import SpoolError
from sidecar.audit.spool import Spool, open_spool


class Fault(Enum):
    """What becomes of one write."""

    NONE = "none"
    BEFORE = "fails and is not applied"
    AFTER = "fails and is applied all the same"


class FaultySpool(Spool):
    """A real spool behind a list of faults, one for each write; when the list is used up nothing fails."""

    faults: list[Fault]

    def commit(self, *arguments: Any, **keywords: Any) -> Any:
        return self._attempt(lambda: super(FaultySpool, self).commit(*arguments, **keywords))

    def begin_again(self, *arguments: Any, **keywords: Any) -> Any:
        return self._attempt(lambda: super(FaultySpool, self).begin_again(*arguments, **keywords))

    def keep_openings(self, *arguments: Any, **keywords: Any) -> Any:
        return self._attempt(lambda: super(FaultySpool, self).keep_openings(*arguments, **keywords))

    def _attempt(self, write: Callable[[], Any]) -> Any:
        fault = self.faults.pop(0) if self.faults else Fault.NONE
        if fault is Fault.BEFORE:
            raise SpoolError("disk on fire")
        result = write()
        if fault is Fault.AFTER:
            raise SpoolError("disk on fire, it seemed")
        return result


def faulty_spool(path: Path, faults: list[Fault], *, entropy: Callable[[int], bytes], now_us: int) -> FaultySpool:
    """A real spool at `path` whose next writes end as `faults` say."""
    spool = open_spool(path, entropy=entropy, now_us=now_us)
    spool.__class__ = FaultySpool
    assert isinstance(spool, FaultySpool)
    spool.faults = faults
    return spool
