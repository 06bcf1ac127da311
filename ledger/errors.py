"""Errors of the ledger room.

LedgerError
├── LeafError           bytes that are not a leaf of a format this version knows
└── OpeningError        bytes that are not an opening, or an opening that does not fit its leaf
"""


class LedgerError(Exception):
    """Root of this package's errors. Messages never hold the text or the salt of an exchange."""


class LeafError(LedgerError):
    """Bytes that are not a leaf: wrong length, unknown format."""


class OpeningError(LedgerError):
    """An opening that cannot be read, or that does not open the commitment of its leaf."""
