"""What can go wrong with a proof.

    LedgerError
    ├── MalformedError         the bytes are not of the format they claim: a note, key, tile, proof or policy
    │   └── LeafError          bytes that are not a leaf of a format this version knows
    ├── OpeningError           bytes that are not an opening, or an opening that does not fit its leaf
    ├── MissingError           a tile or bundle that the tree size implies is not there
    └── VerificationError      well formed, and false
        ├── SignatureError     no signature of a trusted key, or one that does not verify
        ├── QuorumError        too few witnesses cosigned
        └── ProofError         the hashes do not lead to the root

Every function of this package that takes bytes from outside raises one of these and nothing else. `MalformedError`
blames whoever wrote the bytes; `VerificationError` means that someone lies or that something was altered. Messages
never hold the text or the salt of an exchange.
"""


class LedgerError(Exception):
    """Root of this package's errors."""


class MalformedError(LedgerError):
    """The bytes are not of the format they claim to be."""


class LeafError(MalformedError):
    """Bytes that are not a leaf: wrong length, unknown format."""


class OpeningError(LedgerError):
    """An opening that cannot be read, or that does not open the commitment of its leaf."""


class MissingError(LedgerError):
    """A resource that the tree size implies cannot be had."""


class VerificationError(LedgerError):
    """Well formed, and does not hold."""


class SignatureError(VerificationError):
    """No trusted key signed this, or the signature of one does not verify."""


class QuorumError(VerificationError):
    """Fewer witnesses cosigned than the policy demands."""


class ProofError(VerificationError):
    """The hashes do not lead to the root."""
