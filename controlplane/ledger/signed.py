"""The keys of one log, and the checkpoints that they signed."""

from dataclasses import dataclass
from typing import NamedTuple

from controlplane.ledger.errors import DamagedLogError
from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.cosignature import cosignature_time, verifier
from ledger.errors import LedgerError
from ledger.note import Note, Signer, open_note
from ledger.rfc6962 import EMPTY_ROOT


class SignedCheckpoint(NamedTuple):
    """A checkpoint of this log that was verified or signed here."""

    checkpoint: Checkpoint
    note: bytes
    time: int
    """When it was signed, POSIX seconds."""


@dataclass(frozen=True, slots=True)
class Signers:
    """The keys of one log. Both sign every checkpoint under the log's own name, which is its origin."""

    ed25519: Signer
    """What verifiers of today read: without it a log may not be public (tlog-tiles, "Checkpoints")."""
    mldsa: Signer
    """What outlives quantum computers (tlog-checkpoint: SHOULD); carries the time of signing."""

    @property
    def origin(self) -> str:
        """The log's identity."""
        return self.ed25519.key.name

    def sign(self, checkpoint: Checkpoint, now: int) -> SignedCheckpoint:
        """The signed note. About a millisecond."""
        text = checkpoint.text
        lines = self.ed25519.sign(text, now), self.mldsa.sign(text, now)
        return SignedCheckpoint(checkpoint, Note(text, lines).encode(), now)

    def sign_empty(self, now: int) -> SignedCheckpoint:
        """The head of the empty tree, with which a log begins."""
        return self.sign(Checkpoint(self.origin, 0, EMPTY_ROOT), now)

    def verify(self, note: bytes, what: str) -> SignedCheckpoint:
        """The checkpoint in `note`. Raises DamagedLogError unless both keys signed it."""
        try:
            opened = open_note(note, [verifier(self.ed25519.key), verifier(self.mldsa.key)])
            checkpoint = parse_checkpoint(opened.note.text)
            times = [cosignature_time(line.signature) for line in opened.verified if line.key_id == self.mldsa.key.id]
        except LedgerError as error:
            raise DamagedLogError(f"{what} is not a checkpoint signed by the keys of {self.origin}: {error}") from None
        if checkpoint.origin != self.origin or len(opened.verified) != 2:
            raise DamagedLogError(f"{what} is not a checkpoint of {self.origin} signed by both of its keys")
        return SignedCheckpoint(checkpoint, note, times[0])
