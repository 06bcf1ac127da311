"""Signed notes (c2sp.org/signed-note v1.0.0): text, a blank line, and signature lines.

The text of a note means nothing before `open_note` has returned it.
"""

from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from ledger.encoding import canonical_base64
from ledger.errors import MalformedError, SignatureError
from ledger.keys import VerifierKey, is_key_name

MAX_NOTE: Final = 1 << 20
"""Bytes. Room for a hundred post-quantum signatures."""
MAX_SIGNATURES: Final = 100
"""The specification demands 16 at least; Go's implementation stops at 100."""
_DASH: Final = "\N{EM DASH} "


class NoteSignature(NamedTuple):
    """One signature line."""

    name: str
    key_id: bytes
    """4 bytes."""
    signature: bytes

    def __str__(self) -> str:
        """The line with its final LF."""
        return f"{_DASH}{self.name} {b64encode(self.key_id + self.signature).decode()}\n"


class Verifier(Protocol):
    """Checks signatures of one key."""

    @property
    def key(self) -> VerifierKey:
        """Whose signatures these are."""

    def verify(self, text: str, signature: bytes) -> None:
        """Return if `signature` (without the key id) is this key's over the note text. Raises SignatureError."""


class Signer(Protocol):
    """Signs notes with one key."""

    @property
    def key(self) -> VerifierKey:
        """What others verify the signatures with."""

    def sign(self, text: str, now: int) -> NoteSignature:
        """The signature line over the note text. `now` is in POSIX seconds and stands in cosignatures only."""


@dataclass(frozen=True, slots=True)
class Note:
    """A note as it was read. Nothing in it is verified."""

    text: str
    """With its final LF."""
    signatures: tuple[NoteSignature, ...]

    def encode(self) -> bytes:
        """The bytes of the note."""
        return f"{self.text}\n{''.join(map(str, self.signatures))}".encode()


class OpenedNote(NamedTuple):
    """A note of which every signature by a known key was verified, at least one."""

    note: Note
    verified: tuple[NoteSignature, ...]
    """By known keys, in the order of the note, each key once."""


def parse_note(data: bytes) -> Note:
    """The note that `data` is: `parse_note(data).encode() == data`. Raises MalformedError."""
    if len(data) > MAX_NOTE:
        raise MalformedError(f"a note has at most {MAX_NOTE} bytes, this one has {len(data)}")
    try:
        decoded = data.decode()
    except UnicodeDecodeError:
        raise MalformedError("a note is UTF-8, this one is not") from None
    if any(c < " " for c in decoded.replace("\n", "")):
        raise MalformedError("a note has no control characters other than LF")
    text, blank, lines = decoded.rpartition("\n\n")
    if not blank or not lines.endswith("\n"):
        raise MalformedError("a note is text, a blank line, and signature lines that end in LF")
    if lines.count("\n") > MAX_SIGNATURES:
        raise MalformedError(f"a note has at most {MAX_SIGNATURES} signatures here")
    return Note(text + "\n", tuple(_signature(line) for line in lines[:-1].split("\n")))


def open_note(data: bytes, verifiers: Iterable[Verifier]) -> OpenedNote:
    """The note, if a known key signed it and no signature of a known key is bad.

    Signatures of unknown keys are ignored, as signed-note demands: keys rotate and witnesses join. Raises
    MalformedError or SignatureError.
    """
    known = {(v.key.name, v.key.id): v for v in verifiers}
    note = parse_note(data)
    verified: dict[tuple[str, bytes], NoteSignature] = {}
    for line in note.signatures:
        verifier = known.get((line.name, line.key_id))
        if verifier is None or (line.name, line.key_id) in verified:
            continue
        verifier.verify(note.text, line.signature)
        verified[line.name, line.key_id] = line
    if not verified:
        signers = ", ".join(f"{s.name}+{s.key_id.hex()}" for s in note.signatures)
        raise SignatureError(f"no trusted key signed this note; it carries signatures of {signers}")
    return OpenedNote(note, tuple(verified.values()))


def _signature(line: str) -> NoteSignature:
    name, space, blob = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space or not is_key_name(name):
        raise MalformedError("a signature line reads: em dash, space, key name, space, base64")
    decoded = canonical_base64(blob, "a signature")
    if len(decoded) < 5:
        raise MalformedError("a signature line holds a key id of 4 bytes and a signature")
    return NoteSignature(name, decoded[:4], decoded[4:])
