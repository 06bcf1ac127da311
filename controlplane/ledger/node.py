"""A running ledger node: puts storage, log, intake and both doors together, and takes them down in order."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import grpc

from controlplane.grpc_options import LONG_LIVED
from controlplane.identity.credentials import server_credentials
from controlplane.identity.identity import Identity
from controlplane.identity.spiffe import IdentityError
from controlplane.ledger import keys
from controlplane.ledger.backends import posix
from controlplane.ledger.backends.files import storage_errors
from controlplane.ledger.backends.posix import PosixStorage
from controlplane.ledger.config import LedgerConfig
from controlplane.ledger.errors import DrainError, FatalError, NodeError, NoLogError, StartError
from controlplane.ledger.index import ProducerIndex
from controlplane.ledger.ingest import AuditIngest
from controlplane.ledger.intake import Intake
from controlplane.ledger.log import Log
from controlplane.ledger.partials import PartialTiles
from controlplane.ledger.reads import read_app
from controlplane.ledger.records import Records
from controlplane.ledger.sequencer import Sequencer
from controlplane.ledger.settling import Settling
from controlplane.ledger.signed import Signers
from controlplane.ledger.web import listen, web_server
from observability.metrics import Registry

logger = logging.getLogger(__name__)

_GRACE: Final = 2
"""Seconds for answers that are under way when the node stops."""
GRPC_OPTIONS: Final = (("grpc.max_receive_message_length", 16 << 20), *LONG_LIVED)


@dataclass(frozen=True, slots=True)
class Directory:
    """Where things are under `--data`."""

    root: Path

    @property
    def keys(self) -> Path:
        """Of this node only."""
        return self.root / "keys"

    @property
    def log(self) -> Path:
        """What auditors may have a copy of."""
        return self.root / "log"

    @property
    def index(self) -> Path:
        """Rebuilt from the log when it is missing."""
        return self.root / "index.sqlite3"

    @property
    def policy(self) -> Path:
        """A trust policy (c2sp.org/tlog-policy) that names this log, for auditors who believe this machine."""
        return self.root / "policy"


def initialise(root: Path, origin: str) -> Signers:
    """Make a new log with fresh keys in `root`, whole or not at all. `origin` empty: a random one.

    Raises ConflictError when there is anything in `root` (I8), KeyFileError for an impossible origin, StorageError.
    """
    with posix.new_directory(root.absolute()) as scratch:
        parts = Directory(scratch)
        signers = keys.create(parts.keys, origin or f"aegis.internal/{secrets.token_hex(8)}")
        posix.create(parts.log, signers.sign_empty(_now()).note)
        lines = (*(f"log {one.key}" for one in (signers.ed25519, signers.mldsa)), "quorum none", "")
        parts.policy.write_text("\n".join(lines))
    return signers


def _open_or_make(config: LedgerConfig) -> Signers:
    with storage_errors():
        is_vacant = not config.data.exists() or not any(config.data.iterdir())
    if is_vacant:
        if not config.init_if_missing:
            raise NoLogError(f"there is no log in {config.data}; `aegis ledger init --data {config.data}` makes one")
        signers = initialise(config.data, config.origin)
        logger.info("made a new log", extra={"origin": signers.origin})
        return signers
    # Whatever is there but is not a whole log is not made whole by a new one: see `recovery`.
    return keys.load(Directory(config.data).keys)


class Doors(NamedTuple):
    """A node that serves."""

    origin: str
    size: int
    grpc_port: int
    http_port: int


async def run(config: LedgerConfig, stop: asyncio.Event, ready: Callable[[Doors], None], metrics: Registry) -> None:
    """Serve until `stop`, then finish what was taken in. Raises NodeError; after a FatalError a new process may try."""
    directory = Directory(config.data)
    signers = await asyncio.to_thread(_open_or_make, config)
    async with AsyncExitStack() as open_now:
        storage = await asyncio.to_thread(PosixStorage, directory.log)
        open_now.push_async_callback(asyncio.to_thread, storage.close)
        log = await Log.load(storage, storage, signers, _now)
        index = await asyncio.to_thread(ProducerIndex, directory.index, signers.origin)
        records = Records(index, storage)
        open_now.push_async_callback(asyncio.to_thread, records.close)
        await records.catch_up(log.size)
        partials = PartialTiles(storage, records, kept=config.kept_checkpoints)
        await partials.start(log.size)
        intake = Intake(records, max_leaves=config.max_pool_leaves, max_bytes=config.max_pool_bytes)
        settling = Settling(log, partials, every=config.settle_every, max_bytes=config.max_staged_bytes)
        hearers = (partials.published, settling.published)
        sequencer = Sequencer(log, intake, records, hearers, metrics, period=config.period)
        await _serve(config, stop, ready, _Parts(storage, log, intake, records, sequencer, settling, metrics))


@dataclass(frozen=True, slots=True)
class _Parts:
    storage: PosixStorage
    log: Log
    intake: Intake
    records: Records
    sequencer: Sequencer
    settling: Settling
    metrics: Registry


async def _serve(config: LedgerConfig, stop: asyncio.Event, ready: Callable[[Doors], None], parts: _Parts) -> None:
    ingest_server, grpc_port = _ingest_server(config, parts)
    sock = listen(config.http)
    read_server = web_server(read_app(parts.storage, parts.log, parts.sequencer, parts.metrics))
    failure: NodeError | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            sequencing = tasks.create_task(parts.sequencer.run())
            settling = tasks.create_task(parts.settling.run())
            tasks.create_task(read_server.serve(sockets=[sock]))
            try:
                await ingest_server.start()
                ready(Doors(parts.log.published.checkpoint.origin, parts.log.size, grpc_port, sock.getsockname()[1]))
                await stop.wait()
                await _drain(config, sequencing, parts.intake)
                await parts.settling.settle()  # so that whoever copies the directory now has all of it
            finally:
                # Streams end by themselves: all their leaves are acknowledged, or the sequencer told them that it
                # failed. The grace is for the bytes on the wire.
                await ingest_server.stop(_GRACE)
                settling.cancel()
                read_server.should_exit = True
    except* NodeError as group:
        failure = _first(group)
    finally:
        sock.close()
    if failure is not None:
        raise failure


async def _drain(config: LedgerConfig, sequencing: "asyncio.Task[None]", intake: Intake) -> None:
    logger.info("stopping: no more leaves are taken in", extra={"pool": intake.leaves})
    intake.close()
    try:
        async with asyncio.timeout(config.drain_timeout):
            await asyncio.shield(sequencing)
    except TimeoutError:
        sequencing.cancel()
        intake.fail()
        raise DrainError(
            f"leaves that were taken in did not become durable within {config.drain_timeout:g} s; none of them was "
            "acknowledged, and their senders send them again"
        ) from None


def _ingest_server(config: LedgerConfig, parts: _Parts) -> tuple[grpc.aio.Server, int]:
    server = grpc.aio.server(options=GRPC_OPTIONS)
    try:
        trust_domain = Identity.read(config.identity).spiffe_id.trust_domain if config.identity else None
        ingest = AuditIngest(parts.log, parts.intake, parts.records, trust_domain=trust_domain)
        server.add_generic_rpc_handlers((ingest.handler(),))
        if config.identity is None:
            return server, server.add_insecure_port(str(config.grpc))
        credentials = server_credentials(config.identity, _warn_of_certificate)
        return server, server.add_secure_port(str(config.grpc), credentials)
    except IdentityError as error:
        raise StartError(f"the identity in {config.identity} cannot be used: {error}") from None
    except RuntimeError as error:
        raise StartError(f"{config.grpc} cannot be listened on: is another process using it?") from error


def _warn_of_certificate(problem: str) -> None:
    logger.error("the certificate on disk cannot be used; the old one stays", extra={"problem": problem})


def _first(group: BaseExceptionGroup[NodeError]) -> NodeError:
    """The worst of several errors: a fatal one before any other."""
    flat: list[NodeError] = []
    rest: list[BaseException] = [group]
    while rest:
        error = rest.pop()
        if isinstance(error, BaseExceptionGroup):
            rest += error.exceptions
        elif isinstance(error, NodeError):
            flat.append(error)
    return min(flat, key=lambda error: not isinstance(error, FatalError))


def _now() -> int:
    return time.time_ns() // 1_000_000_000
