"""Two workloads of a small mesh: certificates, ECH keys, Noise statics, and who may reach whom."""

import os
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.fakes.tls13 import NOW, Pki
from transport.ech.config import EchKey, generate_key
from transport.noise.suite import StaticKey
from transport.tls13.config import ServerConfig
from transport.tls13.connection import Connection
from transport.tunnel.accepting import Accepting, Reception
from transport.tunnel.binding import Established
from transport.tunnel.dialling import Dialling, Plan

PUBLIC_NAME = "mesh.example"
SERVICE = "billing.internal"
ALICE = "spiffe://mesh/alice"
BOB = "spiffe://mesh/bob"
PKI = Pki()
CREDENTIAL = PKI.credential(PUBLIC_NAME, SERVICE)


def static_key() -> StaticKey:
    """A fresh one."""
    return StaticKey.of(X25519PrivateKey.generate())


def ech_key(*live: EchKey, public_name: str = PUBLIC_NAME) -> EchKey:
    """A fresh one, with an id that none of `live` has."""
    return generate_key(public_name, os.urandom, live_ids=[key.config.config_id for key in live])


@dataclass
class Mesh:
    """Alice dials, Bob serves `billing.internal`."""

    alice: StaticKey = field(default_factory=static_key)
    bob: StaticKey = field(default_factory=static_key)
    key: EchKey = field(default_factory=ech_key)
    allowed: dict[bytes, str] = field(default_factory=dict)
    """Static keys that Bob admits to the service."""

    def __post_init__(self) -> None:
        self.allowed[self.alice.public] = ALICE

    def plan(self, **changes: Any) -> Plan:
        """How Alice reaches Bob, with ECH unless changed."""
        plan = Plan(SERVICE, PUBLIC_NAME, PKI.trust, self.alice, BOB, self.bob.public, ech=self.key.config)
        return replace(plan, **changes)

    def reception(self, **changes: Any) -> Reception:
        """How Bob answers. `changes` of ServerConfig, or `statics`."""
        statics = changes.pop("statics", (self.bob,))
        settings = {"ech_keys": (self.key,), **changes}
        return Reception(ServerConfig(settings.pop("credentials", (CREDENTIAL,)), **settings), statics, self.admit)

    def admit(self, static: bytes, service: str) -> str | None:
        return self.allowed.get(static) if service == SERVICE else None

    def dial(self, **changes: Any) -> Dialling:
        return Dialling(self.plan(**changes), random=os.urandom, now=NOW)

    def accept(self, **changes: Any) -> Accepting:
        return Accepting(self.reception(**changes), random=os.urandom)


def feed(connection: Connection, data: bytes | bytearray) -> None:
    """Write received bytes where the record layer wants them. At most one buffer's worth."""
    buffer = connection.get_buffer()
    buffer[: len(data)] = data
    connection.buffer_updated(len(data))


def shake(dialling: Dialling, accepting: Accepting, *, cut: int | None = None) -> tuple[Established, Established]:
    """Carry the flights, in pieces of `cut` bytes, until both ends stand."""
    ends: list[tuple[Any, Any]] = [(dialling, accepting), (accepting, dialling)]
    found: dict[int, Established] = {}
    for _ in range(10):
        for sender, receiver in ends:
            data = bytes(sender.connection.data_to_send())
            for at in range(0, len(data), cut or len(data) or 1):
                feed(receiver.connection, data[at : at + (cut or len(data))])
                if id(receiver) not in found and (established := receiver.advance()) is not None:
                    found[id(receiver)] = established
        if len(found) == 2:
            return found[id(dialling)], found[id(accepting)]
    raise AssertionError("no tunnel after ten flights")
