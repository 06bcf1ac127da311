"""Whether there is room for a request: what speaks against it from its head on, and how much of it may be held."""

from typing import Final

from policies.model import UnixNanos
from sidecar import refusals
from sidecar.plan import Plan
from sidecar.refusals import Refusal
from sidecar.services import Services

SHORT_BODY: Final = 64 * 1024
"""Bytes of a refused request that are read out so that its connection can live on."""


class Admission:
    """Of one request. Counts against the bound of its route, and against that on all bodies which are held."""

    __slots__ = ("_holds", "_plan", "_reserved", "_services", "_size", "refusal")

    def __init__(self, services: Services, plan: Plan, *, holds: bool) -> None:
        """`holds`: whether the body is held until it is whole."""
        self._services = services
        self._plan = plan
        self._holds = holds
        self._size = 0
        self._reserved = 0
        """Bytes of the bound on all held bodies that are ours."""
        self.refusal: Refusal | None = plan.refusal
        """Why it will be refused once its short body was read."""

    def at_head(self, length: int, now: UnixNanos) -> Refusal | None:
        """Why it is refused, as far as the head tells. `length`: of the body, negative: not known."""
        services, plan = self._services, self._plan
        if self.refusal is not None:
            pass
        elif services.effects.banned(services.peer, now):
            self.refusal = refusals.BANNED
        elif plan.audit_required and not services.audit.accepting:
            self.refusal = refusals.NO_AUDIT
        elif length > plan.max_body:
            self.refusal = refusals.too_large(plan.max_body)
        return self.refusal

    def count(self, size: int) -> Refusal | None:
        """More of the body came. Why the exchange must end now."""
        self._size += size
        if self.refusal is not None:
            return self.refusal if self._size > SHORT_BODY else None
        if self._size > self._plan.max_body:
            return refusals.too_large(self._plan.max_body)
        if self._holds:
            if not self._services.bodies.take(size):
                return refusals.OVERLOADED
            self._reserved += size
        return None

    def give_back(self) -> None:
        """The exchange is over: nothing is held any more."""
        if self._reserved:
            self._services.bodies.give(self._reserved)
