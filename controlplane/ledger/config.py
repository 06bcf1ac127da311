"""What a ledger node can be told."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from settings import Address, ByteSize, Finding, Range, Seconds


class LogLevel(StrEnum):
    """The least that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerConfig:
    """One Merkle node: the only writer of one log."""

    data: Path
    """Directory of keys, log and index."""
    grpc: Address = Address("127.0.0.1", 8463)
    """Where sidecars send their leaves."""
    http: Address = Address("127.0.0.1", 8480)
    """Where everybody reads checkpoint, tiles and entries."""
    identity: Path | None = None
    """Directory with `tls.crt`, `tls.key` and `ca.crt`: this node's certificate, and the CA of its clients."""
    insecure_loopback: bool = False
    """Take leaves without TLS from any process of this machine. Refused unless `grpc` is a loopback address."""
    init_if_missing: bool = False
    """Make a new log if `data` is empty. Never over anything that is there."""
    origin: str = ""
    """Identity of a new log, such as `forest.example/node-a`; empty: a random one. An existing log keeps its own."""
    period: Seconds = 0.1
    """The least time between two checkpoints."""
    settle_every: Seconds = 5.0
    """How often tiles are made durable in their places; what was not is replayed after a crash."""
    max_staged_bytes: ByteSize = 256 << 20
    """The same, as soon as so much would have to be replayed."""
    kept_checkpoints: Annotated[int, Range(1, 65536)] = 64
    """Partial tiles of this many checkpoints stay although the full ones are there."""
    max_pool_leaves: Annotated[int, Range(4096, 16_777_216)] = 131_072
    """Leaves in memory that are not yet sequenced; senders wait beyond."""
    max_pool_bytes: ByteSize = 64 << 20
    """The same in bytes."""
    drain_timeout: Seconds = 20.0
    """How long leaves that were taken in may take to become durable after SIGTERM."""
    log_level: LogLevel = LogLevel.INFO
    """Log lines below this level are dropped."""

    def check(self) -> Iterable[Finding]:
        """TLS, or a good reason for none."""
        if self.insecure_loopback and not self.grpc.is_loopback:
            yield Finding("insecure_loopback", "is refused for an address that other machines reach", also=("grpc",))
        if self.insecure_loopback and self.identity is not None:
            yield Finding("insecure_loopback", "contradicts an identity: choose one", also=("identity",))
        if not self.insecure_loopback and self.identity is None:
            yield Finding("identity", "is needed for TLS; for one machine there is --insecure-loopback")
