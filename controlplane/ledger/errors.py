"""What can go wrong in a ledger node.

NodeError
├── StorageError        the storage failed; whether the write was applied is unknown. Trying again may help
├── ClockError          the clock stands before the last checkpoint. Waiting may help
├── NoLogError          there is no log here: `aegis ledger init` makes one
└── FatalError          this process must stop writing to this log; starting again recovers, or says why not
    ├── ConflictError   somebody else wrote where only this process may
    ├── LostWritesError fsync failed: what is on disk is unknown from here on
    └── DamagedLogError what is stored contradicts itself; a person has to look
"""


class NodeError(Exception):
    """Root of the node's errors."""


class StorageError(NodeError):
    """A read or write failed; a write may or may not have been applied."""


class ClockError(NodeError):
    """The clock stands before the time of the last signed checkpoint."""


class NoLogError(NodeError):
    """No log was ever created here."""


class KeyFileError(NodeError):
    """A key file is missing, malformed, of another log, or readable by others."""


class StartError(NodeError):
    """The node cannot open its doors."""


class DrainError(NodeError):
    """Leaves that were taken in did not become durable before the node had to stop."""


class FatalError(NodeError):
    """The log must not be written to by this process any more."""


class ConflictError(FatalError):
    """An object or the lock holds something else than the only writer would have put there."""


class LostWritesError(FatalError):
    """An fsync failed. The kernel may have dropped the pages: a second fsync would lie."""


class DamagedLogError(FatalError):
    """Lock, checkpoint, tiles and staging do not fit together."""
