"""What every exchange of a sidecar shares."""

import os
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Final

from policies.model import ExchangeId, UnixNanos
from sidecar.inspector import Inspector
from sidecar.plan import Planner
from sidecar.ports import AuditTrail, Effects, Plugins, Snapshots, Telemetry

_IDS_AT_ONCE: Final = 512
_RANDOM_DIGITS: Final = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long and how much."""

    body_timeout: float = 30.0
    """Seconds between two pieces of a request body."""
    stall_timeout: float = 60.0
    """Seconds a client may leave its answer unread."""
    inline_body: int = 64 * 1024
    """Bytes of a body up to which it is inspected, and of an answer up to which it is restored, on the event loop;
    longer ones go to the inspector's thread. Packed with identifiers, this much takes some 10 ms."""
    waiting_bodies: int = 256
    """Prompts and answers that may wait for the inspector's thread before further prompts are refused. Answers never
    are: they are asked for and paid for."""
    queue_timeout: float = 30.0
    """Seconds a request may wait for the inspector's thread and be read by it."""
    gathered_bodies: int = 512 * 1024 * 1024
    """Bytes of all request bodies that are held at one time; beyond it new ones are refused."""


class RequestIds:
    """Makes exchange ids: 26 hex digits, time-ordered, 56 of their bits random."""

    __slots__ = ("_millisecond", "_spare", "_time")

    def __init__(self) -> None:
        self._spare: list[str] = []
        self._millisecond = 0
        self._time = ""

    def __call__(self, now: UnixNanos) -> ExchangeId:
        """A new one."""
        millisecond = now // 1_000_000
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            self._time = f"{millisecond:012x}"
        if not self._spare:
            # One system call for many: it costs more than everything else here.
            digits = os.urandom(_IDS_AT_ONCE * _RANDOM_DIGITS // 2).hex()
            self._spare = [digits[at : at + _RANDOM_DIGITS] for at in range(0, len(digits), _RANDOM_DIGITS)]
        return ExchangeId(self._time + self._spare.pop())


class Allowance:
    """A number of bytes that all exchanges share."""

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = size

    def take(self, size: int) -> bool:
        """Reserves, or says that there is not as much left."""
        if size > self.left:
            return False
        self.left -= size
        return True

    def give(self, size: int) -> None:
        """Gives back what was taken."""
        self.left += size


class Services:
    """The ports and shared state of the data path. Put together by app.py; owned by one event loop."""

    __slots__ = (
        "audit",
        "bodies",
        "clock",
        "draining",
        "effects",
        "inspector",
        "limits",
        "new_id",
        "now",
        "peer",
        "planner",
        "plugins",
        "snapshots",
        "telemetry",
    )

    def __init__(
        self,
        *,
        snapshots: Snapshots,
        planner: Planner,
        audit: AuditTrail,
        telemetry: Telemetry,
        effects: Effects,
        inspector: Inspector,
        limits: Limits,
        peer: str,
        plugins: Plugins,
        clock: Callable[[], float],
        now: Callable[[], UnixNanos],
    ) -> None:
        self.snapshots = snapshots
        self.planner = planner
        self.plugins = plugins
        self.audit = audit
        self.telemetry = telemetry
        self.effects = effects
        self.inspector = inspector
        self.limits = limits
        self.peer = peer
        """Name of whoever is connected here: see `Exchange.peer`."""
        self.clock = clock
        """Seconds, never goes back: the event loop's."""
        self.now = now
        self.new_id = RequestIds()
        self.draining = False
        """Whether connections are to be closed after their current exchange."""
        self.bodies = Allowance(limits.gathered_bodies)
        """For request bodies that are gathered."""

    def for_peer(self, workload: str, inbound: str) -> "Services":
        """The same for requests that `workload` sends through the tunnel of the Peer `inbound`."""
        others = copy(self)
        others.peer = workload
        others.planner = self.planner.for_peer(inbound)
        return others
