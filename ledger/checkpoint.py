"""Checkpoints (c2sp.org/tlog-checkpoint v1.0.0): what a log commits to at one size."""

from base64 import b64encode
from dataclasses import dataclass
from typing import Final

from ledger.encoding import base64_hash, canonical_decimal
from ledger.errors import MalformedError

MAX_ORIGIN: Final = 255
"""Bytes. The ML-DSA-44 cosignature has one byte for the length of the origin."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of one log's tree at one size."""

    origin: str
    """Identity of the log, e.g. `forest.example/node-a`."""
    size: int
    root: bytes
    """32 bytes."""
    extensions: tuple[str, ...] = ()
    """Opaque lines that no auditor can check; never written here, kept when read."""

    @property
    def text(self) -> str:
        """The body of the note, with its final LF."""
        lines = (self.origin, str(self.size), b64encode(self.root).decode(), *self.extensions)
        return "\n".join(lines) + "\n"


def parse_checkpoint(text: str) -> Checkpoint:
    """The checkpoint that a note's text is: `parse_checkpoint(text).text == text`. Raises MalformedError."""
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() or not all(lines):
        raise MalformedError("a checkpoint has at least three lines, none of them empty: origin, size, root")
    origin, size, root, *extensions = lines
    if len(origin.encode(errors="surrogatepass")) > MAX_ORIGIN:
        raise MalformedError(f"the origin of a checkpoint has at most {MAX_ORIGIN} bytes here")
    return Checkpoint(
        origin, canonical_decimal(size, "the tree size"), base64_hash(root, "the root hash"), tuple(extensions)
    )
