"""Errors of the audit trail.

AuditError
├── SpoolError              the spool on disk cannot be read or written
│   └── SpoolBusyError      another process has it open
└── LedgerContradictionError    a ledger's answer does not fit what it was sent
"""


class AuditError(Exception):
    """Root of this package's errors."""


class SpoolError(AuditError):
    """The spool cannot be read or written: disk full, damaged, no permission."""


class SpoolBusyError(SpoolError):
    """Another process holds this spool: two writers would give one number to two leaves."""


class LedgerContradictionError(AuditError):
    """The ledger acknowledged what it was never sent, or speaks of another producer."""
