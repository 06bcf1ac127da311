"""Where requests come in that other workloads send through tunnels: the same way as those of the application beside us,
under routes of their own (`Route.inbound`), in the name of the workload that the tunnel has verified.
"""

from collections import OrderedDict
from typing import Final

from sidecar.deadlines import Deadlines
from sidecar.listener import ClientConnection, ConnectionLimits, Listener
from sidecar.services import Services

MAX_KEPT: Final = 1024
"""Callers whose heads are remembered; beyond it the one that called longest ago starts anew."""


class InboundStreams:
    """A listener for each caller, so that bans, audit and remembered heads are each caller's own."""

    def __init__(self, services: Services, deadlines: Deadlines, limits: ConnectionLimits) -> None:
        self._services = services
        self._deadlines = deadlines
        self._limits = limits
        self._listeners: OrderedDict[tuple[str, str], Listener] = OrderedDict()

    def stream(self, workload: str, inbound: str) -> ClientConnection:
        """The protocol of a new stream. `workload`: verified SPIFFE id; `inbound`: name of the Peer document."""
        key = (workload, inbound)
        listener = self._listeners.get(key)
        if listener is None:
            self._make_room()
            listener = Listener(self._services.for_peer(workload, inbound), self._deadlines, self._limits)
            self._listeners[key] = listener
        self._listeners.move_to_end(key)
        return ClientConnection(listener)

    @property
    def connections(self) -> int:
        """How many streams stand."""
        return sum(listener.connections for listener in self._listeners.values())

    @property
    def exchanges(self) -> int:
        """How many exchanges are under way."""
        return sum(listener.exchanges for listener in self._listeners.values())

    def stop_accepting(self) -> None:
        """End idle streams, and let each of the others finish its exchange."""
        for listener in self._listeners.values():
            listener.stop_accepting()

    async def drained(self) -> None:
        """Returns when no stream is left."""
        for listener in list(self._listeners.values()):
            await listener.drained()

    def abort(self) -> None:
        """Reset every stream that is left."""
        for listener in self._listeners.values():
            listener.abort()

    def _make_room(self) -> None:
        """For one more caller. Those that have streams are kept, however many there are."""
        idle = [key for key, listener in self._listeners.items() if not listener.connections]
        for key in idle[: max(0, len(self._listeners) + 1 - MAX_KEPT)]:
            del self._listeners[key]
