"""Which sidecars are known, connected or not, and what each was last seen to hold. In memory, bounded.

After a restart of the control plane the sidecars come back within seconds and tell what they hold; only those that
were away before are forgotten.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from controlplane.discovery.session import Session
from controlplane.identity.spiffe import SpiffeId

MAX_KNOWN: Final = 20_000
FORGET_AFTER: Final = 86_400.0
"""Seconds that a sidecar is remembered after it left."""


@dataclass(slots=True)
class Node:
    """One sidecar. Owned by the Roster."""

    peer: SpiffeId
    session: Session
    """The latest stream's; it still tells what the sidecar held after the stream has ended."""
    connected_at: float
    """On the clock of the event loop, as `Session.last_seen`."""
    left_at: float | None = None
    """None: it is connected."""

    @property
    def connected(self) -> bool:
        """Whether its stream stands."""
        return self.left_at is None


class Roster:
    """Sidecars by SPIFFE id and node id: pods of one service account share the former."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[str, str], Node] = {}

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def join(self, peer: SpiffeId, session: Session, now: float) -> None:
        """A stream begins. A sidecar that comes again takes the place of its former self."""
        key = (str(peer), session.node_id)
        self._nodes.pop(key, None)
        if len(self._nodes) >= MAX_KNOWN:
            # Those that are away longest stand first.
            away = next((key for key, node in self._nodes.items() if not node.connected), next(iter(self._nodes)))
            del self._nodes[away]
        self._nodes[key] = Node(peer, session, now)

    def leave(self, peer: SpiffeId, session: Session, now: float) -> None:
        """A stream has ended."""
        node = self._nodes.get((str(peer), session.node_id))
        if node is not None and node.session is session:
            node.left_at = now

    def forget(self, now: float) -> None:
        """Drop those who left long ago."""
        gone = [
            key for key, node in self._nodes.items() if node.left_at is not None and now - node.left_at > FORGET_AFTER
        ]
        for key in gone:
            del self._nodes[key]
