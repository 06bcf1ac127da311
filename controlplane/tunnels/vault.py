"""All keys of the mesh in one row of the store, sealed; and who has acknowledged which epoch of them.

AES-256-GCM under a key that is a file of its own: a copy of the database gives nobody the keys. The epoch is
authenticated with them, so that an old row cannot be passed off as the newest. One row and one writer at a time: a
change is written only on top of the epoch that it was made from, which is all the concurrency control that replicas
need. From the commit on, a crash finds the new keys; before it, the old ones. Never a mix.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from controlplane.store.schema import TUNNEL_KEYS, TUNNEL_NODES
from controlplane.store.store import PolicyStore, StoreError, failures_named, reading
from controlplane.tunnels.resources import decode_state, encode_state
from controlplane.tunnels.state import TunnelState
from transport.keyring import KeyRingError

MAX_NODES: Final = 50_000
"""Sidecars that are remembered."""
_NONCE: Final = 12


@dataclass(frozen=True, slots=True)
class Kept:
    """The keys as they are in the store."""

    epoch: int
    """0: nothing was ever kept."""
    state: TunnelState = field(repr=False)


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """One sidecar process that takes keys, and how far it has come."""

    spiffe_id: str
    node_id: str
    epoch: int
    last_seen: float
    """Seconds since 1970."""


class TunnelVault:
    """Every method blocks on the database and may raise StoreError."""

    def __init__(self, store: PolicyStore, key: bytes) -> None:
        """`key`: 32 secret bytes, the same for all replicas."""
        if len(key) != 32:
            raise ValueError("expected a key of 32 bytes")
        self._engine = store.engine
        self._reading = reading(store.engine)
        self._cipher = AESGCM(HKDF(SHA256(), 32, salt=None, info=b"aegis tunnel keys").derive(key))

    def read(self) -> Kept:
        """The newest keys. Raises StoreError also when they were sealed with another key."""
        with failures_named(), self._reading.connect() as connection:
            row = connection.execute(select(TUNNEL_KEYS.c.epoch, TUNNEL_KEYS.c.sealed)).first()
        if row is None:
            return Kept(0, TunnelState())
        try:
            opened = self._cipher.decrypt(row.sealed[:_NONCE], row.sealed[_NONCE:], _bound(row.epoch))
            return Kept(row.epoch, decode_state(opened))
        except (InvalidTag, KeyRingError):
            raise StoreError(
                "the tunnel keys in the store were sealed with another key, or changed; "
                "start with the `tunnel_key_file` that they were sealed with"
            ) from None

    def epoch(self) -> int:
        """The newest epoch, without opening anything."""
        with failures_named(), self._reading.connect() as connection:
            return connection.execute(select(TUNNEL_KEYS.c.epoch)).scalar() or 0

    def write(self, state: TunnelState, *, base: int) -> bool:
        """Make `state` the newest, as epoch `base` + 1. False: somebody else was faster; read and decide again."""
        nonce = os.urandom(_NONCE)
        sealed = nonce + self._cipher.encrypt(nonce, encode_state(state), _bound(base + 1))
        try:
            with failures_named(), self._engine.begin() as connection:
                return _put(connection, base, sealed)
        except IntegrityError:
            return False  # another replica inserted the first row

    def acknowledge(self, nodes: Iterable[Acknowledged]) -> None:
        """Note what these sidecars have acknowledged."""
        with failures_named(), self._engine.begin() as connection:
            # In one order: replicas that note the same sidecars wait for each other, but never in a circle.
            for each in sorted(nodes, key=lambda node: (node.spiffe_id, node.node_id)):
                key = {"spiffe_id": each.spiffe_id, "node_id": each.node_id}
                values = {"epoch": each.epoch, "last_seen": round(each.last_seen * 1000)}
                # Both databases say ON CONFLICT alike; SQLAlchemy has it in two places.
                dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
                put = dialect.insert(TUNNEL_NODES).values({**key, **values})
                connection.execute(put.on_conflict_do_update(index_elements=list(key), set_=values))

    def acknowledged(self) -> list[Acknowledged]:
        """Every sidecar that is remembered."""
        with failures_named(), self._reading.connect() as connection:
            rows = connection.execute(select(TUNNEL_NODES)).all()
        return [Acknowledged(row.spiffe_id, row.node_id, row.epoch, row.last_seen / 1000) for row in rows]

    def forget(self, before: float) -> None:
        """Drop those who were not seen since `before` (seconds since 1970), and all but the latest MAX_NODES: their
        names are what sidecars say, and one that comes under another name each time must not fill the store."""
        with failures_named(), self._engine.begin() as connection:
            latest = select(TUNNEL_NODES.c.last_seen).order_by(TUNNEL_NODES.c.last_seen.desc())
            surplus = connection.execute(latest.offset(MAX_NODES).limit(1)).scalar() or 0
            until = max(round(before * 1000), surplus + 1)
            connection.execute(delete(TUNNEL_NODES).where(TUNNEL_NODES.c.last_seen < until))


def _put(connection: Connection, base: int, sealed: bytes) -> bool:
    values = {"epoch": base + 1, "sealed": sealed}
    if base == 0:
        known = connection.execute(select(TUNNEL_KEYS.c.epoch)).first()
        if known is not None:
            return False
        connection.execute(insert(TUNNEL_KEYS).values({"id": 1, **values}))
        return True
    return connection.execute(update(TUNNEL_KEYS).where(TUNNEL_KEYS.c.epoch == base).values(values)).rowcount == 1


def _bound(epoch: int) -> bytes:
    return b"aegis tunnel keys/1\n" + str(epoch).encode()
